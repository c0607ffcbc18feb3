"""The feed, as server-sent events.

A client that was cut off comes back with its last ID and misses nothing; "reload" says when that is not possible. A
quiet stream has a ping every 15 seconds, so that both ends and all proxies between them know that it is alive.
"""

from collections.abc import Callable
from contextlib import aclosing

from aiohttp import web
from pydantic import Field

from noah.core.session.event_kind import EventKind
from noah.core.session.rights import Right, area_of, namespace_area
from noah.core.session.target import WantedPod, parse_target, parse_wanted
from noah.errors import CannotDebug, NotFound, Unavailable
from noah.store.feed import Event
from noah.web.api.route import Call, Routes
from noah.web.api.targets import find_target
from noah.web.keys import FEED
from noah.web.permission import demand, may
from noah.web.sse import EventWriter, streamed
from noah.web.wire import Model, Nothing, Text, maybe, moment

ROUTES = Routes()
Concerns = Callable[[Event], bool]


class EventsQuery(Model):
    environment: Text | None = None
    target: Text | None = None
    session: Text | None = None
    last_event_id: Text | None = Field(None, description="where to continue, if Last-Event-ID cannot be sent")


@ROUTES.raw(
    "/api/v1/events",
    right=Right.SEE,
    summary="What happens, as server-sent events; Last-Event-ID continues from there.",
    content_types=("text/event-stream",),
    errors=(NotFound, CannotDebug, Unavailable),
)
async def events(call: Call[EventsQuery, Nothing]) -> web.StreamResponse:
    request, query = call.request, call.query
    name = None if query.target is None else await _full_name(request, query.target)
    area = maybe(_area_named, name)
    await demand(request, Right.SEE, area, called=query.target or "")
    concerns = _concerning(name, query.session, query.environment)
    feed = request.app[FEED]

    async def write(stream: EventWriter) -> None:
        async with aclosing(feed.watch(stream.last_id)) as watched:
            async for event in watched:
                if event.kind is EventKind.RELOAD or (concerns(event) and await _may_see(request, event)):
                    data = {**event.data, "at": moment(event.at), "kind": event.kind, "subject": event.subject}
                    await stream.send([(event.id, event.kind, data)])
                stream.last_id = event.id

    last_id = request.headers.get("Last-Event-ID") or query.last_event_id or feed.last_id
    return await streamed(request, last_id, write, right=(Right.SEE, area))


def _concerning(name: str | None, session: str | None, environment: str | None) -> Concerns:
    def concerns(event: Event) -> bool:
        # A pod's name without a container stands for all of them.
        about_target = name is None or f"{event.subject}/".startswith(f"{name}/")
        is_there = environment in (None, event.data.get("environment"))
        return is_there and about_target and session in (None, event.data.get("session"))

    return concerns


async def _full_name(request: web.Request, target: str) -> str:
    """deploy/NAME (or another workload) and app=NAME mean the one target that they choose now."""
    wanted = parse_wanted(target)
    if isinstance(wanted, WantedPod) and wanted.pod is None:
        return str((await find_target(request, target, Right.SEE)).target)
    return str(wanted)


def _area_named(target: str) -> str:
    wanted = parse_wanted(target)
    if isinstance(wanted, WantedPod):
        return namespace_area(str(wanted.cluster), str(wanted.namespace))
    return str(wanted)


async def _may_see(request: web.Request, event: Event) -> bool:
    """Ask for each event: rights change while a stream lasts."""
    return await may(request, Right.SEE, area_of(parse_target(event.subject)))
