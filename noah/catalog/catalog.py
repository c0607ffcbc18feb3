"""Which targets exist: an index that the kinds of target update per change, and that listings read.

It is sorted by name and by app, in all and for each cluster, and it counts per app. So a page costs what is on it,
whatever there is beside it. Only labels and parts of names are compared one by one, with what the rest of a filter
leaves: some 5 to 10 ms per 90,000 targets.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from noah.catalog.environments import Environment, Environments, EnvironmentSummary, summary_of
from noah.catalog.sorted_keys import SortedKeys, Span
from noah.catalog.tally import Tally, count_down
from noah.catalog.target_info import END, AppPlace, TargetInfo, area_of_name, label_text
from noah.core.page import Page
from noah.core.session.rights import namespace_area
from noah.core.session.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFilter:
    environment: str | None = None
    kind: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    app: str | None = None
    labels: Sequence[tuple[str, str]] = ()
    words: Sequence[str] = ()  # in lower case; each is part of the target's or the app's name
    areas: Collection[str] | None = None  # what somebody may see; None: everything

    @property
    def label_texts(self) -> Sequence[str]:
        return [label_text({key: value}) for key, value in self.labels]

    def admits(self, info: TargetInfo) -> bool:
        return (
            all(word in info.key.lower() for word in self.words)
            and (self.areas is None or info.area in self.areas)
            and self.environment in (None, info.environment)
            and self.kind in (None, info.kind)
            and self.app in (None, info.app)
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


class Scope:
    """All targets, or those of one cluster, or those on hosts, or those of this machine."""

    def __init__(self) -> None:
        self.ready = 0
        self.namespaces: Counter[str] = Counter()  # targets in each
        self.by_app = SortedKeys()
        self.places = SortedKeys()

    @property
    def targets(self) -> int:
        return len(self.by_app)

    def add(self, info: TargetInfo, *, key: str, place: AppPlace, place_key: str) -> None:
        self.ready += info.ready
        if not len(self.by_app.span(place.prefix)):
            self.places.add(place_key, text=_lower(info.app), labels="")
        self.by_app.add(key, text=_lower(key), labels=info.label_text)
        if place.namespace is not None:
            self.namespaces[place.namespace] += 1

    def remove(self, info: TargetInfo, *, key: str, place: AppPlace) -> None:
        self.ready -= info.ready
        self.by_app.remove(key)
        if not len(self.by_app.span(place.prefix)):
            self.places.remove(place.key)
        if place.namespace is not None:
            count_down(self.namespaces, place.namespace)


class Group(Scope):
    """The targets of one cluster, or on hosts, or of this machine: each target is in one."""

    def __init__(self) -> None:
        super().__init__()
        self.apps: dict[str, Tally] = {}

    def count(self, info: TargetInfo, *, before: TargetInfo | None = None) -> None:
        tally = self.apps.get(info.app)
        if tally is None:
            tally = self.apps[info.app] = Tally()
        elif before is not None:
            tally.remove(before)
        tally.add(info)

    def forget(self, info: TargetInfo) -> None:
        tally = self.apps[info.app]
        tally.remove(info)
        if not tally.targets:
            del self.apps[info.app]


class Catalog:
    def __init__(self) -> None:
        self._infos: dict[str, TargetInfo] = {}
        self._by_name = SortedKeys()
        self._all = Scope()
        self._apps: Counter[str] = Counter()  # targets of each
        self._groups: dict[tuple[str, str | None], Group] = {}  # by kind and cluster
        self._environments = Environments()
        self._areas: Collection[str] | None = None  # None: to be looked for again

    # -- for the kinds of target

    def put(self, info: TargetInfo) -> None:
        name = info.name
        before = self._infos.get(name)
        if before is not None and (before.app, before.environment) == (info.app, info.environment):
            if before != info:
                self._infos[name] = info
                self._environments.change(before, info)
                group = self._group(info)
                group.count(info, before=before)
                for scope in (self._all, group):
                    scope.ready += info.ready - before.ready
                if before.label_text != info.label_text:
                    self._by_name.relabel(name, info.label_text)
                    for scope in (self._all, group):
                        scope.by_app.relabel(info.key, info.label_text)
            return
        if before is not None:
            self.remove(info.target)
        self._infos[name] = info
        key, place, group = info.key, info.place, self._group(info)
        self._forget_areas(place, group)
        self._by_name.add(name, text=_lower(key), labels=info.label_text)
        self._environments.add(info, key)
        self._apps[info.app] += 1
        group.count(info)
        place_key = place.key
        for scope in (self._all, group):
            scope.add(info, key=key, place=place, place_key=place_key)

    def remove(self, target: Target) -> None:
        name = str(target)
        info = self._infos.pop(name, None)
        if info is None:
            return
        key, place, group = info.key, info.place, self._group(info)
        self._by_name.remove(name)
        self._environments.remove(info, key)
        count_down(self._apps, info.app)
        group.forget(info)
        for scope in (self._all, group):
            scope.remove(info, key=key, place=place)
        self._forget_areas(place, group)
        if not group.targets:
            del self._groups[info.kind, place.cluster]

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
        return sorted((info.target for info in self._infos.values() if info.workload == workload), key=str)

    def cluster(self, name: str, areas: Collection[str] | None = None) -> Group:
        """Return what there is in a cluster, or in those of its *areas*; it may be shared, so not to be changed."""
        if areas is None:
            return self._groups.get(("pod", name)) or Group()
        group = Group()
        for found in self._names(TargetFilter(cluster=name, areas=areas)).listed():
            info = self._infos[found]
            group.count(info)
            group.add(info, key=info.key, place=info.place, place_key=info.place.key)
        return group

    def areas(self) -> Collection[str]:
        """Return every area that has targets; the same collection until there are others."""
        if self._areas is None:
            found = set[str]()
            for (_, cluster), group in self._groups.items():
                if cluster is None:
                    found.update(key.rpartition(END)[2] for key in group.by_app.span("").listed())
                else:
                    found.update(namespace_area(cluster, one) for one in group.namespaces)
            self._areas = frozenset(found)
        return self._areas

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
            tally = self._tally_of(whole.listed()) if groups is None else _tally_in(groups, app)
            sections.append(AppSection(app, infos, max(0, first - whole.start), tally))
        environment = self._environments.get(wanted.environment or "")
        if environment is not None and len(span) == len(environment.keys):
            apps = environment.apps
        elif groups is None:
            apps = len(self._apps) if len(span) == self._all.targets else _apps_in(span)
        elif wanted.app is not None:
            apps = len(sections)
        else:
            apps = len(groups[0].apps) if len(groups) == 1 else len(self._apps)
        return page, sections, apps

    def find_apps(
        self,
        *,
        cluster: str | None,
        namespace: str | None,
        part: str,
        environment: str | None = None,
        areas: Collection[str] | None = None,
        after: str | None,
        limit: int,
    ) -> Page[tuple[AppPlace, Tally]]:
        """Return a page of apps, each once per place. *part*: of the app's name, in lower case."""
        wanted = TargetFilter(environment=environment, cluster=cluster, namespace=namespace, areas=areas)
        if namespace is not None or areas is not None or environment is not None:
            names = self._names(wanted).listed()
            places = {self._infos[name].place for name in names}
            span = Span.whole(sorted(place.key for place in places if part in place.app.lower()))
        else:
            scope = self._all if cluster is None else self.cluster(cluster)
            span = scope.places.span("")
            if part:
                span = self._found(scope.places, span, TargetFilter(words=[part]))
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
        if found is None:
            return None
        if areas is None:
            return found.summary
        infos = [info for info in map(self._info, found.keys) if info.area in areas]
        return summary_of(name, infos) if infos else None

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
        span = self._found(names, names.span(""), TargetFilter(words=words))
        more = {name for name in gone if all(word in name.lower() for word in words)}
        if areas is not None:
            in_areas = self._environments_in(areas)
            span = Span.whole([name for name in span.listed() if name in in_areas])
        if more:
            span = Span.whole(sorted(more.union(span.listed())))
        shown, following, before = _cut(span, after, limit)
        items = [self.environment(name, areas) or summary_of(name, ()) for name in shown]
        return Page(items, following, len(span), before)

    # -- inside

    def _group(self, info: TargetInfo) -> Group:
        key = info.kind, info.place.cluster
        if key not in self._groups:
            self._groups[key] = Group()
        return self._groups[key]

    def _forget_areas(self, place: AppPlace, group: Group) -> None:
        if place.namespace is None or place.namespace not in group.namespaces:
            self._areas = None

    def _are_few(self, areas: Collection[str]) -> bool:
        """True if it costs less to look at what is in *areas* than at everything."""
        return 8 * len(areas) < len(self.areas())

    def _in_area(self, area: str) -> Span:
        if area.startswith("pod/"):
            return self._by_name.span(f"{area}/")
        start = self._by_name.first_from(area)
        return Span(self._by_name, start, start + (area in self._infos))

    def _environments_in(self, areas: Collection[str]) -> Collection[str]:
        if self._are_few(areas):
            return {self._infos[name].environment for area in areas for name in self._in_area(area).listed()}
        return {one.name for one in self._environments if any(self._info(key).area in areas for key in one.keys)}

    def _keys_in(self, environment: Environment, wanted: TargetFilter) -> Span:
        """Return the keys, in the order by app, of what is *wanted* in an environment."""
        narrowed = (wanted.kind, wanted.cluster, wanted.namespace, wanted.app, wanted.areas)
        if narrowed == (None,) * len(narrowed) and not wanted.labels and not wanted.words:
            return Span.whole(environment.keys)
        if 8 * len(environment.keys) < self._all.targets:
            return Span.whole([key for key in environment.keys if wanted.admits(self._info(key))])
        found, _ = self._by_app(replace(wanted, environment=None))
        return Span.whole([key for key in found.listed() if self._info(key).environment == environment.name])

    def _names(self, wanted: TargetFilter) -> Span:
        """Return the names of what is *wanted*, whatever its app."""
        kind = wanted.kind
        if wanted.environment is not None:
            environment = self._environments.get(wanted.environment)
            keys = self._keys_in(environment, replace(wanted, app=None)).listed() if environment else []
            return Span.whole(sorted(key.rpartition(END)[2] for key in keys))
        if wanted.areas is not None and self._are_few(wanted.areas):
            # The names of an area lie together, and "/" after it sorts as it does in them.
            spans = [self._in_area(area) for area in sorted(wanted.areas, key=lambda area: f"{area}/")]
            narrowed = [name for span in spans for name in self._found(self._by_name, span, wanted).listed()]
            return Span.whole([name for name in narrowed if replace(wanted, app=None).admits(self._infos[name])])
        if wanted.cluster is None and wanted.namespace is None:
            return self._found(self._by_name, self._by_name.span(f"{kind}/" if kind else ""), wanted)
        if kind not in (None, "pod"):
            return Span.whole([])
        clusters = [cluster for kind, cluster in self._groups if kind == "pod"]
        clusters = clusters if wanted.cluster is None else [wanted.cluster]
        inside = "" if wanted.namespace is None else f"{wanted.namespace}/"
        spans = [
            self._found(self._by_name, self._by_name.span(f"pod/{cluster}/{inside}"), wanted) for cluster in clusters
        ]
        return spans[0] if len(spans) == 1 else Span.whole(sorted(name for span in spans for name in span.listed()))

    def _by_app(self, wanted: TargetFilter) -> tuple[Span, Sequence[Group] | None]:
        """Return the keys of what is *wanted* in the order by app; and the groups that these are all of, if any."""
        if wanted.environment is not None:
            environment = self._environments.get(wanted.environment)
            return self._keys_in(environment, wanted) if environment else Span.whole([]), None
        if wanted.namespace is not None or (wanted.areas is not None and self._are_few(wanted.areas)):
            infos = (self._infos[name] for name in self._names(wanted).listed())
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
        """Return those of a span of *keys* that have the words, the labels and the areas that are *wanted*."""
        words, labels, areas = [*more, *wanted.words], wanted.label_texts, wanted.areas
        if not words and not labels and areas is None:
            return span
        found = list[str]()
        # There may be a hundred thousand keys: each word and each label takes one pass over what is left of a list.
        for there, texts, labels_of in keys.lists(span.start, span.stop):
            wanted_in = [(word, texts) for word in words] + [(label, labels_of) for label in labels]
            if len(wanted_in) == 1:
                part, column = wanted_in[0]
                left = [key for key, text in zip(there, column, strict=True) if part in text]
            else:
                numbers: Iterable[int] = range(len(there))
                for part, column in wanted_in:
                    numbers = [number for number in numbers if part in column[number]]
                left = [there[number] for number in numbers]
            if areas is not None:
                left = [key for key in left if area_of_name(key.rpartition(END)[2]) in areas]
            found += left
        return Span.whole(found)

    def _page(self, span: Span, after: str | None, limit: int) -> Page[TargetInfo]:
        keys, following, before = _cut(span, after, limit)
        return Page([self._info(key) for key in keys], following, len(span), before)

    def _info(self, key: str) -> TargetInfo:
        """*key*: a name, or an app's name and that."""
        return self._infos[key.rpartition(END)[2]]

    def _tally_at(self, place: AppPlace, wanted: TargetFilter) -> Tally:
        """Count an app at a place: on hosts that is many hosts, of which not all may be seen or *wanted*."""
        keys = self._all.by_app.span(place.prefix).listed()
        if wanted.areas is None and wanted.environment is None:
            return self._tally_of(keys)
        return self._tally_of(key for key in keys if wanted.admits(self._info(key)))

    def _tally_of(self, keys: Iterable[str]) -> Tally:
        tally = Tally()
        for key in keys:
            tally.add(self._info(key))
        return tally


def _tally_in(groups: Iterable[Group], app: str) -> Tally:
    tally = Tally()
    for group in groups:
        if app in group.apps:
            tally.merge(group.apps[app])
    return tally


def _apps_in(span: Span) -> int:
    count, app = 0, END
    for key in span.listed():
        if not key.startswith(app):
            app = key[: key.index(END) + 1]
            count += 1
    return count


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
