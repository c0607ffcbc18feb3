"""JDWP packets as a debugger and a JVM send them, and a debugger that sends what a test wants."""

import socket
import struct
from collections import deque
from types import TracebackType
from typing import Self

from noah.core.jdwp.wire import HANDSHAKE, HEADER_SIZE, REPLY, command

VERSION = command(1, 1)
CLASSES_BY_SIGNATURE = command(1, 2)
ALL_CLASSES = command(1, 20)
ALL_THREADS = command(1, 4)
DISPOSE = command(1, 6)
ID_SIZES = command(1, 7)
SUSPEND = command(1, 8)
RESUME = command(1, 9)
EXIT = command(1, 10)
REDEFINE = command(1, 18)
SIGNATURE = command(2, 1)
METHODS = command(2, 5)
LINES = command(6, 1)
CLASS_INVOKE = command(3, 3)
NEW_INSTANCE = command(3, 4)
INTERFACE_INVOKE = command(5, 1)
VALUES = command(9, 2)
INVOKE = command(9, 6)
THREAD_NAME = command(11, 1)
THREAD_SUSPEND = command(11, 2)
THREAD_RESUME = command(11, 3)
THREAD_STATUS = command(11, 4)
FRAMES = command(11, 6)
SUSPEND_COUNT = command(11, 12)
SET = command(15, 1)
SET_LOCALS = command(16, 2)
POP = command(16, 4)
EVENTS = command(64, 100)

NONE, EVENT_THREAD, ALL = 0, 1, 2
STEP, BREAKPOINT, CLASS_PREPARE, VM_START = 1, 2, 8, 90


def ask(packet_id: int, number: int, payload: bytes = b"", *, flags: int = 0) -> bytes:
    return struct.pack(">IIBH", HEADER_SIZE + len(payload), packet_id, flags, number) + payload


def reply(packet_id: int, payload: bytes = b"", *, error: int = 0) -> bytes:
    return struct.pack(">IIBH", HEADER_SIZE + len(payload), packet_id, REPLY, error) + payload


def long(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def integer(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def string(text: str) -> bytes:
    return integer(len(text.encode())) + text.encode()


def location(type_id: int, method: int, index: int) -> bytes:
    return b"\x01" + long(type_id, method, index)


def stop(policy: int, *, thread: int = 1, at: bytes = b"", kind: int = BREAKPOINT, packet_id: int = 900) -> bytes:
    """A composite of one event."""
    where = at or location(7, 70, 4)
    return ask(packet_id, EVENTS, bytes([policy]) + integer(1) + bytes([kind]) + integer(5) + long(thread) + where)


def version(name: str = "OpenJDK 64-Bit Server VM", number: str = "17.0.15") -> bytes:
    return string("JDWP") + integer(1, 8) + string(number) + string(name)


def methods(names: dict[int, str]) -> bytes:
    each = (long(method) + string(name) + string("()V") + integer(0) for method, name in names.items())
    return integer(len(names)) + b"".join(each)


def lines(table: dict[int, int]) -> bytes:
    return long(0, 99) + integer(len(table)) + b"".join(long(index) + integer(line) for index, line in table.items())


class Debugger:
    """Attached through its constructor. It has a deadline for everything, and keeps the events that come meanwhile."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self.events: deque[bytes] = deque()
        self.socket = socket.create_connection((host, port), timeout=20)
        self._next_id = 1
        try:
            self.socket.sendall(HANDSHAKE)
            if self.read(len(HANDSHAKE)) != HANDSHAKE:
                raise ConnectionError("no handshake")
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self.socket.recv(count - len(got))
            if not piece:
                raise ConnectionError(f"it hung up after {len(got)} of {count} bytes")
            got += piece
        return got

    def ask(self, number: int, payload: bytes = b"") -> bytes:
        """The reply's payload; JdwpError when it is an error."""
        self._next_id += 1
        self.socket.sendall(ask(self._next_id, number, payload))
        while True:
            packet_id, flags, what, body = self._packet()
            if not flags & REPLY:
                self.events.append(body)
            elif packet_id == self._next_id:
                if what:
                    raise JdwpError(what)
                return body

    def event(self) -> bytes:
        """The next composite's payload."""
        while not self.events:
            _, flags, _, body = self._packet()
            if not flags & REPLY:
                self.events.append(body)
        return self.events.popleft()

    def _packet(self) -> tuple[int, int, int, bytes]:
        length, packet_id, flags, what = struct.unpack(">IIBH", self.read(HEADER_SIZE))
        return packet_id, flags, what, self.read(length - HEADER_SIZE)


class JdwpError(Exception):
    @property
    def number(self) -> int:
        return int(self.args[0])
