"""One app on a host, as far as it can be asked and changed there; every answer comes over the host's SSH connection."""

import asyncio
import base64
import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from noah.core.forwarder import Agent, Answer, Where, arguments, read_answer
from noah.core.session.target import HostTarget
from noah.errors import CannotDebug, Unavailable
from noah.inpod import script
from noah.settings import HostApp
from noah.targets.host.ran import Ran

if TYPE_CHECKING:
    from noah.targets.host.ssh import Ssh

SCRIPT_TAKES = 15.0  # seconds at most; a script itself needs 50 ms, a busy host seconds
CHECKURL_TAKES = 2  # seconds
AGENT_COMES_WITHIN = 3  # seconds; the agent listens before main() runs


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
    def __init__(self, ssh: "Ssh", app: HostApp) -> None:
        self.ssh = ssh
        self.app = app
        self.target = HostTarget(ssh.host.name, app.name)
        self.changing = asyncio.Lock()  # held while its options are edited or it is restarted
        self._fence = ""  # token of the last read before a change; the host refuses a change that carries an older one

    def __repr__(self) -> str:
        return f"<{self.target} of {self.ssh!r}>"

    @property
    def where(self) -> str:
        return f"host {self.target.host}"

    async def forwarder(self, verb: str, session: str, *more: str) -> Answer:
        about = arguments(
            verb,
            session,
            name=self.app.name,
            jdwp_port=self.app.jdwp_port,
            where=Where.HOST,
            checkurl=self.app.checkurl,
        )
        ran = await self._run("forwarder", *about, *more)
        return read_answer(ran.stdout.decode("utf-8", "replace").splitlines())

    async def jvms(self) -> list[Jvm]:
        return _jvms(await self._asked("jvms", str(self.app.jdwp_port)))

    async def asleep(self) -> list[Jvm]:
        """Return the JVMs whose agent waits for jcmd. Answers at once, where forwarder() first waits for an agent."""
        found = await self._asked("jvms", str(self.app.jdwp_port))
        return [] if "listens" in found else [jvm for jvm in _jvms(found) if jvm.waits_for_jcmd]

    async def have_agent_listen(self, pid: int) -> None:
        await self._asked("jcmd", str(pid))

    async def port_is_taken(self) -> bool:
        return "listens" in await self._asked("listens", str(self.app.jdwp_port))

    async def healthy(self) -> str | None:
        """Return what is wrong with the app; None if its checkurl answers 200 as the probe asks it, or it has none."""
        if self.app.checkurl is None:
            return None
        # A name that no report has: a report of a suspended JVM says nothing about its health.
        ran = await self._run("liveness", self.app.checkurl, str(CHECKURL_TAKES), f"{self.app.name}.none")
        return None if ran.code == 0 else f"checkurl {self.app.checkurl} does not answer 200"

    async def read_options(self, file: str, *, to_change: bool = False) -> OptionsFile:
        """Return the file. *to_change*: from now on the host refuses changes that follow from an earlier read."""
        fence = []
        if to_change:
            self._fence = secrets.token_hex(4)
            fence = [self._fence]
        found = dict(line.partition(" ")[::2] for line in await self._asked("read", file, *fence))
        try:
            return OptionsFile(base64.b64decode(found["content"], validate=True), found["mode"], found["owner"])
        except (KeyError, ValueError):
            raise Unavailable(f"{self.where} answers with something that is not an options file.") from None

    async def replace_options(self, file: str, was: bytes, becomes: bytes) -> None:
        """Replace the file's content, all or nothing. CannotDebug if that fails, or somebody else changed it."""
        variables = {
            "content": base64.b64encode(becomes).decode(),
            "was": sha256(was).hexdigest(),
            "becomes": sha256(becomes).hexdigest(),
        }
        set_first = "".join(f"{key}={value}\n" for key, value in variables.items())
        await self._asked("replace", file, self._fence, set_first=set_first)

    async def restart(self, file: str, command: str, *, line: Callable[[str], None]) -> Ran:
        """Restart the app that reads *file*."""
        argv = ["sh", "-s", "--", "run", file, self._fence, command]
        takes = self.app.restart_takes.total_seconds()
        ran = await self.ssh.run(argv, stdin=script("options").encode(), timeout=takes, line=line)
        if ran.stdout.endswith(b"error late\n"):
            raise Unavailable(self._late)
        return ran

    async def is_restarting(self, file: str) -> bool:
        """Return whether a restart still runs that a gateway began, this one or an earlier one."""
        return "runs" in await self._asked("runs", file)

    async def _asked(self, *argv: str, set_first: str = "") -> list[str]:
        """Return the lines before `done`; the greeting of a login shell may be among them."""
        ran = await self._run("options", *argv, set_first=set_first)
        lines = ran.stdout.decode("utf-8", "replace").splitlines()
        match (lines[-1] if lines else "").split(maxsplit=2):
            case ["done"]:
                return lines[:-1]
            case ["error", "late"]:
                raise Unavailable(self._late)
            case ["error", word, *said]:
                raise CannotDebug(self._sentence(word, " ".join(said), file=argv[1]))
        raise Unavailable(f"The answer of {self.where} was cut short: {ran.said}.")

    async def _run(self, name: str, *argv: str, set_first: str = "") -> Ran:
        """Run a script. CannotDebug if not even its shell starts: each script prints something whatever happens."""
        stdin = (set_first + script(name)).encode()
        ran = await self.ssh.run(["sh", "-s", "--", *argv], stdin=stdin, timeout=SCRIPT_TAKES)
        if ran.code and not ran.stdout:
            how = f" by `{shlex.join(self.ssh.host.become)}`" if self.ssh.host.become else ""
            raise CannotDebug(f"{self.ssh.host.user} cannot run commands{how} on {self.where}: {ran.said.rstrip('.')}.")
        return ran

    @property
    def _late(self) -> str:
        return f"{self.where} was changed by somebody else while a command was on its way there: looking again."

    def _sentence(self, word: str, said: str, *, file: str) -> str:
        user = self.ssh.host.user
        match word:
            case "missing":
                return f"There is no file {file} on {self.where}: is options_file right?"
            case "unreadable":
                return f"{user} may not read {file} on {self.where}: set become, or another user."
            case "long":
                return f"{file} on {self.where} is longer than 64 KiB: an options file never is."
            case "changed":
                return f"{file} on {self.where} was changed by somebody else meanwhile; it stays as they left it."
            case "owner":
                return f"{user} may not keep the owner of {file} on {self.where}: set become, or another user."
            case "swap":
                return (
                    f"{file} on {self.where} is not touched as root: a user who does not own it can put another file "
                    "in its place. Give the folders on its way to root or its owner, and nobody else write access."
                )
            case "write":
                why = said.rpartition(": ")[2] or "is the disk full?"
                return f"{file} on {self.where} cannot be replaced ({why}); it is as it was."
            case "turn":
                return f"Nothing is changed on {self.where}, since {user} cannot write to its /dev/shm: is it full?"
            case "jcmd":
                return f"jcmd on {self.where} does not start the debug agent: {said[-200:]}"
        return f"{self.where} failed: {word} {said}"


def _jvms(lines: list[str]) -> list[Jvm]:
    found = [line.split() for line in lines]
    return [
        Jvm(int(words[1]), words[2], words[3] == "onjcmd")
        for words in found
        if words[:1] == ["jvm"] and len(words) == 4 and re.fullmatch(r"[0-9]{1,9}", words[1], re.ASCII)
    ]


def sleeps(answer: Answer) -> bool:
    """Return whether a JVM runs without a listening agent, and is too old for that to change by itself."""
    return answer.java is not None and answer.agent is Agent.NONE and answer.java_age >= AGENT_COMES_WITHIN
