"""Thousands of targets, of which a page is shown. The cluster is one that only lists and watches."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from noah.settings import ClusterSettings
from tests.gateway import Refused
from tests.integration.web.conftest import Gateway, serving
from tests.unit.kube.fake_api import Call, fake_api

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

APPS, PODS = 30, 100  # pods of each app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with fake_api() as kubernetes:
        kubernetes.on_list, kubernetes.on_watch = _list, _watch
        many = ClusterSettings(name="many", url=kubernetes.url)
        async with serving(jvm, tmp_path_factory.mktemp("web"), many) as gateway:
            assert await gateway.clusters["many"].informer.wait_synced(30)
            yield gateway


async def _list(call: Call) -> None:
    pods = [_pod(app, number) for app in range(APPS) for number in range(PODS)]
    call.json(200, {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": pods})


async def _watch(call: Call) -> None:
    call.begin_watch()
    await call.hang()


def _pod(app: int, number: int) -> dict[str, Any]:
    ready = "True" if number else "False"
    return {
        "metadata": {
            "name": f"app-{app}-{number:03}",
            "namespace": f"team-{app % 3}",
            "uid": f"{app}-{number}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"app": f"app-{app}", "tier": "front" if number < 10 else "back"},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": f"registry/app:{app}"}]},
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"name": "main", "restartCount": 2, "state": {"running": {}}}],
        },
    }


async def _pages(gateway: Gateway, path: str, limit: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    page: dict[str, Any] = {"continue": ""}
    while page["continue"] is not None:
        token = page["continue"] and f"&continue={page['continue']}"
        page = await gateway.api.ask("GET", f"{path}&limit={limit}{token}")
        assert len(page["items"]) <= limit
        items += page["items"]
    assert len(items) == page["total"]
    return items


async def test_pages_show_every_target_once_in_order(running: Gateway) -> None:
    names = [target["target"] for target in await _pages(running, "targets?kind=pod", 999)]
    assert names == sorted(f"pod/many/team-{a % 3}/app-{a}-{n:03}/main" for a in range(APPS) for n in range(PODS))
    assert [target["target"] for target in await _pages(running, "targets?kind=pod&app=app-7", 7)] == [
        f"pod/many/team-1/app-7-{n:03}/main" for n in range(PODS)
    ]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", APPS * PODS + 2),
        ("kind=local", 2),
        ("kind=host", 0),
        ("cluster=many", APPS * PODS),
        ("cluster=away", 0),
        ("namespace=team-1", APPS * PODS // 3),
        ("cluster=many&namespace=team-1&app=app-1", PODS),
        ("namespace=team-2&app=app-1", 0),
        ("label=app=app-1", PODS),
        ("label=app=app-1&label=tier=front", 10),
        ("label=tier=", 0),
        ("q=APP-1-00", 10),
        ("q=shop", 1),
    ],
)
async def test_filters_count_what_they_leave(running: Gateway, query: str, count: int) -> None:
    page = await running.api.ask("GET", f"targets?{query}")
    assert (page["total"], len(page["items"])) == (count, min(count, 100))
    assert (page["continue"] is not None) == (count > 100)


async def test_a_target_says_what_a_pod_says(running: Gateway) -> None:
    target = await running.api.ask("GET", "targets/pod/many/team-1/app-4-003")
    assert target == {
        "target": "pod/many/team-1/app-4-003/main",
        "kind": "pod",
        "app": "app-4",
        "workload": None,
        "cluster": "many",
        "namespace": "team-1",
        "environment": "team-1",
        "labels": {"app": "app-4", "tier": "front"},
        "ready": True,
        "phase": "Running",
        "restarts": 2,
        "version": "4",
        "started_at": None,
        "checkurl": None,
        "session": None,
    }
    for name in ("pod%2Fmany%2Fteam-1%2Fapp-4-003%2Fmain", "pod/many/team-1/app-4-003/main"):
        assert (await running.api.ask("GET", f"targets/{name}"))["target"] == target["target"]
    assert (await running.api.ask("GET", "targets/pod/many/team-1/app=app-4"))["app"] == "app-4"
    with pytest.raises(Refused, match=r"has no pod 'app-4-nope'"):
        await running.api.ask("GET", "targets/pod/many/team-1/app-4-nope")


async def test_apps_count_their_targets(running: Gateway) -> None:
    apps = await _pages(running, "apps?cluster=many", 7)
    assert len(apps) == APPS
    assert apps[0] == {
        "app": "app-0", "cluster": "many", "namespace": "team-0", "kind": "pod",
        "targets": PODS, "ready": PODS - 1, "sessions": 0, "versions": {"0": PODS},
    }  # fmt: skip
    assert [app["app"] for app in await _pages(running, "apps?q=p-29", 7)] == ["app-29"]
    await running.api.ready("local/shop")
    [shop] = await _pages(running, "apps?q=shop", 7)
    assert (shop["targets"], shop["ready"], shop["sessions"], shop["cluster"]) == (1, 1, 1, None)


async def test_clusters_say_whether_they_answer_and_what_is_in_them(running: Gateway) -> None:
    away, many = (await running.api.ask("GET", "clusters"))["items"]
    assert (away["name"], away["reachable"], away["targets"]) == ("away", False, 0)
    assert away["reason"].endswith(".")
    assert (many["name"], many["reach"], many["targets"]) == ("many", "pod", APPS * PODS)


async def test_the_doctor_says_that_a_cluster_is_away(running: Gateway) -> None:
    [finding] = (await running.api.ask("POST", "clusters/away/doctor", {}))["findings"]
    assert (finding["level"], finding["check"]) == ("error", "reachable")


async def test_the_doctor_has_a_line_for_each_cluster_and_each_jvm_of_this_machine(running: Gateway) -> None:
    lines = {line["what"]: line for line in (await running.api.ask("POST", "doctor", {}))["items"]}
    levels = {what: line["level"] for what, line in lines.items()}
    assert {what: levels[what] for what in ("cluster/away", "local/shop", "local/nobody")} == {
        "cluster/away": "error",
        "local/shop": "ok",
        "local/nobody": "error",
    }
    assert lines["cluster/away"]["message"] == (await running.api.ask("GET", "clusters"))["items"][0]["reason"]
