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
from noah.web.identity import principal_of
from noah.web.keys import BROKER, FEED
from noah.web.permission import demand, may
from noah.web.sse import EventWriter, streamed
from noah.web.wire import Model, Nothing, Text, maybe, moment

ROUTES = Routes()
Concerns = Callable[[Event], bool]


class EventsQuery(Model):
    environment: Text | None = None
    target: Text | None = Field(None, description="a target; a session on it is followed when it goes to another one")
    session: Text | None = None
    mine: bool = Field(False, description="those of one's own sessions too; without the three above, only those")
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
    concerns = _concerning(request, query, name)
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


def _concerning(request: web.Request, query: EventsQuery, target: str | None) -> Concerns:
    """Return what chooses the events that were asked for. *target*: the full name of the one in *query*."""
    me = principal_of(request).id
    is_narrowed = not (query.environment is query.target is query.session is None)
    on_target = set[str | None]()
    if target is not None:
        live = (one.session for one in request.app[BROKER].live())
        on_target.update(one.id for one in live if _is_of(target, str(one.target)))

    def concerns(event: Event) -> bool:
        session = event.data.get("session")
        if query.mine and event.data.get("owner_principal", {}).get("id") == me:
            return True
        if query.mine and not is_narrowed:
            return False
        if target is not None:
            if _is_of(target, event.subject):
                on_target.add(session)
            elif session is None or session not in on_target:
                return False
        return query.session in (None, session) and query.environment in (None, event.data.get("environment"))

    return concerns


def _is_of(target: str, name: str) -> bool:
    """A pod's name without a container stands for all of them."""
    return f"{name}/".startswith(f"{target}/")


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
