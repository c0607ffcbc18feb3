"""All lines of one `noah connect`: opened together, kept up each for itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import aiohttp

from noah.client.errors import Away
from noah.client.gateway_client import GatewayClient, Json, socket_path
from noah.client.proxy import proxy_for
from noah.connect.session_line import Gateway, SessionLine
from noah.errors import Unavailable

LIST_EVERY_S = 20.0  # sessions that began meanwhile, where nobody said which


class Connector:
    def __init__(self, group: asyncio.TaskGroup, gateway: Gateway, *, take_over: bool, accelerate: bool) -> None:
        self._group = group
        self._gateway = gateway
        self._take_over = take_over
        self._accelerate = accelerate
        self.lines: dict[str, SessionLine] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def add(self, sessions: Iterable[Json]) -> None:
        """Open a port and a line for each that has none. Raises Unavailable if a port cannot be opened."""
        for session in sessions:
            session_id = str(session["id"])
            if session_id not in self.lines:
                line = SessionLine(session, self._gateway, take_over=self._take_over, accelerate=self._accelerate)
                await line.open()
                self.lines[session_id] = line
                self._tasks.append(self._group.create_task(line.run(), name=f"line of {session_id}"))

    async def until_over(self) -> None:
        await asyncio.wait(self._tasks)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def keep_adding(self, listed: Callable[[], list[Json]]) -> None:
        """Add what *listed*, which blocks, returns from time to time."""
        while True:
            await asyncio.sleep(LIST_EVERY_S)
            with suppress(Away, Unavailable):  # the next time
                await self.add(await asyncio.to_thread(listed))


@asynccontextmanager
async def connecting(
    client: Callable[[], GatewayClient], *, take_over: bool, accelerate: bool
) -> AsyncIterator[Connector]:
    """Lines live as long as this context; leaving it closes them, and frees their JVMs.

    *client* is called for each connection, since a login may have been renewed.
    """
    url, path = client().url, socket_path(client().url)
    connector: aiohttp.BaseConnector
    if path is not None:
        url, connector = "http://localhost", aiohttp.UnixConnector(path, limit=0)
    else:
        connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        gateway = Gateway(http=http, url=url, headers=lambda: client().headers(), proxy=proxy_for(url))
        lines = Connector(group, gateway, take_over=take_over, accelerate=accelerate)
        try:
            yield lines
        finally:
            lines.close()
