"""The page of the environment, app by app: an app's pods and KVM hosts under one heading, wherever they run.

A page has a number of targets, not of apps: an app that does not fit is continued on the next page under the same
heading, which always describes the whole app.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from pydantic import Field

from noah.catalog.catalog import AppSection, TargetFilter
from noah.catalog.target_info import TargetInfo
from noah.core.page import Page
from noah.sessions.broker import Broker
from noah.web.api import targets
from noah.web.api.route import Call, Routes
from noah.web.keys import BROKER, CATALOG, HOLDERS
from noah.web.pages.page import PER_PAGE, Context, filled_in, links, page
from noah.web.permission import seen
from noah.web.wire import MOST, Nothing, cursor_of, with_tokens

ROUTES = Routes()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownApp:
    name: str
    targets: Sequence[targets.TargetJson]  # those of this page
    begins: int  # how many of its targets were on the pages before
    total: int
    ready: int
    unknown: int  # hosts that were not asked yet
    kinds: Mapping[str, int]
    versions: Sequence[str]  # most of its targets first
    owners: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shown:
    apps: Sequence[ShownApp]
    of: int  # apps there are, on all pages
    page: Page[TargetInfo]


class TargetsPage(targets.TargetsQuery):
    # A form sends its empty fields too.
    kind: str = Field("", pattern="^(pod|host|local)?$")  # type: ignore[assignment]
    limit: int = Field(PER_PAGE, ge=1, le=MOST)


@page(ROUTES, "/", "environment.html")
async def environment(call: Call[TargetsPage, Nothing]) -> Context:
    request = call.request
    query = targets.TargetsQuery.model_validate(filled_in(call.query))
    areas = await seen(request, request.app[CATALOG].areas())
    shown = _shown(request.app, targets.filter_of(query, areas), after=query.after, limit=query.limit)
    narrowed = [(name, getattr(query, name)) for name in ("app", "cluster", "namespace") if getattr(query, name)]
    narrowed += [("label", label) for label in query.label]
    return {
        "here": "environment",
        "query": query,
        "shown": shown,
        "narrowed": narrowed,
        "links": links(request, shown.page),
    }


def _shown(app: web.Application, wanted: TargetFilter, *, after: str | None, limit: int) -> Shown:
    broker, catalog = app[BROKER], app[CATALOG]
    rows, sections, count = catalog.find_by_app(wanted, after=cursor_of(after), limit=limit)
    owners = defaultdict(set)
    for info in catalog.infos(app[HOLDERS].targets):
        live = broker.holder(info.target)
        if live is not None and wanted.admits(info):
            owners[info.app].add(live.session.owner.name)
    return Shown([_app(one, broker, owners[one.app]) for one in sections], count, with_tokens(rows))


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
        versions=sorted(tally.versions, key=lambda version: (-tally.versions[version], version)),
        owners=sorted(owners),
    )
