"""A debugger whose session is at another gateway: its bytes, and the ends of its streams, are passed on.

The gateway to which it came admits it; the session's has the slot, and observes what passes. While that cannot be
reached the debugger is held, its handshake unanswered, as it is for a JVM that cannot be reached.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from noah.backoff import Backoff
from noah.core.jdwp.observer import Observer
from noah.core.jdwp.wire import HANDSHAKE
from noah.errors import NoahError, Unavailable
from noah.peers.connection import PeerConnection
from noah.peers.frames import LONGEST_DATA, BadFrame, PeerFrame, PeerFrameKind
from noah.proxy.connection import FIRST_PAUSE, HELD_FOR, LONGEST_PAUSE
from noah.proxy.keepalive import has_hung_up
from noah.proxy.relay import Relay
from noah.proxy.slot import MOST_AT_ONCE
from noah.pushed_transport import PushedTransport

log = logging.getLogger(__name__)

MOST_HELD: Final = 64 * 1024  # bytes that came while nobody reads; then the other gateway waits
LOOKS_EVERY_S: Final = 0.5  # whether a debugger that is held has hung up

Dial = Callable[[str], Awaitable[PeerConnection]]  # to the session's gateway, for a debugger of that address


class PassedStream(PushedTransport):
    """A debugger's stream between two gateways, as a transport at either of them."""

    def __init__(self, connection: PeerConnection) -> None:
        super().__init__()
        self._connection = connection
        self._paused = True
        self._has_protocol = False
        self._has_ended = False  # the other direction has
        self._eof_written = False
        self._is_lost = False
        connection.push_to(self)

    # Called by the connection

    def came(self, frame: PeerFrame) -> None:
        if frame.kind is PeerFrameKind.DATA:
            self._deliver(memoryview(frame.data))
        elif frame.kind is PeerFrameKind.END:
            self._has_ended = True
            if self._paused:
                self._held_eof = True
            elif not self._closing:
                self._deliver_eof()
        if len(self._held) > MOST_HELD:
            self._connection.pause_reading()

    def lost(self) -> None:
        # What came in order, before an orderly end, is still read.
        if not (self._has_ended and self._held):
            self._end()

    def pause_writing(self) -> None:
        if self._has_protocol and not self._is_lost:
            super().pause_writing()

    def resume_writing(self) -> None:
        if self._has_protocol and not self._is_lost:
            super().resume_writing()

    # Called by the protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        super().set_protocol(protocol)
        self._has_protocol = True

    def resume_reading(self) -> None:
        super().resume_reading()
        if self._connection.is_lost and not self._held:
            self._end()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._eof_written:
            return
        view = memoryview(data)
        for at in range(0, len(view), LONGEST_DATA):
            self._connection.write(PeerFrameKind.DATA, view[at : at + LONGEST_DATA])

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_written and not self._closing:
            self._eof_written = True
            self._connection.write(PeerFrameKind.END)

    def get_write_buffer_size(self) -> int:
        return self._connection.backlog

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The connection has limits of its own."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        self.write_eof()
        self._connection.close()
        self._end()

    def abort(self) -> None:
        self._connection.abort()
        self._end()

    def _end(self) -> None:
        self._closing = True
        if not self._is_lost:
            self._is_lost = True
            self._held.clear()
            if self._has_protocol:
                asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def _pause_stream(self) -> None:
        """Frames are read on for a while: so it is noticed when the other end hangs up."""

    def _resume_stream(self) -> None:
        self._connection.resume_reading()


async def take_debugger(
    connection: PeerConnection, admit: Callable[[asyncio.Transport, str], None], address: str
) -> None:
    """Give the slot a debugger that another gateway passes on; return when its connection is over."""
    await connection.say(PeerFrameKind.ACCEPTED)
    first = await connection.receive()
    if first.kind is not PeerFrameKind.DATA or first.data != HANDSHAKE:
        raise BadFrame("no handshake of a debugger")
    over = asyncio.Event()
    admit(_Watched(connection, over), address)
    await over.wait()


class _Watched(PassedStream):
    """One whose end somebody waits for."""

    def __init__(self, connection: PeerConnection, over: asyncio.Event) -> None:
        self._over = over
        super().__init__(connection)

    def _end(self) -> None:
        super()._end()
        self._over.set()


class PassingSlot:
    """The place of a slot at the port of a session that another gateway has: debuggers are admitted to it."""

    def __init__(
        self,
        session_id: str,
        *,
        dial: Dial,
        tasks: asyncio.TaskGroup,
        turned_away: Callable[[str, str], None],
        held_for_s: float = HELD_FOR,
    ) -> None:
        """*dial* is asked again for each attempt: meanwhile the session may have got to yet another gateway."""
        self.session_id = session_id
        self.refused: Counter[str] = Counter()
        self.turned_away = turned_away
        self.passing = 0  # debuggers
        self._dial = dial
        self._tasks = tasks
        self._held_for_s = held_for_s

    def admit(self, transport: asyncio.Transport, address: str) -> None:
        """Take a debugger that has sent its handshake, as a slot does."""
        if self.passing >= MOST_AT_ONCE:
            self.refused["too_many"] += 1
            transport.abort()
            return
        self.passing += 1
        task = self._tasks.create_task(
            self._pass(transport, address), name=f"{self.session_id}: passing the debugger {address}"
        )
        # Also when it was cancelled before it began.
        task.add_done_callback(lambda _: self._passed(transport))

    def _passed(self, transport: asyncio.Transport) -> None:
        self.passing -= 1
        transport.abort()

    async def _pass(self, transport: asyncio.Transport, address: str) -> None:
        try:
            connection = await self._reach(transport, address)
            log.info("%s: the debugger of %s is passed on to the session's gateway", self.session_id, address)
            await _relay(transport, connection)
        except NoahError as e:
            self.refused["upstream_failed"] += 1
            log.info("%s: the debugger of %s is hung up on: %s", self.session_id, address, e.sentence)
        except Exception:  # the task's outermost: one connection's failure is not the port's
            log.exception("%s: passing the debugger of %s failed", self.session_id, address)

    async def _reach(self, transport: asyncio.Transport, address: str) -> PeerConnection:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._held_for_s
        backoff = Backoff(first_s=FIRST_PAUSE, longest_s=LONGEST_PAUSE)
        while True:
            try:
                return await self._dial(address)
            except Unavailable:
                if loop.time() >= until:
                    raise
            if has_hung_up(transport):
                raise Unavailable("The debugger did not wait until the session's gateway could be reached.")
            await asyncio.sleep(backoff.next_s())


async def _relay(transport: asyncio.Transport, connection: PeerConnection) -> None:
    """Pass everything on, until both have ended."""
    relay = Relay(transport=transport, observer=Observer(allow_exit=True), changed=lambda: None)
    relay.observe_no_more()
    stream = PassedStream(connection)
    try:
        stream.set_protocol(relay.jvm)
        relay.jvm.connection_made(stream)  # which sends the handshake
        stream.resume_reading()
        while not relay.over.done():
            await asyncio.wait([relay.over], timeout=None if relay.is_joined else LOOKS_EVERY_S)
            if not relay.is_joined and has_hung_up(transport):
                relay.end("the debugger did not wait until the JVM could be reached")
    finally:
        relay.end("the gateway closed the connection")
