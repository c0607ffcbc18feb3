"""RFC 6455 on a connection that aiohttp has upgraded, for the channels of Kubernetes: a message's first byte names one.

From the 101 on the connection belongs to this protocol, since every byte of a debugger may pass here: payloads are
handed on piece by piece as they arrive, messages are never assembled, nothing is queued. A derived class is given the
way that it ended once. The frames are not wsproto's, which cost a sixth of the route: see benchmarks/websocket.py.
"""

import asyncio
import os
import struct
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp._websocket.helpers import websocket_mask  # in C; there is no public name for it

from noah.kube.errors import ExecCut

BEAT = 10.0  # seconds between pings; load balancers cut streams that are quiet for a minute
MISSED = 3  # beats without a single byte, and the peer counts as dead
GOODBYE = 5.0  # seconds that a closing stream may take to flush and to hear the other side's close
BUFFER = 256 * 1024  # bytes read at once
# Frames parsed before others get their turn: 256 KiB may be 65,000 frames of a byte, which are a tenth of a second.
FRAMES_AT_ONCE = 1000
UNREAD_BYTES = 256 * 1024  # a peer that reads nothing and sends pings is answered up to here

_BINARY, _CLOSED, _PING, _PONG = 2, 8, 9, 10
_CONTROL = 8  # the bit that marks a frame as not being part of a message
_FIN = 0x80
_MASKED = 0x80
_NORMAL = b"\x03\xe8"  # the code 1000


@dataclass(slots=True)
class ExecCounts:
    started: int = 0
    failed: int = 0  # those that did not begin, or could not tell how they ended while somebody waited for that
    in_flight: int = 0  # open streams: running, held, or carrying a connection


class WebSocket(asyncio.BufferedProtocol):
    """Begins paused: nothing is handed on before resume_reading()."""

    def __init__(
        self, answer: aiohttp.ClientResponse, *, name: str, buffer: memoryview, counts: ExecCounts, beat: float = BEAT
    ) -> None:
        """Takes over the connection of *answer*, a 101. *name* stands in sentences.

        *buffer* may be shared by all of an event loop: nothing stays in it between two calls.
        """
        self.protocol = answer.headers.get("Sec-WebSocket-Protocol", "")
        self.is_gone = False
        self._name = name
        self._answer = answer
        self._buffer = buffer
        self._counts = counts
        self._every = beat
        self._rest = b""  # what came and was not taken: half a header, or all that came after a pause
        self._left = 0  # bytes of the present frame's payload that have not come
        self._opcode = _BINARY
        self._last = True  # the present frame is its message's last
        self._channel = -1  # of the present message; -1: its first byte has not come
        self._control = bytearray()
        self._paused = True
        self._is_behind = False  # what came is parsed on at the next turn of the event loop
        self._ended = False  # _stopped() or close() was called
        self._closing = False  # our Close is sent
        self._missed = 0
        self._take_over(answer)

    def _take_over(self, answer: aiohttp.ClientResponse) -> None:
        connection = answer.connection
        if connection is None or connection.protocol is None or connection.transport is None:
            raise ExecCut(f"{self._name} was cut in its handshake.")
        self._before = connection.protocol
        # Frames that came together with the 101 are with aiohttp's protocol; it hands them to a parser.
        self._before.set_parser(_Early(self), None)
        self.transport: asyncio.Transport = connection.transport
        self.transport.pause_reading()
        self.transport.set_protocol(self)
        self._counts.in_flight += 1
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every, self._beat)

    # -- what a derived class makes of it

    def _piece(self, channel: int, piece: memoryview) -> None:
        """A part of a message, never empty; valid only until this returns."""

    def _message_is_over(self, channel: int) -> None: ...

    def _stopped(self, error: ExecCut | None) -> None:
        """Nothing more comes. None: the other side closed as one does. Called once, unless close() or abort() was."""

    def _lost(self) -> None:
        """The connection is closed. Called once, last."""

    # -- what its owner asks for

    def send(self, channel: int, data: bytes | bytearray | memoryview) -> None:
        self._write(_frame(_BINARY, bytes((channel,)), data))

    def pause_reading(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        self._missed = 0
        if not self._is_behind:
            self._read_on()

    def close(self) -> None:
        """Flush what was sent, and drop what comes."""
        self._ended = True
        self._say_goodbye(_NORMAL)
        self.resume_reading()

    def abort(self) -> None:
        self._ended = self._closing = True
        if not self.is_gone:
            self.transport.abort()

    # -- what the connection tells

    def early(self, data: bytes) -> None:
        self._rest += data

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._missed = 0
        came = self._buffer[:nbytes]
        if self._paused or self._is_behind:
            self._rest += came
        elif self._rest:
            rest, self._rest = self._rest, b""
            self._parse(memoryview(rest + came))
        else:
            self._parse(came)

    def eof_received(self) -> None:
        self._stop(f"{self._name} was cut: its end came without a word.")

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._counts.in_flight -= 1
        self._timer.cancel()
        self._stop(f"{self._name} was cut: {exc or 'the connection was closed'}.")
        self._before.connection_lost(None)
        self._answer.close()
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
        need = 2 if size < 126 else 4 if size == 126 else 10
        if have < need:
            return at
        if size >= 126:
            (size,) = struct.unpack_from("!H" if size == 126 else "!Q", view, at + 2)
        # Neither extensions nor masks were agreed on.
        if first & 0x70 or second & _MASKED:
            self._fail(f"{self._name} is not a WebSocket: it has a frame that begins with {first:#x} {second:#x}.")
        self._left, self._opcode = size, first & 0x0F
        if not self._opcode & _CONTROL:
            self._last = bool(first & _FIN)
        return at + need

    def _payload(self, piece: memoryview) -> None:
        if self._opcode & _CONTROL:
            self._control += piece[: 125 - len(self._control)]
            return
        if self._channel < 0:
            self._channel, piece = piece[0], piece[1:]
        if piece and not self._ended:
            self._piece(self._channel, piece)

    def _frame_is_over(self) -> None:
        if self._opcode & _CONTROL:
            said, self._control = bytes(self._control), bytearray()
            if self._opcode == _PING and self.transport.get_write_buffer_size() < UNREAD_BYTES:
                self._write(_frame(_PONG, b"", said))
            elif self._opcode == _CLOSED:
                self._closed_by_peer(said)
        elif self._last:
            channel, self._channel = self._channel, -1
            if not self._ended:
                self._message_is_over(channel)

    def _closed_by_peer(self, said: bytes) -> None:
        if said[:2] in (_NORMAL, b""):
            self._stop(None)
        else:
            code, why = int.from_bytes(said[:2], "big"), said[2:].decode(errors="replace")
            self._stop(f"{self._name} was closed by the other side: {why or f'code {code}'}.")
        self._say_goodbye(said[:2])
        # Never twice: the second close() of asyncio's TLS transport makes it useless.
        if not self.transport.is_closing():
            self.transport.close()

    # -- the end

    def _stop(self, sentence: str | None) -> None:
        if not self._ended:
            self._ended = True
            self._stopped(ExecCut(sentence) if sentence else None)

    def _fail(self, sentence: str) -> None:
        self._stop(sentence)
        self.abort()

    def _say_goodbye(self, code: bytes) -> None:
        if self._closing:
            return
        self._write(_frame(_CLOSED, b"", code))
        self._closing = True
        self._timer.cancel()
        self._timer = self._loop.call_later(GOODBYE, self.abort)

    def _beat(self) -> None:
        # While nobody reads, nothing can be heard from the peer.
        if self._missed >= MISSED and not self._paused:
            self._fail(f"{self._name} was cut: not a byte came for {MISSED * self._every:g} s.")
            return
        self._missed += 1
        # Container runtimes end streams that are idle for some hours, and to them pings are nothing: an empty message
        # to channel 0, which is stdin or the port, is traffic that carries no byte.
        self._write(_frame(_PING, b"", b"") + _frame(_BINARY, bytes((0,)), b""))
        self._timer = self._loop.call_later(self._every, self._beat)

    def _write(self, frame: bytes) -> None:
        if not self._closing and not self.is_gone and not self.transport.is_closing():
            self.transport.write(frame)


class _Early:
    """Takes from aiohttp's protocol what came together with the handshake's answer."""

    def __init__(self, stream: WebSocket) -> None:
        self._stream = stream

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._stream.early(data)
        return False, b""

    def feed_eof(self) -> Any: ...


def _frame(opcode: int, channel: bytes, data: bytes | bytearray | memoryview) -> bytes:
    size = len(channel) + len(data)
    if size < 126:
        head = struct.pack("!BB", _FIN | opcode, _MASKED | size)
    elif size < 65536:
        head = struct.pack("!BBH", _FIN | opcode, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, _MASKED | 127, size)
    key = os.urandom(4)  # RFC 6455, 5.3: not predictable, and a new one for each frame
    payload = bytearray(channel)
    payload += data
    websocket_mask(key, payload)
    return b"".join((head, key, payload))
