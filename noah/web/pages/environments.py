"""The first pages: the environments to choose from, and the targets of one of them, or of all, app by app.

Where there is one environment only, its targets are the first page, and nobody is asked to choose. An app's pods and
apps on hosts stand under one heading, wherever they run. A page has a number of targets, not of apps: an app that does
not fit is continued on the next page under the same heading, which always describes the whole app.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from pydantic import Field

from noah.catalog.catalog import AppSection, TargetFilter
from noah.catalog.target_info import TargetInfo
from noah.core.page import Page
from noah.core.session.rights import Right
from noah.core.session.target import parse_target
from noah.sessions.broker import Broker
from noah.sessions.live_session import LiveSession
from noah.web.api import environments, releases, sessions, targets
from noah.web.api.route import Call, Routes
from noah.web.identity import principal_of
from noah.web.keys import BROKER, CATALOG, HOLDERS
from noah.web.pages.chosen import chosen_of
from noah.web.pages.page import PER_PAGE, Context, filled_in, links, page
from noah.web.paths import link_to
from noah.web.permission import demand, seen
from noah.web.wire import MOST, Nothing, cursor_of, with_tokens, words_of

ROUTES = Routes()
FEW = 8  # of each kind of thing that a search over everything finds
SEARCHED = 1000  # releases in which it looks


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownApp:
    name: str
    targets: Sequence[targets.TargetJson]  # those of this page
    begins: int  # how many of its targets were on the pages before
    total: int
    ready: int
    unknown: int  # hosts that were not asked yet
    kinds: Mapping[str, int]
    versions: Sequence[tuple[str, int]]  # with their targets, most of them first
    owners: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shown:
    apps: Sequence[ShownApp]
    of: int  # apps there are, on all pages
    page: Page[TargetInfo]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of a search over everything, a few of each kind."""

    environments: Page[environments.EnvironmentJson]
    apps: Sequence[str]
    targets: Page[targets.TargetJson]
    sessions: Sequence[sessions.SessionJson]
    releases: Sequence[releases.ReleaseJson]


class TargetsPage(targets.TargetsQuery):
    # A form sends its empty fields too.
    kind: str = Field("", pattern="^(pod|host|local)?$")  # type: ignore[assignment]
    limit: int = Field(PER_PAGE, ge=1, le=MOST)


@page(ROUTES, "/", "home.html")
async def home(call: Call[TargetsPage, Nothing]) -> Context:
    request, asked = call.request, filled_in(call.query)
    await demand(request, Right.SEE)
    if asked.keys() - {"q", "limit", "continue"}:  # a link to targets, as they were here once
        raise web.HTTPSeeOther(link_to(request, request.rel_url.with_path("/targets", keep_query=True)))
    paged = {name: value for name, value in asked.items() if name != "q"}
    query = environments.EnvironmentsQuery.model_validate(paged)
    there = await environments.seen_environments(request)
    listed = there.find(query)
    if listed.total <= 1:
        shown = await _listing(request, targets.TargetsQuery.model_validate(asked))
        return {**shown, "left": _left(request, listed.items)}
    chosen, me = chosen_of(request), principal_of(request)
    debugged = [name for name, live in there.sessions.items() if any(one.session.owner == me for one in live)]
    yours = there.named(dict.fromkeys((*chosen.pinned, *debugged, *chosen.last)))
    return {
        "here": "targets",
        "is_home": True,
        "q": call.query.q,
        "few": FEW,
        "found": await _search(request, call.query.q, there) if call.query.q else None,
        "listed": listed,
        "pinned": chosen.pinned,
        "yours": yours,
        "missed": sorted({*chosen.pinned}.difference(one["name"] for one in yours)),
        "links": links(request, listed),
    }


@page(ROUTES, "/targets", "home.html")
async def all_targets(call: Call[TargetsPage, Nothing]) -> Context:
    return await _listing(call.request, targets.TargetsQuery.model_validate(filled_in(call.query)))


@page(ROUTES, "/environments/{environment:(?s:.+)}", "home.html")
async def environment(call: Call[TargetsPage, Nothing]) -> Context:
    request, name = call.request, call.path("environment")
    shown = (await environments.seen_environments(request)).get(name)
    query = targets.TargetsQuery.model_validate({**filled_in(call.query), "environment": name})
    listing = await _listing(request, query)
    return {
        **listing,
        "environment": shown,
        "is_pinned": name in chosen_of(request).pinned,
        "narrowed": [one for one in listing["narrowed"] if one[0] != "environment"],
        "left": _left(request, [shown]),
    }


def _left(
    request: web.Request, there: Iterable[environments.EnvironmentJson]
) -> Sequence[environments.EnvironmentSessionJson]:
    """Return the sessions of environments whose targets are gone."""
    sessions, catalog = (session for one in there for session in one["sessions"]), request.app[CATALOG]
    return [one for one in sessions if catalog.get(parse_target(one["target"])) is None]


async def _listing(request: web.Request, query: targets.TargetsQuery) -> Context:
    areas = await seen(request, request.app[CATALOG].areas())
    shown = _shown(request.app, targets.filter_of(query, areas), after=query.after, limit=query.limit)
    given = [(name, getattr(query, name)) for name in ("environment", "app", "cluster", "namespace")]
    narrowed = [(name, value) for name, value in given if value]
    narrowed += [("label", label) for label in query.label]
    return {
        "here": "targets",
        "is_home": False,
        "query": query,
        "shown": shown,
        "narrowed": narrowed,
        "environment": None,
        "left": (),
        "links": links(request, shown.page),
    }


async def _search(request: web.Request, q: str, there: environments.SeenEnvironments) -> Found:
    """Look for each word of *q* in what things are called. What a person may not see is not found."""
    words = words_of(q)
    catalog, broker = request.app[CATALOG], request.app[BROKER]
    areas = await seen(request, catalog.areas())
    named = environments.EnvironmentsQuery.model_validate({"q": q, "limit": FEW})
    wanted = TargetFilter(words=words, areas=areas)
    shown = catalog.find(wanted, after=None, limit=FEW)
    # Each look at all names takes some milliseconds; others have turns in between.
    rolled_out = await releases.find_releases(request, releases.ReleasesQuery.model_validate({"limit": SEARCHED}))
    apps = catalog.find_apps(cluster=None, namespace=None, words=words, areas=areas, after=None, limit=50)
    live = [one for of_environment in there.sessions.values() for one in of_environment if _is_called(words, one)]
    live.sort(key=lambda one: one.session.created_at, reverse=True)
    return Found(
        environments=there.find(named),
        apps=list(dict.fromkeys(place.app for place, _ in apps.items)),
        targets=Page(
            [targets.target_json(info, broker.holder(info.target)) for info in shown.items], None, shown.total, None
        ),
        sessions=[sessions.json_of(request, one) for one in live[:FEW]],
        releases=[
            releases.release_json(one)
            for one in rolled_out.items
            if _has(words, one.workload, one.namespace, one.environment, one.id)
        ][:FEW],
    )


def _is_called(words: Iterable[str], live: LiveSession) -> bool:
    session = live.session
    return _has(words, session.app, str(session.target), session.owner.name, session.id)


def _has(words: Iterable[str], *texts: str) -> bool:
    text = " ".join(texts).lower()
    return all(word in text for word in words)


def _shown(app: web.Application, wanted: TargetFilter, *, after: str | None, limit: int) -> Shown:
    broker, catalog = app[BROKER], app[CATALOG]
    rows, sections, count = catalog.find_by_app(wanted, after=cursor_of(after), limit=limit)

    def owners_of(name: str) -> set[str]:
        held = (info.target for info in catalog.infos(app[HOLDERS].targets_of(name)) if wanted.admits(info))
        return {live.session.owner.name for live in map(broker.holder, held) if live is not None}

    return Shown([_app(one, broker, owners_of(one.app)) for one in sections], count, with_tokens(rows))


def _app(section: AppSection, broker: Broker, owners: Iterable[str]) -> ShownApp:
    tally = section.tally
    return ShownApp(
        name=section.app,
        targets=[targets.target_json(info, broker.holder(info.target)) for info in section.targets],
        begins=section.begins,
        total=tally.targets,
        ready=tally.known_ready,
        unknown=tally.unknown,
        kinds=tally.kinds,
        versions=sorted(tally.versions.items(), key=lambda one: (-one[1], one[0])),
        owners=sorted(owners),
    )
