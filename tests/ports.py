"""Ports for what a test starts, of which no other test, and no connection of anybody, takes one meanwhile.

A port that the kernel chose may be taken by the next program that binds or connects: one of thousands of tests then met
another program there. So each test process has a block of ports for itself, below the range that the kernel chooses
from, and gives them out in turn.
"""

import fcntl
import os
import socket
import tempfile
from functools import cache
from itertools import chain
from pathlib import Path

BLOCK = 600
# Between the cluster's own ports and NodePorts, without those that a gateway opens where nothing is configured.
BLOCKS = [range(first, first + BLOCK) for first in chain(range(11_000, 20_000, BLOCK), range(21_000, 30_000, BLOCK))]


class _Ports:
    def __init__(self) -> None:
        self._block = _block_of_this_process()
        self._next = 0

    def take(self, count: int) -> int:
        for _ in range(BLOCK):
            if self._next + count > BLOCK:
                self._next = 0
            first = self._block[self._next]
            self._next += count
            if all(map(_is_free, range(first, first + count))):
                return first
        raise AssertionError(f"no {count} ports in a row are free in {self._block}")


def free_port() -> int:
    return free_ports(1)


def free_ports(count: int) -> int:
    """Return the first of *count* ports in a row."""
    return _ports().take(count)


def some_ports() -> str:
    """Return a range for debug_ports."""
    first = free_ports(40)
    return f"{first}-{first + 39}"


@cache
def _ports() -> _Ports:
    return _Ports()


def _block_of_this_process() -> range:
    folder = Path(tempfile.gettempdir(), f"noah-test-ports-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    for block in BLOCKS:
        lock = os.open(folder / str(block.start), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return block  # until this process ends
    raise AssertionError("more test processes than blocks of ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
