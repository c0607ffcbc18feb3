"""The environment, app by app: an app's pods and KVM hosts under one heading, wherever they run.

A page has so many targets, not apps: one that is cut by its end goes on under the same heading, which always speaks of
the whole app.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from noah.broker import KIND_OF, Live
from noah.core.target import Target
from noah.store import Page
from noah.targets.base import TargetInfo
from noah.web.targets import TargetJson, target_json
from noah.web.wire import page

VERSIONS = 3  # that are named; a rollout has two


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    name: str
    targets: Sequence[TargetJson]  # those of this page
    begins: int  # how many of its targets were on the pages before
    total: int
    ready: int
    kinds: Mapping[str, int]
    versions: Sequence[str]  # most of its targets first
    owners: Sequence[str]


def by_app(
    infos: Iterable[TargetInfo], held: Mapping[Target, Live], *, after: str | None, limit: int
) -> tuple[Sequence[App], Page[TargetInfo]]:
    # A NUL sorts before all that names are made of: an app's targets stay together.
    rows = sorted(((f"{info.app}\0{info.target}", info) for info in infos), key=lambda row: row[0])
    shown = page(rows, after=after, limit=limit)
    names = {info.app for info in shown.items}
    whole = {
        name: [info for _, info in app] for name, app in groupby(rows, key=lambda row: row[1].app) if name in names
    }
    parts = groupby(shown.items, key=lambda info: info.app)
    return [_app(name, whole[name], list(part), held) for name, part in parts], shown


def _app(name: str, whole: Sequence[TargetInfo], part: Sequence[TargetInfo], held: Mapping[Target, Live]) -> App:
    versions = Counter(info.version for info in whole if info.version)
    return App(
        name=name,
        targets=[target_json(info, held.get(info.target)) for info in part],
        begins=whole.index(part[0]),
        total=len(whole),
        ready=sum(info.ready for info in whole),
        kinds=Counter(KIND_OF[type(info.target)] for info in whole),
        versions=[version for version, _ in versions.most_common()],
        owners=sorted({held[info.target].session.owner for info in whole if info.target in held}),
    )
