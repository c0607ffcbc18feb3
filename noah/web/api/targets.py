"""What can be debugged: the targets of all kinds, and the apps that they are of."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from noah.core.session.rights import Right
from noah.core.session.session import Status
from noah.core.session.target import PodTarget, Target, parse_wanted
from noah.errors import BadInput, CannotDebug, NotFound, Unavailable
from noah.sessions.live_session import Live
from noah.targets.base import TargetInfo
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import BROKER
from noah.web.wire import Moment, Nothing, Paged, Text, maybe, moment, page_of

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
    owner: str
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
    found = [(str(info.target), info) for info in matching(call.request, call.query)]
    shown = page_of(found, after=call.query.after, limit=call.query.limit)
    held = held_now(call.request)
    items = [target_json(info, held.get(info.target)) for info in shown.items]
    return Reply({"items": items, "continue": shown.after, "total": shown.total})


def matching(request: web.Request, query: TargetsQuery) -> Iterable[TargetInfo]:
    labels = [_label(text) for text in query.label]
    words = (query.q or "").lower().split()
    for info in request.app[BROKER].targets():
        if (
            _is_in(info.target, query.cluster, query.namespace)
            and query.app in (None, info.app)
            and query.kind in (None, info.target.kind)
            and all(info.labels.get(key) == value for key, value in labels)
            and (not words or _has_all(f"{info.target} {info.app}".lower(), words))
        ):
            yield info


def _has_all(text: str, words: Iterable[str]) -> bool:
    return all(word in text for word in words)


@ROUTES.get(
    "/api/v1/targets/{target:(?s:.+)}",
    right=Right.SEE,
    summary="One target; deploy/NAME and app=NAME choose their oldest ready pod.",
    errors=(NotFound, CannotDebug, Unavailable),
)
async def show_target(call: Call[Nothing, Nothing]) -> Reply[TargetJson]:
    broker = call.request.app[BROKER]
    info = await broker.resolve(parse_wanted(call.path("target")))
    return Reply(target_json(info, broker.holder(info.target)))


@ROUTES.get("/api/v1/apps", right=Right.SEE, summary="The apps that there are targets of.")
async def list_apps(call: Call[AppsQuery, Nothing]) -> Reply[AppsJson]:
    query, held = call.query, held_now(call.request)
    q = (query.q or "").lower()
    apps: dict[tuple[str, str, str, str], Counter[str]] = defaultdict(Counter)
    for info in call.request.app[BROKER].targets():
        if _is_in(info.target, query.cluster, query.namespace) and q in info.app.lower():
            cluster, namespace = _place(info.target)
            count = apps[info.app, cluster or "", namespace or "", info.target.kind]
            count.update(targets=1, ready=int(info.ready), sessions=int(info.target in held))
    # A NUL sorts before all that names are made of: an app's rows stay together.
    rows = (("\0".join(key), (key, count)) for key, count in apps.items())
    shown = page_of(rows, after=query.after, limit=query.limit)
    return Reply({"items": [_app_json(*row) for row in shown.items], "continue": shown.after, "total": shown.total})


def target_json(info: TargetInfo, live: Live | None) -> TargetJson:
    cluster, namespace = _place(info.target)
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


def _holding_json(live: Live) -> HoldingJson:
    session, facts, status = live.session, live.facts, live.status
    since = session.created_at
    if status is Status.SUSPENDED and facts.vm is not None:
        since = facts.vm.since
    elif status is Status.ATTACHED and facts.attached is not None:
        since = facts.attached.since
    return {"id": session.id, "owner": session.owner, "status": str(status), "since": moment(since)}


def _app_json(key: tuple[str, str, str, str], count: Mapping[str, int]) -> AppJson:
    app, cluster, namespace, kind = key
    return {
        "app": app,
        "cluster": cluster or None,
        "namespace": namespace or None,
        "kind": kind,
        "targets": count["targets"],
        "ready": count["ready"],
        "sessions": count["sessions"],
    }


def held_now(request: web.Request) -> Mapping[Target, Live]:
    return {live.session.target: live for live in request.app[BROKER].live()}


def _place(target: Target) -> tuple[str | None, str | None]:
    return (target.cluster, target.namespace) if isinstance(target, PodTarget) else (None, None)


def _is_in(target: Target, cluster: str | None, namespace: str | None) -> bool:
    if cluster is None and namespace is None:
        return True
    return isinstance(target, PodTarget) and cluster in (None, target.cluster) and namespace in (None, target.namespace)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise BadInput(f"label: {text[:60]!r} is none; write KEY=VALUE.")
    return key, value


def targets_per_cluster(infos: Iterable[TargetInfo]) -> Counter[str]:
    return Counter(info.target.cluster for info in infos if isinstance(info.target, PodTarget))
