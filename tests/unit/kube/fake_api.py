"""A Kubernetes API on loopback that misbehaves on demand: what a real one cannot be made to do.

A test gives it one coroutine per kind of request and writes the wire's bytes itself.
"""

import asyncio
import base64
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from noah.settings import ClusterSettings

PONG, CLOSE, BINARY = 0x8A, 0x88, 0x82


@dataclass
class Call:
    """One request, and the connection to answer it on; each connection carries one."""

    method: str
    path: str
    params: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    masks: list[bytes] = field(default_factory=list)  # the keys of the frames that came
    all_headers: list[tuple[str, str]] = field(default_factory=list)  # also those that came twice

    @property
    def client(self) -> str | None:
        """The name in the client's certificate."""
        certificate = self.writer.get_extra_info("peercert")
        return dict(one[0] for one in certificate["subject"])["commonName"] if certificate else None

    def param(self, name: str) -> str | None:
        return dict(self.params).get(name)

    def json(self, status: int, tree: Any) -> None:
        body = json.dumps(tree).encode()
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        self.writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)

    def refuse(self, status: int, message: str) -> None:
        self.json(status, {"kind": "Status", "status": "Failure", "message": message, "code": status})

    def begin_watch(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")

    def event(self, kind: str, what: dict[str, Any]) -> None:
        self.writer.write(json.dumps({"type": kind, "object": what}).encode() + b"\n")

    def upgrade(self, protocol: str | None = "v5.channel.k8s.io", *, then: bytes = b"") -> None:
        """The 101, and *then* in the same segment."""
        key = self.headers["sec-websocket-key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: " + base64.b64encode(hashlib.sha1(key).digest()).decode(),
        ]
        if protocol:
            lines.append("Sec-WebSocket-Protocol: " + protocol)
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + then)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame from the client: its first byte and its payload."""
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client's frames are masked"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        self.masks.append(mask)
        payload = await self.reader.readexactly(size)
        return first, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))

    async def until_closed(self) -> None:
        """Answers the client's close as one does."""
        while (got := await self.frame())[0] != CLOSE:
            pass
        self.writer.write(frame(got[1], CLOSE))

    async def hang(self) -> None:
        await asyncio.Event().wait()


def frame(payload: bytes, first: int = BINARY) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def status(code: int = 0) -> bytes:
    """A frame of the status channel."""
    content: dict[str, Any] = {"metadata": {}, "status": "Success"}
    if code:
        content = {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    return frame(b"\x03" + json.dumps(content).encode())


Answer = Callable[[Call], Awaitable[None]]


@dataclass
class FakeApi:
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    on_list: Answer | None = None
    on_watch: Answer | None = None
    on_exec: Answer | None = None
    on_anything: Answer | None = None

    @property
    def settings(self) -> ClusterSettings:
        return ClusterSettings(name="fake", url=self.url)

    def asked(self, part: str) -> list[Call]:
        return [call for call in self.calls if part in call.path]

    def _answer(self, call: Call) -> Answer:
        if call.path.endswith("/exec") and self.on_exec:
            return self.on_exec
        if call.path.endswith("/pods") and call.param("watch") and self.on_watch:
            return self.on_watch
        if call.path.endswith("/pods") and self.on_list:
            return self.on_list
        return self.on_anything or _not_found

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            call = await _read(reader, writer)
            self.calls.append(call)
            await self._answer(call)(call)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _not_found(call: Call) -> None:
    call.refuse(404, "the server could not find the requested resource")


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
    headers = dict(pairs)
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    split = urlsplit(target)
    return Call(method, unquote(split.path), parse_qsl(split.query), headers, body, reader, writer, all_headers=pairs)


@asynccontextmanager
async def fake_api(tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeApi]:
    """Ends what hangs when it is left."""
    api = FakeApi()
    writers: list[asyncio.StreamWriter] = []
    async with asyncio.TaskGroup() as group:

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            tasks.append(group.create_task(api.serve(reader, writer)))

        tasks: list[asyncio.Task[None]] = []
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        api.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield api
        finally:
            server.close()
            for task in tasks:
                task.cancel()
    # One that is still closing when its loop ends is found as a leak later, in some other test.
    for writer in writers:
        writer.transport.abort()
    for writer in writers:
        with suppress(ConnectionError):
            await writer.wait_closed()
