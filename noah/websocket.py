"""RFC 6455 on a connection that aiohttp has upgraded, at either of its ends.

From the 101 on the connection belongs to this protocol, since every byte of a debugger may pass here: payloads are
handed on piece by piece as they arrive, messages are never assembled, nothing is queued: aiohttp's own WebSocket has a
queue and a task at each end. benchmarks/connect.py and benchmarks/exec.py measure what becomes of that.
"""

import asyncio
import base64
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import aiohttp
from aiohttp._websocket.helpers import websocket_mask  # in C; there is no public name for it

GOODBYE_S: Final = 5.0  # that a closing connection may take to flush and to hear the other side's close
# Frames parsed before others get their turn: 256 KiB may be 65,000 frames of a byte, which are a tenth of a second.
FRAMES_AT_ONCE: Final = 1000
UNREAD_BYTES: Final = 256 * 1024  # a peer that reads nothing and sends pings is answered up to here
LONGEST_REASON: Final = 123  # bytes of a Close frame (section 5.5)
NORMAL, GOING_AWAY, NO_CODE = 1000, 1001, 1005  # codes of a Close frame (section 7.4.1)

_CONTROL = 8  # the bit that marks a frame as not being part of a message
_FIN = 0x80
_MASKED = 0x80
_JOINED_BYTES = 4096  # a frame up to here is written in one piece, and a longer one without a copy
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3

Data = bytes | bytearray | memoryview


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


def new_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def proof_of(key: str) -> str:
    """Return what a server answers to a client's key (section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def asking(key: str) -> dict[str, str]:
    """Return the headers with which a client asks for a WebSocket."""
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection after its handshake, taken from aiohttp."""

    transport: asyncio.Transport
    before: asyncio.BaseProtocol  # what had it; it is notified of the end
    early: bytes  # what came together with the handshake
    is_client: bool
    release: Callable[[], object] = lambda: None


def upgraded_by(answer: aiohttp.ClientResponse) -> Upgraded | None:
    """Take the connection of *answer*, a 101; None if it was lost meanwhile."""
    connection = answer.connection
    if connection is None or connection.protocol is None or connection.transport is None:
        return None
    early: Any = Early()
    connection.protocol.set_parser(early, None)
    return Upgraded(connection.transport, connection.protocol, bytes(early.data), True, answer.close)


class Early:
    """Takes from aiohttp's protocol what came together with the handshake; it hands that to a parser."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> Any: ...


class WebSocket(asyncio.Protocol):
    """Begins paused: nothing is handed on before resume_reading(). A derived class is given the way it ended once."""

    def __init__(self, upgraded: Upgraded, *, name: str) -> None:
        """*name* stands in sentences."""
        self.is_gone = False
        self._name = name
        self._upgraded = upgraded
        self._reads_masked = not upgraded.is_client
        self._rest = upgraded.early  # what came and was not taken: half a header, or all that came after a pause
        self._left = 0  # bytes of the present frame's payload that have not come
        self._mask = b""  # for the next bytes of the present frame
        self._opcode: int = Opcode.BINARY
        self._last = True  # the present frame is its message's last
        self._control = bytearray()
        self._paused = True
        self._is_behind = False  # what came is parsed on at the next turn of the event loop
        self._ended = False  # _closed() or _cut() was called, or close()
        self._closing = False  # our Close is sent
        self._loop = asyncio.get_running_loop()
        self._goodbye: asyncio.TimerHandle | None = None
        self.transport = upgraded.transport
        self.transport.pause_reading()
        self.transport.set_protocol(self)

    # -- what a derived class makes of it

    def _begins(self, opcode: int) -> None:
        """Note that a message begins."""

    def _piece(self, piece: memoryview) -> None:
        """Take a part of a message, never empty."""

    def _message_is_over(self) -> None: ...

    def _closed(self, code: int, reason: str) -> None:
        """Note that the other side has closed. This or _cut() is called once, unless close() or abort() was."""

    def _cut(self, sentence: str) -> None: ...

    def _lost(self) -> None:
        """Note that the connection is closed. Called once, last."""

    # -- what its owner asks for

    def send(self, opcode: Opcode, *parts: Data) -> None:
        """Send a message. What is longer than some bytes must not change any more: it may be written later."""
        self._write(opcode, parts)

    def pause_reading(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if not self._is_behind:
            self._read_on()

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Flush what was sent, and drop what comes."""
        self._ended = True
        self._say_goodbye(code.to_bytes(2) + reason.encode()[:LONGEST_REASON])
        self.resume_reading()

    def abort(self) -> None:
        self._ended = self._closing = True
        if not self.is_gone:
            self.transport.abort()

    # -- what the connection says

    def data_received(self, data: Data) -> None:
        if self._paused or self._is_behind:
            self._rest += data
        elif self._rest:
            rest, self._rest = self._rest, b""
            self._parse(memoryview(rest + data))
        else:
            self._parse(memoryview(data))

    def eof_received(self) -> None:
        self._stop(f"{self._name} was cut: its end came without a word.")

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        if self._goodbye is not None:
            self._goodbye.cancel()
        self._stop(f"{self._name} was cut: {exc or 'the connection was closed'}.")
        self._upgraded.before.connection_lost(exc if self._reads_masked else None)
        self._upgraded.release()
        self._lost()

    # -- frames

    def _read_on(self) -> None:
        self._is_behind = False
        if self._paused or self.is_gone:
            return
        rest, self._rest = self._rest, b""
        self._parse(memoryview(rest))
        if not self._paused and not self._is_behind and not self.is_gone:
            self.transport.resume_reading()

    def _parse(self, view: memoryview) -> None:
        at, end, frames = 0, len(view), 0
        while at < end and not self._paused and not self.is_gone:
            if frames == FRAMES_AT_ONCE:
                self._is_behind = True
                self.transport.pause_reading()
                self._loop.call_soon(self._read_on)
                break
            if not self._left:
                after = self._header(view, at)
                if after == at:
                    break
                at = after
            take = min(self._left, end - at)
            if take:
                self._payload(view[at : at + take])
                self._left -= take
                at += take
            if not self._left:
                frames += 1
                self._frame_is_over()
        if at < end:
            self._rest = bytes(view[at:])

    def _header(self, view: memoryview, at: int) -> int:
        """Return where the payload begins, or *at* when the header has not come wholly."""
        have = len(view) - at
        if have < 2:
            return at
        first, second = view[at], view[at + 1]
        size = second & 0x7F
        keyed = at + (2 if size < 126 else 4 if size == 126 else 10)
        begin = keyed + 4 if self._reads_masked else keyed
        if have < begin - at:
            return at
        if size >= 126:
            (size,) = struct.unpack_from("!H" if size == 126 else "!Q", view, at + 2)
        # Extensions were not agreed on, and only clients mask (section 5.1).
        if first & 0x70 or bool(second & _MASKED) is not self._reads_masked:
            self._fail(f"{self._name} is not a WebSocket: it has a frame that begins with {first:#x} {second:#x}.")
        self._left, self._opcode = size, first & 0x0F
        self._mask = bytes(view[keyed:begin])
        if not self._opcode & _CONTROL:
            self._last = bool(first & _FIN)
            if self._opcode != Opcode.CONTINUATION:
                self._begins(self._opcode)
        return begin

    def _payload(self, piece: memoryview) -> None:
        if self._mask:
            piece = self._unmasked(piece)
        if self._opcode & _CONTROL:
            self._control += piece[: 125 - len(self._control)]
        elif not self._ended:
            self._piece(piece)

    def _unmasked(self, piece: memoryview) -> memoryview:
        plain = bytearray(piece)
        websocket_mask(self._mask, plain)
        turn = len(piece) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        return memoryview(plain)

    def _frame_is_over(self) -> None:
        if self._opcode & _CONTROL:
            said, self._control = bytes(self._control), bytearray()
            if self._opcode == Opcode.PING and self.transport.get_write_buffer_size() < UNREAD_BYTES:
                self._write(Opcode.PONG, (said,))
            elif self._opcode == Opcode.CLOSE:
                self._closed_by_peer(said)
        elif self._last and not self._ended:
            self._message_is_over()

    def _closed_by_peer(self, said: bytes) -> None:
        if not self._ended:
            self._ended = True
            self._closed(int.from_bytes(said[:2]) if said else NO_CODE, said[2:].decode(errors="replace"))
        self._say_goodbye(said[:2])
        # Never twice: the second close() of asyncio's TLS transport makes it useless.
        if not self.transport.is_closing():
            self.transport.close()

    # -- the end

    def _stop(self, sentence: str) -> None:
        if not self._ended:
            self._ended = True
            self._cut(sentence)

    def _fail(self, sentence: str) -> None:
        self._stop(sentence)
        self.abort()

    def _say_goodbye(self, said: bytes) -> None:
        if self._closing:
            return
        self._write(Opcode.CLOSE, (said,))
        self._closing = True
        self._goodbye = self._loop.call_later(GOODBYE_S, self.abort)

    def _write(self, opcode: Opcode, parts: tuple[Data, ...]) -> None:
        if self._closing or self.is_gone or self.transport.is_closing():
            return
        size = sum(map(len, parts))
        masked = _MASKED if self._upgraded.is_client else 0
        if size < 126:
            head = struct.pack("!BB", _FIN | opcode, masked | size)
        elif size < 65536:
            head = struct.pack("!BBH", _FIN | opcode, masked | 126, size)
        else:
            head = struct.pack("!BBQ", _FIN | opcode, masked | 127, size)
        if masked:
            key = os.urandom(4)  # section 5.3: not predictable, and a new one for each frame
            payload = bytearray().join(parts)
            websocket_mask(key, payload)
            parts = key, payload
        if size <= _JOINED_BYTES:
            self.transport.write(b"".join((head, *parts)))
        else:
            self.transport.writelines([head, *parts])
