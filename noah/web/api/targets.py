"""What can be debugged: the targets of all kinds, and the apps that they are of."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from noah.catalog.catalog import TargetFilter
from noah.catalog.tally import Tally
from noah.catalog.target_info import AppPlace, TargetInfo
from noah.core.session.rights import Right, area_of, namespace_area
from noah.core.session.session import Status
from noah.core.session.target import PodTarget, Wanted, WantedPod, parse_wanted
from noah.errors import BadInput, CannotDebug, NotFound, Unavailable
from noah.sessions.live_session import LiveSession
from noah.targets.pod.pods import MOST_PLACES, in_several
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import BROKER, CATALOG, HOLDERS
from noah.web.permission import demand, not_there, seen
from noah.web.wire import (
    MOST_WORDS,
    Model,
    Moment,
    Nothing,
    Paged,
    Text,
    Words,
    cursor_of,
    maybe,
    moment,
    with_tokens,
    words_of,
)

ROUTES = Routes()
FEW_AREAS = 100  # about so many a cluster may be asked at once


class TargetsQuery(Paged):
    environment: Text | None = None
    cluster: Text | None = None
    namespace: Text | None = None
    app: Text | None = None
    label: list[Text] = Field([], max_length=MOST_WORDS, description="KEY=VALUE; several: all of them")
    kind: Literal["pod", "host", "local"] | None = None
    q: Words | None = Field(None, description="parts of the target's or the app's name; several: all of them")


class AppsQuery(Paged):
    environment: Text | None = None
    cluster: Text | None = None
    namespace: Text | None = None
    q: Words | None = Field(None, description="parts of the app's name; several: all of them")


class TargetQuery(Model):
    environment: Text | None = Field(None, description="where a workload or app=NAME is; an app may be on a host there")


class HoldingJson(TypedDict):
    """The session that a target is in."""

    id: str
    owner: str  # a name, for people
    owner_id: str  # the same for the same person
    status: str
    since: Moment  # of this status, as far as that is known; else of the session


class TargetJson(TypedDict):
    target: str
    kind: str
    app: str
    environment: str
    workload: str | None
    cluster: str | None
    namespace: str | None
    labels: dict[str, str]
    ready: bool
    phase: str
    restarts: int
    version: str | None
    started_at: Moment | None
    checkurl: str | None
    session: HoldingJson | None


class AppJson(TypedDict):
    app: str
    cluster: str | None
    namespace: str | None
    kind: str
    targets: int
    ready: int
    versions: dict[str, int]  # targets of each; none of what is known of without a version
    sessions: int


TargetsJson = TypedDict("TargetsJson", {"items": list[TargetJson], "continue": str | None, "total": int})
AppsJson = TypedDict("AppsJson", {"items": list[AppJson], "continue": str | None, "total": int})


@ROUTES.get("/api/v1/targets", right=Right.SEE, summary="What can be debugged, and who is debugging it.")
async def list_targets(call: Call[TargetsQuery, Nothing]) -> Reply[TargetsJson]:
    query, catalog = call.query, call.request.app[CATALOG]
    wanted = filter_of(query, await seen(call.request, catalog.areas()))
    shown = catalog.find(wanted, after=cursor_of(query.after), limit=query.limit)
    page, broker = with_tokens(shown), call.request.app[BROKER]
    items = [target_json(info, broker.holder(info.target)) for info in page.items]
    return Reply({"items": items, "continue": page.after, "total": page.total})


def filter_of(query: TargetsQuery, areas: Collection[str] | None) -> TargetFilter:
    return TargetFilter(
        environment=query.environment,
        kind=query.kind,
        cluster=query.cluster,
        namespace=query.namespace,
        app=query.app,
        labels=[_label(text) for text in query.label],
        words=words_of(query.q),
        areas=areas,
    )


@ROUTES.get(
    "/api/v1/targets/{target:(?s:.+)}",
    right=Right.SEE,
    summary="One target; a workload (deploy/NAME, sts/NAME, ...) or app=NAME chooses its oldest ready pod.",
    errors=(NotFound, CannotDebug, Unavailable),
)
async def show_target(call: Call[TargetQuery, Nothing]) -> Reply[TargetJson]:
    info = await find_target(call.request, call.path("target"), Right.SEE, environment=call.query.environment)
    return Reply(target_json(info, call.request.app[BROKER].holder(info.target)))


async def find_target(request: web.Request, text: str, right: Right, *, environment: str | None = None) -> TargetInfo:
    """Return the one target that is meant, if the person has the *right* on it.

    Raises NotFound for one that they may not see, whether it is there or not; Forbidden if they may only see it.
    *environment*: where a workload or an app is looked for; a pod's name does not need it.
    """
    wanted = parse_wanted(text)
    if isinstance(wanted, WantedPod) and wanted.cluster is None:
        wanted = await _narrowed(request, wanted, environment)
    elif isinstance(wanted, WantedPod):  # two environments may share a namespace
        wanted = replace(wanted, environment=environment)
    area = _area_of(wanted)
    if area is not None:
        await demand(request, right, area, called=str(wanted))
    info = await request.app[BROKER].resolve(wanted)
    if area is None:
        await demand(request, right, info.area, called=str(wanted))
    return info


async def _narrowed(request: web.Request, wanted: WantedPod, environment: str | None) -> Wanted:
    """Return *wanted* with the only place that it means among those that the person sees."""
    catalog = request.app[CATALOG]
    named = TargetFilter(app=wanted.app, environment=environment)
    places = catalog.places(named, workload=wanted.workload_name, most=FEW_AREAS)
    areas = await _seen_among(request, [place.area for place in places if place.area is not None])
    if environment is None and areas is None:
        return wanted
    places = catalog.places(replace(named, areas=areas), workload=wanted.workload_name, most=MOST_PLACES)
    if len(places) > 1:
        raise in_several(wanted, places)
    if places:
        return replace(wanted, cluster=places[0].cluster, namespace=places[0].namespace, environment=environment)
    if environment is None:
        raise not_there(str(wanted))
    there = [] if wanted.app is None else await _off_clusters(request, named)
    if not there:
        raise not_there(f"{wanted} in environment {environment[:80]}")
    if len(there) > 1:
        several = ", ".join(str(info.target) for info in there[:10])
        raise BadInput(f"{wanted} is in several places of {environment} ({several}): say which.")
    target = there[0].target
    assert not isinstance(target, PodTarget)
    return target


async def _off_clusters(request: web.Request, named: TargetFilter) -> Sequence[TargetInfo]:
    """Return an app's targets on hosts and on this machine that the person sees; not all if they are many."""
    kinds, catalog = [replace(named, kind="host"), replace(named, kind="local")], request.app[CATALOG]
    found = [info for one in kinds for info in catalog.find(one, after=None, limit=FEW_AREAS).items]
    areas = await _seen_among(request, [info.area for info in found])
    kinds = [replace(one, areas=areas) for one in kinds]
    return [info for one in kinds for info in catalog.find(one, after=None, limit=MOST_PLACES).items]


async def _seen_among(request: web.Request, areas: Sequence[str]) -> Collection[str] | None:
    """Return what of *areas* the person sees; of all areas if these are not few: that answer is kept for a while."""
    return await seen(request, areas if len(areas) < FEW_AREAS else request.app[CATALOG].areas())


def _area_of(wanted: Wanted) -> str | None:
    if not isinstance(wanted, WantedPod):
        return area_of(wanted)
    if wanted.cluster is None or wanted.namespace is None:
        return None
    return namespace_area(wanted.cluster, wanted.namespace)


@ROUTES.get("/api/v1/apps", right=Right.SEE, summary="The apps that there are targets of.")
async def list_apps(call: Call[AppsQuery, Nothing]) -> Reply[AppsJson]:
    query, catalog = call.query, call.request.app[CATALOG]
    areas = await seen(call.request, catalog.areas())
    shown = catalog.find_apps(
        cluster=query.cluster,
        namespace=query.namespace,
        environment=query.environment,
        words=words_of(query.q),
        areas=areas,
        after=cursor_of(query.after),
        limit=query.limit,
    )
    page = with_tokens(shown)
    shown_ones = TargetFilter(environment=query.environment, areas=areas)
    holders = call.request.app[HOLDERS]
    held: Counter[AppPlace] = Counter()
    for app in {place.app for place, _ in page.items}:
        held.update(info.place for info in catalog.infos(holders.targets_of(app)) if shown_ones.admits(info))
    items = [_app_json(place, tally, held[place]) for place, tally in page.items]
    return Reply({"items": items, "continue": page.after, "total": page.total})


def target_json(info: TargetInfo, live: LiveSession | None) -> TargetJson:
    cluster, namespace = info.place.cluster, info.place.namespace
    return {
        "target": str(info.target),
        "kind": info.target.kind,
        "app": info.app,
        "environment": info.environment,
        "workload": info.workload,
        "cluster": cluster,
        "namespace": namespace,
        "labels": dict(info.labels),
        "ready": info.ready,
        "phase": info.phase,
        "restarts": info.restarts,
        "version": info.version,
        "started_at": maybe(moment, info.started_at),
        "checkurl": info.checkurl,
        "session": maybe(holding_json, live),
    }


def holding_json(live: LiveSession) -> HoldingJson:
    session, facts, status = live.session, live.facts, live.status
    since = session.created_at
    if status is Status.SUSPENDED and facts.vm is not None:
        since = facts.vm.since
    elif status is Status.ATTACHED and facts.attached is not None:
        since = facts.attached.since
    return {
        "id": session.id,
        "owner": session.owner.name,
        "owner_id": session.owner.id,
        "status": str(status),
        "since": moment(since),
    }


def _app_json(place: AppPlace, tally: Tally, sessions: int) -> AppJson:
    return {
        "app": place.app,
        "cluster": place.cluster,
        "namespace": place.namespace,
        "kind": place.kind,
        "targets": tally.targets,
        "ready": tally.ready,
        "versions": dict(tally.versions),
        "sessions": sessions,
    }


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise BadInput(f"label: {text[:60]!r} is none; write KEY=VALUE.")
    return key, value
