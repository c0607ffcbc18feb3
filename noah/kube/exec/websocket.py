"""The channels of Kubernetes in a WebSocket: a message's first byte names one.

A derived class is given the way that it ended once.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from noah.kube.errors import ExecCut
from noah.per_loop import PerLoop
from noah.websocket import NO_CODE, NORMAL, Opcode, WebSocket, upgraded_by

BEAT = 10.0  # seconds between pings; load balancers cut streams that are quiet for a minute
MISSED = 3  # beats without a single byte, and the peer counts as dead
BUFFER = 256 * 1024  # bytes read at once

# One for each event loop, however many clusters and streams there are: nothing stays in it between two calls.
_shared_buffer = PerLoop(lambda: memoryview(bytearray(BUFFER)))


@dataclass(slots=True)
class ExecCounts:
    started: int = 0
    # Those that did not begin, or could not tell how they ended while somebody waited for that, by the error's code.
    failed: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0  # open streams: running, held, or carrying a connection


class ChannelSocket(WebSocket, asyncio.BufferedProtocol):
    """Begins paused: nothing is handed on before resume_reading().

    It is both kinds of protocol on purpose, as a relay's end is: asyncio takes it for the one with the buffer, uvloop
    for the other.
    """

    def __init__(self, answer: aiohttp.ClientResponse, *, name: str, counts: ExecCounts, beat: float = BEAT) -> None:
        """Takes over the connection of *answer*, a 101. *name* stands in sentences."""
        upgraded = upgraded_by(answer)
        if upgraded is None:
            raise ExecCut(f"{name} was cut in its handshake.")
        super().__init__(upgraded, name=name)
        self.protocol = answer.headers.get("Sec-WebSocket-Protocol", "")
        self._buffer = _shared_buffer.get()
        self._counts = counts
        self._every = beat
        self._channel = -1  # of the present message; -1: its first byte has not come
        self._missed = 0
        self._counts.in_flight += 1
        self._timer = self._loop.call_later(self._every, self._beat)

    # -- what a derived class makes of it

    def _channel_piece(self, channel: int, piece: memoryview) -> None:
        """A part of a message, never empty; valid only until this returns."""

    def _channel_message_is_over(self, channel: int) -> None: ...

    def _stopped(self, error: ExecCut | None) -> None:
        """Nothing more comes. None: the other side closed as one does. Called once, unless close() or abort() was."""

    # -- what its owner asks for

    def send_to(self, channel: int, data: bytes | bytearray | memoryview) -> None:
        self.send(Opcode.BINARY, bytes((channel,)), data)

    def resume_reading(self) -> None:
        if self._paused:
            self._missed = 0
        super().resume_reading()

    # -- what the connection says

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes])

    def data_received(self, data: Any) -> None:
        self._missed = 0
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.in_flight -= 1
        self._timer.cancel()
        super().connection_lost(exc)

    # -- what the WebSocket says

    def _piece(self, piece: memoryview) -> None:
        if self._channel < 0:
            self._channel, piece = piece[0], piece[1:]
        if piece:
            self._channel_piece(self._channel, piece)

    def _message_is_over(self) -> None:
        channel, self._channel = self._channel, -1
        self._channel_message_is_over(channel)

    def _closed(self, code: int, reason: str) -> None:
        if code in (NORMAL, NO_CODE):
            self._stopped(None)
        else:
            self._cut(f"{self._name} was closed by the other side: {reason or f'code {code}'}.")

    def _cut(self, sentence: str) -> None:
        self._stopped(ExecCut(sentence))

    def _beat(self) -> None:
        # While nobody reads, nothing can be heard from the peer.
        if self._missed >= MISSED and not self._paused:
            self._fail(f"{self._name} was cut: not a byte came for {MISSED * self._every:g} s.")
            return
        self._missed += 1
        # Container runtimes end streams that are idle for some hours, and to them pings are nothing: an empty message
        # to channel 0, which is stdin or the port, is traffic that carries no byte.
        self.send(Opcode.PING)
        self.send_to(0, b"")
        self._timer = self._loop.call_later(self._every, self._beat)
