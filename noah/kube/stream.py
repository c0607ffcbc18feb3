"""One exec stream: RFC 6455 frames on an upgraded connection, and the channels of Kubernetes inside them.

aiohttp does the handshake; from the 101 on the connection is this protocol's, since a debugger's every byte may pass
here: payloads go on piece by piece as they arrive, messages are never put together, nothing is queued.
A stream tells how the command ended once, and a stream that stops without a status has not ended well.
"""

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import aiohttp

from noah.errors import NoahError
from noah.kube.errors import ExecCut, ending

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"

BEAT = 10.0  # seconds between pings; load balancers cut streams that are quiet for a minute
MISSED = 3  # beats without a single byte, and the peer counts as dead
GOODBYE = 5.0  # seconds that a closing stream may take to flush and to hear the other side's close
BUFFER = 256 * 1024  # bytes read at once
STATUS_LIMIT = 64 * 1024  # bytes

_BINARY, _CLOSED, _PING, _PONG = 2, 8, 9, 10
_CONTROL = 8  # the bit that says that a frame is not part of a message
_FIN = 0x80
_MASKED = 0x80
# Masking keeps a page in a browser from writing what a cache would take for HTTP. Nobody chooses our bytes to that
# end, so the key is 0, which is legal, changes nothing, and costs nothing.


class Sink:
    """Who an exec stream is for."""

    def output(self, channel: int, piece: memoryview) -> None:
        """A piece of STDOUT or STDERR; valid only until this returns."""

    def done(self, how: int | NoahError) -> None:
        """The exit code, or why none is known. Called at most once, and not after the stream's owner closed it."""

    def lost(self) -> None:
        """The connection is closed. Called once, last."""

    def pause_writing(self) -> None:
        """Enough is buffered towards the command."""

    def resume_writing(self) -> None:
        """It has drained."""


@dataclass(slots=True)
class Counts:
    started: int = 0
    failed: int = 0  # those that could not tell how their command ended
    in_flight: int = 0  # open streams: running, held, or carrying a connection


class ExecStream(asyncio.BufferedProtocol):
    """Begins paused: nothing reaches the sink before resume_reading()."""

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        sink: Sink,
        *,
        container: str,
        program: str,
        buffer: memoryview,
        counts: Counts,
    ) -> None:
        """Takes over the connection of *answer*, a 101.

        *buffer* may be shared by all streams of an event loop: nothing stays in it between two calls.
        """
        self.protocol = answer.headers.get("Sec-WebSocket-Protocol", "")
        self._answer = answer
        self._sink = sink
        self._container = container
        self._program = program
        self._buffer = buffer
        self._counts = counts
        self._rest = b""  # what came and was not taken: half a header, or all that came after a pause
        self._left = 0  # bytes of the present frame's payload that have not come
        self._opcode = _BINARY
        self._last = True  # the present frame is its message's last
        self._channel = -1  # of the present message; -1: its first byte has not come
        self._control = bytearray()
        self._status = bytearray()
        self._paused = True
        self._ended = False
        self._closing = False
        self._gone = False
        self._missed = 0
        self._take_over(answer)

    def _take_over(self, answer: aiohttp.ClientResponse) -> None:
        connection = answer.connection
        if connection is None or connection.protocol is None or connection.transport is None:
            raise ExecCut()
        self._before = connection.protocol
        # Frames that came together with the 101 are with aiohttp's protocol; it hands them to a parser.
        self._before.set_parser(_Early(self), None)
        self.transport: asyncio.Transport = connection.transport
        self.transport.pause_reading()
        self.transport.set_protocol(self)
        self._counts.in_flight += 1
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(BEAT, self._beat)

    @property
    def is_gone(self) -> bool:
        return self._gone

    def early(self, data: bytes) -> None:
        self._rest += data

    # -- what the sink's owner asks for

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """To the command's stdin."""
        if data and not self._closing:
            self.transport.write(_frame(_BINARY, bytes((STDIN,)), data))

    def close_stdin(self) -> None:
        """Over v4 there is no way to: a command that waits for the end of its stdin would wait for ever."""
        if self.protocol == V5 and not self._closing:
            self.transport.write(_frame(_BINARY, b"", bytes((CLOSE, STDIN))))

    def pause_reading(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        self._missed = 0
        rest, self._rest = self._rest, b""
        self._parse(memoryview(rest))
        if not self._paused and not self._gone:
            self.transport.resume_reading()

    def close(self) -> None:
        """What was sent is flushed, what comes is thrown away. The command goes on."""
        if self._closing:
            return
        self._say_goodbye(b"\x03\xe8")  # 1000: normal
        self.resume_reading()

    def abort(self) -> None:
        self._closing = True
        if not self._gone:
            self.transport.abort()

    # -- what the connection tells

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._missed = 0
        came = self._buffer[:nbytes]
        if self._paused:
            self._rest += came
        elif self._rest:
            rest, self._rest = self._rest, b""
            self._parse(memoryview(rest + came))
        else:
            self._parse(came)

    def eof_received(self) -> None:
        self._end(ExecCut(f"The exec stream to {self._container} was closed without a status."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._counts.in_flight -= 1
        self._timer.cancel()
        why = f": {exc}" if exc else ""
        self._end(ExecCut(f"The exec stream to {self._container} was cut{why}."))
        self._before.connection_lost(None)
        self._answer.close()
        self._sink.lost()

    def pause_writing(self) -> None:
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._sink.resume_writing()

    # -- frames

    def _parse(self, view: memoryview) -> None:
        at, end = 0, len(view)
        while at < end and not self._paused and not self._gone:
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
                self._frame_is_over()
        if at < end:
            self._rest = bytes(view[at:])

    def _header(self, view: memoryview, at: int) -> int:
        """Where the payload begins; *at* when the header has not come wholly."""
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
            self._fail(
                f"The exec stream to {self._container} is no WebSocket: it has a frame of {first:#x} {second:#x}."
            )
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
        if not piece or self._ended or self._closing:
            return
        if self._channel in (STDOUT, STDERR):
            self._sink.output(self._channel, piece)
        elif self._channel == STATUS:
            self._status += piece[: STATUS_LIMIT - len(self._status)]

    def _frame_is_over(self) -> None:
        if self._opcode & _CONTROL:
            said, self._control = bytes(self._control), bytearray()
            if self._opcode == _PING:
                self._write(_frame(_PONG, b"", said))
            elif self._opcode == _CLOSED:
                self._closed_by_peer(said)
        elif self._last:
            if self._channel == STATUS:
                self._end(ending(self._status, container=self._container, program=self._program))
            self._channel = -1

    def _closed_by_peer(self, said: bytes) -> None:
        why = said[2:].decode(errors="replace")
        self._end(ExecCut(f"The exec stream to {self._container} was closed without a status{why and ': ' + why}."))
        self._say_goodbye(said[:2])
        # Never twice: the second close() of asyncio's TLS transport makes it useless.
        if not self.transport.is_closing():
            self.transport.close()

    # -- the end

    def _end(self, how: int | NoahError) -> None:
        if not self._ended and not self._closing:
            self._ended = True
            self._sink.done(how)

    def _fail(self, sentence: str) -> None:
        self._end(ExecCut(sentence))
        self.abort()

    def _say_goodbye(self, code: bytes) -> None:
        if self._closing:
            return
        self._write(_frame(_CLOSED, b"", code))
        self._closing = True
        self._timer.cancel()
        self._timer = self._loop.call_later(GOODBYE, self.abort)

    def _beat(self) -> None:
        # While the sink does not want to read, nothing can be heard from the peer.
        if self._missed >= MISSED and not self._paused:
            self._fail(f"The exec stream to {self._container} was cut: not a byte came for {MISSED * BEAT:g} s.")
            return
        self._missed += 1
        self._write(_frame(_PING, b"", b""))
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _write(self, frame: bytes) -> None:
        if not self._gone and not self.transport.is_closing():
            self.transport.write(frame)


class _Early:
    """Takes from aiohttp's protocol what came together with the handshake's answer."""

    def __init__(self, stream: ExecStream) -> None:
        self._stream = stream

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._stream.early(data)
        return False, b""

    def feed_eof(self) -> Any: ...


def _frame(opcode: int, channel: bytes, data: bytes | bytearray | memoryview) -> bytes:
    size = len(channel) + len(data)
    if size < 126:
        head = struct.pack("!BB4x", _FIN | opcode, _MASKED | size)
    elif size < 65536:
        head = struct.pack("!BBH4x", _FIN | opcode, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ4x", _FIN | opcode, _MASKED | 127, size)
    return b"".join((head, channel, data))
