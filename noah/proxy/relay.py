"""Two connections and the bytes between them: a debugger's and its JVM's.

An end of stream is passed on as such; when one side is lost, the other is closed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from noah.core.jdwp.commands import KINDS
from noah.core.jdwp.conversation import Event, VmChanged
from noah.core.jdwp.far import Far
from noah.core.jdwp.observer import Observer
from noah.core.session.session import Vm
from noah.proxy.ends import DebuggerEnd, JvmEnd, RelayEnd, how_it_ended, shared_buffer

log = logging.getLogger(__name__)

# Connects to the JVM's JDWP port: like loop.create_connection() with everything but the protocol factory filled in.
Dial = Callable[[Callable[[], asyncio.BufferedProtocol]], Awaitable[asyncio.Transport]]

# One side has ended and nothing has passed for that long: the other will not end by itself.
LINGER: Final = 5.0  # seconds
# The gateway asks the JVM something only when the debugger has said nothing for a while: it most often asks the same.
QUIET: Final = 0.05  # seconds
_MOST_QUIET: Final = 100  # times; a debugger that always talks, or a JVM that never answers, is not waited for longer


class Relay:
    """The two ends of one connection, and how it ended.

    *transport* is the debugger's, paused since its handshake; it is left alone until the JVM has greeted, too.
    *changed* is called when there are events to take; it must be quick and must not raise.
    """

    def __init__(self, *, transport: asyncio.Transport, observer: Observer, changed: Callable[[], None]) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._observer = observer
        self._changed = changed
        self._is_observed = True
        self.is_joined = False  # the JVM has greeted
        self.why: str | None = None  # it has ended or is about to
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.buffer = shared_buffer.get()
        self.debugger = DebuggerEnd(self, observer)
        self.jvm = JvmEnd(self, observer)
        self.debugger.other, self.jvm.other = self.jvm, self.debugger
        self._linger: asyncio.TimerHandle | None = None
        self._question: asyncio.TimerHandle | None = None

    def join(self) -> None:
        """The JVM has greeted: from here on bytes pass."""
        self.is_joined = True
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

    def eof(self, end: RelayEnd) -> None:
        self._note(f"{end.name} closed the connection")
        end.other.shut()
        if end.other.has_ended:
            end.other.close()
            end.close()
        self._watch_linger()

    def lost(self, end: RelayEnd, error: Exception | None) -> None:
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
            self.why = "the debugger detached" if self._observer.conversation.is_disposed else why

    # What is observed

    def take_events(self) -> list[Event]:
        try:
            events = self._observer.conversation.take_events()
        except Exception as e:  # noqa: BLE001 - whatever it is, bytes go on
            self.observer_failed(e)
        return events if self._is_observed else [VmChanged(Vm.UNKNOWN)]

    def counts(self) -> Counter[str]:
        """Return how many commands of each kind the debugger sent, as far as they were observed.

        What its laptop answered from memory counts, and what was foreseen does not.
        """
        try:
            counts = Counter(self._observer.conversation.counts())
        except Exception as e:  # noqa: BLE001 - whatever it is, bytes go on
            self.observer_failed(e)
            return Counter()
        far = self._far
        return counts if far is None else counts - self.foreseen() + _by_kind(far.heard)

    def foreseen(self) -> Counter[str]:
        """Return how many commands of each kind the accelerator asked by itself."""
        return Counter() if self._far is None else _by_kind(self._far.foreseen)

    @property
    def _far(self) -> Far | None:
        far: Far | None = self._transport.get_extra_info("far end")
        return far

    def report(self) -> None:
        self._changed()
        if self._question is None and self._is_observed:
            self._question = self._loop.call_later(QUIET, self._ask)

    def observer_failed(self, error: Exception) -> None:
        """Go on as a plain pipe; the VM's state is unknown from here on."""
        if self._is_observed:
            where = self._transport.get_extra_info("peername")
            log.error("debugger %s: its traffic cannot be observed any more, but passes", where, exc_info=error)
            self.observe_no_more()
            self._changed()

    def observe_no_more(self) -> None:
        """Go on as a plain pipe."""
        self._is_observed = False
        self.debugger.observe_no_more()
        self.jvm.observe_no_more()

    def _ask(self, said: int = -1, times: int = 0) -> None:
        """Ask the JVM what the gateway does not know of a stop, after the debugger."""
        self._question = None
        if self.why is not None or not self._is_observed or self.jvm.is_lost:
            return
        try:
            if not self._observer.is_asking:
                return
            if self.debugger.bytes == said and not self.jvm.backlog:
                self.jvm.send(self._observer.take_questions())
        except Exception as e:  # noqa: BLE001 - whatever it is, bytes go on
            self.observer_failed(e)
            return
        if times < _MOST_QUIET:
            self._question = self._loop.call_later(QUIET, self._ask, self.debugger.bytes, times + 1)

    def _watch_linger(self, before: tuple[int, ...] = ()) -> None:
        now = (self.debugger.bytes, self.jvm.bytes, self.debugger.backlog, self.jvm.backlog)
        if now == before:
            self.end("one side ended and the other did not")
        elif self._linger is None or before:
            self._linger = self._loop.call_later(LINGER, self._watch_linger, now)

    def _finish(self) -> None:
        for timer in (self._linger, self._question):
            if timer is not None:
                timer.cancel()
        if not self.over.done():
            self.over.set_result(None)


def _by_kind(numbers: Mapping[int, int]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for number, count in numbers.items():
        kinds[KINDS[number]] += count
    return kinds
