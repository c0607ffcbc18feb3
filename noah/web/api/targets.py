"""What can be debugged: the targets of all kinds, and the apps that they are of."""

from collections import Counter
from typing import Literal

from pydantic import Field
from typing_extensions import TypedDict

from noah.catalog.catalog import TargetFilter
from noah.catalog.tally import Tally
from noah.catalog.target_info import AppPlace, TargetInfo
from noah.core.session.rights import Right
from noah.core.session.session import Status
from noah.core.session.target import parse_wanted
from noah.errors import BadInput, CannotDebug, NotFound, Unavailable
from noah.sessions.live_session import LiveSession
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import BROKER, CATALOG, HOLDERS
from noah.web.wire import Moment, Nothing, Paged, Text, cursor_of, maybe, moment, with_tokens

ROUTES = Routes()


class TargetsQuery(Paged):
    cluster: Text | None = None
    namespace: Text | None = None
    app: Text | None = None
    label: list[Text] = Field([], description="KEY=VALUE; several: all of them")
    kind: Literal["pod", "host", "local"] | None = None
    q: Text | None = Field(None, description="parts of the target's or the app's name; several: all of them")


class AppsQuery(Paged):
    cluster: Text | None = None
    namespace: Text | None = None
    q: Text | None = Field(None, description="part of the app's name")


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
    sessions: int


TargetsJson = TypedDict("TargetsJson", {"items": list[TargetJson], "continue": str | None, "total": int})
AppsJson = TypedDict("AppsJson", {"items": list[AppJson], "continue": str | None, "total": int})


@ROUTES.get("/api/v1/targets", right=Right.SEE, summary="What can be debugged, and who is debugging it.")
async def list_targets(call: Call[TargetsQuery, Nothing]) -> Reply[TargetsJson]:
    wanted, query = filter_of(call.query), call.query
    shown = call.request.app[CATALOG].find(wanted, after=cursor_of(query.after), limit=query.limit)
    page, broker = with_tokens(shown), call.request.app[BROKER]
    items = [target_json(info, broker.holder(info.target)) for info in page.items]
    return Reply({"items": items, "continue": page.after, "total": page.total})


def filter_of(query: TargetsQuery) -> TargetFilter:
    return TargetFilter(
        kind=query.kind,
        cluster=query.cluster,
        namespace=query.namespace,
        app=query.app,
        labels=[_label(text) for text in query.label],
        words=(query.q or "").lower().split(),
    )


@ROUTES.get(
    "/api/v1/targets/{target:(?s:.+)}",
    right=Right.SEE,
    summary="One target; a workload (deploy/NAME, sts/NAME, ...) or app=NAME chooses its oldest ready pod.",
    errors=(NotFound, CannotDebug, Unavailable),
)
async def show_target(call: Call[Nothing, Nothing]) -> Reply[TargetJson]:
    broker = call.request.app[BROKER]
    info = await broker.resolve(parse_wanted(call.path("target")))
    return Reply(target_json(info, broker.holder(info.target)))


@ROUTES.get("/api/v1/apps", right=Right.SEE, summary="The apps that there are targets of.")
async def list_apps(call: Call[AppsQuery, Nothing]) -> Reply[AppsJson]:
    query, catalog = call.query, call.request.app[CATALOG]
    shown = catalog.find_apps(
        cluster=query.cluster,
        namespace=query.namespace,
        part=(query.q or "").lower(),
        after=cursor_of(query.after),
        limit=query.limit,
    )
    page = with_tokens(shown)
    held = Counter(info.place for info in catalog.infos(call.request.app[HOLDERS].targets))
    items = [_app_json(place, tally, held[place]) for place, tally in page.items]
    return Reply({"items": items, "continue": page.after, "total": page.total})


def target_json(info: TargetInfo, live: LiveSession | None) -> TargetJson:
    cluster, namespace = info.place.cluster, info.place.namespace
    return {
        "target": str(info.target),
        "kind": info.target.kind,
        "app": info.app,
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
        "session": maybe(_holding_json, live),
    }


def _holding_json(live: LiveSession) -> HoldingJson:
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
        "sessions": sessions,
    }


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise BadInput(f"label: {text[:60]!r} is none; write KEY=VALUE.")
    return key, value
