"""Every call of the API in one table: the site and openapi.json are made from it."""

import json
from functools import cache

from aiohttp import web

from noah.core import ide
from noah.errors import CannotDebug, Conflict, Forbidden, NotFound, Unavailable
from noah.web.api import clusters, drift, events, export, health, openapi, releases, sessions, targets
from noah.web.api.metrics import scrape
from noah.web.api.openapi import AnyRoute
from noah.web.api.route import Call, Raw, Route
from noah.web.wire import Nothing, Wait

V1 = "/api/v1"
ONE = V1 + "/sessions/{id}"
RELEASE = V1 + "/releases/{id}"


async def _openapi(_: Call[Nothing, Nothing]) -> web.Response:
    return web.Response(body=_document(), content_type="application/json")


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        method="GET",
        path=V1 + "/clusters",
        handler=clusters.list_clusters,
        summary="The clusters that the gateway knows, and whether it reaches them.",
        query=Nothing,
        body=Nothing,
        answer=clusters.ClustersJson,
    ),
    Route(
        method="GET",
        path=V1 + "/clusters/{name}/doctor",
        handler=clusters.examine,
        summary="What stands in the way of debugging in a cluster, or in one of its pods.",
        query=clusters.DoctorQuery,
        body=Nothing,
        answer=clusters.FindingsJson,
        errors=(NotFound, CannotDebug, Unavailable),
    ),
    Route(
        method="GET",
        path=V1 + "/drift",
        handler=drift.list_drift,
        summary="Hosts whose debug flags stand without a session, and sessions whose flags are gone. Asks all hosts.",
        query=Nothing,
        body=Nothing,
        answer=drift.DriftsJson,
    ),
    Route(
        method="GET",
        path=V1 + "/apps",
        handler=targets.list_apps,
        summary="The apps that there are targets of.",
        query=targets.AppsQuery,
        body=Nothing,
        answer=targets.AppsJson,
    ),
    Route(
        method="GET",
        path=V1 + "/targets",
        handler=targets.list_targets,
        summary="What can be debugged, and who is debugging it.",
        query=targets.TargetsQuery,
        body=Nothing,
        answer=targets.TargetsJson,
    ),
    Route(
        method="GET",
        path=V1 + "/targets/{target:(?s:.+)}",
        handler=targets.show_target,
        summary="One target; deploy/NAME and app=NAME choose their oldest ready pod.",
        query=Nothing,
        body=Nothing,
        answer=targets.TargetJson,
        errors=(NotFound, CannotDebug, Unavailable),
    ),
    Route(
        method="POST",
        path=V1 + "/sessions",
        handler=sessions.enable,
        summary="Enable debugging: 201 when the session is new, 200 when the same person has it already.",
        query=Wait,
        body=sessions.EnableBody,
        answer=sessions.SessionJson,
        statuses=(200, 201),
        errors=(Forbidden, NotFound, Conflict, CannotDebug, Unavailable),
    ),
    Route(
        method="GET",
        path=V1 + "/sessions",
        handler=sessions.list_sessions,
        summary="Sessions, the newest first.",
        query=sessions.SessionsQuery,
        body=Nothing,
        answer=sessions.SessionsJson,
        errors=(Unavailable,),
    ),
    Raw(
        path=V1 + "/sessions.csv",
        handler=export.export_csv,
        summary="All sessions of a filter as a table.",
        query=sessions.SessionsFilter,
        content_types=("text/csv",),
        errors=(Unavailable,),
    ),
    Raw(
        path=V1 + "/sessions.jsonl",
        handler=export.export_lines,
        summary="All sessions of a filter, each a line of JSON.",
        query=sessions.SessionsFilter,
        content_types=("application/jsonl",),
        errors=(Unavailable,),
    ),
    Route(
        method="GET",
        path=ONE,
        handler=sessions.show_session,
        summary="One session; with wait, once it is on its way no longer.",
        query=Wait,
        body=Nothing,
        answer=sessions.SessionJson,
        errors=(NotFound, Unavailable),
    ),
    Route(
        method="DELETE",
        path=ONE,
        handler=sessions.end,
        summary="End a session; with wait, once nothing of it is left.",
        query=Wait,
        body=Nothing,
        answer=sessions.SessionJson,
        errors=(Forbidden, NotFound, Conflict, Unavailable),
    ),
    Route(
        method="POST",
        path=ONE + "/extend",
        handler=sessions.extend,
        summary="Let a session last for so long from now, if that is later than it lasts already.",
        query=Nothing,
        body=sessions.ExtendBody,
        answer=sessions.SessionJson,
        errors=(Forbidden, NotFound, Conflict, Unavailable),
    ),
    Route(
        method="POST",
        path=ONE + "/resume",
        handler=sessions.resume,
        summary="Resume the whole VM by closing the debugger's connection.",
        query=Nothing,
        body=Nothing,
        answer=sessions.SessionJson,
        errors=(Forbidden, NotFound, Conflict, Unavailable),
    ),
    Route(
        method="POST",
        path=ONE + "/ask",
        handler=sessions.ask,
        summary="Ask whoever has a session to resume; they are told on their page.",
        query=Nothing,
        body=sessions.AskBody,
        answer=sessions.SessionJson,
        errors=(NotFound, Conflict, Unavailable),
    ),
    Raw(
        path=ONE + "/ide/{format}",
        handler=sessions.ide_file,
        summary="A run configuration for intellij, vscode or eclipse; the command line for jdb.",
        query=Nothing,
        content_types=tuple(sorted({one.content_type for one in ide.FORMATS.values()})),
        errors=(NotFound, Unavailable),
    ),
    Raw(
        path=V1 + "/events",
        handler=events.events,
        summary="What happens, as server-sent events; Last-Event-ID goes on from there.",
        query=events.EventsQuery,
        content_types=("text/event-stream",),
        errors=(NotFound, CannotDebug, Unavailable),
    ),
    Route(
        method="GET",
        path=V1 + "/releases",
        handler=releases.list_releases,
        summary="Releases that go on and those that were kept, the newest first.",
        query=releases.ReleasesQuery,
        body=Nothing,
        answer=releases.ReleasesJson,
        errors=(Unavailable,),
    ),
    Route(
        method="GET",
        path=RELEASE,
        handler=releases.show_release,
        summary="One release.",
        query=Nothing,
        body=Nothing,
        answer=releases.ReleaseJson,
        errors=(NotFound, Unavailable),
    ),
    Raw(
        path=RELEASE + "/events",
        handler=releases.release_events,
        summary="All that a release told and goes on to tell, as server-sent events; Last-Event-ID goes on from there.",
        query=releases.ToldQuery,
        content_types=("text/event-stream",),
        errors=(NotFound, Unavailable),
    ),
    Raw(
        path=RELEASE + "/log",
        handler=releases.release_log,
        summary="What is kept of a release, as text.",
        query=releases.ToldQuery,
        content_types=("text/plain",),
        errors=(NotFound, Unavailable),
    ),
    Raw(
        path=V1 + "/releases/{cluster}/{namespace}/{workload}/events",
        handler=releases.current_events,
        summary="The release of a workload that goes on now, as server-sent events; the last one, end, tells how.",
        query=releases.CurrentQuery,
        content_types=("text/event-stream",),
        errors=(NotFound, Unavailable),
    ),
    Raw(
        path="/openapi.json",
        handler=_openapi,
        summary="This document.",
        query=Nothing,
        content_types=("application/json",),
    ),
    Route(
        method="GET",
        path="/livez",
        handler=health.livez,
        summary="Whether the gateway lives.",
        query=Nothing,
        body=Nothing,
        answer=health.HealthJson,
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=health.readyz,
        summary="Whether the gateway should be sent requests: not while it stops or its database is away.",
        query=Nothing,
        body=Nothing,
        answer=health.HealthJson,
        statuses=(200, 503),
    ),
    Raw(path="/metrics", handler=scrape, summary="For Prometheus.", query=Nothing, content_types=("text/plain",)),
)


@cache
def _document() -> bytes:
    return json.dumps(openapi.document(ROUTES), ensure_ascii=False).encode()
