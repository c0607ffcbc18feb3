"""What happens, as it happens: the feed as server-sent events.

Who was cut off comes back with the last ID that they have and misses nothing; "reload" says when that is not possible.
A quiet stream says something every 15 seconds, so that both ends and all between know that it lives.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing

from aiohttp import web
from pydantic import Field

from noah.core.target import WantedPod, parse_wanted
from noah.errors import Unavailable
from noah.feed import Event
from noah.web.health import HEALTH
from noah.web.keys import BROKER, FEED
from noah.web.route import Call
from noah.web.wire import Model, Nothing, Text, moment, plain

PING = 15.0  # seconds; load balancers cut what is quiet for a minute
RETRY = 2000  # milliseconds after which a browser connects again
# Seconds; who has read nothing for so long is cut off, and loses nothing by it: they come back with their last ID.
# Short, because a gateway that stops waits for them.
STALLED = 5.0

Concerns = Callable[[Event], bool]


class EventsQuery(Model):
    target: Text | None = None
    session: Text | None = None
    last_event_id: Text | None = Field(None, description="where to go on, for who cannot send Last-Event-ID")


async def events(call: Call[EventsQuery, Nothing]) -> web.StreamResponse:
    request, query = call.request, call.query
    concerns = await _concerning(request, query)
    if request.app[HEALTH].stopping():
        raise Unavailable("The gateway is stopping.")
    feed = request.app[FEED]
    stream = _Stream(request.headers.get("Last-Event-ID") or query.last_event_id or feed.last_id)
    response = await stream.begin(request)
    try:
        async with asyncio.TaskGroup() as group:
            pinging = group.create_task(stream.ping_for_ever(), name=f"ping {request.remote}")
            async with aclosing(feed.watch(stream.last_id)) as watched:
                async for event in watched:
                    await stream.send(event, concerns)
            pinging.cancel()
    except* ConnectionResetError:
        pass  # they went away, which is how most streams end, or do not read
    return response


class _Stream:
    def __init__(self, last_id: str) -> None:
        self.last_id = last_id  # of the last event that was looked at, sent or not

    async def begin(self, request: web.Request) -> web.StreamResponse:
        # Proxies like nginx would otherwise collect an answer before they pass it on.
        self._response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        self._response.content_type = "text/event-stream"
        self._transport = request.transport
        await self._response.prepare(request)
        # The ID alone: who is cut off before the first event comes back to here.
        await self._write(f"retry: {RETRY}\nid: {self.last_id}\n\n".encode(errors="replace"))
        return self._response

    async def send(self, event: Event, concerns: Concerns) -> None:
        self.last_id = event.id
        if event.kind == "reload" or concerns(event):
            await self._write(_written(event))

    async def ping_for_ever(self) -> None:
        while True:
            await asyncio.sleep(PING)
            await self._write(f": ping\nid: {self.last_id}\n\n".encode(errors="replace"))

    async def _write(self, data: bytes) -> None:
        """ConnectionResetError when they are gone, or do not read."""
        try:
            async with asyncio.timeout(STALLED):
                await self._response.write(data)
        except TimeoutError:
            # To end the answer in good order would be to wait for them again.
            if self._transport is not None:
                self._transport.abort()
            raise ConnectionResetError from None


def _written(event: Event) -> bytes:
    data = {**event.data, "at": moment(event.at), "kind": event.kind, "subject": event.subject}
    # JSON escapes line ends, so the data is one line whatever is in it.
    text = json.dumps(data, ensure_ascii=False, default=plain, separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {text}\n\n".encode()


async def _concerning(request: web.Request, query: EventsQuery) -> Concerns:
    name = None if query.target is None else await _full_name(request, query.target)

    def concerns(event: Event) -> bool:
        # A pod's name without a container stands for all of them.
        about_target = name is None or f"{event.subject}/".startswith(f"{name}/")
        return about_target and query.session in (None, event.data.get("session"))

    return concerns


async def _full_name(request: web.Request, target: str) -> str:
    """deploy/NAME and app=NAME mean the one target that they choose now."""
    wanted = parse_wanted(target)
    if isinstance(wanted, WantedPod) and wanted.pod is None:
        return str((await request.app[BROKER].resolve(wanted)).target)
    return str(wanted)
