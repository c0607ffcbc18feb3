"""Environments, of pods of a cluster that only lists and watches, of hosts that are never asked, and a real JVM."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from noah.settings import ClusterSettings, GrantSettings, Host
from tests.gateway import Api, Refused
from tests.integration.web.conftest import Gateway, serving
from tests.unit.kube.fake_api import Call, FakeApi, fake_api

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKu4rQuAxH0mf9LsR0jgN022Oh4BK9/AecS9voGHGYV4"
KEY = "team.example.com/environment"


def _pod(namespace: str, app: str, number: int, *, version: str = "1.0", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{app}-{number}",
            "namespace": namespace,
            "uid": f"{namespace}-{app}-{number}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"app": app, **labels},
            "annotations": {KEY: " Annotated\0 one ", "other.example.com/large": "x"},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": f"registry/app:{version}"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if number else "False"}],
            "containerStatuses": [{"name": "main", "restartCount": 0, "state": {"running": {}}}],
        },
    }


PODS = [
    _pod("shop-test", "orders", 0, version="1.4"),
    _pod("shop-test", "orders", 1, version="1.5"),
    _pod("shop-test", "pay", 1),
    _pod("shop-load", "orders", 1),
    _pod("empty", "idle", 1),
]


def _host(name: str, environment: str | None, *apps: str) -> Host:
    given = {"name": name, "address": "127.0.0.1", "user": "noah", "key": "key", "host_key": HOST_KEY}
    given |= {"environment": environment} if environment else {}
    return Host.model_validate({**given, "apps": [{"name": app} for app in apps]})


HOSTS = (_host("kvm-1", "shop-test", "orders", "billing"), _host("kvm-2", None, "billing"))


class Kubernetes:
    """Lists pods and the metadata of namespaces, and sends what a test puts into its watches."""

    def __init__(self, api: FakeApi) -> None:
        api.on_list, api.on_watch, api.on_anything = self._list, self._watch, self._namespaces
        self.labels = {"shop-test": {KEY: "shared"}, "shop-load": {KEY: "shared"}, "empty": {}}
        self.asked: list[str] = []  # media types, for namespaces
        self.changed = asyncio.Queue[str]()  # namespaces

    async def _list(self, call: Call) -> None:
        call.json(200, {"metadata": {"resourceVersion": "1"}, "items": PODS})

    async def _watch(self, call: Call) -> None:
        call.begin_watch()
        await call.hang()

    async def _namespaces(self, call: Call) -> None:
        if call.path != "/api/v1/namespaces":
            call.refuse(404, "there is nothing else")
            return
        self.asked.append(call.headers["accept"])
        if call.param("watch"):
            call.begin_watch()
            while True:
                call.event("MODIFIED", self._namespace(await self.changed.get()))
                await call.writer.drain()
        items = [self._namespace(name) for name in self.labels]
        call.json(200, {"metadata": {"resourceVersion": "1"}, "items": items})

    def _namespace(self, name: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "resourceVersion": "1", "labels": self.labels[name]}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kubernetes() -> AsyncIterator[tuple[Kubernetes, str]]:
    async with fake_api() as api:
        yield Kubernetes(api), api.url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    jvm: int, kubernetes: tuple[Kubernetes, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    _, url = kubernetes
    grants = (
        GrantSettings(rights=("see",), users=("seer",), targets=("pod/dev/shop-load", "host/kvm-1/billing")),
        GrantSettings(rights=("debug",), users=("tester",), environments=("shop-*",)),
    )
    folder = tmp_path_factory.mktemp("web")
    async with serving(jvm, folder, ClusterSettings(name="dev", url=url), hosts=HOSTS, grants=grants) as gateway:
        assert await gateway.clusters["dev"].informer.wait_synced(30)
        for user in ("seer", "tester", "nobody"):
            gateway.api.admit(user)
        yield gateway


async def _environments(api: Api, query: str = "", *, user: str = "ada") -> dict[str, dict[str, Any]]:
    page = await api.ask("GET", f"environments?{query}", user=user)
    assert page["total"] >= len(page["items"])
    return {one["name"]: one for one in page["items"]}


async def test_a_name_that_pods_and_hosts_have_is_one_environment(running: Gateway) -> None:
    found = await _environments(running.api)
    assert list(found) == ["empty", "hosts", "local", "shop-load", "shop-test"]
    test = found["shop-test"]
    assert (test["apps"], test["targets"], test["pods"], test["hosts"]) == (3, 5, 3, 2)
    assert (test["ready"], test["unknown"]) == (2, 2)
    assert (found["local"]["local"], found["hosts"]["hosts"]) == (2, 1)
    assert await running.api.ask("GET", "environments/shop-test") == test


async def test_environments_are_paged_and_searched(running: Gateway) -> None:
    first = await running.api.ask("GET", "environments?limit=2")
    second = await running.api.ask("GET", f"environments?limit=2&continue={first['continue']}")
    names = [one["name"] for page in (first, second) for one in page["items"]]
    assert (names, first["total"]) == (["empty", "hosts", "local", "shop-load"], 5)
    assert list(await _environments(running.api, "q=SHOP+load")) == ["shop-load"]


async def test_targets_and_apps_are_narrowed_to_an_environment(running: Gateway) -> None:
    targets = (await running.api.ask("GET", "targets?environment=shop-test&app=orders"))["items"]
    assert [one["target"] for one in targets] == [
        "host/kvm-1/orders",
        "pod/dev/shop-test/orders-0/main",
        "pod/dev/shop-test/orders-1/main",
    ]
    assert {one["environment"] for one in targets} == {"shop-test"}
    apps = (await running.api.ask("GET", "apps?environment=shop-test"))["items"]
    assert [(one["app"], one["kind"], one["targets"]) for one in apps] == [
        ("billing", "host", 1), ("orders", "host", 1), ("orders", "pod", 2), ("pay", "pod", 1),
    ]  # fmt: skip


async def test_two_versions_of_an_app_in_an_environment_are_both_counted(running: Gateway) -> None:
    apps = (await running.api.ask("GET", "apps?environment=shop-test&q=orders"))["items"]
    assert [(one["kind"], one["versions"]) for one in apps] == [("host", {}), ("pod", {"1.4": 1, "1.5": 1})]


async def test_who_debugs_in_an_environment_is_shown_and_can_be_asked_for(running: Gateway) -> None:
    session = await running.api.enable("local/shop", wait=20)
    try:
        assert session["environment"] == "local"
        [shown] = (await _environments(running.api))["local"]["sessions"]
        assert (shown["id"], shown["owner"], shown["app"]) == (session["id"], session["owner"], "shop")
        for environment, ids in (("local", [session["id"]]), ("shop-test", [])):
            found = await running.api.ask("GET", f"sessions?environment={environment}")
            assert [one["id"] for one in found["items"]] == ids
    finally:
        await running.api.ask("DELETE", f"sessions/{session['id']}?wait=20")


async def test_what_one_may_not_see_is_in_no_environment_and_no_count(running: Gateway) -> None:
    found = await _environments(running.api, user="seer")
    counts = {name: (one["apps"], one["targets"], one["hosts"]) for name, one in found.items()}
    assert counts == {"shop-load": (1, 1, 0), "shop-test": (1, 1, 1)}
    for name in ("local", "empty", "nowhere"):
        with pytest.raises(Refused, match=f"There is no environment {name!r} that you may see") as refused:
            await running.api.ask("GET", f"environments/{name}", user="seer")
        assert refused.value.status == 404
    assert await _environments(running.api, user="nobody") == {}


async def test_a_grant_by_environment_is_for_hosts_there_and_for_no_pods(running: Gateway) -> None:
    targets = (await running.api.ask("GET", "targets", user="tester"))["items"]
    assert [one["target"] for one in targets] == ["host/kvm-1/billing", "host/kvm-1/orders"]


@pytest.mark.parametrize(
    ("wanted", "environment", "meant"),
    [
        ("app=orders", "shop-load", "pod/dev/shop-load/orders-1/main"),
        ("app=orders", "shop-test", "pod/dev/shop-test/orders-1/main"),
        ("app=billing", "shop-test", "host/kvm-1/billing"),
        ("app=billing", "hosts", "host/kvm-2/billing"),
        ("app=shop", "local", "local/shop"),
    ],
)
async def test_an_app_of_an_environment_is_what_is_there_of_it(
    running: Gateway, wanted: str, environment: str, meant: str
) -> None:
    if meant.startswith("host/"):  # none of these hosts is there: its name is the answer
        with pytest.raises(Refused, match=meant.split("/")[1]):
            await running.api.ask("GET", f"targets/{wanted}?environment={environment}")
        return
    found = await running.api.ask("GET", f"targets/{wanted}?environment={environment}")
    assert found["target"] == meant


async def test_an_app_that_is_not_in_an_environment_is_not_looked_for_elsewhere(running: Gateway) -> None:
    with pytest.raises(Refused, match="There is no app=pay in environment shop-load that you may see"):
        await running.api.ask("GET", "targets/app=pay?environment=shop-load")


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("label:app", {"orders": 3, "pay": 1, "idle": 1}),
        (f"annotation:{KEY}", {"Annotated one": 5}),
        (f"namespace-label:{KEY}", {"shared": 4, "empty": 1}),
        ("label:nowhere", {"shop-test": 3, "shop-load": 1, "empty": 1}),
    ],
)
async def test_a_cluster_names_environments_by_what_its_settings_say(
    rule: str, names: dict[str, int], jvm: int, kubernetes: tuple[Kubernetes, str], tmp_path: Path
) -> None:
    there, url = kubernetes
    async with serving(jvm, tmp_path, ClusterSettings(name="dev", url=url, environment=rule)) as gateway:
        assert await gateway.clusters["dev"].informer.wait_synced(30)
        async with asyncio.timeout(30):
            while {n: one["pods"] for n, one in (await _environments(gateway.api)).items() if one["pods"]} != names:
                await asyncio.sleep(0.05)
        if rule.startswith("namespace-label"):
            assert there.asked
            assert all("as=PartialObjectMetadata" in one for one in there.asked)
            # A namespace gets another label: its pods move, and nobody asks for anything.
            there.labels["empty"][KEY] = "shared"
            there.changed.put_nowait("empty")
            async with asyncio.timeout(30):
                while list(await _environments(gateway.api)) != ["local", "shared"]:
                    await asyncio.sleep(0.05)
