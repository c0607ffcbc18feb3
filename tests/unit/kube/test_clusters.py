"""A cluster that is away, half configured, or changes its credentials: a reason, and no failure of anything else."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noah.errors import BadInput, Conflict, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.errors import MissingRight
from noah.settings import ClusterSettings
from tests.unit.kube.fake_api import Call, FakeApi

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Guarded:
    """An API that accepts one token, and tells which were tried."""

    def __init__(self, api: FakeApi, token: str) -> None:
        self.token = token
        self.tried: list[str] = []
        api.on_anything = api.on_list = api.on_watch = self

    async def __call__(self, call: Call) -> None:
        self.tried.append(call.headers.get("authorization", ""))
        if self.tried[-1] != f"Bearer {self.token}":
            call.refuse(401, "Unauthorized")
        elif call.param("watch"):
            call.begin_watch()
            await call.writer.drain()
            await call.hang()
        else:
            call.json(200, {"gitVersion": "v1.34", "metadata": {"resourceVersion": "1"}, "items": []})


async def test_a_broken_configuration_is_a_reason_until_it_is_mended(api: FakeApi, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    async with Cluster(ClusterSettings(name="broken", kubeconfig=file), clock=lambda: NOW) as cluster:
        await until(lambda: cluster.reason is not None and "No such file" in cluster.reason)
        assert not cluster.reachable
        for text, reason in (
            ("]", "not YAML"),
            ("a: b", "no current-context"),
            (kubeconfig("http://x", context="other"), 'no context called "other"'),
            (kubeconfig("gopher://x"), '"server" of cluster "c" is not an http or https URL'),
            (kubeconfig("http://x", proxy="gopher://x"), '"proxy-url" of cluster "c" is not an http, https or socks5'),
        ):
            file.write_text(text)
            with pytest.raises(Unavailable, match=reason):
                await cluster.get("/version")
        api.on_anything = api.on_list = api.on_watch = yes
        file.write_text(kubeconfig(api.url))
        assert (await cluster.get("/version"))["gitVersion"] == "v1.34"


async def test_a_cluster_that_does_not_answer_is_not_reachable_and_comes_back(api: FakeApi) -> None:
    times = iter([NOW, NOW + timedelta(seconds=5)])
    api.on_anything = api.on_list = api.on_watch = yes
    async with Cluster(api.settings, clock=lambda: next(times)) as cluster:
        assert (cluster.reachable, cluster.since) == (False, NOW)
        await until(lambda: cluster.reachable)
        assert cluster.since == NOW + timedelta(seconds=5)
        assert cluster.reason is None
        assert await cluster.informer.wait_synced(5)
    nobody = ClusterSettings(name="away", url="http://127.0.0.1:1")
    async with Cluster(nobody) as cluster:
        with pytest.raises(Unavailable, match='Cluster "away" does not answer: '):
            await cluster.get("/version")
        await until(lambda: cluster.reason is not None and "does not answer" in cluster.reason)
        assert not cluster.reachable


async def test_a_cluster_that_stops_answering_is_noticed_by_itself(api: FakeApi) -> None:
    api.on_anything = api.on_list = api.on_watch = yes
    async with Cluster(api.settings, ping=0.05) as cluster:
        await until(lambda: cluster.reachable)
        api.on_anything = Call.hang
        await until(lambda: not cluster.reachable)
        assert cluster.reason is not None
        assert cluster.reason.startswith('Cluster "fake" does not answer')
        api.on_anything = yes
        await until(lambda: cluster.reachable)
        assert cluster.reason is None


async def test_a_cluster_that_refuses_is_reachable_for_a_reason(api: FakeApi) -> None:
    async def forbid(call: Call) -> None:
        call.refuse(403, "no")

    api.on_anything = api.on_list = forbid
    async with Cluster(api.settings) as cluster:
        await until(lambda: cluster.reachable)
        await until(lambda: cluster.reason == 'The gateway may not list pods in cluster "fake": no.')


async def test_outside_of_a_pod_there_is_no_cluster_to_be_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with Cluster(ClusterSettings(name="own", in_cluster=True)) as cluster:
        with pytest.raises(Unavailable, match="the gateway does not run in a pod"):
            await cluster.get("/version")


async def test_a_cluster_that_hangs_takes_no_longer_than_asked_for(api: FakeApi) -> None:
    api.on_anything = api.on_list = Call.hang
    async with Cluster(api.settings) as cluster:
        with pytest.raises(Unavailable, match='Cluster "fake" does not answer: nothing came within 0'):
            await cluster.get("/version", timeout=0.05)


async def test_a_token_file_is_read_again_when_its_token_is_refused(api: FakeApi, tmp_path: Path) -> None:
    guarded = Guarded(api, "first")
    file = tmp_path / "token"
    file.write_text("first\n")
    async with Cluster(ClusterSettings(name="rotates", url=api.url, token_file=file)) as cluster:
        await cluster.get("/version")
        guarded.token = "second"
        file.write_text("second")
        await cluster.get("/version")
        guarded.token = "third"
        with pytest.raises(Unavailable, match="does not accept the gateway's credentials"):
            await cluster.get("/version")
        file.write_text("")
        with pytest.raises(Unavailable, match="token is empty"):
            await cluster.get("/version")


async def test_a_base_path_is_kept(api: FakeApi) -> None:
    api.on_anything = yes
    async with Cluster(ClusterSettings(name="rancher", url=api.url + "/k8s/clusters/c-1/")) as cluster:
        await cluster.get("/version")
    assert {call.path for call in api.calls} >= {"/k8s/clusters/c-1/version"}


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (400, BadInput, 'No (create events.events.k8s.io in namespace "shop" of cluster "fake").'),
        (
            403,
            MissingRight,
            'The gateway may not create events.events.k8s.io in namespace "shop" of cluster "fake": no.',
        ),
        (404, NotFound, 'No in namespace "shop" of cluster "fake".'),
        (409, Conflict, 'No (create events.events.k8s.io in namespace "shop" of cluster "fake").'),
        (
            503,
            Unavailable,
            'Cluster "fake" answers 503 to create events.events.k8s.io in namespace "shop" of cluster "fake": no.',
        ),
    ],
)
async def test_every_refusal_is_one_sentence(api: FakeApi, status: int, error: type[Exception], sentence: str) -> None:
    async def refuse(call: Call) -> None:
        call.refuse(status, "no")

    api.on_anything = refuse
    async with Cluster(api.settings) as cluster:
        with pytest.raises(error) as raised:
            await cluster.post("/apis/events.k8s.io/v1/namespaces/shop/events", {"kind": "Event"})
    assert str(raised.value) == sentence


async def test_an_answer_that_is_no_json_is_not_taken_for_one(api: FakeApi) -> None:
    async def portal(call: Call) -> None:
        call.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n<h1>Log in</h1>\r\n")

    api.on_anything = portal
    async with Cluster(api.settings) as cluster:
        with pytest.raises(Unavailable, match="something that is not a JSON object"):
            await cluster.get("/version")


async def test_missing_rights_are_named(api: FakeApi) -> None:
    reviewed: list[dict[str, Any]] = []

    async def review(call: Call) -> None:
        if not call.path.endswith("selfsubjectaccessreviews"):
            await yes(call)
            return
        asked = json.loads(call.body)["spec"]["resourceAttributes"]
        reviewed.append(asked)
        call.json(201, {"status": {"allowed": asked["verb"] in ("list", "watch", "get")}})

    api.on_anything = review
    api.on_list = api.on_watch = yes
    async with Cluster(api.settings) as cluster:
        assert await cluster.missing_rights() == [
            "create pods/exec",
            "create pods/portforward (optional)",
            "create events.events.k8s.io (optional)",
            "create subjectaccessreviews.authorization.k8s.io (for people who log in)",
        ]
        assert "namespace" not in reviewed[0]
        assert await cluster.missing_rights("shop") == [
            "create pods/exec in namespace shop",
            "create pods/portforward in namespace shop (optional)",
            "create events.events.k8s.io in namespace shop (optional)",
            "create subjectaccessreviews.authorization.k8s.io (for people who log in)",
        ]
        assert reviewed[-2]["namespace"] == "shop"


def kubeconfig(server: str, *, context: str = "here", proxy: str = "", user: dict[str, Any] | None = None) -> str:
    cluster = {"server": server, **({"proxy-url": proxy} if proxy else {})}
    return json.dumps(
        {
            "current-context": context,
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user or {"token": "x"}}],
        }
    )


async def yes(call: Call) -> None:
    if call.param("watch"):
        call.begin_watch()
        await call.writer.drain()
        await call.hang()
    call.json(200, {"gitVersion": "v1.34", "metadata": {"resourceVersion": "1"}, "items": []})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)
