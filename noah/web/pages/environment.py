"""The environment, app by app: an app's pods and KVM hosts under one heading, wherever they run.

A page has so many targets, not apps: one that is cut by its end goes on under the same heading, which always speaks of
the whole app.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter

from noah.core.session.target import PodTarget, Target
from noah.sessions.live_session import Live
from noah.store import Page
from noah.targets.base import TargetInfo
from noah.web.api.targets import TargetJson, target_json
from noah.web.wire import page

UNKNOWN = "Unknown"  # of targets/host.py


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    name: str
    targets: Sequence[TargetJson]  # those of this page
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


def by_app(infos: Iterable[TargetInfo], held: Mapping[Target, Live], *, after: str | None, limit: int) -> Shown:
    # A NUL sorts before all that names are made of: an app's targets stay together.
    rows = sorted(((f"{info.app}\0{info.target}", info) for info in infos), key=itemgetter(0))
    shown = page(rows, after=after, limit=limit)
    whole = {name: [info for _, info in app] for name, app in groupby(rows, key=lambda row: row[1].app)}
    parts = groupby(shown.items, key=attrgetter("app"))
    return Shown([_app(name, whole[name], list(part), held) for name, part in parts], len(whole), shown)


def _app(name: str, whole: Sequence[TargetInfo], part: Sequence[TargetInfo], held: Mapping[Target, Live]) -> App:
    versions = Counter(info.version for info in whole if info.version)
    return App(
        name=name,
        targets=[target_json(info, held.get(info.target)) for info in part],
        begins=whole.index(part[0]),
        total=len(whole),
        ready=sum(info.ready and info.phase != UNKNOWN for info in whole),
        unknown=sum(info.phase == UNKNOWN for info in whole),
        kinds=Counter(info.target.kind for info in whole),
        versions=[version for version, _ in versions.most_common()],
        owners=sorted({held[info.target].session.owner for info in whole if info.target in held}),
    )


@dataclass(slots=True)
class Counts:
    """What there is in a cluster."""

    pods: int = 0
    ready: int = 0
    sessions: int = 0
    apps: set[str] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)


def per_cluster(infos: Iterable[TargetInfo], held: Mapping[Target, Live]) -> Mapping[str, Counts]:
    clusters: dict[str, Counts] = defaultdict(Counts)
    for info in infos:
        if isinstance(info.target, PodTarget):
            counts = clusters[info.target.cluster]
            counts.pods += 1
            counts.ready += info.ready
            counts.sessions += info.target in held
            counts.apps.add(info.app)
            counts.namespaces.add(info.target.namespace)
    return clusters
