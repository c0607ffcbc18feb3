"""A port of this machine that a debugger is pointed at: what comes there goes through the session's line.

Only programs of this machine reach it. The gateway learns of a connection once that has sent a debugger's handshake;
the answer to it is the JVM's.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, cast

from noah.core.jdwp.frames import Parts
from noah.core.jdwp.near import Near
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.line.frame import Data
from noah.core.line.line import Line
from noah.errors import Unavailable

HANDSHAKE_WITHIN_S: Final = 5.0
LINGERS_S: Final = 5.0  # after the JVM's end, until a debugger that does not close is closed
# The next ports to try when one is taken; the same ones each time, so that a run configuration stays right.
STEP, TRIES = 1000, 10


class LocalDebugger(asyncio.Protocol):
    """A debugger's connection, and the stream of the line that it has once it has sent its handshake."""

    def __init__(self, line: Line, *, opened: "Callable[[LocalDebugger], None]", changed: Callable[[], None]) -> None:
        self.stream: int | None = None
        self.near: Near | None = None  # where the line is accelerated
        self.failure: Exception | None = None  # of the accelerator
        self.bytes_in = self.bytes_out = 0  # from the debugger, and to it
        self._line = line
        self._opened = opened
        self._changed = changed
        self._greeting = b""
        self._answer = len(HANDSHAKE)  # bytes of the JVM's handshake that did not come yet
        self._out: list[Data] = []  # for the debugger, until all that came is worked off
        self._waits = 0  # bytes that the debugger has not taken
        self._has_paused = False  # the reading
        self._is_behind = False  # the debugger takes no more
        self._finished_here = self._finished_there = False

    @property
    def is_gone(self) -> bool:
        return self._transport.is_closing()

    # Called by the local connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(HANDSHAKE_WITHIN_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if self.stream is None:
            data = self._greet(data)
        if self.stream is None or not data:
            return
        self.bytes_in += len(data)
        if self.near is None:
            self._line.write(self.stream, data)
        else:
            self._accelerate(self.near.feed_debugger, data)
            self.flush()
        if self._line.is_full(self.stream):
            self._has_paused = True
            self._transport.pause_reading()
        self._changed()

    def _greet(self, data: bytes) -> bytes:
        """Take what belongs to the handshake; return what comes after it."""
        missing = len(HANDSHAKE) - len(self._greeting)
        self._greeting += data[:missing]
        if not HANDSHAKE.startswith(self._greeting):
            self._transport.abort()
        elif self._greeting == HANDSHAKE:
            self._timer.cancel()
            self._opened(self)
        return data[missing:]

    def _accelerate(self, feed: Callable[..., tuple[Parts, Parts]], *data: Data) -> None:
        """Let the near end take *data*, and note what it has for both sides."""
        try:
            to_debugger, to_line = feed(*data, now_s=self._loop.time())
        except Exception as e:  # noqa: BLE001 - whatever it is, the next connection does without
            self.failure = e
            self._transport.abort()
            return
        self._out += to_debugger
        if self.stream is not None:
            for part in to_line:
                self._line.write(self.stream, part)
        if self.near is not None and self.near.wake_at_s is not None:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.near is not None and self.near.wake_at_s is not None and self.failure is None:
            self._accelerate(self.near.wake)
            self.flush()
            self._changed()

    def _finish_near(self) -> None:
        """Pass on all that the near end has taken: nothing more comes."""
        while self.near is not None and self.near.wake_at_s is not None and self.failure is None:
            self._accelerate(self.near.wake)
        self.flush()

    def eof_received(self) -> bool:
        if self.stream is None:
            return False
        self._finish_near()
        self._finished_here = True
        self._line.finish(self.stream)
        self._close_if_over()
        self._changed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        if self.stream is not None and not (self._finished_here and self._finished_there):
            self._line.reset(self.stream)
        self._changed()

    def pause_writing(self) -> None:
        self._is_behind = True

    def resume_writing(self) -> None:
        self._is_behind = False
        self._pass_on()
        self._changed()

    # Called by the line

    def came(self, data: Data) -> None:
        self.bytes_out += len(data)
        plain = len(data)
        if self.near is not None:
            plain = min(plain, self._answer)
            self._answer -= plain
        if plain:
            self._out.append(data[:plain])
        if self.near is not None and plain < len(data):
            self._accelerate(self.near.feed_line, data[plain:])
        self._waits += len(data)

    def flush(self) -> None:
        """Write what came for the debugger, all together: what costs is each send(2)."""
        out, self._out = self._out, []
        if out and not self._transport.is_closing():
            if len(out) == 1:
                self._transport.write(out[0])
            else:
                self._transport.writelines(out)
        self._pass_on()

    def has_room(self) -> None:
        if self._has_paused and self.stream is not None and not self._line.is_full(self.stream):
            self._has_paused = False
            if not self._finished_here and not self._transport.is_closing():
                self._transport.resume_reading()

    def came_to_its_end(self) -> None:
        self._finish_near()
        self._finished_there = True
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()
        self._timer = self._loop.call_later(LINGERS_S, self.close)
        self._close_if_over()

    def close(self) -> None:
        """Close it once it has taken what came for it."""
        self.flush()
        if self.stream is not None and not self._finished_here:
            self._finished_here = True
            self._line.finish(self.stream)
        self._transport.close()

    def _close_if_over(self) -> None:
        if self._finished_here and self._finished_there:
            self._transport.close()

    def _pass_on(self) -> None:
        if self._waits and self.stream is not None and (not self._is_behind or self._transport.is_closing()):
            self._line.pass_on(self.stream, self._waits)
            self._waits = 0


class LocalPort:
    def __init__(self, preferred: int, connected: Callable[[], asyncio.Protocol]) -> None:
        self.port = preferred
        self._connected = connected
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Listen at the preferred port, or at the first of some others that is free. Raises Unavailable."""
        for port in _candidates(self.port):
            try:
                await self._listen(port)
            except OSError as e:
                if e.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise Unavailable(f"Port {port} of this machine cannot be opened: {e.strerror or e}.") from e
            else:
                self.port = port
                return
        raise Unavailable(f"Port {self.port} of this machine is taken, and so are {TRIES - 1} others.")

    async def _listen(self, port: int) -> None:
        # Not by address: asyncio leaves a socket open that could be bound, and then could not listen.
        sockets = [socket.create_server(("127.0.0.1", port))]
        with suppress(OSError):  # a machine without IPv6; "localhost" is both where there is
            sockets.append(socket.create_server(("::1", port), family=socket.AF_INET6))
        loop = asyncio.get_running_loop()
        self._servers = [await loop.create_server(self._connected, sock=one) for one in sockets]

    def close(self) -> None:
        for server in self._servers:
            server.close()


def _candidates(preferred: int) -> Iterator[int]:
    for n in range(TRIES):
        port = preferred + n * STEP
        yield port if port < 65536 else 1024 + port % 64512
