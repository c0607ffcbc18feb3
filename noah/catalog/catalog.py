"""Which targets exist: an index that the kinds of target update per change, and that listings read.

It is sorted by name and by app, in all and for each cluster and kind, and it counts per app and place. So a page costs
what is on it, whatever there is beside it. Only labels and parts of names are compared one by one, with what the rest
of a filter leaves; parts of names take some 25 ms per 90,000 targets.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from noah.catalog.sorted_keys import SortedKeys, Span
from noah.catalog.tally import Tally, count_down
from noah.catalog.target_info import END, AppPlace, TargetInfo
from noah.core.page import Page
from noah.core.session.rights import namespace_area
from noah.core.session.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFilter:
    kind: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    app: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    words: Sequence[str] = ()  # in lower case; each is part of the target's or the app's name
    areas: Collection[str] | None = None  # what somebody may see; None: everything

    def admits(self, info: TargetInfo) -> bool:
        return (
            all(word in info.key.lower() for word in self.words)
            and (self.areas is None or info.area in self.areas)
            and self.kind in (None, info.target.kind)
            and self.app in (None, info.app)
            and (self.cluster is None or self.cluster == info.place.cluster)
            and (self.namespace is None or self.namespace == info.place.namespace)
            and all(info.labels.get(key) == value for key, value in self.labels)
        )


@dataclass(frozen=True, slots=True)
class AppSection:
    """An app's targets on one page, and what there is of the app on all pages."""

    app: str
    targets: Sequence[TargetInfo]
    begins: int  # how many of its targets are on the pages before
    tally: Tally


@dataclass(slots=True)
class Scope:
    """All targets, or those of one kind, or those of one cluster."""

    targets: int = 0
    ready: int = 0
    apps: Counter[str] = field(default_factory=Counter)  # targets of each
    namespaces: Counter[str] = field(default_factory=Counter)  # targets in each
    by_app: SortedKeys = field(default_factory=SortedKeys)
    places: SortedKeys = field(default_factory=SortedKeys)

    def add(self, info: TargetInfo) -> None:
        self.targets += 1
        self.ready += info.ready
        self.apps[info.app] += 1
        self.by_app.add(info.key)
        if info.place.namespace is not None:
            self.namespaces[info.place.namespace] += 1

    def remove(self, info: TargetInfo) -> None:
        self.targets -= 1
        self.ready -= info.ready
        count_down(self.apps, info.app)
        self.by_app.remove(info.key)
        if info.place.namespace is not None:
            count_down(self.namespaces, info.place.namespace)


class Catalog:
    def __init__(self) -> None:
        self._infos: dict[str, TargetInfo] = {}
        self._by_name = SortedKeys()
        self._all = Scope()
        self._kinds: defaultdict[str, Scope] = defaultdict(Scope)
        self._clusters: defaultdict[str, Scope] = defaultdict(Scope)
        self._places: dict[str, tuple[AppPlace, Tally]] = {}
        self._of_workload: defaultdict[str, set[Target]] = defaultdict(set)

    # -- for the kinds of target

    def put(self, info: TargetInfo) -> None:
        before = self._infos.get(info.name)
        if before is not None and before.app == info.app and before.workload == info.workload:
            self._infos[info.name] = info
            self._replace(before, info)
            return
        if before is not None:
            self.remove(info.target)
        self._infos[info.name] = info
        self._by_name.add(info.name)
        place, key = info.place, info.place.key
        known = self._places.get(key)
        if known is None:
            known = self._places[key] = (place, Tally())
            for scope in self._scopes(info):
                scope.places.add(key)
        known[1].add(info)
        for scope in self._scopes(info):
            scope.add(info)
        if info.workload is not None:
            self._of_workload[info.workload].add(info.target)

    def remove(self, target: Target) -> None:
        info = self._infos.pop(str(target), None)
        if info is None:
            return
        self._by_name.remove(info.name)
        key = info.place.key
        tally = self._places[key][1]
        tally.remove(info)
        for scope in self._scopes(info):
            scope.remove(info)
            if not tally.targets:
                scope.places.remove(key)
        if not tally.targets:
            del self._places[key]
        if info.workload is not None:
            self._of_workload[info.workload].discard(target)
            if not self._of_workload[info.workload]:
                del self._of_workload[info.workload]

    # -- for those who look for targets

    def get(self, target: Target) -> TargetInfo | None:
        return self._infos.get(str(target))

    def infos(self, targets: Iterable[Target]) -> Iterable[TargetInfo]:
        """Return what is known of those of *targets* that exist."""
        return (self._infos[name] for name in map(str, targets) if name in self._infos)

    def of_app(self, app: str) -> Sequence[Target]:
        return [self._info(key).target for key in self._all.by_app.span(app + END).listed()]

    def of_workload(self, workload: str) -> Sequence[Target]:
        """Return the targets of all workloads of that name, "Deployment/shop", wherever they are."""
        return sorted(self._of_workload.get(workload, ()), key=str)

    def cluster(self, name: str, areas: Collection[str] | None = None) -> Scope:
        """Return what there is in a cluster, or in those of its *areas*; it may be shared, so not to be changed."""
        if areas is None:
            return self._clusters[name] if name in self._clusters else Scope()
        scope = Scope()
        for found in self._names(TargetFilter(cluster=name, areas=areas)).listed():
            scope.add(self._infos[found])
        return scope

    def areas(self) -> Collection[str]:
        """Return every area that has targets."""
        pods = [namespace_area(name, one) for name, scope in self._clusters.items() for one in scope.namespaces]
        return pods + [name for kind in ("host", "local") for name in self._by_name.span(f"{kind}/").listed()]

    def find(self, wanted: TargetFilter, *, after: str | None, limit: int) -> Page[TargetInfo]:
        """Return a page of targets in the order of their names."""
        if wanted.app is not None:  # within one app the order by app is the order by name
            span = self._by_app(wanted)[0]
        elif wanted.words:
            span = Span.whole(sorted(self._info(key).name for key in self._by_app(wanted)[0].listed()))
        else:
            span = self._names(wanted)
        return self._page(span, after, limit)

    def find_by_app(
        self, wanted: TargetFilter, *, after: str | None, limit: int
    ) -> tuple[Page[TargetInfo], Sequence[AppSection], int]:
        """Return a page of targets in the order of their apps, its sections, and how many apps are on all pages."""
        span, scope = self._by_app(wanted)
        page = self._page(span, after, limit)
        first = bisect_right(span.keys, after, span.start, span.stop) if after else span.start
        on_page: dict[str, list[TargetInfo]] = {}
        for info in page.items:
            on_page.setdefault(info.app, []).append(info)
        sections = []
        for app, infos in on_page.items():
            whole = span.within(app + END)
            tally = self._tally_in(scope, app) if scope else self._tally_of(whole.listed())
            sections.append(AppSection(app, infos, max(0, first - whole.start), tally))
        if scope is not None:
            apps = len(scope.apps) if wanted.app is None else len(sections)
        else:
            apps = len({key.partition(END)[0] for key in span.listed()})
        return page, sections, apps

    def find_apps(
        self,
        *,
        cluster: str | None,
        namespace: str | None,
        part: str,
        areas: Collection[str] | None = None,
        after: str | None,
        limit: int,
    ) -> Page[tuple[AppPlace, Tally]]:
        """Return a page of apps, each once per place. *part*: of the app's name, in lower case."""
        places = self._places
        if namespace is not None or areas is not None:
            places = self._places_in(TargetFilter(cluster=cluster, namespace=namespace, areas=areas))
            span = Span.whole(sorted(key for key, (place, _) in places.items() if part in place.app.lower()))
        else:
            scope = self._all if cluster is None else self.cluster(cluster)
            span = scope.places.span("")
            if part:
                apps = sorted(app for app in scope.apps if part in app.lower())
                span = Span.whole([key for app in apps for key in span.within(app + END).listed()])
        keys, following, before = _cut(span, after, limit)
        return Page([places[key] for key in keys], following, len(span), before)

    # -- inside

    def _replace(self, before: TargetInfo, info: TargetInfo) -> None:
        """Count a target that has changed, and stands where it stood."""
        tally = self._places[info.place.key][1]
        tally.remove(before)
        tally.add(info)
        for scope in self._scopes(info):
            scope.ready += info.ready - before.ready

    def _scopes(self, info: TargetInfo) -> tuple[Scope, ...]:
        kind, cluster = self._kinds[info.target.kind], info.place.cluster
        return (self._all, kind) if cluster is None else (self._all, kind, self._clusters[cluster])

    def _names(self, wanted: TargetFilter) -> Span:
        """Return the names of what is *wanted*."""
        is_narrowed = not (wanted.app or wanted.labels or wanted.words)
        if wanted.areas is not None:
            # The names of an area lie together, and "/" after it sorts as it does in them.
            areas = sorted(wanted.areas, key=lambda area: f"{area}/")
            listed = [name for area in areas for name in self._in_area(area)]
            is_narrowed = is_narrowed and (wanted.cluster, wanted.namespace, wanted.kind) == (None, None, None)
            return self._admitted(Span.whole(listed), wanted, is_narrowed)
        if wanted.namespace is not None:
            clusters = [wanted.cluster] if wanted.cluster is not None else list(self._clusters)
            spans = [self._by_name.span(f"pod/{one}/{wanted.namespace}/") for one in clusters]
            span = spans[0] if len(spans) == 1 else Span.whole(sorted(key for one in spans for key in one.listed()))
        elif wanted.cluster is not None:
            span = self._by_name.span(f"pod/{wanted.cluster}/")
        else:
            return self._admitted(self._by_name.span(f"{wanted.kind}/" if wanted.kind else ""), wanted, is_narrowed)
        return self._admitted(span, wanted, is_narrowed and wanted.kind in (None, "pod"))

    def _are_few(self, areas: Collection[str]) -> bool:
        """True if it costs less to sort what is in *areas* than to look at everything."""
        return 8 * sum(len(self._in_area(area)) for area in areas) < self._all.targets

    def _in_area(self, area: str) -> Sequence[str]:
        if area.startswith("pod/"):
            return self._by_name.span(f"{area}/").listed()
        return [area] if area in self._infos else []

    def _by_app(self, wanted: TargetFilter) -> tuple[Span, Scope | None]:
        """Return the keys of what is *wanted* in the order by app; and the scope whose keys they are, if one's."""
        if wanted.namespace is not None or (wanted.areas is not None and self._are_few(wanted.areas)):
            infos = (self._infos[name] for name in self._names(wanted).listed())
            return Span.whole(sorted(info.key for info in infos)), None
        if wanted.cluster is not None:
            scope, is_narrowed = self.cluster(wanted.cluster), wanted.kind in (None, "pod")
        else:
            scope, is_narrowed = self._kinds[wanted.kind] if wanted.kind else self._all, True
        span = scope.by_app.span("" if wanted.app is None else wanted.app + END)
        # A key has both names in it. Of very many keys each word leaves few, and that in milliseconds.
        for word in wanted.words:
            span = Span.whole([key for key in span.listed() if word in key.lower()])
        if wanted.areas is not None:
            span = Span.whole([key for key in span.listed() if self._info(key).area in wanted.areas])
            return self._admitted(span, wanted, is_narrowed and not wanted.labels), None
        is_scope = is_narrowed and not (wanted.labels or wanted.words)
        return self._admitted(span, wanted, is_narrowed and not wanted.labels), scope if is_scope else None

    def _admitted(self, span: Span, wanted: TargetFilter, is_narrowed: bool) -> Span:
        if is_narrowed:
            return span
        return Span.whole([key for key in span.listed() if wanted.admits(self._info(key))])

    def _page(self, span: Span, after: str | None, limit: int) -> Page[TargetInfo]:
        keys, following, before = _cut(span, after, limit)
        return Page([self._info(key) for key in keys], following, len(span), before)

    def _info(self, key: str) -> TargetInfo:
        """*key*: a name, or an app's name and that."""
        return self._infos[key.rpartition(END)[2]]

    def _tally_in(self, scope: Scope, app: str) -> Tally:
        tally = Tally()
        for key in scope.places.span(app + END).listed():
            tally.merge(self._places[key][1])
        return tally

    def _tally_of(self, keys: Iterable[str]) -> Tally:
        tally = Tally()
        for key in keys:
            tally.add(self._info(key))
        return tally

    def _places_in(self, wanted: TargetFilter) -> dict[str, tuple[AppPlace, Tally]]:
        places: dict[str, tuple[AppPlace, Tally]] = {}
        if wanted.areas is not None and not self._are_few(wanted.areas):
            for key, (place, tally) in self._places.items():
                is_wanted = wanted.cluster in (None, place.cluster) and wanted.namespace in (None, place.namespace)
                if is_wanted and place.area in wanted.areas:
                    places[key] = (place, tally)
            wanted = replace(wanted, areas=[area for area in wanted.areas if not area.startswith("pod/")])
        for name in self._names(wanted).listed():
            info = self._infos[name]
            # An app's place on hosts is one of many hosts, of which not all may be wanted.
            places.setdefault(info.place.key, (info.place, Tally()))[1].add(info)
        return places


def _cut(span: Span, after: str | None, limit: int) -> tuple[list[str], str | None, str | None]:
    """Return the keys of the page after the cursor, and the cursors of the pages after and before it."""
    first = bisect_right(span.keys, after, span.start, span.stop) if after else span.start
    shown = span.keys[first : min(first + limit, span.stop)]
    following = shown[-1] if first + limit < span.stop else None
    before = None
    if first > span.start:
        before = span.keys[first - limit - 1] if first - limit > span.start else ""
    return shown, following, before
