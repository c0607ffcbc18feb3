"""What the accelerator's two ends say to each other: frames on the line, and packets inside of the frames.

A frame is its kind (1 byte), the length of its body (4) and the body. PASS carries what the debugger or the JVM sent,
as a stream, and its body is passed on as it comes; all others are between the two ends. Short packets are gathered,
long ones pass in pieces.
"""

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, NamedTuple, Self

from noah.core.jdwp.cache import Lifetime
from noah.core.jdwp.wire import HEADER_SIZE, header

ACCELERATOR_VERSION: Final = 2

WHOLE: Final = 64 << 10  # bytes of a packet; longer ones are lists of classes and redefinitions, which nobody remembers
LONGEST_FRAME: Final = 320 << 10  # bytes; what is gathered or passes as a piece has up to 256 KiB
_LONGEST_PIECE: Final = 256 << 10  # bytes of a long packet
_COPIED: Final = 16 << 10  # bytes of a part up to which a copy costs less than a part more
_KEPT: Final = 256 << 10  # bytes that a buffer has been read past before they are cut off

_frame = struct.Struct(">BI")
# How long an answer lasts, the sender's counts of effects and of those on classes.
_stamp = struct.Struct(">BII")
_ahead = struct.Struct(">HHI")  # command, error, length of the question
_check = struct.Struct(">IH")  # the check's number, and the command or error
_disposal = struct.Struct(">QI")
_heard = struct.Struct(">HI")

Data = bytes | bytearray | memoryview
Parts = list[Data]


class FrameKind(IntEnum):
    PASS = 0
    # from the far end
    KEEP = 1  # a reply to the debugger, and how long it stays true
    AHEAD = 2  # a question that was not asked yet, and its answer
    CHECKED = 3  # what the JVM says to a CHECK
    # from the near end
    RECEIVED = 4  # bytes of AHEAD frames
    RELEASE = 5  # object IDs that nobody asked for, and how often the JVM handed them out
    CHECK = 6  # a question that was answered from memory
    HEARD = 7  # the commands that were answered from memory since the last resume
    OFF = 8  # send nothing ahead any more


class BrokenLine(Exception):
    """The other end's bytes are not frames."""


class Stamp(NamedTuple):
    """Says until when an answer lasts, as of the effects that its sender had counted."""

    lifetime: Lifetime
    effects: int
    class_effects: int


class Ahead(NamedTuple):
    stamp: Stamp
    number: int
    question: bytes
    error: int
    answer: bytes


def frame(kind: FrameKind, body: Data) -> bytes:
    return _frame.pack(kind, len(body)) + body


def keep(stamp: Stamp, packet: bytes) -> bytes:
    return frame(FrameKind.KEEP, _stamp.pack(*stamp) + packet)


def read_keep(body: bytes) -> tuple[Stamp, bytes]:
    return _read_stamp(body), body[_stamp.size :]


def ahead(one: Ahead) -> bytes:
    """Return the body of an AHEAD frame."""
    head = _stamp.pack(*one.stamp) + _ahead.pack(one.number, one.error, len(one.question))
    return head + one.question + one.answer


def read_ahead(body: bytes) -> Ahead:
    try:
        number, error, length = _ahead.unpack_from(body, _stamp.size)
    except struct.error as e:
        raise BrokenLine(str(e)) from e
    begin = _stamp.size + _ahead.size
    return Ahead(_read_stamp(body), number, body[begin : begin + length], error, body[begin + length :])


def _read_stamp(body: bytes) -> Stamp:
    try:
        lifetime, effects, class_effects = _stamp.unpack_from(body)
        return Stamp(Lifetime(lifetime), effects, class_effects)
    except (struct.error, ValueError) as e:
        raise BrokenLine(str(e)) from e


def check(kind: FrameKind, serial: int, number: int, payload: bytes) -> bytes:
    """Return a question to check by the JVM, or what the JVM said to it; *number* is the command or the error."""
    return frame(kind, _check.pack(serial, number) + payload)


def read_check(body: bytes) -> tuple[int, int, bytes]:
    try:
        serial, number = _check.unpack_from(body)
    except struct.error as e:
        raise BrokenLine(str(e)) from e
    return serial, number, body[_check.size :]


def disposals(pairs: Iterable[tuple[int, int]]) -> bytes:
    """Return object IDs and how often to dispose of each, as DisposeObjects has them."""
    return b"".join(_disposal.pack(*pair) for pair in pairs)


def read_disposals(data: bytes) -> list[tuple[int, int]]:
    return [*_disposal.iter_unpack(data)]


def heard(counts: Mapping[int, int]) -> bytes:
    return frame(FrameKind.HEARD, b"".join(_heard.pack(number, count) for number, count in counts.items()))


def read_heard(body: bytes) -> dict[int, int]:
    return dict(_heard.iter_unpack(body))


class Out:
    """Collects what is to be sent one way: short parts are joined, and long ones are passed on without a copy."""

    def __init__(self) -> None:
        self._parts: list[Data] = []
        self._joined = bytearray()
        self._passing: list[Data] = []  # what passes next, in one frame
        self._passing_size = 0

    def __iadd__(self, part: Data) -> Self:
        if self._passing:
            self._frame_what_passes()
        self._add(part)
        return self

    def frame(self, kind: FrameKind, body: Data) -> None:
        if kind is FrameKind.PASS:
            if self._passing_size + len(body) > LONGEST_FRAME:
                self._frame_what_passes()
            self._passing.append(body)
            self._passing_size += len(body)
        else:
            self += _frame.pack(kind, len(body))
            self._add(body)

    def _frame_what_passes(self) -> None:
        self._add(_frame.pack(FrameKind.PASS, self._passing_size))
        for part in self._passing:
            self._add(part)
        self._passing.clear()
        self._passing_size = 0

    def _add(self, part: Data) -> None:
        if len(part) < _COPIED:
            self._joined += part
        else:
            self._cut()
            self._parts.append(part)

    def _cut(self) -> None:
        if self._joined:
            self._parts.append(bytes(self._joined))
            self._joined.clear()

    def take(self) -> Parts:
        if self._passing:
            self._frame_what_passes()
        self._cut()
        parts, self._parts = self._parts, []
        return parts


class _Buffer:
    """Bytes that came and were not taken yet. Taking costs the same for small and for large buffers.

    What is fed must not change any more: what comes whole is taken without a copy.
    """

    def __init__(self) -> None:
        self._data: Data = b""
        self._at = self._end = 0

    def feed(self, data: Data) -> None:
        if self._at == self._end:
            self._data, self._at, self._end = data, 0, len(data)
            return
        if not isinstance(self._data, bytearray):
            self._data, self._at = bytearray(memoryview(self._data)[self._at :]), 0
        self._data += data
        self._end = len(self._data)

    def _take(self, size: int) -> bytes:
        return bytes(self._pass(size))

    def _pass(self, size: int) -> Data:
        """Take what is passed on as it is."""
        end = self._at + size
        taken: Data = memoryview(self._data)[self._at : end]
        self._at = end
        if isinstance(self._data, bytearray):
            taken = bytes(taken)
        if end == self._end:
            self._data, self._at, self._end = b"", 0, 0
        elif isinstance(self._data, bytearray) and end >= _KEPT:
            del self._data[:end]
            self._at, self._end = 0, len(self._data)
        return taken


class Frames(_Buffer):
    def __init__(self) -> None:
        super().__init__()
        self._rest = 0  # of a frame that passes piece by piece

    def next(self) -> tuple[int, Data] | None:
        """Return a frame's kind and body, and of what passes as much as is there; None until more comes.

        Raises BrokenLine if there cannot be a frame.
        """
        size = self._end - self._at
        if not self._rest:
            if size < _frame.size:
                return None
            kind, length = _frame.unpack_from(self._data, self._at)
            if length > LONGEST_FRAME:
                raise BrokenLine(f"a frame of {length} bytes")
            if kind != FrameKind.PASS:
                whole = _frame.size + length
                return (kind, self._take(whole)[_frame.size :]) if size >= whole else None
            self._pass(_frame.size)
            size -= _frame.size
            self._rest = length
        taken = min(size, self._rest)
        if self._rest and not taken:
            return None
        self._rest -= taken
        return FrameKind.PASS, self._pass(taken)


class PieceKind(IntEnum):
    PACKET = 0  # a whole packet
    HEAD = 1  # the beginning of a long packet, at least its header
    REST = 2  # more of a long packet, or of a stream in which packets are not recognized


def head_of(kind: PieceKind, data: Data) -> bytes:
    """Return what is looked into of a PACKET or a HEAD: all of the one, of the other the header only."""
    return bytes(data) if kind is PieceKind.PACKET else bytes(data[:HEADER_SIZE])


class Packets(_Buffer):
    def __init__(self, *, whole: int = WHOLE) -> None:
        super().__init__()
        self._whole = whole
        self._rest = 0  # of a long packet
        self.is_lost = False  # the borders of packets are unknown from here on

    @property
    def is_inside(self) -> bool:
        """True if the next piece belongs to a packet of which some was taken."""
        return self._rest > 0 or self.is_lost

    def next(self) -> tuple[PieceKind, Data] | None:
        """Return the next piece; None until more comes."""
        size = self._end - self._at
        if not size:
            return None
        if self._rest or self.is_lost:
            taken = min(size, _LONGEST_PIECE) if self.is_lost else min(size, self._rest, _LONGEST_PIECE)
            self._rest = max(0, self._rest - taken)
            return PieceKind.REST, self._pass(taken)
        if size < HEADER_SIZE:
            return None
        length = header(self._data, self._at)[0]
        if length < HEADER_SIZE:
            self.is_lost = True
            return self.next()
        if length > self._whole:
            taken = min(size, length, _LONGEST_PIECE)
            self._rest = length - taken
            return PieceKind.HEAD, self._pass(taken)
        return (PieceKind.PACKET, self._take(length)) if size >= length else None
