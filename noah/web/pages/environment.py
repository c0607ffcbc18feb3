"""The page of the environment, app by app: an app's pods and KVM hosts under one heading, wherever they run.

A page has so many targets, not apps: one that is cut by its end goes on under the same heading, which always speaks of
the whole app.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter

from pydantic import Field

from noah.core.session.target import Target
from noah.sessions.live_session import Live
from noah.store import Page
from noah.targets.base import TargetInfo
from noah.web.api import targets
from noah.web.api.route import Call, Routes
from noah.web.pages.page import PER_PAGE, Context, filled_in, links, page
from noah.web.wire import MOST, Nothing, page_of

ROUTES = Routes()

UNKNOWN = "Unknown"  # of targets/host.py


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    name: str
    targets: Sequence[targets.TargetJson]  # those of this page
    begins: int  # how many of its targets were on the pages before
    total: int
    ready: int
    unknown: int  # hosts that nobody has asked yet
    kinds: Mapping[str, int]
    versions: Sequence[str]  # most of its targets first
    owners: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shown:
    apps: Sequence[App]
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
    infos = targets.matching(request, query)
    shown = _by_app(infos, targets.held_now(request), after=query.after, limit=query.limit)
    narrowed = [(name, getattr(query, name)) for name in ("app", "cluster", "namespace") if getattr(query, name)]
    narrowed += [("label", label) for label in query.label]
    return {
        "here": "environment",
        "query": query,
        "shown": shown,
        "narrowed": narrowed,
        "links": links(request, shown.page),
    }


def _by_app(infos: Iterable[TargetInfo], held: Mapping[Target, Live], *, after: str | None, limit: int) -> Shown:
    # A NUL sorts before all that names are made of: an app's targets stay together.
    rows = sorted(((f"{info.app}\0{info.target}", info) for info in infos), key=itemgetter(0))
    shown = page_of(rows, after=after, limit=limit)
    whole = {name: [info for _, info in app] for name, app in groupby(rows, key=lambda row: row[1].app)}
    parts = groupby(shown.items, key=attrgetter("app"))
    return Shown([_app(name, whole[name], list(part), held) for name, part in parts], len(whole), shown)


def _app(name: str, whole: Sequence[TargetInfo], part: Sequence[TargetInfo], held: Mapping[Target, Live]) -> App:
    versions = Counter(info.version for info in whole if info.version)
    return App(
        name=name,
        targets=[targets.target_json(info, held.get(info.target)) for info in part],
        begins=whole.index(part[0]),
        total=len(whole),
        ready=sum(info.ready and info.phase != UNKNOWN for info in whole),
        unknown=sum(info.phase == UNKNOWN for info in whole),
        kinds=Counter(info.target.kind for info in whole),
        versions=[version for version, _ in versions.most_common()],
        owners=sorted({held[info.target].session.owner for info in whole if info.target in held}),
    )
