"""One app on a host, as far as it can be asked and changed there; every answer comes over the host's SSH connection."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from noah.core.forwarder import Answer, arguments, read_answer
from noah.core.target import HostTarget
from noah.errors import CannotDebug, Unavailable
from noah.inpod import script
from noah.settings import HostApp
from noah.targets.ssh import Ran, Ssh

SCRIPT_TAKES = 15.0  # seconds at most; a script itself needs 50 ms, a busy host seconds
CHECKURL_TAKES = 2  # seconds


@dataclass(frozen=True, slots=True)
class OptionsFile:
    content: bytes
    mode: str
    owner: str


@dataclass(frozen=True, slots=True)
class Jvm:
    pid: int
    version: str  # "-" when it is not known
    waits_for_jcmd: bool


class HostedApp:
    def __init__(self, ssh: Ssh, app: HostApp) -> None:
        self.ssh = ssh
        self.app = app
        self.target = HostTarget(ssh.host.name, app.name)
        self.changing = asyncio.Lock()  # held by whoever edits its options or restarts it

    def __repr__(self) -> str:
        return f"<{self.target} of {self.ssh!r}>"

    @property
    def where(self) -> str:
        return f"host {self.target.host}"

    async def forwarder(self, verb: str, session: str, *more: str) -> Answer:
        told = arguments(verb, session, name=self.app.name, jdwp_port=self.app.jdwp_port)
        argv = ["sh", "-s", "--", *told, *more]
        ran = await self.ssh.run(argv, stdin=script("forwarder").encode(), timeout=SCRIPT_TAKES)
        return read_answer(ran.stdout.decode("utf-8", "replace").splitlines())

    async def jvms(self) -> list[Jvm]:
        found = await self._asked("jvms", str(self.app.jdwp_port))
        return [Jvm(int(pid), version, how == "onjcmd") for _, pid, version, how in map(str.split, found)]

    async def have_agent_listen(self, pid: int) -> None:
        await self._asked("jcmd", str(pid))

    async def port_is_taken(self) -> bool:
        return bool(await self._asked("listens", str(self.app.jdwp_port)))

    async def healthy(self) -> str | None:
        """What is wrong with it, or None: its checkurl says 200, asked as the probe asks, or there is none."""
        if self.app.checkurl is None:
            return None
        # A name that no report has: what a session says about a suspended JVM is no health.
        argv = ["sh", "-s", "--", self.app.checkurl, str(CHECKURL_TAKES), f"{self.app.name}.none"]
        ran = await self.ssh.run(argv, stdin=script("liveness").encode(), timeout=SCRIPT_TAKES)
        return None if ran.code == 0 else f"checkurl {self.app.checkurl} does not answer 200"

    async def read_options(self) -> OptionsFile:
        found = dict(line.partition(" ")[::2] for line in await self._asked("read", self._file))
        return OptionsFile(base64.b64decode(found["content"]), found["mode"], found["owner"])

    async def replace_options(self, was: bytes, becomes: bytes) -> None:
        """Whole or not at all. CannotDebug when it cannot be, or is not what it *was* any more."""
        told = {
            "content": base64.b64encode(becomes).decode(),
            "was": sha256(was).hexdigest(),
            "becomes": sha256(becomes).hexdigest(),
        }
        await self._asked("replace", self._file, set_first="".join(f"{key}={value}\n" for key, value in told.items()))

    async def restart(self, *, line: Callable[[str], None]) -> Ran:
        assert self.app.restart_command is not None
        argv = ["sh", "-s", "--", "run", self.app.name, self.app.restart_command]
        takes = self.app.restart_takes.total_seconds()
        return await self.ssh.run(argv, stdin=script("options").encode(), timeout=takes, line=line)

    async def is_restarting(self) -> bool:
        """A restart that was begun from here has not ended, whatever became of who began it."""
        return bool(await self._asked("runs", self.app.name))

    @property
    def _file(self) -> str:
        assert self.app.options_file is not None
        return self.app.options_file

    async def _asked(self, *argv: str, set_first: str = "") -> list[str]:
        """The lines before `done`."""
        stdin = (set_first + script("options")).encode()
        ran = await self.ssh.run(["sh", "-s", "--", *argv], stdin=stdin, timeout=SCRIPT_TAKES)
        lines = ran.stdout.decode("utf-8", "replace").splitlines()
        match (lines[-1] if lines else "").split(maxsplit=2):
            case ["done"]:
                return lines[:-1]
            case ["error", word, *said]:
                raise CannotDebug(self._sentence(word, " ".join(said)))
        raise Unavailable(f"The answer of {self.where} was cut short: {ran.said}.")

    def _sentence(self, word: str, said: str) -> str:
        user, file = self.ssh.host.user, self.app.options_file
        match word:
            case "missing":
                return f"There is no file {file} on {self.where}: is options_file right?"
            case "unreadable":
                return f"{user} may not read {file} on {self.where}: set become, or another user."
            case "long":
                return f"{file} on {self.where} is longer than 64 KiB: that is no options file."
            case "changed":
                return f"{file} on {self.where} was changed by somebody else meanwhile; it stays as they left it."
            case "owner":
                return f"{user} may not keep the owner of {file} on {self.where}: set become, or another user."
            case "write":
                why = said.rpartition(": ")[2] or "is the disk full?"
                return f"{file} on {self.where} cannot be replaced ({why}); it is as it was."
            case "jcmd":
                return f"jcmd on {self.where} does not start the debug agent: {said[-200:]}"
        return f"{self.where} failed: {word} {said}"
