"""A WebSocket on a connection that aiohttp has upgraded, for Kubernetes' channels: a message's first byte names one.

From the 101 on the connection belongs to this protocol, since every byte of a debugger may pass here: payloads are
handed on piece by piece as they arrive, and messages are never assembled. The frames are wsproto's. A derived class is
given the way that it ended once.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from noah.kube.errors import ExecCut

BEAT = 10.0  # seconds between pings; load balancers cut streams that are quiet for a minute
MISSED = 3  # beats without a single byte, and the peer counts as dead
GOODBYE = 5.0  # seconds that a closing stream may take to flush and to hear the other side's close
BUFFER = 256 * 1024  # bytes read at once
# Frames parsed before others get their turn: 256 KiB may be 65,000 frames of a byte, which are half a second.
FRAMES_AT_ONCE = 500

_NORMAL = (CloseReason.NORMAL_CLOSURE, CloseReason.NO_STATUS_RCVD)


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
        """Take over the connection of *answer*, a 101. *name* stands in sentences.

        *buffer* may be shared by all of an event loop: nothing stays in it between two calls.
        """
        self.protocol = answer.headers.get("Sec-WebSocket-Protocol", "")
        self.is_gone = False
        self._name = name
        self._answer = answer
        self._buffer = buffer
        self._counts = counts
        self._every = beat
        self._frames = Connection(ConnectionType.CLIENT)  # holds what came and was not taken
        self._channel = -1  # of the present message; -1: its first byte has not come
        self._paused = True
        self._taking = False  # frames are being handed on, further up the stack
        self._is_behind = False  # more frames are handed on at the next turn of the event loop
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
        self._before.set_parser(_Early(self._frames), None)
        self.transport: asyncio.Transport = connection.transport
        self.transport.pause_reading()
        self.transport.set_protocol(self)
        self._counts.in_flight += 1
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every, self._beat)

    # -- for a derived class

    def _piece(self, channel: int, piece: memoryview) -> None:
        """Take a part of a message, never empty; valid only until this returns."""

    def _message_is_over(self, channel: int) -> None: ...

    def _stopped(self, error: ExecCut | None) -> None:
        """Nothing more comes. None: the other side closed as one does. Called once, unless close() or abort() was."""

    def _lost(self) -> None:
        """The connection is closed. Called once, last."""

    # -- called by the owner

    def send(self, channel: int, data: bytes | bytearray | memoryview) -> None:
        self._write(BytesMessage(b"".join((bytes((channel,)), data))))

    def pause_reading(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused:
            return
        self._paused = False
        self._missed = 0
        self._take()
        self._read_on()

    def close(self) -> None:
        """Flush what was sent, and drop what comes."""
        self._ended = True
        self._say_goodbye(CloseConnection(CloseReason.NORMAL_CLOSURE))
        self.resume_reading()

    def abort(self) -> None:
        self._ended = self._closing = True
        if not self.is_gone:
            self.transport.abort()

    # -- called by the connection

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._missed = 0
        if self._frames.state is not ConnectionState.CLOSED:
            self._frames.receive_data(bytes(self._buffer[:nbytes]))
            if not self._paused:
                self._take()

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

    def _take(self) -> None:
        if self._taking or self._is_behind:
            return
        self._taking = True
        try:
            for number, event in enumerate(self._frames.events(), 1):
                self._event(event)
                if self._paused or self.is_gone:
                    return
                if number == FRAMES_AT_ONCE:
                    self._is_behind = True
                    self.transport.pause_reading()
                    self._loop.call_soon(self._catch_up)
                    return
        finally:
            self._taking = False

    def _catch_up(self) -> None:
        self._is_behind = False
        if not self._paused and not self.is_gone:
            self._take()
            self._read_on()

    def _read_on(self) -> None:
        if not self._paused and not self._is_behind and not self.is_gone:
            self.transport.resume_reading()

    def _event(self, event: Event) -> None:
        match event:
            case BytesMessage(data, _, is_over):
                self._part(data, is_over)
            case Ping():
                self._write(event.response())
            case CloseConnection():
                self._closed(event)
            case TextMessage():
                self._fail(f"{self._name} sent text, which no exec does.")

    def _part(self, data: bytes | bytearray, is_over: bool) -> None:
        piece = memoryview(data)
        if self._channel < 0 and piece:
            self._channel, piece = piece[0], piece[1:]
        if piece and not self._ended:
            self._piece(self._channel, piece)
        if is_over:
            channel, self._channel = self._channel, -1
            if not self._ended:
                self._message_is_over(channel)

    def _closed(self, event: CloseConnection) -> None:
        if self._frames.state not in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
            # This is how wsproto says that it cannot parse what comes.
            self._fail(f"{self._name} is not a WebSocket: {event.reason}.")
            return
        self._say_goodbye(event.response())
        if event.code in _NORMAL:
            self._stop(None)
        else:
            self._stop(f"{self._name} was closed by the other side: {event.reason or f'code {int(event.code)}'}.")
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

    def _say_goodbye(self, event: CloseConnection) -> None:
        if self._closing:
            return
        self._write(event)
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
        self._write(Ping())
        self.send(0, b"")
        self._timer = self._loop.call_later(self._every, self._beat)

    def _write(self, event: Event) -> None:
        if not self._closing and not self.is_gone and not self.transport.is_closing():
            self.transport.write(self._frames.send(event))


class _Early:
    """Takes from aiohttp's protocol what came together with the handshake's answer."""

    def __init__(self, frames: Connection) -> None:
        self._frames = frames

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._frames.receive_data(data)
        return False, b""

    def feed_eof(self) -> Any: ...
