"""What the index of targets costs when many namespaces have the same apps, and people may see a part of them.

    python -m benchmarks.catalog [--targets 90000] [--each 3]

The targets are in three clusters, *each* apps in every namespace. Printed is the processor time of one question in ms,
the median of nine and the most: the first of them is asked by nobody else before.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from noah.catalog.catalog import Catalog, TargetFilter
from noah.catalog.target_info import TargetInfo, label_text, workload_text

TIMES = 9
CLUSTERS = 3


def filled(targets: int, each: int) -> Catalog:
    catalog = Catalog()
    for number in range(targets):
        namespace, app = number // each, f"app-{number % each}"
        catalog.put(
            TargetInfo(
                name=f"pod/c{namespace % CLUSTERS}/env-{namespace:05d}/{app}-7d9c5b8f6-{number:05x}/app",
                app=app,
                environment=f"env-{namespace:05d}",
                workload_text=workload_text(f"Deployment/{app}", app),
                label_text=label_text({"app": app, "team": f"team-{namespace % 50}"}),
                ready=True,
                phase="Running",
                version="1.2.3",
            )
        )
    return catalog


def questions(catalog: Catalog, areas: Collection[str] | None) -> dict[str, Callable[[], Any]]:
    seen, page = TargetFilter(areas=areas), dict[str, Any](after=None, limit=100)
    filters = {
        "all": seen,
        "an app": replace(seen, app="app-1"),
        "a word": replace(seen, words=["app-1"]),
        "two words": replace(seen, words=["app-1", "env-0"]),
        "a label": replace(seen, labels=[("team", "team-7")]),
        "a cluster": replace(seen, cluster="c1"),
        "a namespace": replace(seen, namespace="env-00070"),
        "an environment": replace(seen, environment="env-00070"),
    }
    asked = dict[str, Callable[[], Any]]()
    for name, one in filters.items():
        asked[f"targets: {name}"] = partial(catalog.find, one, **page)
        asked[f"the page of targets: {name}"] = partial(catalog.find_by_app, one, **page)
    apps: dict[str, Any] = {"cluster": None, "namespace": None, "areas": areas, **page}
    deployment, app = "Deployment/app-1", replace(seen, app="app-1")
    return asked | {
        "apps": lambda: catalog.find_apps(**apps),
        "apps: a word": lambda: catalog.find_apps(**{**apps, "words": ["app-1"]}),
        "environments": lambda: catalog.find_environments(areas=areas, **page),
        "environments: a word": lambda: catalog.find_environments(areas=areas, words=["7"], **page),
        "completion of apps": lambda: catalog.app_names(seen, prefix="a", most=200),
        "completion of namespaces": lambda: catalog.namespaces(seen, prefix="env-1", most=200),
        "the places of an app": lambda: catalog.places(app, most=11),
        "the places of a workload": lambda: catalog.places(seen, workload=deployment, most=11),
        "the places of a workload that is not there": lambda: catalog.places(seen, workload="Job/x", most=11),
        "a cluster's counts": lambda: catalog.cluster("c1", areas),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=90_000)
    parser.add_argument("--each", type=int, default=3)
    options = parser.parse_args()
    catalog = filled(options.targets, options.each)
    every = sorted(catalog.areas())
    print(f"{'':60} {'median':>8} {'most':>8}")
    for who, areas in (
        ("", None),
        (" of every other namespace", set(every[::2])),
        (" of 20 namespaces", set(every[:20])),
    ):
        for name, ask in questions(catalog, areas).items():
            took = []
            for _ in range(TIMES):
                began = time.thread_time()
                ask()
                took.append((time.thread_time() - began) * 1000)
            print(f"{name + who:60} {statistics.median(took):8.2f} {max(took):8.2f}", flush=True)


if __name__ == "__main__":
    main()
