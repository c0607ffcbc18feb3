"""Environments: what people choose first. Of each, what there is, who debugs there, and whose JVM stands still.

Seen as far as the caller's rights go: of an environment there is what one may see of it, and nothing else is counted.
One whose targets are all gone is there as long as a session in it lasts.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from noah.catalog.catalog import Catalog
from noah.catalog.environments import EnvironmentSummary, summary_of
from noah.core.page import Page
from noah.core.session.rights import Right, area_of
from noah.core.session.session import Status
from noah.errors import NotFound
from noah.sessions.live_session import LiveSession
from noah.web.api.route import Call, Reply, Routes
from noah.web.api.targets import HoldingJson, holding_json
from noah.web.identity import principal_of
from noah.web.keys import BROKER, CATALOG
from noah.web.permission import seen
from noah.web.wire import Nothing, Paged, Text, cursor_of, with_tokens

ROUTES = Routes()


class EnvironmentsQuery(Paged):
    q: Text | None = Field(None, description="parts of the name; several: all of them")


class EnvironmentSessionJson(HoldingJson):
    target: str
    app: str


class EnvironmentJson(TypedDict):
    name: str
    apps: int
    targets: int
    ready: int
    unknown: int  # apps on hosts that were not asked yet; neither ready nor not
    pods: int
    hosts: int  # apps on hosts
    local: int  # JVMs of the gateway's machine
    suspended: int  # sessions whose JVM stands still
    sessions: list[EnvironmentSessionJson]


EnvironmentsJson = TypedDict("EnvironmentsJson", {"items": list[EnvironmentJson], "continue": str | None, "total": int})


@ROUTES.get("/api/v1/environments", right=Right.SEE, summary="Environments, with what is in each and who debugs there.")
async def list_environments(call: Call[EnvironmentsQuery, Nothing]) -> Reply[EnvironmentsJson]:
    page = (await seen_environments(call.request)).find(call.query)
    return Reply({"items": page.items, "continue": page.after, "total": page.total})


@ROUTES.get(
    "/api/v1/environments/{environment:(?s:.+)}",
    right=Right.SEE,
    summary="One environment, with what is in it and who debugs there.",
    errors=(NotFound,),
)
async def show_environment(call: Call[Nothing, Nothing]) -> Reply[EnvironmentJson]:
    return Reply((await seen_environments(call.request)).get(call.path("environment")))


@dataclass(frozen=True, slots=True)
class SeenEnvironments:
    """The environments that the person who asks may see, found out once for a request."""

    catalog: Catalog
    areas: Collection[str] | None  # None: all of them
    sessions: Mapping[str, Sequence[LiveSession]]  # live ones, by their environments

    def find(self, query: EnvironmentsQuery) -> Page[EnvironmentJson]:
        found = self.catalog.find_environments(
            words=(query.q or "").lower().split(),
            areas=self.areas,
            gone=[name for name in self.sessions if self.catalog.environment(name, self.areas) is None],
            after=cursor_of(query.after),
            limit=query.limit,
        )
        items = [_json(one, self.sessions.get(one.name, ())) for one in found.items]
        return with_tokens(Page(items, found.after, found.total, found.before))

    def named(self, names: Iterable[str]) -> list[EnvironmentJson]:
        """Return those of some environments that there are."""
        there = ((name, self.catalog.environment(name, self.areas)) for name in names)
        return [
            _json(summary or summary_of(name, ()), self.sessions.get(name, ()))
            for name, summary in there
            if summary is not None or name in self.sessions
        ]

    def get(self, name: str) -> EnvironmentJson:
        """Raises NotFound for one that there is not, or not for the person who asks."""
        found = self.named([name])
        if not found:
            raise NotFound(f"There is no environment {name[:80]!r} that you may see, or not any more.")
        return found[0]


async def seen_environments(request: web.Request) -> SeenEnvironments:
    areas = await _seen(request)
    return SeenEnvironments(request.app[CATALOG], areas, _sessions(request, areas))


async def _seen(request: web.Request) -> Collection[str] | None:
    """Return the areas that the person may see, of those with targets or live sessions; None: all of them."""
    areas = request.app[CATALOG].areas()
    left = {area_of(live.session.target) for live in request.app[BROKER].live()}.difference(areas)
    return await seen(request, {*areas, *left} if left else areas)


def _sessions(request: web.Request, areas: Collection[str] | None) -> Mapping[str, Sequence[LiveSession]]:
    """Return the live sessions that the person may see, or has, by their environments."""
    me, found = principal_of(request), defaultdict[str, list[LiveSession]](list)
    for live in request.app[BROKER].live():
        session = live.session
        if areas is None or session.owner == me or area_of(session.target) in areas:
            found[session.environment].append(live)
    return found


def _json(summary: EnvironmentSummary, sessions: Iterable[LiveSession]) -> EnvironmentJson:
    shown: list[EnvironmentSessionJson] = [
        {**holding_json(live), "target": str(live.session.target), "app": live.session.app} for live in sessions
    ]
    return {
        "name": summary.name,
        "apps": summary.apps,
        "targets": summary.targets,
        "ready": summary.ready,
        "unknown": summary.unknown,
        "pods": summary.kinds.get("pod", 0),
        "hosts": summary.kinds.get("host", 0),
        "local": summary.kinds.get("local", 0),
        "suspended": sum(one["status"] == Status.SUSPENDED for one in shown),
        "sessions": sorted(shown, key=lambda one: (one["app"], one["id"])),
    }
