"""Two connections and the bytes between them: a debugger's and its JVM's.

An end of stream is passed on as such; when one side is lost, the other is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from noah.core.jdwp.observer import Observer
from noah.proxy.ends import DebuggerEnd, End, JvmEnd, how_it_ended, shared_buffer

# Connects to the JVM's JDWP port: like loop.create_connection() with everything but the protocol factory filled in.
Dial = Callable[[Callable[[], asyncio.BufferedProtocol]], Awaitable[asyncio.Transport]]

# One side has ended and nothing has passed for that long: the other will not end by itself.
LINGER: Final = 5.0  # seconds


class Relay:
    """The two ends of one connection, and how it ended.

    *transport* is the debugger's, paused since its handshake; it is left alone until the JVM has greeted, too. *told*
    is called when the observer has made events; it must be quick and must not raise.
    """

    def __init__(self, *, transport: asyncio.Transport, observer: Observer, told: Callable[[], None]) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.conversation = observer.conversation
        self.told = told
        self.why: str | None = None  # it has ended or is about to
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.buffer = shared_buffer(self._loop)
        self.debugger = DebuggerEnd(self, observer)
        self.jvm = JvmEnd(self, observer)
        self.debugger.other, self.jvm.other = self.jvm, self.debugger
        self._linger: asyncio.TimerHandle | None = None

    def join(self) -> None:
        """The JVM has greeted: from here on bytes pass."""
        if self._transport.is_closing():
            self.end("the debugger closed the connection")
            return
        self._transport.set_protocol(self.debugger)
        self.debugger.connection_made(self._transport)
        self._transport.resume_reading()

    def end(self, why: str) -> None:
        """Closes both connections at once, the JVM's first; what waits to be written is dropped."""
        self._note(why)
        self.jvm.abort()
        self.debugger.abort()
        if self.jvm.is_lost and self.debugger.is_lost:
            self._finish()

    def eof(self, end: End) -> None:
        self._note(f"{end.name} closed the connection")
        end.other.shut()
        if end.other.has_ended:
            end.other.close()
            end.close()
        self._watch_linger()

    def lost(self, end: End, error: Exception | None) -> None:
        self._note(how_it_ended(end.name, error))
        if end.other.is_lost:
            self._finish()
        elif end is self.debugger:
            self.jvm.abort()
        else:
            self.debugger.close()  # it may still take what waits for it
            self._watch_linger()

    def _note(self, why: str) -> None:
        """The first reason is the reason."""
        if self.why is None:
            self.why = "the debugger detached" if self.conversation.is_disposed else why

    def _watch_linger(self, before: tuple[int, ...] = ()) -> None:
        now = (self.debugger.bytes, self.jvm.bytes, self.debugger.backlog, self.jvm.backlog)
        if now == before:
            self.end("one side ended and the other did not")
        elif self._linger is None or before:
            self._linger = self._loop.call_later(LINGER, self._watch_linger, now)

    def _finish(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
        if not self.over.done():
            self.over.set_result(None)
