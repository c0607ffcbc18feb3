"""Server-sent events as they are written: numbered, pinged, and to nobody who does not read."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from noah.errors import Unavailable
from noah.web.api.health import HEALTH
from noah.web.wire import plain

PING = 15.0  # seconds; load balancers cut what is quiet for a minute
RETRY = 2000  # milliseconds after which a browser connects again
# Seconds; who has read nothing for so long is cut off, and loses nothing by it: they come back with their last ID.
# Short, because a gateway that stops waits for them.
STALLED = 5.0


def frame(id: str, kind: str, data: Mapping[str, Any]) -> bytes:
    # JSON escapes line ends, so the data is one line whatever is in it.
    text = json.dumps(data, ensure_ascii=False, default=plain, separators=(",", ":"))
    return f"id: {id}\nevent: {kind}\ndata: {text}\n\n".encode(errors="replace")


class EventStream:
    """Methods raise ConnectionResetError when they are gone, or do not read."""

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

    async def send(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Each: its ID, its kind, its data."""
        for self.last_id, kind, data in events:
            await self._write(frame(self.last_id, kind, data))

    async def pass_on(self, frames: Iterable[bytes], *, last_id: str) -> None:
        """What frame() made, of events up to that of *last_id*."""
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
                await self._response.write(data)
        except TimeoutError:
            # To end the answer in good order would be to wait for them again.
            if self._transport is not None:
                self._transport.abort()
            raise ConnectionResetError from None


async def streamed(
    request: web.Request, last_id: str, tell: Callable[[EventStream], Awaitable[object]]
) -> web.StreamResponse:
    """An answer that lasts as long as *tell*, or until they have gone. Unavailable when the gateway is stopping."""
    if request.app[HEALTH].stopping():
        raise Unavailable("The gateway is stopping.")
    stream = EventStream(last_id)
    response = await stream.begin(request)
    try:
        async with asyncio.TaskGroup() as group:
            pinging = group.create_task(stream.ping_for_ever(), name=f"ping {request.remote}")
            await tell(stream)
            pinging.cancel()
    except* ConnectionResetError:
        pass  # they went away, which is how most streams end, or do not read
    return response
