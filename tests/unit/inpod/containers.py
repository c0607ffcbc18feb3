"""What a container has, on this machine: shells, a PATH with few tools in it, processes dead and alive."""

import contextlib
import os
import shutil
import subprocess
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
