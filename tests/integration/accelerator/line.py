"""The accelerator between a debugger and a JVM: both ends in this process, and a slow line between them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from noah.core.jdwp.far import Far
from noah.core.jdwp.frames import Parts
from noah.core.jdwp.near import Near
from noah.core.jdwp.wire import HANDSHAKE

End = Near | Far


class _Way:
    """One direction of the line: bytes arrive in order, each *delay_s* after it was sent."""

    def __init__(self, delay_s: float, deliver: Callable[[bytes], None]) -> None:
        self._delay_s = delay_s
        self._deliver = deliver
        self._on_the_way: deque[bytes] = deque()

    def send(self, data: bytes) -> None:
        if not data:
            return
        if not self._delay_s:
            self._deliver(data)
            return
        self._on_the_way.append(data)
        asyncio.get_running_loop().call_later(self._delay_s, lambda: self._deliver(self._on_the_way.popleft()))


class _Socket(asyncio.Protocol):
    """What comes from a transport, after its handshake."""

    def __init__(self, transport: asyncio.WriteTransport, came: Callable[[bytes], None]) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.lost = asyncio.get_running_loop().create_future()
        self._came = came
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._came(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


class Line:
    """One debugger's connection. `near` and `far` are None if the line is plain."""

    def __init__(self, *, delay_s: float, is_plain: bool, is_shadow: bool) -> None:
        self.near = None if is_plain else Near(shadow=is_shadow)
        self.far = None if is_plain else Far()
        self.failure: BaseException | None = None
        self.slowest_s = 0.0  # of all calls of an end
        self.up = self.down = 0  # bytes on the line
        self._up = _Way(delay_s, self._at_far)
        self._down = _Way(delay_s, self._at_near)
        self.debugger: _Socket | None = None
        self.jvm: _Socket | None = None

    def from_debugger(self, data: bytes) -> None:
        if self.near is None:
            self._up.send(data)
        else:
            self._call(self.near, self.near.feed_debugger, data)

    def from_jvm(self, data: bytes) -> None:
        if self.far is None:
            self._down.send(data)
        else:
            self._call(self.far, self.far.feed_jvm, data)

    def _at_far(self, data: bytes) -> None:
        self.up += len(data)
        if self.far is None:
            self._write(self.jvm, data)
        else:
            self._call(self.far, self.far.feed_line, data)

    def _at_near(self, data: bytes) -> None:
        self.down += len(data)
        if self.near is None:
            self._write(self.debugger, data)
        else:
            self._call(self.near, self.near.feed_line, data)

    def _call(self, end: End, feed: Callable[..., tuple[Parts, Parts]], *data: bytes) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            outward, to_line = feed(*data, now_s=begun)
        except Exception as e:
            self.failure = e
            self.close()
            raise
        self.slowest_s = max(self.slowest_s, loop.time() - begun)
        self._write(self.debugger if end is self.near else self.jvm, b"".join(outward))
        (self._up if end is self.near else self._down).send(b"".join(to_line))
        if end.wake_at_s is not None:
            loop.call_soon(self._call, end, end.wake)

    def _write(self, socket: _Socket | None, data: bytes) -> None:
        if data and socket is not None:
            socket.transport.write(data)

    def close(self) -> None:
        for socket in (self.debugger, self.jvm):
            if socket is not None:
                socket.transport.close()


@asynccontextmanager
async def accelerated(
    jvm_port: int, *, delay_s: float = 0.0, is_plain: bool = False, is_shadow: bool = False
) -> AsyncIterator[tuple[int, list[Line]]]:
    """Listen for debuggers of the JVM at *jvm_port*; yield the port, and the lines as they come."""
    lines: list[Line] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(delay_s=delay_s, is_plain=is_plain, is_shadow=is_shadow)
        lines.append(line)
        try:
            assert await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE
            await asyncio.sleep(delay_s)
            jvm_reader, jvm_writer = await asyncio.open_connection("127.0.0.1", jvm_port)
            jvm_writer.write(HANDSHAKE)
            assert await jvm_reader.readexactly(len(HANDSHAKE)) == HANDSHAKE
            await asyncio.sleep(delay_s)
            writer.write(HANDSHAKE)
            line.debugger = _Socket(writer.transport, line.from_debugger)
            line.jvm = _Socket(jvm_writer.transport, line.from_jvm)
            await asyncio.wait([line.debugger.lost, line.jvm.lost], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(2 * delay_s)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the debugger gave up, or the test is over
        finally:
            line.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], lines
    finally:
        server.close()
        for line in lines:
            line.close()
        await asyncio.sleep(0)
