"""Releases: which there were, and one as it happens, as server-sent events that end with how it ended."""

import asyncio
from collections.abc import Collection
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints
from typing_extensions import TypedDict

from noah.core.page import Page
from noah.core.release.release import PATHS, Release, Result
from noah.core.release.release_event import LINE_KINDS, Numbered, ReleaseEvent, ReleaseEventKind, timestamp
from noah.core.session.rights import Right, namespace_area
from noah.core.workload import SHORT_NAMES, WorkloadKind, workload_kind_of
from noah.duration import parse_duration
from noah.errors import BadInput, Forbidden, NotFound, Unavailable
from noah.releases.releases import no_such_release
from noah.releases.stream import Stream
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import CLOCK, RELEASES
from noah.web.permission import demand, may, seen
from noah.web.sse import EventWriter, frame, streamed
from noah.web.until_shutdown import UNTIL_SHUTDOWN
from noah.web.wire import Model, Moment, Nothing, Paged, Text, maybe, moment, page_of

ROUTES = Routes()
_EVENT_KINDS = f"Events are: {', '.join(ReleaseEventKind)}."
# What `since` leaves out when it is older.
_DATED = LINE_KINDS | {
    ReleaseEventKind.CHECKURL,
    ReleaseEventKind.EVENT,
    ReleaseEventKind.CONDITION,
    ReleaseEventKind.POD,
    ReleaseEventKind.ONLINE,
}
SHARED_FRAMES = 1000  # newest events of a release that are written once for all who watch it
_FRAMES: WeakKeyDictionary[Stream, dict[int, bytes]] = WeakKeyDictionary()


class ReleasesQuery(Paged):
    environment: Text | None = None
    cluster: Text | None = None
    namespace: Text | None = None
    workload: Text | None = None
    result: Result | None = None


class ReleaseJson(TypedDict):
    id: str
    cluster: str
    namespace: str
    environment: str
    kind: str
    workload: str
    revision: str
    started_at: Moment
    ended_at: Moment | None
    result: Literal["running", "done", "failed", "replaced", "lost"]
    online: int
    wanted: int
    text: str


ReleasesJson = TypedDict("ReleasesJson", {"items": list[ReleaseJson], "continue": str | None, "total": int})


def _instant(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError:
        try:
            datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("write a length of time like 10m, or a time like 2026-01-31T08:00:00Z") from None
    return text


class StreamQuery(Model):
    since: Annotated[Text, AfterValidator(_instant)] | None = Field(
        None, description="nothing older: a length of time before now (10m), or a time (RFC 3339)"
    )
    tail: int | None = Field(None, ge=0, le=10_000, description="of the lines already there, only the last ones")
    filter: Annotated[Text, StringConstraints(max_length=200)] | None = Field(
        None, description="only lines that contain this, in whatever case"
    )
    pod: Text | None = Field(None, description="only what is about this pod")
    container: Text | None = Field(None, description="only lines of this container")
    previous: bool = Field(True, description="lines of containers' earlier runs too, of those already there")
    last_event_id: Text | None = Field(None, description="where to go on, for who cannot send Last-Event-ID")


class FollowBody(Model):
    cluster: Text
    namespace: Text
    workload: Text
    kind: Text = Field("deploy", description="deploy, sts or ds")


@ROUTES.get(
    "/api/v1/releases",
    right=Right.SEE,
    summary="Releases that run and those that were kept, the newest first.",
    errors=(Unavailable,),
)
async def list_releases(call: Call[ReleasesQuery, Nothing]) -> Reply[ReleasesJson]:
    shown = await find_releases(call.request, call.query)
    return Reply({"items": [release_json(one) for one in shown.items], "continue": shown.after, "total": shown.total})


async def find_releases(request: web.Request, query: ReleasesQuery) -> Page[Release]:
    found = await request.app[RELEASES].find(
        cluster=query.cluster,
        namespace=query.namespace,
        environment=query.environment,
        workload=query.workload,
        result=query.result,
    )
    areas = await seen(request, {_area_of(release) for release in found})
    if areas is not None:
        found = [release for release in found if _area_of(release) in areas]
    # A page's order is that of its keys: the longer ago, the greater.
    rows = ((f"{10**11 - release.started_at.timestamp():020.6f} {release.id}", release) for release in found)
    return page_of(rows, after=query.after, limit=query.limit)


@ROUTES.post(
    "/api/v1/releases",
    right=Right.READ_LOGS,
    summary="Follow the release that a workload is in; its events are at its ID from now on.",
    errors=(Forbidden, NotFound, Unavailable),
)
async def follow_release(call: Call[Nothing, FollowBody]) -> Reply[ReleaseJson]:
    body = call.body
    kind = kind_of(body.kind)
    called = f"{SHORT_NAMES[kind]}/{body.workload} in {body.cluster}/{body.namespace}"
    await demand(call.request, Right.READ_LOGS, namespace_area(body.cluster, body.namespace), called=called)
    stream = await call.request.app[RELEASES].current(body.cluster, body.namespace, kind, body.workload)
    return Reply(release_json(stream.release))


@ROUTES.get("/api/v1/releases/{id}", right=Right.SEE, summary="One release.", errors=(NotFound, Unavailable))
async def show_release(call: Call[Nothing, Nothing]) -> Reply[ReleaseJson]:
    return Reply(release_json((await _stream(call, Right.SEE)).release))


@ROUTES.raw(
    "/api/v1/releases/{id}/events",
    right=Right.READ_LOGS,
    summary=f"All events of a release, as server-sent events; Last-Event-ID goes on from there. {_EVENT_KINDS}",
    content_types=("text/event-stream",),
    errors=(NotFound, Unavailable),
)
async def release_events(call: Call[StreamQuery, Nothing]) -> web.StreamResponse:
    return await _send(call, await _stream(call, Right.READ_LOGS))


@ROUTES.raw(
    "/api/v1/releases/{id}/log",
    right=Right.READ_LOGS,
    summary="What is kept of a release, as text.",
    content_types=("text/plain",),
    errors=(NotFound, Unavailable),
)
async def release_log(call: Call[StreamQuery, Nothing]) -> web.StreamResponse:
    """Send lines of text, each with its time and where it comes from."""
    stream = await _stream(call, Right.READ_LOGS)
    wanted = _Wanted(call.query, call.request.app[CLOCK]())
    held = list(stream.journal.after(0, limit=stream.journal.count))
    if wanted.leaves_out:
        wanted.look_back(held)
    release = stream.release
    response = web.StreamResponse()
    response.content_type, response.charset = "text/plain", "utf-8"
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in release.workload)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}-{release.id}.log"'
    await response.prepare(call.request)
    for first in range(0, len(held), 1000):
        lines = [_line(event) for n, event in held[first : first + 1000] if wanted.wants(n, event)]
        await response.write("".join(lines).encode(errors="replace"))
    return response


def kind_of(text: str) -> WorkloadKind:
    kind = workload_kind_of(text)
    if kind is None or kind not in PATHS:
        known = ", ".join(SHORT_NAMES[kind] for kind in PATHS)
        raise BadInput(f"{text[:40]!r} has no releases: write one of {known}.")
    return kind


def release_json(release: Release) -> ReleaseJson:
    progress = release.progress
    return {
        "id": release.id,
        "cluster": release.cluster,
        "namespace": release.namespace,
        "environment": release.environment,
        "kind": release.kind,
        "workload": release.workload,
        "revision": release.revision,
        "started_at": moment(release.started_at),
        "ended_at": maybe(moment, release.ended_at),
        "result": progress.result.value,
        "online": progress.online,
        "wanted": progress.wanted,
        "text": progress.sentence,
    }


async def _stream(call: Call[Any, Nothing], right: Right) -> Stream:
    stream = await call.request.app[RELEASES].get(call.path("id"))
    area = _area_of(stream.release)
    if not await may(call.request, Right.SEE, area):
        raise no_such_release(call.path("id"))
    await demand(call.request, right, area)
    return stream


def _area_of(release: Release) -> str:
    return namespace_area(release.cluster, release.namespace)


async def _send(call: Call[Any, Nothing], stream: Stream) -> web.StreamResponse:
    request = call.request
    last = request.headers.get("Last-Event-ID") or call.query.last_event_id
    after = _number(last, stream)
    wanted = _Wanted(call.query, request.app[CLOCK]())
    if after is None and wanted.leaves_out:
        wanted.look_back(list(stream.journal.after(0, limit=stream.journal.count)))

    async def tell(writing: EventWriter) -> None:
        if last and after is None:
            at = timestamp(request.app[CLOCK]())
            again = ReleaseEvent(at, ReleaseEventKind.RESTARTED, "The stream begins again from its first event.")
            await writing.send([(writing.last_id, again.kind, again.json(0))])
        await request.app[UNTIL_SHUTDOWN].result_of(lambda: _tell(stream, after or 0, wanted, writing))

    right = (Right.READ_LOGS, _area_of(stream.release))
    return await streamed(request, f"{stream.run}-{after or 0}", tell, right=right)


async def _tell(stream: Stream, after: int, wanted: "_Wanted", writing: EventWriter) -> None:
    async with aclosing(stream.watch(after)) as watched:
        async for events in watched:
            # One after the other: of fifty who come at once, each may have thousands of events to be given, and what
            # debuggers say to their JVMs shares the event loop with them.
            async with stream.turn:
                frames = [_frame(stream, n, event) for n, event in events if wanted.wants(n, event)]
                await asyncio.sleep(0)
            await writing.pass_on(frames, last_id=f"{stream.run}-{events[-1][0]}")


def _frame(stream: Stream, n: int, event: ReleaseEvent) -> bytes:
    known = _FRAMES.setdefault(stream, {})
    if n in known and event.kind != ReleaseEventKind.GAP:  # which has the number of a missing event
        return known[n]
    made = frame(f"{stream.run}-{n}", event.kind, event.json(n))
    if n > stream.journal.count - SHARED_FRAMES and event.kind != ReleaseEventKind.GAP:
        known[n] = made
        while len(known) > SHARED_FRAMES:
            del known[next(iter(known))]
    return made


def _number(last_id: str | None, stream: Stream) -> int | None:
    """Return the number of the last event that the client has; None if it has none, or those of another run."""
    run, _, number = (last_id or "").rpartition("-")
    if run != stream.run or not (number.isascii() and number.isdigit() and len(number) < 20):
        return None
    return int(number) if int(number) <= stream.journal.count else None


class _Wanted:
    """Chooses the events that somebody has asked for."""

    def __init__(self, query: StreamQuery, now: datetime) -> None:
        self._query = query
        self._filter = query.filter.casefold() if query.filter else None
        self._since = _beginning(query.since, now)
        self._left_out: Collection[int] = ()
        self.leaves_out = query.tail is not None or not query.previous  # some of what is already there

    def look_back(self, held: list[Numbered]) -> None:
        """Find what `tail` and `previous` leave out of what is already there."""
        lines = [(n, event) for n, event in held if event.kind in LINE_KINDS and self.wants(n, event)]
        left_out: set[int] = set()
        if not self._query.previous:
            newest: dict[tuple[str, str], int] = {}
            for _, event in held:
                if event.kind in LINE_KINDS:
                    pod, container, restart = event.run
                    newest[pod, container] = max(restart, newest.get((pod, container), 0))
            left_out = {n for n, event in lines if event.run[2] < newest[event.run[:2]]}
            lines = [(n, event) for n, event in lines if n not in left_out]
        if self._query.tail is not None:
            left_out |= {n for n, _ in lines[: max(0, len(lines) - self._query.tail)]}
        self._left_out = left_out

    def wants(self, n: int, event: ReleaseEvent) -> bool:
        query, is_line = self._query, event.kind in LINE_KINDS
        if n in self._left_out or (self._since and event.kind in _DATED and event.at < self._since):
            return False
        if query.pod is not None and event.more.get("pod", query.pod) != query.pod:
            return False
        if not is_line:
            return True
        if query.container is not None and event.more.get("container") != query.container:
            return False
        return self._filter is None or self._filter in event.text.casefold()


def _beginning(since: str | None, now: datetime) -> str | None:
    if since is None:
        return None
    try:
        return timestamp(now - parse_duration(since))
    except ValueError:
        at = datetime.fromisoformat(since)
        return timestamp(at if at.tzinfo else at.replace(tzinfo=UTC))
    except OverflowError:
        return None  # before all times


def _line(event: ReleaseEvent) -> str:
    more = event.more
    who = " ".join(str(more[key]) for key in ("pod", "container", "object") if key in more)
    mark = f"[{more['hook']}] " if "hook" in more else ""
    return f"{event.at}  {who or event.kind}  {mark}{event.text}\n"
