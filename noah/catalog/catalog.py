"""Which targets exist: an index that the kinds of target update per change, and that listings read.

It is sorted by name and by app, in all and for each cluster, and it counts per app. So a page costs what is on it,
whatever there is beside it. Only parts of names, labels, many areas and large environments are compared one by one,
by functions that are C all through and with what the rest of a filter leaves: 2 to 5 ms per 90,000 targets.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice, repeat
from operator import add, itemgetter
from sys import intern

from noah.catalog.environments import Environments, EnvironmentSummary
from noah.catalog.sorted_keys import Among, Column, Matches, SortedKeys, Span, Substring, Test
from noah.catalog.tally import Tally, count_down
from noah.catalog.target_info import END, AppPlace, TargetInfo, area_of_name, label_text, workload_text
from noah.core.page import Page
from noah.core.session.rights import namespace_area
from noah.core.session.target import Target

MOST_MERGED = 2_000  # names, of which as many as there are clusters may be the same
FEW = 4  # targets of an app; counting them costs less than the 250 bytes in which they would be counted per change


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFilter:
    environment: str | None = None
    kind: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    app: str | None = None
    workload_text: str | None = None  # as a TargetInfo has it
    labels: Sequence[tuple[str, str]] = ()
    words: Sequence[str] = ()  # in lower case; each is part of the target's or the app's name
    areas: Collection[str] | None = None  # what somebody may see; None: everything

    @property
    def label_texts(self) -> Sequence[str]:
        return [label_text({key: value}) for key, value in self.labels]

    def admits(self, info: TargetInfo) -> bool:
        return (
            _has(info.key.lower(), self.words)
            and (self.areas is None or info.area in self.areas)
            and self.environment in (None, info.environment)
            and self.kind in (None, info.kind)
            and self.app in (None, info.app)
            and self.workload_text in (None, info.workload_text)
            and (self.cluster is None or self.cluster == info.place.cluster)
            and (self.namespace is None or self.namespace == info.place.namespace)
            and all(text in info.label_text for text in self.label_texts)
        )


@dataclass(frozen=True, slots=True)
class AppSection:
    """An app's targets on one page, and what there is of the app on all pages."""

    app: str
    targets: Sequence[TargetInfo]
    begins: int  # how many of its targets are on the pages before
    tally: Tally


@dataclass(frozen=True, slots=True)
class ClusterSummary:
    """The counts of a cluster, or of the part of it that somebody may see."""

    targets: int
    ready: int
    namespaces: int
    apps: int


class Scope:
    """All targets, or those of one cluster, or on hosts, or of this machine. *columns*: kept of its keys."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.by_app = SortedKeys(kept=columns)
        self.places = SortedKeys(kept=[_area_of_place])
        self.apps = 0

    def add(self, info: TargetInfo, *, key: str, place_key: str) -> None:
        if not self.by_app.has(place_key):
            self.places.add(place_key, text=_lower(info.app))
            self.apps += not self.by_app.has(info.app + END)
        self.by_app.add(key, text=_lower(key))

    def remove(self, info: TargetInfo, *, key: str, place_key: str) -> None:
        self.by_app.remove(key)
        if not self.by_app.has(place_key):
            self.places.remove(place_key)
            self.apps -= not self.by_app.has(info.app + END)

    def keys_of(self, app: str) -> Span:
        return self.by_app.span(app + END)


class Group(Scope):
    """The targets of one cluster, or on hosts, or of this machine: each target is in one."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__(columns)
        self.tallies: dict[str, Tally] = {}  # of apps that have had more than FEW targets here; others are counted
        self.namespaces: Counter[str] = Counter()  # targets in each
        self.ready: Counter[str] = Counter()  # targets in each that are ready
        self.ready_in_all = 0

    def count(self, info: TargetInfo, *, before: TargetInfo | None = None) -> None:
        """Count a target that is new, or that was *before* in another state."""
        namespace = info.place.namespace
        if namespace is not None:
            by = info.ready - (before is not None and before.ready)
            self.namespaces[namespace] += before is None
            self.ready[namespace] += by
            self.ready_in_all += by
        tally = self.tallies.get(info.app)
        if tally is not None:
            if before is not None:
                tally.remove(before)
            tally.add(info)

    def forget(self, info: TargetInfo) -> None:
        namespace = info.place.namespace
        if namespace is not None:
            count_down(self.namespaces, namespace)
            self.ready[namespace] -= info.ready
            self.ready_in_all -= info.ready
            if namespace not in self.namespaces:
                del self.ready[namespace]
        tally = self.tallies.get(info.app)
        if tally is not None:
            tally.remove(info)
            if not tally.targets:
                del self.tallies[info.app]


class Catalog:
    """*one_in*: a smaller part of the targets is gone through one by one; in a larger one all are compared at once."""

    def __init__(self, *, one_in: int = 64) -> None:
        self._one_in = one_in
        self._infos: dict[str, TargetInfo] = {}
        self._by_name = SortedKeys(kept=[self._labels_of, self._workload_of, _area_of])
        self._all = Scope(self._columns)
        self._groups: dict[tuple[str, str | None], Group] = {}  # by kind and cluster
        self._environments = Environments()
        self._areas = set[str]()  # that have targets
        self._shown_areas: Collection[str] | None = None  # a copy that stays as it is; None: to be made again

    # -- for the kinds of target

    def put(self, info: TargetInfo) -> None:
        name = info.name
        before = self._infos.get(name)
        if before is not None and (before.app, before.environment) == (info.app, info.environment):
            if before != info:
                info = self._infos[name] = info.sharing(before)
                self._environments.change(info)
                group = self._group(info)
                group.count(info, before=before)
                if _in_columns(before) != _in_columns(info):
                    self._by_name.update(name)
                    for scope in (self._all, group):
                        scope.by_app.update(info.key)
            return
        if before is not None:
            self.remove(info.target)
        self._infos[name] = info
        key, place_key, group = info.key, info.place.key, self._group(info)
        area = _area_of(name)
        if area not in self._areas:
            self._areas.add(area)
            self._shown_areas = None
        self._by_name.add(name, text=_lower(key))
        self._environments.add(info, key)
        group.count(info)
        for scope in (self._all, group):
            scope.add(info, key=key, place_key=place_key)
        if info.app not in group.tallies and len(keys := group.keys_of(info.app)) > FEW:
            group.tallies[info.app] = self._tally_of(keys)

    def remove(self, target: Target) -> None:
        name = str(target)
        info = self._infos.get(name)
        if info is None:
            return
        key, place, group = info.key, info.place, self._group(info)
        self._by_name.remove(name)
        self._environments.remove(info, key)
        group.forget(info)
        for scope in (self._all, group):
            scope.remove(info, key=key, place_key=place.key)
        del self._infos[name]
        if place.namespace is None or place.namespace not in group.namespaces:
            self._areas.remove(info.area)
            self._shown_areas = None
        if not len(group.by_app):
            del self._groups[info.kind, place.cluster]

    # -- for those who look for targets

    def get(self, target: Target) -> TargetInfo | None:
        return self._infos.get(str(target))

    def infos(self, targets: Iterable[Target]) -> Iterable[TargetInfo]:
        """Return what is known of those of *targets* that exist."""
        return (self._infos[name] for name in map(str, targets) if name in self._infos)

    def app_names(self, wanted: TargetFilter, *, prefix: str, most: int) -> Sequence[str]:
        """Return the names of apps that begin with *prefix*, in order: the first *most* of them."""
        firsts = self._by_app(wanted)[0].within(prefix).firsts(lambda key: key.partition(END)[0] + END)
        return [key.partition(END)[0] for key in islice(firsts, most)]

    def namespaces(self, wanted: TargetFilter, *, prefix: str, most: int) -> Sequence[str]:
        """Return the names of namespaces that begin with *prefix*: the first *most* of them, in the order of targets.

        Fewer, if very many clusters have namespaces of the same names.
        """
        in_each: list[Iterator[str]] = []
        for _, cluster in self._groups:
            if cluster is not None and wanted.cluster in (None, cluster):
                names = self._names(replace(wanted, kind="pod", cluster=cluster)).within(f"pod/{cluster}/{prefix}")
                in_each.append(names.firsts(lambda key: area_of_name(key) + "/"))
        found = dict[str, None]()
        for key in islice(merge(*in_each, key=lambda key: key.split("/")[2] + "/"), MOST_MERGED):
            found[key.split("/")[2]] = None
            if len(found) == most:
                break
        return list(found)

    def places(self, wanted: TargetFilter, *, workload: str | None = None, most: int) -> Sequence[AppPlace]:
        """Return the namespaces that have pods of what is *wanted*, one place of each, in order, and at most *most*.

        *workload*: the one that owns the pods, "Deployment/shop".
        """
        wanted = replace(wanted, kind="pod")
        if workload is None:
            return self._places_in(self._by_app(wanted)[0], most)
        name = workload.partition("/")[2]
        as_app = replace(wanted, app=name, workload_text=workload_text(workload, name))
        named = self._places_in(self._by_app(as_app)[0], most)
        others = self._places_in(self._names(replace(wanted, workload_text=workload)), most)
        namespaces = {f"{place.cluster}/{place.namespace}/": place for place in (*named, *others)}
        return [place for _, place in sorted(namespaces.items())][:most]

    def _places_in(self, span: Span, most: int) -> Sequence[AppPlace]:
        firsts = span.firsts(lambda key: key.rsplit("/", 2)[0] + "/")
        return [self._info(key).place for key in islice(firsts, most)]

    def cluster(self, name: str, areas: Collection[str] | None = None) -> ClusterSummary:
        """Return what there is in a cluster, or in those of its *areas*."""
        group = self._groups.get(("pod", name)) or Group([])
        if areas is None:
            return ClusterSummary(len(group.by_app), group.ready_in_all, len(group.namespaces), group.apps)
        span, _ = self._by_app(TargetFilter(kind="pod", cluster=name, areas=areas))
        seen = [one for one in group.namespaces if namespace_area(name, one) in areas]
        return ClusterSummary(len(span), sum(map(group.ready.__getitem__, seen)), len(seen), self._apps_in(span))

    def areas(self) -> Collection[str]:
        """Return every area that has targets; the same collection until there are others."""
        if self._shown_areas is None:
            self._shown_areas = frozenset(self._areas)
        return self._shown_areas

    def find(self, wanted: TargetFilter, *, after: str | None, limit: int) -> Page[TargetInfo]:
        """Return a page of targets in the order of their names."""
        # Within one app the order by app is the order by name.
        return self._page(self._names(wanted) if wanted.app is None else self._by_app(wanted)[0], after, limit)

    def find_by_app(
        self, wanted: TargetFilter, *, after: str | None, limit: int
    ) -> tuple[Page[TargetInfo], Sequence[AppSection], int]:
        """Return a page of targets in the order of their apps, its sections, and how many apps are on all pages."""
        span, groups = self._by_app(wanted)
        page = self._page(span, after, limit)
        first = span.after(after)
        on_page: dict[str, list[TargetInfo]] = {}
        for info in page.items:
            on_page.setdefault(info.app, []).append(info)
        sections = []
        for app, infos in on_page.items():
            whole = span.within(app + END)
            if groups is None and len(whole) < len(self._all.keys_of(app)):
                tally = self._tally_of(whole)
            else:
                tally = self._tally_in(self._groups.values() if groups is None else groups, app)
            sections.append(AppSection(app, infos, max(0, first - whole.start), tally))
        environment = self._environments.get(wanted.environment or "")
        if environment is not None and len(span) == len(environment.keys):
            apps = environment.apps
        elif groups is None:
            apps = self._apps_in(span)
        elif wanted.app is not None:
            apps = len(sections)
        else:
            apps = (groups[0] if len(groups) == 1 else self._all).apps
        return page, sections, apps

    def find_apps(
        self,
        *,
        cluster: str | None,
        namespace: str | None,
        words: Sequence[str] = (),
        environment: str | None = None,
        areas: Collection[str] | None = None,
        after: str | None,
        limit: int,
    ) -> Page[tuple[AppPlace, Tally]]:
        """Return a page of apps, each once per place. *words*: parts of the app's name, in lower case."""
        if (found := self._environments.get(environment or "")) and len(found.keys) == len(self._infos):
            environment = None  # everything is in it
        wanted = TargetFilter(environment=environment, cluster=cluster, namespace=namespace, areas=areas)
        areas = self._areas_of(wanted)
        if environment is not None or (areas is not None and self._are_few(areas)):
            span = self._by_app(wanted)[0]
            # A place is all of a key but the names of a pod and its container, or of a host or a JVM.
            split = map(str.rsplit, span.listed(), repeat("/"), repeat(2))
            places = list(map(add, dict.fromkeys(map(itemgetter(0), split)), repeat("/")))
            if words:
                places = [key for key in places if _has(key[: key.index(END)].lower(), words)]
            span = Span.whole(places)
        else:
            scope = self._all if cluster is None else self._groups.get(("pod", cluster)) or Group([])
            span, tests = scope.places.span(""), list[Test](map(Substring, words))
            if areas is not None:
                tests.append(Among({*areas, *self._places_on_hosts(areas)}, _area_of_place))
            if tests:
                span = _all_of(scope.places.search(span, tests))
        keys, following, before = _cut(span, after, limit)
        shown = [(place, self._tally_at(place, wanted)) for place in map(AppPlace.of_key, keys)]
        return Page(shown, following, len(span), before)

    def environment_of(self, area: str) -> str | None:
        """Return the environment of an area that is one target: an app on a host, a JVM of this machine."""
        info = self._infos.get(area)
        return info.environment if info else None

    def environment(self, name: str, areas: Collection[str] | None = None) -> EnvironmentSummary | None:
        """Return what there is in an environment, or what of it is in *areas*; None if that is nothing."""
        found = self._environments.get(name)
        return found.summary(areas) if found is not None else None

    def has_environment(self, name: str, areas: Collection[str] | None = None) -> bool:
        """Return whether there is anything in an environment, or in those of its *areas*."""
        found = self._environments.get(name)
        return found is not None and (areas is None or found.has_part_in(areas))

    def find_environments(
        self,
        *,
        words: Sequence[str] = (),
        areas: Collection[str] | None = None,
        gone: Collection[str] = (),
        after: str | None,
        limit: int,
    ) -> Page[EnvironmentSummary]:
        """Return a page of environments in the order of their names.

        *words*: parts of the name, in lower case; *gone*: names of more, of which nothing is there any more.
        """
        names = self._environments.names
        span = names.span("")
        if words:
            span = _all_of(names.search(span, list(map(Substring, words))))
        more = {name for name in gone if _has(name.lower(), words)}
        if areas is not None:
            in_areas = self._environments_in(areas)
            span = Span.whole([name for name in span.listed() if name in in_areas])
        if more:
            span = Span.whole(sorted(more.union(span.listed())))
        shown, following, before = _cut(span, after, limit)
        items = [self.environment(name, areas) or EnvironmentSummary(name) for name in shown]
        return Page(items, following, len(span), before)

    # -- inside

    def _group(self, info: TargetInfo) -> Group:
        key = info.kind, info.place.cluster
        if key not in self._groups:
            self._groups[key] = Group(self._columns)
        return self._groups[key]

    # Columns. *key*: a name, or an app's name and that.

    def _info(self, key: str) -> TargetInfo:
        return self._infos[key.rpartition(END)[2]]

    @property
    def _columns(self) -> Sequence[Column]:
        return self._labels_of, self._workload_of, self._state_of, self._app_of, _area_of

    def _labels_of(self, key: str) -> str:
        return self._info(key).label_text

    def _state_of(self, key: str) -> str:
        return self._info(key).state_text

    def _workload_of(self, key: str) -> str:
        return self._info(key).workload_text or ""

    def _app_of(self, key: str) -> str:
        return intern(self._info(key).app)

    def _environment_of(self, key: str) -> str:
        return self._info(key).environment

    def _are_few(self, areas: Collection[str]) -> bool:
        """True if it costs less to go from one of *areas* to the next than to look at all targets."""
        return self._one_in * len(areas) < len(self._areas)

    def _in_area(self, area: str) -> Span:
        if area.startswith("pod/"):
            return self._by_name.span(f"{area}/")
        start = self._by_name.first_from(area)
        return Span(self._by_name, start, start + (area in self._infos))

    def _environments_in(self, areas: Collection[str]) -> Collection[str]:
        if self._are_few(areas):
            return {self._infos[name].environment for area in areas for name in self._in_area(area).listed()}
        return self._environments.within(areas)

    def _areas_of(self, wanted: TargetFilter) -> Collection[str] | None:
        """Return the areas in which is what is *wanted*, as far as its areas and its namespace say."""
        if wanted.namespace is None:
            return wanted.areas
        clusters = [cluster for _, cluster in self._groups if cluster is not None and wanted.cluster in (None, cluster)]
        areas = {namespace_area(cluster, wanted.namespace) for cluster in clusters}
        return areas if wanted.areas is None else areas.intersection(wanted.areas)

    def _places_on_hosts(self, areas: Collection[str]) -> Collection[str]:
        """Return the keys of apps on hosts, or of this machine, of which something is in *areas*."""
        by_app = [group.by_app.span("").listed() for (_, cluster), group in self._groups.items() if cluster is None]
        return {self._info(key).place.key for keys in by_app for key in keys if _area_of(key) in areas}

    def _few_of_environment(self, wanted: TargetFilter) -> list[str] | None:
        """Return the keys, in the order by app, of what is *wanted* in an environment; None if it is a large one."""
        environment = self._environments.get(wanted.environment or "")
        if environment is None:
            return []
        if self._one_in * len(environment.keys) >= len(self._infos):
            return None
        return [key for key in environment.keys if wanted.admits(self._info(key))]

    def _names(self, wanted: TargetFilter) -> Span:
        """Return the names of what is *wanted*, whatever its app."""
        kind, cluster, areas = wanted.kind, wanted.cluster, self._areas_of(wanted)
        if wanted.environment is not None:
            keys = self._few_of_environment(replace(wanted, app=None))
            if keys is not None:
                return Span.whole(sorted(key.rpartition(END)[2] for key in keys))
        if cluster is not None or wanted.namespace is not None:
            if kind not in (None, "pod"):
                return Span.whole([])
            kind = "pod"
        start = f"{kind}/{cluster}/" if cluster is not None else f"{kind}/" if kind is not None else ""
        if areas is not None and self._are_few(areas):
            # The names of an area lie together; those of pods go on with "/".
            there = sorted((f"{area}/" if area.startswith("pod/") else area, area) for area in areas)
            inside = replace(wanted, areas=None, namespace=None)
            spans = [
                self._found(self._by_name, self._in_area(area), inside)
                for begin, area in there
                if begin.startswith(start)
            ]
            return spans[0] if len(spans) == 1 else Span.whole([name for span in spans for name in span.listed()])
        return self._found(self._by_name, self._by_name.span(start), wanted)

    def _by_app(self, wanted: TargetFilter) -> tuple[Span, Sequence[Group] | None]:
        """Return the keys of what is *wanted* in the order by app; and the groups that these are all of, if any."""
        if wanted.environment is not None:
            keys = self._few_of_environment(wanted)
            if keys is not None:
                return Span.whole(keys), None
            environment = self._environments.get(wanted.environment)
            if environment is not None and wanted == TargetFilter(environment=environment.name):
                return Span.whole(environment.keys), None
        areas = self._areas_of(wanted)
        if areas is not None and self._are_few(areas):
            names = self._names(wanted)
            if self._one_in * len(names) < len(self._infos):
                infos = (self._infos[name] for name in names.listed())
                return Span.whole(sorted(info.key for info in infos if wanted.app in (None, info.app))), None
        groups = [
            group
            for (kind, cluster), group in self._groups.items()
            if wanted.kind in (None, kind) and wanted.cluster in (None, cluster)
        ]
        if not groups:
            return Span.whole([]), None
        scope: Scope = groups[0] if len(groups) == 1 else self._all
        span = scope.by_app.span("" if wanted.app is None else wanted.app + END)
        # Of all targets, those of one kind are found like those with a word in their names.
        kinds = [f"{END}{wanted.kind}/"] if wanted.kind and 1 < len(groups) < len(self._groups) else []
        found = self._found(scope.by_app, span, wanted, *kinds)
        return found, groups if found is span and len(span) else None

    def _found(self, keys: SortedKeys, span: Span, wanted: TargetFilter, *more: str) -> Span:
        """Return those of a span of *keys* with the words, labels, areas and environment that are *wanted*."""
        tests: list[Test] = [Substring(word) for word in (*more, *wanted.words)]
        tests += [Substring(label, self._labels_of, is_once=True) for label in wanted.label_texts]
        if wanted.workload_text is not None:
            tests.append(Among({wanted.workload_text}, self._workload_of))
        areas = self._areas_of(wanted)
        if areas is not None:
            tests.append(Among(areas, _area_of))
        environment = self._environments.get(wanted.environment or "")
        if environment is not None and len(environment.keys) < len(self._infos):
            tests.append(Among({environment.name}, self._environment_of))
        if not tests:
            return span
        return _all_of(keys.search(span, tests, groups=None if keys is self._by_name else self._app_of))

    def _apps_in(self, span: Span) -> int:
        if isinstance(span.keys, Matches):
            return span.keys.groups
        return len({key.partition(END)[0] for key in span.listed()})

    def _page(self, span: Span, after: str | None, limit: int) -> Page[TargetInfo]:
        keys, following, before = _cut(span, after, limit)
        return Page([self._info(key) for key in keys], following, len(span), before)

    def _tally_at(self, place: AppPlace, wanted: TargetFilter) -> Tally:
        """Count an app at a place: on hosts that is many hosts, of which not all may be seen or *wanted*."""
        span = self._all.by_app.span(place.key)
        if wanted.environment is not None or (wanted.areas is not None and place.area is None):
            span = Span.whole([key for key in span.listed() if wanted.admits(self._info(key))])
        return self._tally_of(span)

    def _tally_of(self, span: Span) -> Tally:
        """Count targets, which may be half of all that there are: nothing here is called for each of them."""
        return Tally.of(span.counted(self._state_of))

    def _tally_in(self, groups: Iterable[Group], app: str) -> Tally:
        tally = Tally()
        for group in groups:
            kept = group.tallies.get(app)
            tally.merge(self._tally_of(group.keys_of(app)) if kept is None else kept)
        return tally


def _in_columns(info: TargetInfo) -> tuple[str | None, ...]:
    return info.label_text, info.workload_text, info.state_text


def _area_of(key: str) -> str:
    return intern(area_of_name(key.rpartition(END)[2]))


def _area_of_place(key: str) -> str:
    """Return the area of all of an app's targets at a place; on hosts, which are areas each, its key."""
    where = key.rpartition(END)[2]
    return intern(where[:-1]) if where.startswith("pod/") else key


def _has(text: str, words: Iterable[str]) -> bool:
    return all(word in text for word in words)


def _all_of(found: Matches) -> Span:
    return Span(found, 0, found.total)


def _cut(span: Span, after: str | None, limit: int) -> tuple[list[str], str | None, str | None]:
    """Return the keys of the page after the cursor, and the cursors of the pages after and before it."""
    first = span.after(after)
    shown = span.part(first, first + limit)
    following = shown[-1] if first + limit < span.stop else None
    before = None
    if first > span.start:
        before = span.part(first - limit - 1, first - limit)[0] if first - limit > span.start else ""
    return shown, following, before


def _lower(key: str) -> str:
    """Return *key* in lower case: as a rule it is that already, and is then not stored twice."""
    lower = key.lower()
    return key if lower == key else lower
