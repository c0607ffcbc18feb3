"""The messages of a line: a header of 21 bytes, and data.

Kind (1 byte), stream (4), offset (8), acknowledged (8), all big-endian; then what the kind says. Each is one binary
message of a WebSocket, so it arrives whole or not at all.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

LONGEST_DATA: Final = 64 * 1024  # bytes in one message, so that others get their turn on a slow network
_HEAD: Final = struct.Struct(">BIQQ")
LONGEST_MESSAGE: Final = _HEAD.size + LONGEST_DATA
# The code with which a laptop closes the WebSocket when it does not come back; with any other the line was lost. Codes
# from 4000 on are an application's own (RFC 6455, section 7.4.2).
LEAVES: Final = 4000


class BadMessage(Exception):
    """The other end breaks the protocol: nothing that it says can be relied on."""


class Kind(IntEnum):
    OPEN = 1  # a stream begins; data: one byte, the version of the accelerator at its other end, or 0
    DATA = 2  # offset: of its first byte
    FINISH = 3  # no more data comes; offset: of the end, which counts as one byte
    ACKNOWLEDGE = 4
    RESET = 5  # the stream is given up, whatever was on its way
    PING = 6  # offset: a number, which a PONG has as well
    PONG = 7


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    stream: int = 0
    offset: int = 0
    acknowledged: int = 0  # bytes of the stream's other direction that were passed on
    data: bytes | memoryview = b""

    def encode(self) -> bytes:
        return b"".join((_HEAD.pack(self.kind, self.stream, self.offset, self.acknowledged), self.data))


def decode(message: bytes) -> Frame:
    """Raises BadMessage."""
    if not _HEAD.size <= len(message) <= LONGEST_MESSAGE:
        raise BadMessage(f"a message of {len(message)} bytes")
    kind, stream, offset, acknowledged = _HEAD.unpack_from(message)
    try:
        return Frame(Kind(kind), stream, offset, acknowledged, memoryview(message)[_HEAD.size :])
    except ValueError:
        raise BadMessage(f"a message of kind {kind}") from None
