"""Machines for tests: Debian's sshd on a loopback address, as an ordinary user, and an app with a real start script."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh

from noah.inpod import script
from tests.java import SAMPLE, compiled
from tests.ports import free_port

# As people write them: `.` reads the options, java goes on when the script has ended.
START_SCRIPT = """#!/bin/sh
# orders.sh restart: ends the app and starts it again
cd {folder} || exit 1
. ./orders.env
echo "stopping orders"
if [ -s pid ]; then
  kill "$(cat pid)" 2>/dev/null
  while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.05; done
fi
while [ -e hold ]; do sleep 0.05; done
[ ! -e refuse ] || case $JAVA_OPTS in *jdwp*) echo "orders: jdwp is forbidden here" >&2; exit 7 ;; esac
echo "starting orders"
export PORT={port}
setsid java -XX:TieredStopAtLevel=1 -Xmx64m $JAVA_OPTS -cp {classes} OrderService >> app.log 2>&1 < /dev/null &
echo $! > pid
"""
OPTIONS = b'# options of orders\nexport OTHER=1\nJAVA_OPTS="-Dshop=caf\xe9 -Dx=y"  # latin-1, as it was in 2009\r\n'


class Machine:
    """One sshd."""

    def __init__(self, number: int, root: Path) -> None:
        self.name = f"kvm-{number}"
        self.address = f"127.0.1.{number}"
        self.port = free_port()
        self.folder = root / self.name
        self.user = ordinary_user()
        self._process: asyncio.subprocess.Process | None = None
        self._config = ""

    async def install(self) -> None:
        self.folder.mkdir()
        for name in ("host_key", "user_key"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(self.folder / name)
            key.write_public_key(self.folder / f"{name}.pub")
            (self.folder / name).chmod(0o600)
        self._config = "\n".join(
            [
                f"ListenAddress {self.address}",
                f"Port {self.port}",
                f"HostKey {self.folder}/host_key",
                f"AuthorizedKeysFile {self.folder}/user_key.pub",
                "PidFile none",
                "UsePAM no",
                "StrictModes no",
                "PasswordAuthentication no",
            ]
        )
        own(self.folder)

    def settings(self, *apps: str, ends: str = "revert-at-next-restart") -> str:
        host_key = (self.folder / "host_key.pub").read_text().strip()
        return (
            f'[[hosts]]\nname = "{self.name}"\naddress = "{self.address}"\nport = {self.port}\nuser = "{self.user}"\n'
            f'key = "{self.folder}/user_key"\nhost_key = "{host_key}"\nends = "{ends}"\n' + "".join(apps)
        )

    async def start(self, *more: str) -> None:
        file = self.folder / "sshd_config"
        file.write_text("\n".join([*more, self._config]) + "\n")  # sshd believes the first of two
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "/usr/sbin/sshd", "-D", "-e", "-f", str(file), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **as_user(),
            )  # fmt: skip
        async with asyncio.timeout(60):
            while not await self._listens():
                assert self._process.returncode is None, (self.folder / "sshd.log").read_text()
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """sshd and all its connections, as when the machine goes away; the apps stay."""
        if self._process is not None and self._process.returncode is None:
            # All stand still before the first one goes: none is left to tell how another ended.
            self.freeze()
            self._signal(signal.SIGKILL)
            await self._process.wait()

    def freeze(self) -> None:
        """It stands still: its kernel takes connections and bytes, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        for pid in [self._process.pid, *_children(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.address, self.port)
        except OSError:
            return False
        writer.close()
        return True


# Before an options file is copied to be edited, and after the edited one has taken its place.
GATES = {
    "cp": 'while [ -e {folder}/hold-cp ]; do touch {folder}/at-cp; sleep 0.05; done\nexec /bin/cp "$@"',
    "mv": '/bin/mv "$@" || exit\nwhile [ -e {folder}/hold-mv ]; do touch {folder}/at-mv; sleep 0.05; done',
}


class Gated(Machine):
    """One whose commands wait at a gate, as on a disk that is slow, as long as it is held."""

    async def start(self, *more: str) -> None:
        tools = self.folder / "gates"
        tools.mkdir(exist_ok=True)
        for name, text in GATES.items():
            (tools / name).write_text(f"#!/bin/sh\n{text.format(folder=self.folder)}\n")
            (tools / name).chmod(0o755)
        await super().start(*more, f"SetEnv PATH={tools}:/usr/local/bin:/usr/bin:/bin")

    def hold(self, gate: str) -> None:
        (self.folder / f"hold-{gate}").touch()

    def is_held(self, gate: str) -> bool:
        return (self.folder / f"at-{gate}").exists()

    def release(self, gate: str) -> None:
        (self.folder / f"hold-{gate}").unlink()


class HostedOrders:
    """The sample app on a machine: its options file, its start script, and what becomes of both."""

    def __init__(self, machine: Machine, *, options: bytes = OPTIONS) -> None:
        self.machine = machine
        self.folder = machine.folder / "orders"
        self.port, self.jdwp = free_port(), free_port()
        self.file = self.folder / "orders.env"
        self.target = f"host/{machine.name}/orders"
        self._options = options

    async def install(self, classes: Path) -> None:
        self.folder.mkdir()
        (self.folder / "orders.sh").write_text(START_SCRIPT.format(folder=self.folder, port=self.port, classes=classes))
        self.file.write_bytes(self._options)
        self.file.chmod(0o640)
        own(self.folder)

    def settings(self, **more: str) -> str:
        keys = {
            "name": "orders",
            "restart": f"sh {self.folder}/orders.sh",
            "options_file": str(self.file),
            "checkurl": f"{self.url}/checkurl",
            "restart_takes": "20s",
            **more,
        }
        text = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        return f"[[hosts.apps]]\n{text}jdwp_port = {self.jdwp}\n"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text() or 0)

    def state(self) -> tuple[bytes, int, int, int]:
        """All of its options file that must stay."""
        found = self.file.stat()
        return self.file.read_bytes(), found.st_mode, found.st_uid, found.st_gid

    def command_line(self) -> str:
        return Path(f"/proc/{self.pid}/cmdline").read_text(errors="replace")

    async def restart(self) -> None:
        """By its own people, until it could be debugged if it had the flags."""
        process = await asyncio.create_subprocess_exec(
            "sh", str(self.folder / "orders.sh"), stdout=subprocess.DEVNULL, start_new_session=True, **as_user()
        )
        await process.wait()
        async with asyncio.timeout(60):
            while not await self.answers():
                await asyncio.sleep(0.05)

    async def has_settled(self) -> None:
        """It is as old as a JVM must be before nobody waits for its agent any more."""
        async with asyncio.timeout(60):
            while _age(self.pid) < 3.2:
                await asyncio.sleep(0.1)

    @property
    def agent(self) -> str:
        return f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{self.jdwp}"

    def kill_script(self) -> None:
        """As when the host's power goes in the middle of a restart."""
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{self.folder}/orders.sh".encode() in (folder / "cmdline").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)

    def kill(self) -> None:
        """For good: with what the gateway has noted on the host about its options."""
        with suppress(OSError, ValueError):
            os.kill(self.pid, signal.SIGKILL)
        path = sha256(os.fsencode(self.file.resolve())).hexdigest()
        for note in Path("/dev/shm").glob(f".noah-*-{path}.*"):
            note.unlink()

    async def probe_says_alive(self) -> bool:
        """The liveness expression, as a watchdog of the host runs it."""
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", script("liveness"), "noah-liveness", f"{self.url}/checkurl", "1", "orders",
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return await process.wait() == 0

    async def answers(self, path: str = "/checkurl", within: float = 1) -> bool:
        try:
            async with asyncio.timeout(within), aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


def classes_in(folder: Path) -> Path:
    classes = compiled(SAMPLE, folder / "classes")
    own(classes)
    return classes


def ordinary_user() -> str:
    """Who this is; or, for root, somebody with a shell, as sshd asks for."""
    if os.getuid():
        return pwd.getpwuid(os.getuid()).pw_name
    shells = ("/bin/sh", "/bin/bash", "/bin/dash")
    return next((one.pw_name for one in pwd.getpwall() if one.pw_uid and one.pw_shell in shells), "root")


def as_user() -> dict[str, Any]:
    if os.getuid():
        return {}
    one = pwd.getpwnam(ordinary_user())
    return {"user": one.pw_uid, "group": one.pw_gid, "extra_groups": []}


def own(folder: Path) -> None:
    if os.getuid() == 0:
        one = pwd.getpwnam(ordinary_user())
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, one.pw_uid, one.pw_gid)


def new_root() -> Path:
    """Where that user may go; a test's own folder is nobody else's."""
    root = Path(tempfile.mkdtemp(prefix="noah-hosts-"))
    root.chmod(0o755)
    return root


def remove(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*(grandchild for child in found for grandchild in _children(int(child))), *map(int, found)]


def _age(pid: int) -> float:
    began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - began / os.sysconf("SC_CLK_TCK")
