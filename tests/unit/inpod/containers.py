"""What a container has, on this machine: shells, a PATH with few tools in it, processes dead and alive."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# As `sh`: bash then is in POSIX mode, as it is in images whose /bin/sh it is.
SHELLS = {
    "dash": ("/usr/bin/dash",),
    "busybox": ("/usr/bin/busybox", "sh"),
    "bash": ("/usr/bin/bash", "--posix"),
}


@dataclass(frozen=True)
class Process:
    pid: int
    start: str

    def __str__(self) -> str:
        return f"{self.pid} {self.start}"


def process(pid: int) -> Process:
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return Process(pid, fields[19].decode())


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()


def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


@contextlib.contextmanager
def running(*argv: str | Path) -> Iterator[Process]:
    child = subprocess.Popen(argv)
    try:
        yield process(child.pid)
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def zombie(*argv: str | Path) -> Iterator[Process]:
    """Dead, and nobody has waited for it: what a killed socat is below a java that is PID 1."""
    child = subprocess.Popen(argv)
    try:
        known = process(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield known
    finally:
        child.wait()


def path_with(directory: Path, **tools: str | Path) -> str:
    """A PATH on which these tools are and nothing else; an argument is NAME=the file."""
    directory.mkdir()
    for name, file in tools.items():
        found = shutil.which(file)
        assert found, f"{file} is not on this machine"
        (directory / name).symlink_to(found)
    return str(directory)


# What dt_socket does: one debugger at a time, and no listener while it is attached. Prints each change, with the port.
AGENT = """
import socket, sys
port = int(sys.argv[1])
while True:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
        port = listener.getsockname()[1]
        print("free", port, flush=True)
        debugger = listener.accept()[0]
    print("taken", port, flush=True)
    with debugger:
        while debugger.recv(1024):
            pass
"""


class Agent:
    """A process that has an agent's sockets, started from *command*, a copy of Python."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        self._said = child.stdout
        self.process = process(child.pid)
        self.port = 0
        self.until("free")

    def until(self, word: str) -> None:
        line = self._said.readline().split()
        assert line[:1] == [word.encode()], line
        self.port = int(line[1])

    @property
    def hex(self) -> str:
        return f":{self.port:04X}"

    @contextlib.contextmanager
    def attached(self) -> Iterator[socket.socket]:
        try:
            with socket.create_connection(("127.0.0.1", self.port)) as debugger:
                self.until("taken")
                yield debugger
        finally:
            self.until("free")


@contextlib.contextmanager
def agent(command: Path, *, port: int = 0) -> Iterator[Agent]:
    python = Path(sys.executable).resolve()
    if not command.exists():
        shutil.copy(python, command)
    env = {"PYTHONHOME": f"{sys.base_prefix}:{sys.base_exec_prefix}"}
    child = subprocess.Popen([command, "-S", "-c", AGENT, str(port)], stdout=subprocess.PIPE, env=env)
    assert child.stdout is not None
    try:
        yield Agent(child)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
