"""Two gateways' ports for each other, on every event loop that the gateway may run on."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from noah.peers.address import PeerAddress
from noah.peers.client import PeerClient
from noah.peers.connection import PeerConnection
from noah.peers.frames import PeerFrameKind
from noah.peers.identity import Identity
from noah.peers.server import Handler, PeerServer

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


async def accept(connection: PeerConnection, hello: dict[str, Any]) -> None:
    """Accept, then send back every frame."""
    await connection.say(PeerFrameKind.ACCEPTED)
    while True:
        frame = await connection.receive()
        await connection.send(frame.kind, frame.data)


class Gateway:
    """A gateway as the others see it, and all whom it knows."""

    def __init__(self, name: str, known: dict[str, PeerAddress], handle: Handler) -> None:
        self.name = name
        self.known = known
        self.identity = Identity()
        self.client = PeerClient(self.identity)
        self.server = PeerServer(self.identity, peers=self.known.values, handle=handle)
        self.port = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            self.known[self.name] = self.peer
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(self.server.serve(listener), name="serve")
                yield
                serving.cancel()

    @property
    def peer(self) -> PeerAddress:
        return PeerAddress(id=self.name, host="127.0.0.1", port=self.port, certificate=self.identity.certificate)


Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a gateway that knows all others that were started, and is known to them."""
    known: dict[str, PeerAddress] = {}
    async with AsyncExitStack() as stack:

        async def start_gateway(name: str, handle: Handler = accept) -> Gateway:
            gateway = Gateway(name, known, handle)
            await stack.enter_async_context(gateway.open())
            return gateway

        yield start_gateway
