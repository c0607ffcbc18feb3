"""The sockets of one client: they notice a peer that is gone, and none of them outlives the client."""

import asyncio
import contextlib
import socket
from weakref import WeakSet

from aiohttp.connector import AddrInfoType

CLOSING = 100  # looks, 10 ms apart, whether the event loop has closed them


class Sockets:
    def __init__(self) -> None:
        self._made: WeakSet[socket.socket] = WeakSet()

    def __call__(self, address: AddrInfoType) -> socket.socket:
        """A silent peer is noticed after 15 + 4 * 5 s, also by a stream that has nothing to say."""
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._made.add(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        return made

    async def close(self) -> None:
        """Cuts short the TLS goodbyes that aiohttp leaves behind; with a peer that is gone they take half a minute."""
        for one in self._open():
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for _ in range(CLOSING):
            if not self._open():
                break
            await asyncio.sleep(0.01)

    def _open(self) -> list[socket.socket]:
        return [one for one in self._made if one.fileno() >= 0]
