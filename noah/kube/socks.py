"""Connections through a SOCKS5 proxy (RFC 1928, with the user names of RFC 1929).

The proxy resolves the names of hosts, as it does for kubectl: the gateway may not be able to.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import AddrInfoType
from yarl import URL

PORT = 1080
_VERSION, _NO_LOGIN, _LOGIN, _CONNECT, _NAME = 5, 0, 2, 1, 3
_REFUSALS = {
    1: "general failure",
    2: "connection not allowed",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


class SocksConnector(aiohttp.TCPConnector):
    """Overrides the one place where aiohttp connects; a test pins that it still is one."""

    def __init__(self, proxy: URL, *, make_socket: Callable[[AddrInfoType], socket.socket], limit: int) -> None:
        super().__init__(limit=limit, resolver=_Unresolved(), use_dns_cache=False)
        self._proxy = proxy
        self._make_socket = make_socket

    async def _wrap_create_connection(
        self,
        *args: Any,
        addr_infos: list[AddrInfoType],
        req: aiohttp.ClientRequest,
        timeout: aiohttp.ClientTimeout,
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **more: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        host, port = addr_infos[0][4][:2]
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout.sock_connect):
                made = await self._connected(str(host), int(port))
                try:
                    return await loop.create_connection(*args, sock=made, **more)
                except BaseException:
                    made.close()
                    raise
        except ssl.SSLCertVerificationError as e:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, e) from e

    async def _connected(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(self._proxy.host, self._proxy.port or PORT, type=socket.SOCK_STREAM)
        failure = OSError("the SOCKS proxy has no address")
        for address in addresses:
            made = self._make_socket(address)
            try:
                made.setblocking(False)
                await loop.sock_connect(made, address[4])
                await self._ask(made, host, port)
                return made
            except BaseException as e:
                made.close()
                if not isinstance(e, OSError) or isinstance(e, SocksRefused):
                    raise
                failure = e
        raise failure

    async def _ask(self, made: socket.socket, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        method = _LOGIN if self._proxy.user else _NO_LOGIN
        await loop.sock_sendall(made, bytes((_VERSION, 1, method)))
        if await _exactly(made, 2) != bytes((_VERSION, method)):
            raise SocksRefused("the SOCKS proxy wants another kind of login")
        if method == _LOGIN:
            words = [word.encode() for word in (self._proxy.user or "", self._proxy.password or "")]
            await loop.sock_sendall(made, b"\x01" + b"".join(bytes((len(word),)) + word for word in words))
            if (await _exactly(made, 2))[1]:
                raise SocksRefused("the SOCKS proxy does not accept its user name and password")
        name = host.encode("idna")
        asked = bytes((_VERSION, _CONNECT, 0, _NAME, len(name))) + name + port.to_bytes(2, "big")
        await loop.sock_sendall(made, asked)
        _, code, _, kind = await _exactly(made, 4)
        if code:
            raise SocksRefused(f"the SOCKS proxy refuses: {_REFUSALS.get(code, f'code {code}')}")
        size = {1: 4, 4: 16}.get(kind) or (await _exactly(made, 1))[0]
        await _exactly(made, size + 2)


class SocksRefused(OSError):
    """The SOCKS proxy does not connect."""


class _Unresolved(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [{"hostname": host, "host": host, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None: ...


async def _exactly(made: socket.socket, number: int) -> bytes:
    got = b""
    while len(got) < number:
        piece = await asyncio.get_running_loop().sock_recv(made, number - len(got))
        if not piece:
            raise SocksRefused("the SOCKS proxy closed the connection")
        got += piece
    return got
