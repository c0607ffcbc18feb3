"""Who may keep a connection to an HTTP server of ours, and for how long.

A server of aiohttp waits for ever for a request's head, and for a client that does not read. Here a connection that
asks nothing is hung up on after a while, at once when its place is needed, and no address has all places. So nobody
who opens connections can keep others out, a health check above all. A connection has its place from TCP's beginning,
before there is anything of TLS.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, Protocol, cast

from aiohttp import web
from aiohttp.typedefs import Handler

log = logging.getLogger(__name__)

FIRST_HEAD_WITHIN_S: Final = 10.0  # a client sends its first request as soon as it is connected
NEXT_HEAD_WITHIN_S: Final = 75.0  # as nginx keeps connections
UNREAD_FOR_S: Final = 30.0  # that a client may leave its answer unread
BODY_WITHIN_S: Final = 20.0  # 64 KiB at 26 kbit/s
ACCEPT_AGAIN_S: Final = 0.1  # after one could not be accepted: there are no descriptors left


class Abortable(Protocol):
    """A connection that can be hung up on: a transport, or a handshake that will be one."""

    def abort(self) -> None: ...

    def is_closing(self) -> bool: ...


class Limits:
    """The limits of all connections to one server."""

    def __init__(
        self,
        *,
        most: int,
        most_of_address: int,
        has_many: Callable[[str], bool] = lambda address: False,
        first_head_within_s: float = FIRST_HEAD_WITHIN_S,
    ) -> None:
        """*has_many*: true for an address of which any number may come: a reverse proxy's."""
        self._most = most
        self._most_of_address = most_of_address
        self._has_many = has_many
        self._first_head_within_s = first_head_within_s
        self._connections: dict[object, _Connection] = {}  # by transport or handshake
        self._of_address: Counter[str] = Counter()
        self._idle: dict[_Connection, None] = {}  # they ask nothing; the one that has done so longest comes first
        self.refused = 0

    def __len__(self) -> int:
        return len(self._connections)

    @contextlib.contextmanager
    def answering(self, request: web.BaseRequest) -> Iterator[None]:
        """Note that a request is being answered: its connection is not idle as long as the block lasts."""
        connection = self._connections.get(request.transport) if request.transport is not None else None
        if connection is None:
            yield
            return
        connection.is_asked()
        try:
            yield
        finally:
            connection.has_answered()

    def serve(self, inner: asyncio.Protocol) -> "_Connection":
        """Return what serves a connection by *inner*, within these limits."""
        return _Connection(self, inner)

    def _admits(self, connection: "_Connection") -> bool:
        address = connection.address
        if self._of_address[address] >= self._most_of_address and not self._is_exempt(address):
            idle = next((one for one in self._idle if one.address == address), None)
        elif len(self._connections) >= self._most:
            idle = next(iter(self._idle), None)
        else:
            return True
        if idle is not None:
            idle.hang_up()
        return idle is not None

    def _is_exempt(self, address: str) -> bool:
        try:
            return ipaddress.ip_address(address).is_loopback or self._has_many(address)
        except ValueError:
            return True  # of a UNIX socket

    def came(self, connection: "_Connection", transport: Abortable) -> bool:
        if not self._admits(connection):
            self.refused += 1
            return False
        self._connections[transport] = connection
        self._of_address[connection.address] += 1
        self.idles(connection, self._first_head_within_s)
        return True

    def secured(self, connection: "_Connection", handshake: Abortable, transport: Abortable) -> bool:
        """Know a connection by its transport from now on; False if it has lost its place meanwhile."""
        if self._connections.pop(handshake, None) is None:
            return False
        self._connections[transport] = connection
        return True

    def went(self, connection: "_Connection", transport: Abortable) -> None:
        self._idle.pop(connection, None)
        if self._connections.pop(transport, None) is not None:
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]

    def idles(self, connection: "_Connection", at_most_s: float) -> None:
        self._idle[connection] = None
        connection.expect_within(at_most_s)

    def works(self, connection: "_Connection") -> None:
        self._idle.pop(connection, None)


class _Connection(asyncio.Protocol):
    def __init__(self, limits: Limits, inner: asyncio.Protocol) -> None:
        self._limits = limits
        self._inner = inner
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._transport: Abortable
        self._is_expected = False  # it has a place already, by its handshake
        self._is_in = False
        self.address = ""

    def expect(self, handshake: Abortable, peer: object) -> bool:
        """Take a place for a connection whose handshake is still to come; False if there is none."""
        self._is_expected = self._take_place(handshake, peer)
        return self._is_expected

    def _take_place(self, transport: Abortable, peer: object) -> bool:
        self._transport = transport
        self.address = str(peer[0]).removeprefix("::ffff:") if isinstance(peer, tuple) else ""
        return self._limits.came(self, transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast(asyncio.Transport, transport)  # by what it does: uvloop's classes are their own
        if self._is_expected:
            handshake, self._transport = self._transport, made
            self._is_in = self._limits.secured(self, handshake, made)
        else:
            self._is_in = self._take_place(made, made.get_extra_info("peername"))
        if self._is_in:
            self._inner.connection_made(made)
        else:
            made.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_in:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._is_in else None

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        if self._is_in:
            self._inner.connection_lost(exc)

    def leave(self) -> None:
        self._limits.went(self, self._transport)
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        self._unread = asyncio.get_running_loop().call_later(UNREAD_FOR_S, self.hang_up)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._inner.resume_writing()

    def expect_within(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.hang_up)

    def is_asked(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._limits.works(self)

    def has_answered(self) -> None:
        if not self._transport.is_closing():
            self._limits.idles(self, NEXT_HEAD_WITHIN_S)

    def hang_up(self) -> None:
        self._limits.went(self, self._transport)
        self._transport.abort()


class _Handshake:
    """A connection that was accepted and whose TLS is being set up, by a task of its own."""

    def __init__(self, accepted: socket.socket) -> None:
        self._accepted = accepted
        self._task: asyncio.Task[None] | None = None

    def run(self, connection: _Connection, tls: ssl.SSLContext) -> asyncio.Task[None]:
        work = self._secure(connection, tls)
        self._task = asyncio.get_running_loop().create_task(work, name=f"TLS with {connection.address}")
        return self._task

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._accepted.close()

    def is_closing(self) -> bool:
        return self._task is not None and self._task.done()

    async def _secure(self, connection: _Connection, tls: ssl.SSLContext) -> None:
        loop, is_made = asyncio.get_running_loop(), False
        try:
            with contextlib.suppress(OSError):  # it is not TLS, takes too long, or is gone
                await loop.connect_accepted_socket(
                    lambda: connection, self._accepted, ssl=tls, ssl_handshake_timeout=FIRST_HEAD_WITHIN_S
                )
                is_made = True
        finally:
            if not is_made:
                connection.leave()
                self._accepted.close()


class LimitedSite(web.SockSite):
    """Serves within limits, on a socket that listens."""

    def __init__(
        self, runner: web.BaseRunner, sock: socket.socket, limits: Limits, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(runner, sock, ssl_context=ssl_context)
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()  # that accepts, and those of handshakes

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server, loop = self._runner.server, asyncio.get_running_loop()
        assert server is not None

        def serve() -> _Connection:
            return self._limits.serve(server())

        if self._sock.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(serve, sock=self._sock, backlog=self._backlog)
            return
        if self._ssl_context is None:
            self._server = await loop.create_server(serve, sock=self._sock, backlog=self._backlog)
            return
        self._sock.setblocking(False)
        self._sock.listen(self._backlog)
        self._keep(loop.create_task(self._accept(serve, self._ssl_context), name="accept TLS"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await super().stop()

    async def _accept(self, serve: Callable[[], _Connection], tls: ssl.SSLContext) -> None:
        """asyncio's own server calls a protocol after the handshake only."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(self._sock)
            except OSError as e:
                log.warning("a connection could not be accepted: %s", e.strerror)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            connection, handshake = serve(), _Handshake(accepted)
            if connection.expect(handshake, peer):
                self._keep(handshake.run(connection, tls))
            else:
                handshake.abort()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


LIMITS = web.AppKey("limits", Limits)


@web.middleware
async def within_limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware of a site that is served within limits."""
    with request.app[LIMITS].answering(request):
        return await handler(request)
