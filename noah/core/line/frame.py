"""The messages of a line: a header of 21 bytes, and data.

Kind (1 byte), stream (4), offset (8), acknowledged (8), all big-endian; then what the kind says. Each is one binary
message of a WebSocket. Data is handed on as it comes, everything else once it is whole: both ends count bytes, so it
does not matter to them where a connection is cut.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

Data = bytes | bytearray | memoryview
Message = list[Data]  # in parts, so that long data is sent without a copy

# Bytes in one message, so that others get their turn on a slow network: a read of 256 KiB and what is added to it.
LONGEST_DATA: Final = 288 * 1024
_HEAD: Final = struct.Struct(">BIQQ")
# The code with which a laptop closes the WebSocket when it does not come back; with any other the line was lost. Codes
# from 4000 on are an application's own (RFC 6455, section 7.4.2).
LEAVES: Final = 4000


class BadMessage(Exception):
    """The other end breaks the protocol: nothing that it says can be relied on."""


class LineFrameKind(IntEnum):
    OPEN = 1  # a stream begins; data: one byte, the version of the accelerator at its other end, or 0
    DATA = 2  # offset: of its first byte
    FINISH = 3  # no more data comes; offset: of the end, which counts as one byte
    ACKNOWLEDGE = 4
    RESET = 5  # the stream is given up, whatever was on its way
    PING = 6  # offset: a number, which a PONG has as well
    PONG = 7


_KINDS: Final = {kind.value: kind for kind in LineFrameKind}


class Frame(NamedTuple):
    kind: LineFrameKind
    stream: int = 0
    offset: int = 0
    acknowledged: int = 0  # bytes of the stream's other direction that were passed on
    data: Data = b""

    @property
    def head(self) -> bytes:
        """Return what the message begins with; the data follows."""
        return _HEAD.pack(self.kind, self.stream, self.offset, self.acknowledged)

    @property
    def message(self) -> Message:
        return [self.head, self.data]


class Reader:
    """Makes frames of messages that come in pieces. Its methods raise BadMessage."""

    def __init__(self) -> None:
        self._head = b""
        self._frame: Frame | None = None  # of the present message, once its header is there
        self._length = 0  # of its data that has come

    def take(self, piece: memoryview) -> Frame | None:
        """Take a part of a message; return the data in it."""
        frame = self._frame
        if frame is None:
            missing = _HEAD.size - len(self._head)
            self._head += piece[:missing]
            piece = piece[missing:]
            if len(self._head) < _HEAD.size:
                return None
            frame = self._frame = _frame_of(self._head)
        offset = frame.offset + self._length
        self._length += len(piece)
        if self._length > LONGEST_DATA:
            raise BadMessage(f"a message with {self._length} bytes of data")
        if frame.kind is not LineFrameKind.DATA:
            self._frame = frame._replace(data=bytes(frame.data) + piece)
            return None
        return Frame(frame.kind, frame.stream, offset, frame.acknowledged, piece) if piece else None

    def end(self) -> Frame | None:
        """Note that the message is over; return it, unless its data was."""
        frame, self._frame = self._frame, None
        if frame is None:
            raise BadMessage(f"a message of {len(self._head)} bytes")
        self._head, self._length = b"", 0
        return None if frame.kind is LineFrameKind.DATA else frame


def _frame_of(head: bytes) -> Frame:
    kind, stream, offset, acknowledged = _HEAD.unpack(head)
    if kind not in _KINDS:
        raise BadMessage(f"a message of kind {kind}")
    return Frame(_KINDS[kind], stream, offset, acknowledged)
