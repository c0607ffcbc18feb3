"""Server-sent events: numbered, with pings; a client that does not read is cut off."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from aiohttp import web

from noah.core.session.rights import Right
from noah.errors import Forbidden, NoahError, TooMany, Unauthenticated, Unavailable
from noah.web.api.health import HEALTH
from noah.web.identity import PRINCIPAL, authenticate, known_principal
from noah.web.permission import is_allowed
from noah.web.wire import plain

PING = 15.0  # seconds; load balancers cut what is quiet for a minute
RETRY = 2000  # milliseconds after which a browser connects again
# Seconds; a client that reads nothing for so long is cut off. It loses nothing: it comes back with its last ID. Short,
# because a gateway that stops waits for it.
STALLED = 5.0
CHECKED_EVERY_S = 20.0  # and a cluster's answer is remembered for 30 s: a right that is gone ends a stream in a minute
MOST, MOST_OF_ONE = 1000, 60  # streams; a page that is open has one, a browser a page for each session


class Streams:
    """Counts the streams that are open. Raises TooMany before somebody, or all together, have more than is sensible."""

    def __init__(self, *, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def one_more(self, watcher: str) -> Iterator[None]:
        if self._open[watcher] >= self._most_of_one:
            raise TooMany(f"You watch {self._most_of_one} event streams at once already: end some.")
        if self._open.total() >= self._most:
            raise TooMany(f"{self._most} event streams are open, and the gateway has no more: try again later.")
        self._open[watcher] += 1
        try:
            yield
        finally:
            self._open[watcher] -= 1
            self._open += Counter()  # without those that have none


STREAMS = web.AppKey("streams", Streams)


def frame(id: str, kind: str, data: Mapping[str, Any]) -> bytes:
    # JSON escapes line ends, so the data is one line whatever is in it.
    text = json.dumps(data, ensure_ascii=False, default=plain, separators=(",", ":"))
    return f"id: {id}\nevent: {kind}\ndata: {text}\n\n".encode(errors="replace")


class EventWriter:
    """Writes one stream. Methods raise ConnectionResetError when the client has gone, or does not read."""

    def __init__(self, last_id: str) -> None:
        self.last_id = last_id  # of the last event that was looked at, sent or not
        # Proxies like nginx would otherwise collect an answer before they pass it on.
        self.response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        self.response.content_type = "text/event-stream"

    async def begin(self, request: web.Request) -> None:
        self._transport = request.transport
        await self.response.prepare(request)
        # The ID alone: a client that is cut off before the first event comes back to here.
        await self._write(f"retry: {RETRY}\nid: {self.last_id}\n\n".encode(errors="replace"))

    async def send(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Write events, each given by its ID, its kind and its data."""
        for self.last_id, kind, data in events:
            await self._write(frame(self.last_id, kind, data))

    async def pass_on(self, frames: Iterable[bytes], *, last_id: str) -> None:
        """Write what frame() made of the events up to *last_id*."""
        if written := b"".join(frames):
            await self._write(written)
        self.last_id = last_id

    async def ping_for_ever(self) -> None:
        while True:
            await asyncio.sleep(PING)
            await self._write(f": ping\nid: {self.last_id}\n\n".encode(errors="replace"))

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(STALLED):
                await self.response.write(data)
        except TimeoutError:
            # To end the answer properly would be to wait for the client again.
            if self._transport is not None:
                self._transport.abort()
            raise ConnectionResetError from None


async def _check(request: web.Request, right: Right, area: str | None) -> None:
    """Raise ConnectionResetError once the person has no login any more, or not the right."""
    while True:
        await asyncio.sleep(CHECKED_EVERY_S)
        try:
            request[PRINCIPAL] = await authenticate(request)
            if not await is_allowed(request, right, area):
                raise ConnectionResetError
        except (Unauthenticated, Forbidden):
            raise ConnectionResetError from None
        except NoahError:
            pass  # the database or a provider is away: it is asked again


async def streamed(
    request: web.Request,
    last_id: str,
    write: Callable[[EventWriter], Awaitable[object]],
    *,
    right: tuple[Right, str | None],
) -> web.StreamResponse:
    """Answer as long as *write* lasts, or until the client has gone. Raises Unavailable when the gateway stops.

    *right*: what the person has to have all the time, and in which area. The stream ends with it, or with their login.
    """
    if request.app[HEALTH].stopping():
        raise Unavailable("The gateway is stopping.")
    stream = EventWriter(last_id)
    with request.app[STREAMS].one_more(_watcher(request)):
        return await _stream(request, stream, write, right)


def _watcher(request: web.Request) -> str:
    principal = known_principal(request)
    return principal.id if principal is not None else str(request.remote)


async def _stream(
    request: web.Request,
    stream: EventWriter,
    write: Callable[[EventWriter], Awaitable[object]],
    right: tuple[Right, str | None],
) -> web.StreamResponse:
    try:
        await stream.begin(request)
        async with asyncio.TaskGroup() as group:
            pinging = group.create_task(stream.ping_for_ever(), name=f"ping {request.remote}")
            checking = group.create_task(_check(request, *right), name=f"right of {request.remote}")
            await write(stream)
            pinging.cancel()
            checking.cancel()
    except* ConnectionResetError:
        pass  # the client went away, which is how most streams end, or does not read
    return stream.response
