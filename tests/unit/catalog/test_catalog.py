"""The index of targets answers as a walk over all of them would, whatever came and went."""

import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from noah.catalog.catalog import AppSection, Catalog, TargetFilter
from noah.catalog.environments import EnvironmentSummary
from noah.catalog.sorted_keys import LONGEST
from noah.catalog.target_info import UNKNOWN, TargetInfo, label_text
from noah.core.session.rights import area_of
from noah.core.session.target import HostTarget, LocalTarget, PodTarget, Target

NAMES = st.sampled_from(["a", "a-b", "a.b", "b", "shop"])
PODS, HOSTS = st.builds(PodTarget, NAMES, NAMES, NAMES, NAMES), st.builds(HostTarget, NAMES, NAMES)
TARGETS: st.SearchStrategy[Target] = PODS | HOSTS | st.builds(LocalTarget, NAMES)
INFOS = st.builds(
    TargetInfo,
    name=TARGETS.map(str),
    app=NAMES,
    environment=st.sampled_from(["a", "b"]),
    workload_text=st.none() | st.sampled_from(["Deployment/", "Deployment/a", "Deployment/b"]),
    label_text=st.dictionaries(NAMES, NAMES, max_size=2).map(label_text),
    ready=st.booleans(),
    phase=st.sampled_from(["Running", UNKNOWN]),
    version=st.none() | st.sampled_from(["1", "2"]),
)
MAYBE = st.none() | NAMES
FILTERS = st.builds(
    TargetFilter,
    environment=MAYBE,
    kind=st.sampled_from([None, None, "pod", "host", "local"]),
    cluster=MAYBE,
    namespace=MAYBE,
    app=MAYBE,
    labels=st.lists(st.tuples(NAMES, NAMES), max_size=1),
    words=st.lists(NAMES, max_size=2),
    areas=st.none() | st.frozensets(TARGETS.map(area_of), max_size=8),
)


def found_by(there: Mapping[Target, TargetInfo], wanted: TargetFilter) -> Sequence[TargetInfo]:
    return [info for info in there.values() if wanted.admits(info)]


@settings(max_examples=300, deadline=None)
@given(st.lists(INFOS | TARGETS, max_size=60), FILTERS, st.integers(1, 7), st.sampled_from([0, 2, 64]))
def test_every_listing_is_what_a_walk_over_all_targets_gives(
    changes: list[TargetInfo | Target], wanted: TargetFilter, limit: int, one_in: int
) -> None:
    catalog, there = Catalog(one_in=one_in), dict[Target, TargetInfo]()
    for number, change in enumerate(changes):
        if isinstance(change, TargetInfo):
            catalog.put(change)
            there[change.target] = change
        else:
            catalog.remove(change)
            there.pop(change, None)
        if number % 5 == 0:
            catalog.find_by_app(wanted, after=None, limit=1)  # a reader in between: what is kept for it must follow
    found = found_by(there, wanted)
    by_name = sorted(found, key=lambda info: str(info.target))
    by_app = sorted(found, key=lambda info: (info.app, str(info.target)))
    assert through(catalog, wanted, limit) == by_name
    assert through_by_app(catalog, wanted, limit) == by_app
    assert through_apps(catalog, wanted, limit) == rows_of(there.values(), wanted)
    in_place = replace(TargetFilter(environment=wanted.environment, areas=wanted.areas), kind="pod")
    for app, workload in (("a", None), ("shop", None), (None, "Deployment/a")):
        named = replace(in_place, app=app)
        pods = [info.place for info in found_by(there, named) if workload in (None, info.workload)]
        expected = sorted({f"{place.cluster}/{place.namespace}/" for place in pods})
        places = catalog.places(named, workload=workload, most=limit)
        assert [f"{place.cluster}/{place.namespace}/" for place in places] == expected[:limit]
    for prefix in ("", "a", "shop"):
        names = {info.app for info in found if info.app.startswith(prefix)}
        assert catalog.app_names(wanted, prefix=prefix, most=limit) == sorted(names)[:limit]
        in_clusters = found_by(there, replace(wanted, app=None, kind="pod"))
        names = {name for info in in_clusters if (name := info.place.namespace or "").startswith(prefix)}
        expected = sorted(names, key=lambda name: f"{name}/")[:limit]
        assert catalog.namespaces(replace(wanted, app=None), prefix=prefix, most=limit) == expected
    seen = [info for info in there.values() if TargetFilter(areas=wanted.areas).admits(info)]
    listed = catalog.find_environments(areas=wanted.areas, after=None, limit=9)
    assert [one.name for one in listed.items] == sorted({info.environment for info in seen})
    for one in listed.items:
        of_it = [info for info in seen if info.environment == one.name]
        assert one == environment_of(one.name, of_it)
        assert one == catalog.environment(one.name, wanted.areas)
    for name in ("a", "a.b"):
        is_seen = TargetFilter(cluster=name, areas=wanted.areas).admits
        in_cluster = [info for info in there.values() if is_seen(info)]
        scope = catalog.cluster(name, wanted.areas)
        assert (scope.targets, scope.ready) == (len(in_cluster), sum(info.ready for info in in_cluster))
        assert scope.apps == len({info.app for info in in_cluster})
        assert scope.namespaces == len({info.place.namespace for info in in_cluster})


def environment_of(name: str, infos: Sequence[TargetInfo]) -> EnvironmentSummary:
    return EnvironmentSummary(
        name,
        apps=len({info.app for info in infos}),
        targets=len(infos),
        ready=sum(info.ready and info.phase != UNKNOWN for info in infos),
        unknown=sum(info.phase == UNKNOWN for info in infos),
        kinds={kind: sum(info.kind == kind for info in infos) for kind in ("pod", "host", "local")},
    )


def through(catalog: Catalog, wanted: TargetFilter, limit: int) -> list[TargetInfo]:
    """Follow the cursors to the end, and see that each page leads back to the one before."""
    pages = [catalog.find(wanted, after=None, limit=limit)]
    while pages[-1].after is not None:
        pages.append(catalog.find(wanted, after=pages[-1].after, limit=limit))
    assert pages[0].before is None
    for earlier, later in pairwise(pages):
        assert later.before is not None
        assert catalog.find(wanted, after=later.before or None, limit=limit) == earlier
    found = [info for page in pages for info in page.items]
    assert {page.total for page in pages} == {len(found)}
    return found


def through_by_app(catalog: Catalog, wanted: TargetFilter, limit: int) -> list[TargetInfo]:
    found: list[TargetInfo] = []
    sections: list[AppSection] = []
    after: str | None = None
    while True:
        page, on_page, apps = catalog.find_by_app(wanted, after=after, limit=limit)
        for section in on_page:
            assert section.begins == sum(info.app == section.app for info in found)
        found += page.items
        sections += on_page
        if (after := page.after) is None:
            break
    assert apps == len({info.app for info in found})
    for section in sections:
        whole = [info for info in found if info.app == section.app]
        assert section.tally.targets == len(whole)
        assert section.tally.known_ready == sum(info.ready and info.phase != UNKNOWN for info in whole)
        assert section.tally.unknown == sum(info.phase == UNKNOWN for info in whole)
        assert section.tally.kinds == Counter(info.target.kind for info in whole)
        assert section.tally.versions == Counter(info.version for info in whole if info.version)
    return found


def through_apps(catalog: Catalog, wanted: TargetFilter, limit: int) -> Mapping[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    after: str | None = None
    while True:
        page = catalog.find_apps(
            cluster=wanted.cluster,
            namespace=wanted.namespace,
            environment=wanted.environment,
            words=wanted.words,
            areas=wanted.areas,
            after=after,
            limit=limit,
        )
        found |= {place.key: (tally.targets, tally.ready) for place, tally in page.items}
        if (after := page.after) is None:
            assert page.total == len(found)
            assert list(found) == sorted(found)
            return found


def rows_of(infos: Iterable[TargetInfo], wanted: TargetFilter) -> Mapping[str, tuple[int, int]]:
    narrowed = replace(wanted, kind=None, app=None, labels=(), words=())
    rows: dict[str, tuple[int, int]] = {}
    for info in infos:
        if narrowed.admits(info) and all(word in info.app for word in wanted.words):
            targets, ready = rows.get(info.place.key, (0, 0))
            rows[info.place.key] = (targets + 1, ready + info.ready)
    return rows


def test_environments_are_found_by_parts_of_their_names_and_paged() -> None:
    catalog = filled(1000)
    first = catalog.find_environments(words=["n-", "5"], after=None, limit=10)
    second = catalog.find_environments(words=["n-", "5"], after=first.after, limit=10)
    assert [one.name for one in (*first.items, *second.items)] == [f"n-{n:05}" for n in range(100) if "5" in str(n)]
    assert (first.total, first.before, second.before) == (19, None, "")


def test_an_environment_of_which_nothing_is_left_is_listed_where_it_was() -> None:
    catalog = filled(20)
    page = catalog.find_environments(gone=["n-00000-a"], after=None, limit=10)
    assert [(one.name, one.targets) for one in page.items] == [("n-00000", 10), ("n-00000-a", 0), ("n-00001", 10)]


def test_many_changes_at_once_are_found_like_few() -> None:
    catalog = Catalog()
    for n in range(3 * LONGEST):
        catalog.put(pod(n))
    catalog.find(TargetFilter(), after=None, limit=1)
    for n in range(0, 3 * LONGEST, 2):
        catalog.remove(pod(n).target)
    assert through(catalog, TargetFilter(), 500) == [pod(n) for n in range(1, 3 * LONGEST, 2)]


@pytest.mark.parametrize(
    "wanted",
    [
        TargetFilter(),
        TargetFilter(cluster="dev"),
        TargetFilter(kind="pod"),
        TargetFilter(namespace="n-00042"),
        TargetFilter(environment="n-00042"),
    ],
)
def test_a_page_of_very_many_targets_costs_what_is_on_it(wanted: TargetFilter) -> None:
    many, few = filled(30_000), filled(3_000)
    # With a walk over all it would be ten times as long; a busy machine may double it.
    assert taken(many, wanted) < 4 * taken(few, wanted)


def filled(count: int) -> Catalog:
    catalog = Catalog()
    for n in range(count):
        catalog.put(pod(n))
    return catalog


def taken(catalog: Catalog, wanted: TargetFilter) -> float:
    """Return the processor seconds that one page of each kind takes: the best of many."""
    best = float("inf")
    for _ in range(20):
        began = time.process_time()
        after = catalog.find(wanted, after=None, limit=50).after
        catalog.find(wanted, after=after, limit=50)
        _, sections, _ = catalog.find_by_app(wanted, after=None, limit=50)
        assert sections
        catalog.find_apps(
            cluster=wanted.cluster,
            namespace=wanted.namespace,
            environment=wanted.environment,
            after=None,
            limit=50,
        )
        catalog.find_environments(after=None, limit=50)
        best = min(best, time.process_time() - began)
    return best


def pod(n: int) -> TargetInfo:
    """One of ten pods in each namespace, each of an app of its own."""
    namespace = f"n-{n // 10:05}"
    return TargetInfo(
        name=f"pod/dev/{namespace}/shop-{n:06}/app",
        app=f"shop-{n:06}",
        environment=namespace,
        ready=True,
        phase="Running",
    )


def test_a_target_that_changes_does_not_take_more_memory_than_before() -> None:
    def changed(number: int, restarts: int) -> TargetInfo:
        labels = label_text({"app": f"shop-{number:06}", "team": "x" * 100})
        return structs.replace(pod(number), label_text=labels, restarts=restarts)

    catalog = Catalog()
    tracemalloc.start()
    try:
        for number in range(500):
            catalog.put(changed(number, 0))
        before, _ = tracemalloc.get_traced_memory()
        for number in range(500):
            catalog.put(changed(number, 1))
        assert (tracemalloc.get_traced_memory()[0] - before) / 500 < 20
    finally:
        tracemalloc.stop()
    assert catalog.find(TargetFilter(), after=None, limit=1).items == [changed(0, 1)]
