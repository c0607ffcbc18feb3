"""Environments, of pods of a cluster that only lists and watches, of hosts that are never asked, and a real JVM."""

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

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
        text = await _page(running, "/")
        assert re.search(r"Yours local \d of 2 ready", text)  # although nobody has looked at it
        assert "Yours" not in await _page(running, "/", user="seer")
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


async def test_a_name_that_is_almost_right_is_answered_with_those_that_may_be_meant(running: Gateway) -> None:
    for written, meant, user in (
        ("shop-tset", "Did you mean shop-test?", "ada"),
        ("shop", "Did you mean shop-load or shop-test?", "ada"),
        ("loca", "Did you mean local?", "ada"),
        ("loca", "or not any more.", "seer"),
        ("%2e%2e%2fempty", "or not any more.", "ada"),
        ("x" * 5000, "or not any more.", "ada"),
        ("a%0Ab%00%F0%9F%9A%80", "or not any more.", "ada"),
    ):
        with pytest.raises(Refused) as refused:
            await running.api.ask("GET", f"environments/{written}", user=user)
        assert (refused.value.status, str(refused.value).endswith(meant)) == (404, True), str(refused.value)


async def test_a_grant_by_environment_is_for_hosts_there_and_for_no_pods(running: Gateway) -> None:
    targets = (await running.api.ask("GET", "targets", user="tester"))["items"]
    assert [one["target"] for one in targets] == ["host/kvm-1/billing", "host/kvm-1/orders"]


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
        if rule == "label:app":  # three environments share the namespaces
            found = await gateway.api.ask("GET", "targets/pod/dev/shop-test/app=orders?environment=orders")
            assert found["environment"] == "orders"
            with pytest.raises(
                Refused, match="no pod of app orders in namespace shop-test of cluster dev and environment pay"
            ):
                await gateway.api.ask("GET", "targets/pod/dev/shop-test/app=orders?environment=pay")
        if rule.startswith("namespace-label"):
            assert there.asked
            assert all("as=PartialObjectMetadata" in one for one in there.asked)
            # A namespace gets another label: its pods move, and nobody asks for anything.
            there.labels["empty"][KEY] = "shared"
            there.changed.put_nowait("empty")
            async with asyncio.timeout(30):
                while list(await _environments(gateway.api)) != ["local", "shared"]:
                    await asyncio.sleep(0.05)


async def _page(gateway: Gateway, path: str, *, user: str = "ada", status: int = 200, chosen: str = "") -> str:
    headers = {**gateway.api.headers(user), "Accept": "text/html"}
    async with gateway.http.get(gateway.url + path, headers=headers, cookies={"noah-environments": chosen}) as answer:
        assert answer.status == status
        text = re.sub(r"<script.*?</script>|<[^>]*>", " ", await answer.text(), flags=re.S)
        return " ".join(html.unescape(text).split())


async def test_the_first_page_has_the_environments_those_of_the_person_first(running: Gateway) -> None:
    chosen = quote(json.dumps({"pinned": ["shop-test", "nowhere"], "last": ["local", "shop-test"]}))
    text = await _page(running, "/", chosen=chosen)
    yours, everything = text.split("Yours")[1].split("5 environments")
    assert re.findall(r"(\S+) \d+ of \d+ ready", yours) == ["shop-test", "local"]
    assert "nowhere not there, or not any more Pin nowhere" in yours  # and can be taken off
    assert re.search(r"shop-test 2 of 5 ready .*3 apps · 3 pods, 2 KVM hosts nobody debugs", everything)
    for broken in ("", "%", quote("[]"), quote('{"pinned": {}, "last": 1}'), quote('{"pinned": [1], "last": []}')):
        assert "Yours" not in await _page(running, "/", chosen=broken)


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/", None),
        ("/targets", None),
        ("/sessions", None),
        ("/trail", None),
        ("/environments/shop-test?q=orders", "mine=true&environment=shop-test"),
        ("/targets/local/shop", "mine=true&target=local/shop"),
        ("/releases", "mine=true"),
        ("/environments/nowhere", "mine=true"),
    ],
)
async def test_a_page_asks_for_the_events_of_what_it_shows(running: Gateway, path: str, events: str | None) -> None:
    headers = {**running.api.headers(), "Accept": "text/html"}
    async with running.http.get(running.url + path, headers=headers) as answer:
        found = re.search(r'id="live"[^>]* data-events="([^"]*)"', await answer.text())
    assert (found and unquote(html.unescape(found[1]))) == events


async def test_one_box_searches_everything_that_a_person_may_see(running: Gateway) -> None:
    session = await running.api.enable("local/shop", wait=20)
    try:
        text = await _page(running, "/?q=shop")
        for found in (
            "2 environments",
            "shop-load",
            "Apps shop",
            "pod/dev/shop-test/pay-1/main",
            "Sessions shop ready",
        ):
            assert found in text
        assert "5 targets" in text
        seen = await _page(running, "/?q=shop", user="seer")
        assert "pod/dev/shop-load/orders-1/main" in seen
        assert "local/shop" not in seen
        assert "pay-1" not in seen
        assert "Apps orders" in await _page(running, "/?q=ders+or")  # each word of it, as for the others
        assert "Nothing is called “nowhere”" in await _page(running, "/?q=nowhere")
    finally:
        await running.api.ask("DELETE", f"sessions/{session['id']}?wait=20")


async def test_an_environments_page_says_how_an_app_runs_there(running: Gateway) -> None:
    text = await _page(running, "/environments/shop-test")
    assert "5 targets of 3 apps" in text
    orders = text[text.index("orders") :]
    assert "2 pods, 1 KVM host · 2 versions at once : 1.4 on 1, 1.5 on 1" in orders
    assert re.search(r"host/kvm-1/orders .* no version .* pod/dev/shop-test/orders-0/main", orders)
    assert "shop-load" not in text
    everywhere = await _page(running, "/targets?app=orders")
    assert "versions 1.0, 1.4, 1.5" in everywhere
    assert "at once" not in everywhere


async def test_an_environment_that_one_may_not_see_has_no_page(running: Gateway) -> None:
    said = await _page(running, "/environments/local", user="seer", status=404)
    assert "There is no environment 'local' that you may see, or not any more." in said


async def test_targets_of_an_environment_say_so_also_beside_its_page(running: Gateway) -> None:
    text = await _page(running, "/targets?environment=shop-test&q=orders")
    assert "3 targets of 1 app" in text
    assert "Only environment shop-test" in text
    assert "Only environment" not in await _page(running, "/environments/shop-test?q=orders")


async def test_who_may_see_nothing_is_not_sent_to_add_a_cluster(running: Gateway) -> None:
    text = await _page(running, "/", user="nobody")
    assert "There are no targets yet, or none that you may see." in text
    assert "nvironment" not in text


async def test_links_to_targets_from_before_there_were_environments_lead_on(running: Gateway) -> None:
    assert "3 targets of 1 app" in await _page(running, "/?app=orders&cluster=dev")


async def test_with_one_environment_nobody_sees_the_word(jvm: int, tmp_path: Path) -> None:
    async with serving(jvm, tmp_path) as gateway:
        for path in (
            "/",
            "/targets",
            "/targets/local/shop",
            "/environments/local",
            "/sessions",
            "/releases",
            "/clusters",
        ):
            assert "nvironment" not in await _page(gateway, path)
        assert "2 targets of 2 apps" in await _page(gateway, "/")


async def test_sessions_and_releases_pages_are_narrowed_to_an_environment(running: Gateway) -> None:
    for path in ("/sessions", "/releases"):
        assert "Only of shop-test ." in await _page(running, f"{path}?environment=shop-test")


async def test_the_events_of_an_environment_are_of_no_other(running: Gateway) -> None:
    seen = asyncio.Queue[str]()

    async def watch(environment: str) -> None:
        async with running.http.get(
            f"{running.url}/api/v1/events?environment={environment}", headers=running.api.headers()
        ) as stream:
            await seen.put(environment)
            async for line in stream.content:
                if line.startswith(b"data: "):
                    await seen.put(f"{environment} {json.loads(line[6:])['environment']}")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        watching = [group.create_task(watch(name)) for name in ("shop-test", "local")]
        assert {await seen.get(), await seen.get()} == {"shop-test", "local"}
        session = await running.api.enable("local/shop", wait=20)
        await running.api.ask("DELETE", f"sessions/{session['id']}?wait=20")
        assert await seen.get() == "local local"
        for task in watching:
            task.cancel()
    assert {seen.get_nowait() for _ in range(seen.qsize())} <= {"local local"}


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
