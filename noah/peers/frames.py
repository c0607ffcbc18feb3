"""What gateways send each other: frames of a kind (1 byte), a length (4, big-endian) and that many bytes.

TLS cannot close one direction alone, and a debugger may: so the end of a stream is a frame, too.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from noah.core.line.frame import Data

VERSION: Final = 1
LONGEST_DATA: Final = 64 * 1024  # bytes in one frame of a stream
LONGEST: Final = 512 * 1024  # bytes of any frame; a whole message of a line is the longest, with 256 KiB of data
HEAD: Final = struct.Struct(">BI")


class BadFrame(Exception):
    """The other gateway breaks the protocol."""


class PeerFrameKind(IntEnum):
    HELLO = 1  # JSON: what the connection is for
    ACCEPTED = 2
    REFUSED = 3  # JSON: the sentence, and its status
    DATA = 4  # of a debugger's stream; of a line: a message to the laptop, or a piece of one from it
    END = 5  # of a debugger's stream: no more data comes; of a line: the message from the laptop is over
    TEXT = 6  # of a line: what the two ends say to each other first, JSON
    CLOSE = 7  # of a line, JSON: why


@dataclass(frozen=True, slots=True)
class PeerFrame:
    kind: PeerFrameKind
    data: bytes = b""

    def json(self) -> dict[str, Any]:
        """Raises BadFrame if it is not an object."""
        try:
            said = json.loads(self.data)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise BadFrame(f"{self.kind.name} without a JSON object")
        return said


def encoded(kind: PeerFrameKind, data: Data = b"") -> bytes:
    return b"".join((HEAD.pack(kind, len(data)), data))


def encoded_json(kind: PeerFrameKind, said: Mapping[str, Any]) -> bytes:
    return encoded(kind, json.dumps(said).encode())


def take_frames(came: bytearray) -> Iterator[PeerFrame]:
    """Take the whole frames from the beginning of *came*. Raises BadFrame as soon as a head is wrong."""
    while len(came) >= HEAD.size:
        kind, length = HEAD.unpack_from(came)
        if length > LONGEST:
            raise BadFrame(f"a frame of {length} bytes")
        try:
            known = PeerFrameKind(kind)
        except ValueError:
            raise BadFrame(f"a frame of kind {kind}") from None
        if len(came) < HEAD.size + length:
            return
        data = bytes(memoryview(came)[HEAD.size : HEAD.size + length])
        del came[: HEAD.size + length]
        yield PeerFrame(known, data)
