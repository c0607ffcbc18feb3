"""The port at which a gateway takes what the others pass on to it.

A client has to show the certificate of a gateway whose lease lasts, and to say what it wants, within some
seconds and some bytes. Until then nothing is done for a connection, and few are kept.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from noah.errors import NoahError, Unavailable
from noah.peers.address import PeerAddress
from noah.peers.connection import PeerConnection, PeerLost
from noah.peers.frames import VERSION, BadFrame, PeerFrameKind
from noah.peers.identity import Identity, certificate_of
from noah.proxy.keepalive import set_keepalive

log = logging.getLogger(__name__)

RECOGNIZED_WITHIN_S: Final = 5.0  # from being connected; two round trips and a signature each
# Connections that are not recognized yet. When another comes, the one that has waited longest goes: a gateway waits
# only for these round trips.
MOST_STRANGERS: Final = 64
MOST_PASSED: Final = 2000  # debuggers and lines that come from other gateways; each has a descriptor there, too
ACCEPTS_AGAIN_AFTER_S: Final = 0.5
CLOSED_WITHIN_S: Final = 1.0  # with TLS's goodbye, else without

# Does what a connection is for; returns when that is over. It accepts it first, or raises the reason.
Handler = Callable[[PeerConnection, dict[str, Any]], Awaitable[None]]


class PeerServer:
    def __init__(self, identity: Identity, *, peers: Callable[[], Collection[PeerAddress]], handle: Handler) -> None:
        self._identity = identity
        self._peers = peers
        self._handle = handle
        self._strangers: dict[asyncio.Task[None], None] = {}  # in the order in which they came
        self._passed = 0
        self._context: tuple[frozenset[bytes], ssl.SSLContext] | None = None

    async def serve(self, listener: socket.socket) -> None:
        """Take connections at a socket that listens, until the task is cancelled. All of them end with it."""
        listener.setblocking(False)
        set_keepalive(listener.fileno())
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    try:
                        accepted, _ = await loop.sock_accept(listener)
                    except OSError as e:  # descriptors are used up, or the client has gone
                        log.warning("a connection from another gateway cannot be taken: %s", e)
                        await asyncio.sleep(ACCEPTS_AGAIN_AFTER_S)
                        continue
                    if len(self._strangers) >= MOST_STRANGERS:
                        self._hang_up(next(iter(self._strangers)))
                    task = group.create_task(self._serve(accepted), name="a connection from another gateway")
                    self._strangers[task] = None
                    task.add_done_callback(self._forget)
            except asyncio.CancelledError:
                for task in group._tasks:
                    task.cancel()
                raise

    def _hang_up(self, task: asyncio.Task[None]) -> None:
        self._forget(task)
        task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._strangers.pop(task, None)

    async def _serve(self, accepted: socket.socket) -> None:
        connection = PeerConnection()
        try:
            async with asyncio.timeout(RECOGNIZED_WITHIN_S):
                hello = await self._recognize(accepted, connection)
            if (task := asyncio.current_task()) is not None:
                self._forget(task)
            if hello is not None:
                await self._pass(connection, hello)
        except (OSError, TimeoutError, PeerLost, BadFrame) as e:
            log.info("a connection to the port for other gateways is closed: %s", str(e) or type(e).__name__)
        except Exception:  # the task's outermost: one connection's failure is not the server's
            log.exception("a connection from another gateway failed")
        finally:
            if not connection.was_made:
                accepted.close()
            connection.close()
            try:
                await connection.closed(within_s=CLOSED_WITHIN_S)
            finally:
                connection.abort()

    async def _recognize(self, accepted: socket.socket, connection: PeerConnection) -> dict[str, Any] | None:
        """Return what a gateway wants, or None if it is not one."""
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection,
            accepted,
            ssl=self._present_context(),
            ssl_handshake_timeout=RECOGNIZED_WITHIN_S,
            ssl_shutdown_timeout=CLOSED_WITHIN_S,
        )
        shown = certificate_of(transport.get_extra_info("ssl_object"))
        if not any(peer.certificate == shown for peer in self._peers()):
            return None  # its row has gone since the context was made
        frame = await connection.receive()
        if frame.kind is not PeerFrameKind.HELLO:
            raise BadFrame(f"{frame.kind.name} where its greeting was due")
        return frame.json()

    async def _pass(self, connection: PeerConnection, hello: dict[str, Any]) -> None:
        self._passed += 1
        try:
            if hello.get("version") != VERSION:
                raise Unavailable("The session's gateway is of another version: try again in a moment.")
            if self._passed > MOST_PASSED:
                raise Unavailable("The session's gateway has too many connections from others.")
            await self._handle(connection, hello)
        except NoahError as e:
            if not isinstance(e, PeerLost):
                await connection.say(PeerFrameKind.REFUSED, sentence=e.sentence, status=e.http_status)
        finally:
            self._passed -= 1

    def _present_context(self) -> ssl.SSLContext:
        accepted = frozenset(peer.certificate for peer in self._peers())
        if self._context is None or self._context[0] != accepted:
            self._context = accepted, self._identity.server_context(accepted)
        return self._context[1]
