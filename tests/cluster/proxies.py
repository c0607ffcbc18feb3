"""What stands between a gateway and an API server in many companies: a proxy with a path, and a CONNECT proxy.

And an API server before 1.30, which is one of today whose clients cannot ask for v5.channel.k8s.io.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

OFFERED = re.compile(rb"(?i)(sec-websocket-protocol: )([^\r]*)")
Serve = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def path_proxy(prefix: str, *, to: str, before_1_30: bool = False) -> AsyncIterator[str]:
    """Its URL. It takes *prefix* off every path and speaks TLS to *to*, as Rancher and KubeSphere do."""
    host, _, port = to.removeprefix("https://").partition(":")
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE

    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, _, rest = head.partition(b"\r\n")
        method, path, version = line.split(b" ")
        if not path.startswith(prefix.encode()):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if before_1_30 and (offered := OFFERED.search(rest)):
            known = [one for one in offered[2].split(b", ") if one != b"v5.channel.k8s.io"]
            if not known:
                # As golang.org/x/net/websocket refuses protocols that it does not know.
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            rest = OFFERED.sub(rb"\1" + b", ".join(known), rest)
        if b"upgrade: websocket" not in head.lower():
            rest = b"Connection: close\r\n" + rest  # one request per connection, so that each has its path changed
        up_reader, up_writer = await asyncio.open_connection(host, int(port), ssl=trusting)
        up_writer.write(b" ".join((method, path.removeprefix(prefix.encode()), version)) + b"\r\n" + rest)
        await _join(reader, writer, up_reader, up_writer)

    async with _proxy(serve) as address:
        yield f"http://{address}{prefix}"


@asynccontextmanager
async def connect_proxy() -> AsyncIterator[tuple[str, list[str]]]:
    """Its URL, and where it was asked to connect to."""
    asked: list[str] = []

    async def serve(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
        assert method == "CONNECT"
        asked.append(target)
        host, _, port = target.partition(":")
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await _join(reader, writer, up_reader, up_writer)

    async with _proxy(serve) as address:
        yield f"http://{address}", asked


@asynccontextmanager
async def _proxy(serve: Serve) -> AsyncIterator[str]:
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[None]] = []

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(await reader.readuntil(b"\r\n\r\n"), reader, writer)

        server = await asyncio.start_server(lambda r, w: tasks.append(group.create_task(one(r, w))), "127.0.0.1", 0)
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()
        for task in tasks:
            task.cancel()


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    up_reader: asyncio.StreamReader,
    up_writer: asyncio.StreamWriter,
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, up_writer))
            group.create_task(_pump(up_reader, writer))
    finally:
        up_writer.transport.abort()  # a goodbye of TLS might outlast the test


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
