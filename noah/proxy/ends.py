"""The two ends of a relay: what a connection does when something comes, does not go, or ends.

What was read is written by the function that read it, before anything else happens. What a socket does not take at once
its transport is given as a copy, and until that is gone nothing more is read from the other end.
"""

import asyncio
import errno
from os import write
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakKeyDictionary

from noah.core.jdwp.observer import Observer, OversizedPacket
from noah.core.jdwp.wire import HANDSHAKE
from noah.errors import NoahError
from noah.proxy.handshake import Handshake

if TYPE_CHECKING:
    from noah.proxy.relay import Relay

READ_SIZE: Final = 256 * 1024  # bytes

# Shared by all connections of an event loop, as nothing else runs between a read and its write.
_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def shared_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    if loop not in _buffers:
        _buffers[loop] = memoryview(bytearray(READ_SIZE))
    return _buffers[loop]


class NotGreeted(Exception):
    """The JVM hung up before its handshake."""


class NoJvm(NoahError):
    """What answered is no JVM's debug agent."""


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


class End(asyncio.Protocol, asyncio.BufferedProtocol):
    """One of the two connections. What comes from it goes to the other by write(2), the same on every event loop.

    It is both kinds of protocol on purpose: asyncio takes it for the one with the buffer, uvloop for the other, and
    each is faster so. An exec stream's transport uses the buffer.
    """

    __slots__ = ("_buffer", "_events", "_transport", "bytes", "fd", "has_ended", "is_lost", "other", "relay")

    name: str

    def __init__(self, relay: "Relay", observer: Observer) -> None:
        self.relay = relay
        self.other: End
        self.bytes = 0  # that came from here
        self.is_lost = True  # or not made yet
        self.has_ended = False  # will send nothing more
        self._transport: asyncio.Transport | None = None
        self.fd = -1  # the socket's, while bytes may be written to it past the transport
        self._buffer = relay.buffer
        self._events = observer.conversation.events

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

    def data_received(self, data: bytes | memoryview) -> None:
        raise NotImplementedError

    def send(self, data: memoryview | bytes) -> None:
        """For what is left when a write(2) to fd did not take everything, for whatever reason."""
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
    def backlog(self) -> int:
        """Bytes that its far side has not taken."""
        return 0 if self._transport is None or self.is_lost else self._transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        self.fd = -1
        self.other.pause_reading()

    def resume_writing(self) -> None:
        self._write_directly()
        self.other.resume_reading()

    def _write_directly(self) -> None:
        """Where the transport is a plain socket and nothing waits in it."""
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
        self.has_ended = True
        self.relay.eof(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = self.has_ended = True
        self.fd = -1
        self.relay.lost(self, exc)

    def shut(self) -> None:
        """Passes an end of stream on."""
        if self._transport is None or self.is_lost:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self.close()

    def close(self) -> None:
        """Once what waits has been written."""
        self.fd = -1
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self.fd = -1
        if self._transport is not None:
            self._transport.abort()


class DebuggerEnd(End):
    __slots__ = ("_from_debugger", "_from_jvm")

    name = "the debugger"

    def __init__(self, relay: "Relay", observer: Observer) -> None:
        super().__init__(relay, observer)
        self._from_debugger = observer.from_debugger
        self._from_jvm = observer.from_jvm

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(HANDSHAKE)

    def data_received(self, data: bytes | memoryview) -> None:
        self.bytes += len(data)
        try:
            data = self._from_debugger.feed(data)
        except OversizedPacket as e:
            self.relay.told()
            self.relay.end(str(e))
            return
        try:
            sent = write(self.other.fd, data)
        except OSError:
            sent = 0
        if sent != len(data):
            self.other.send(data[sent:])
        if self._events:
            self.relay.told()
            self._answer()

    def _answer(self) -> None:
        """What the gateway answers itself, once there is room and the JVM is between two packets."""
        if self.fd >= 0 and (answer := self._from_jvm.answer()):
            self.send(answer)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer()

    def eof_received(self) -> bool:
        self.other.send(self._from_debugger.take_held())
        return super().eof_received()


class JvmEnd(End):
    __slots__ = ("_from_jvm", "_handshake", "greeted")

    name = "the JVM"

    def __init__(self, relay: "Relay", observer: Observer) -> None:
        super().__init__(relay, observer)
        self._from_jvm = observer.from_jvm
        self._handshake: Handshake | None = Handshake()
        # Done when the JVM's handshake is here; failed when it will not come.
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.relay.why is not None:
            self.abort()  # nobody waits for it any more
        else:
            # A JVM that is shown less than all 14 bytes at first refuses the debugger.
            self.send(HANDSHAKE)

    def data_received(self, data: bytes | memoryview) -> None:
        if self._handshake is not None:
            data = self._greet(self._handshake, data)
        self.bytes += len(data)
        data = self._from_jvm.feed(data)
        try:
            sent = write(self.other.fd, data)
        except OSError:
            sent = 0
        if sent != len(data):
            self.other.send(data[sent:])
        if self._events:
            self.relay.told()

    def _greet(self, handshake: Handshake, data: bytes | memoryview) -> bytes | memoryview:
        """What comes after the handshake."""
        beyond = handshake.take(data)
        if handshake.is_wrong:
            self._fail(NoJvm())
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
            self.greeted.exception()  # nobody may be waiting any more
