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
from noah.catalog.environments import EnvironmentSummary
from noah.core.environment import LONGEST_NAME, names_near
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
from noah.web.wire import Nothing, Paged, Words, cursor_of, with_tokens, words_of

ROUTES = Routes()
MOST_NEAR = 3  # names that are proposed in place of one that there is not


class EnvironmentsQuery(Paged):
    q: Words | None = Field(None, description="parts of the name; several: all of them")


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
    sessions: Mapping[str, Sequence[LiveSession]]  # live ones that they may see, or have, by their environments

    def find(self, query: EnvironmentsQuery) -> Page[EnvironmentJson]:
        found = self.catalog.find_environments(
            words=words_of(query.q),
            areas=self.areas,
            gone=[name for name in self.sessions if not self.catalog.has_environment(name, self.areas)],
            after=cursor_of(query.after),
            limit=query.limit,
        )
        items = [_json(one, self.sessions.get(one.name, ())) for one in found.items]
        return with_tokens(Page(items, found.after, found.total, found.before))

    def named(self, names: Iterable[str]) -> list[EnvironmentJson]:
        """Return those of some environments that there are."""
        there = ((name, self.catalog.environment(name, self.areas)) for name in names)
        return [
            _json(summary or EnvironmentSummary(name), self.sessions.get(name, ()))
            for name, summary in there
            if summary is not None or name in self.sessions
        ]

    def get(self, name: str) -> EnvironmentJson:
        """Raises NotFound for one that there is not, or not for the person who asks."""
        found = self.named([name])
        if not found:
            meant = f" Did you mean {' or '.join(near)}?" if (near := self._near(name)) else ""
            raise NotFound(f"There is no environment {name[:80]!r} that you may see, or not any more.{meant}")
        return found[0]

    def _near(self, name: str) -> Sequence[str]:
        """Return some that somebody may have meant who wrote *name*."""
        if len(name) > LONGEST_NAME:
            return ()
        near = [one for one in names_near(name) if self.catalog.has_environment(one, self.areas)]
        longer = self.catalog.find_environments(
            words=[name.lower()], areas=self.areas, after=None, limit=MOST_NEAR
        ).items
        return list(dict.fromkeys((*near, *(one.name for one in longer))))[:MOST_NEAR]


async def seen_environments(request: web.Request) -> SeenEnvironments:
    catalog, me, sessions = request.app[CATALOG], principal_of(request), defaultdict[str, list[LiveSession]](list)
    areas = await seen(request, catalog.areas())
    live = [(one, area_of(one.session.target)) for one in request.app[BROKER].live()]
    gone = {area for _, area in live}.difference(catalog.areas())
    seen_gone = await seen(request, gone)
    for one, area in live:
        among = seen_gone if area in gone else areas
        if among is None or area in among or one.session.owner == me:
            sessions[one.session.environment].append(one)
    return SeenEnvironments(catalog, areas, sessions)


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
