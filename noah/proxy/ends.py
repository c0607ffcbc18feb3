"""The two ends of a relay: what a connection does when something comes, does not go, or ends.

What was read is written by the function that read it, before anything else happens. What a socket does not take at once
its transport is given as a copy, and until that is gone nothing more is read from the other end.

The observer that is fed on the way may fail without harm. What it holds back is noted here after each call, so when it
raises anything, these bytes go on as they came, and so do all others from then on.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from os import write
from typing import Final, Protocol, cast

from noah.core.jdwp.observer import Data, FromDebugger, FromJvm, Observer, OversizedPacket
from noah.core.jdwp.wire import HANDSHAKE
from noah.errors import NoahError
from noah.per_loop import PerLoop
from noah.proxy.handshake import Handshake
from noah.turns import turns

READ_SIZE: Final = 256 * 1024  # bytes

# Shared by all connections of an event loop, as nothing else runs between a read and its write.
shared_buffer = PerLoop(lambda: memoryview(bytearray(READ_SIZE)))


class NotGreeted(Exception):
    """The JVM hung up before its handshake."""


class NotAJvm(NoahError):
    """The peer that answered is not a JVM's debug agent."""


def how_it_ended(name: str, error: Exception | None) -> str:
    match error:
        case None:
            return f"{name} closed the connection"
        case TimeoutError() | OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
            return f"{name}'s machine stopped answering"
        case ConnectionError():
            return f"{name} broke the connection off"
        case _:
            return f"{name}'s connection failed: {error}"


class Pair(Protocol):
    """The relay that two ends make, as they use it."""

    buffer: memoryview
    why: str | None  # it has ended or is about to

    def join(self) -> None: ...
    def report(self) -> None: ...
    def observer_failed(self, error: Exception) -> None: ...
    def end(self, why: str) -> None: ...
    def eof(self, end: "RelayEnd") -> None: ...
    def lost(self, end: "RelayEnd", error: Exception | None) -> None: ...


class Unobserved:
    """One direction without an observer: everything passes, but for the rest of what was being left out."""

    __slots__ = ("held", "ours")

    def __init__(self, *, held: bytes, ours: int) -> None:
        self.held = held
        self.ours = ours

    def feed(self, data: Data) -> Data:
        if self.held:
            data, self.held = self.held + data, b""
        if self.ours:
            left_out = min(self.ours, len(data))
            self.ours -= left_out
            data = data[left_out:]
        return data


class RelayEnd(asyncio.Protocol, asyncio.BufferedProtocol):
    """One of the two connections. What comes from it goes to the other by write(2), the same on every event loop.

    It is both kinds of protocol on purpose: asyncio takes it for the one with the buffer, uvloop for the other, and
    each is faster so. An exec stream's transport uses the buffer.
    """

    __slots__ = (
        "_buffer", "_direction", "_events", "_held", "_ours", "_passed_on", "_transport",
        "bytes", "fd", "has_ended", "is_lost", "other", "relay",
    )  # fmt: skip

    name: str

    def __init__(
        self, relay: Pair, observer: Observer, direction: FromDebugger | FromJvm, passed_on: Callable[[], None]
    ) -> None:
        """*passed_on* is called whenever bytes were: other work on the event loop stands back for them."""
        self.relay = relay
        self.other: RelayEnd
        self.bytes = 0  # that came from here and were passed on
        self.is_lost = True  # or not made yet
        self.has_ended = False  # will send nothing more
        self._transport: asyncio.Transport | None = None
        self.fd = -1  # the socket's, while bytes may be written to it past the transport
        self._buffer = relay.buffer
        self._direction: FromDebugger | FromJvm | Unobserved = direction
        self._held = b""  # by it, of what came from here
        self._ours = 0  # of what comes next, bytes that are not for the other end
        self._passed_on = passed_on
        self._events: Sequence[object] = observer.conversation.events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # by what it does: uvloop's classes are their own
        self.is_lost = False
        # Any backlog at all stops the reading on the other side.
        self._transport.set_write_buffer_limits(high=0)
        self._write_directly()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes])

    def data_received(self, data: Data) -> None:
        try:
            passed = self._direction.feed(data)
            if passed is not data:
                self._held, self._ours = self._direction.held, self._direction.ours
        except OversizedPacket as e:
            self.relay.report()
            self.relay.end(str(e))
            return
        except Exception as e:  # noqa: BLE001 - whatever it is, bytes go on
            self._direction = Unobserved(held=self._held, ours=self._ours)
            passed = self._direction.feed(data)
            self.relay.observer_failed(e)
        self.bytes += len(passed)
        other = self.other
        sent = 0
        if other.fd >= 0:
            with suppress(OSError):
                sent = write(other.fd, passed)
        if sent != len(passed):
            other.send(passed[sent:] if sent else passed)
        self._passed_on()
        if self._events:
            self.relay.report()

    def observe_no_more(self) -> None:
        """Pass on what is held back, and from now on everything as it comes."""
        self._events = ()
        if not isinstance(self._direction, Unobserved):
            self._direction = Unobserved(held=self._held, ours=self._ours)
            self.other.send(self._direction.feed(b""))
        self._held = b""

    def send(self, data: Data) -> None:
        """Send what is left when a write(2) to fd did not take everything, or what did not come from the other end."""
        if self.fd >= 0:
            try:
                data = data[write(self.fd, data) :]
            except BlockingIOError:
                pass
            except OSError as e:
                self.relay.end(how_it_ended(self.name, e))
                return
        if data and self._transport is not None and not self.is_lost:
            self._transport.write(bytes(data))

    @property
    def transport(self) -> asyncio.Transport | None:
        return None if self.is_lost else self._transport

    @property
    def backlog(self) -> int:
        """The number of bytes that its far side has not taken."""
        return 0 if self._transport is None or self.is_lost else self._transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        self.fd = -1
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self._write_directly()
        self.other.resume_reading()

    def _write_directly(self) -> None:
        """Note the socket if the transport is a plain one and nothing waits in it."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_extra_info("sslcontext"):
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self.fd = sock.fileno()

    def pause_reading(self) -> None:
        # After its end of stream, asyncio would take resume_reading() as a wish to hear of that end again.
        if self._transport is not None and not self.has_ended:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.has_ended:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        held, self._held = self._held, b""
        self.other.send(held)
        self.has_ended = True
        self.relay.eof(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = self.has_ended = True
        self.fd = -1
        self.relay.lost(self, exc)

    def shut(self) -> None:
        """Pass an end of stream on."""
        if self._transport is None or self.is_lost:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self.close()

    def close(self) -> None:
        """Close once what waits has been written."""
        self.fd = -1
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self.fd = -1
        if self._transport is not None:
            self._transport.abort()


class DebuggerEnd(RelayEnd):
    __slots__ = ()

    name = "the debugger"

    def __init__(self, relay: Pair, observer: Observer) -> None:
        super().__init__(relay, observer, observer.from_debugger, turns().asked)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(HANDSHAKE)


class JvmEnd(RelayEnd):
    __slots__ = ("_handshake", "greeted")

    name = "the JVM"

    def __init__(self, relay: Pair, observer: Observer) -> None:
        super().__init__(relay, observer, observer.from_jvm, turns().answered)
        self._handshake: Handshake | None = Handshake()
        # Done when the JVM's handshake is here; failed when it will not come.
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.relay.why is not None:
            self.abort()  # it came too late
        else:
            # A JVM that is shown less than all 14 bytes at first refuses the debugger.
            self.send(HANDSHAKE)

    def data_received(self, data: Data) -> None:
        if self._handshake is not None:
            data = self._greet(self._handshake, data)
        super().data_received(data)

    def _greet(self, handshake: Handshake, data: Data) -> Data:
        """Return what comes after the handshake."""
        beyond = handshake.take(data)
        if handshake.is_wrong:
            self._fail(NotAJvm())
            self.abort()
        elif handshake.is_complete:
            self._handshake = None
            if not self.greeted.done():
                self.relay.join()
                self.greeted.set_result(None)
        return beyond

    def eof_received(self) -> bool:
        self._fail(NotGreeted())
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(NotGreeted())
        super().connection_lost(exc)

    def _fail(self, error: Exception) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(error)
            self.greeted.exception()  # perhaps nothing waits for it any more
