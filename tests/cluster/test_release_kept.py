"""Releases on a real cluster that nobody watched, that are cut off and taken up, that stop somebody's debugging."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from noah.client.event_reader import EventReader
from noah.core.release.release_event import ReleaseEventKind
from noah.demo.debugger import jdb
from tests.cluster.conftest import Kubectl, java_app
from tests.cluster.test_release import FAILING, deployment, found
from tests.faults import Link, link
from tests.gateway import Api, Process, Refused, serving
from tests.processes import killed_after

pytestmark = pytest.mark.cluster

Events = list[dict[str, Any]]


@pytest.fixture
async def gateway(kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[tuple[Process, Api]]:
    config = f'[[clusters]]\nname = "c"\nkubeconfig = "{kubectl.kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
    async with serving(tmp_path, config) as both:
        yield both


@asynccontextmanager
async def stream(api: Api, path: str, *, last_id: str | None = None) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Its events, each with its "id"; ends with the connection."""

    async def events() -> AsyncIterator[dict[str, Any]]:
        reader = EventReader()
        async for piece in answer.content.iter_any():
            for event in reader.feed(piece):
                yield {**json.loads(event.data), "id": event.id}

    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with api.http.get(f"{api.url}/api/v1/releases/{path}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        yield events()


async def followed(api: Api, kubectl: Kubectl, workload: str, *, kind: str = "deploy") -> str:
    """The path of the events of the release that a workload is in."""
    wanted = {"cluster": "c", "namespace": kubectl.namespace, "workload": workload, "kind": kind}
    return f"{(await api.ask('POST', 'releases', wanted))['id']}/events"


async def published(api: Api, path: str, *, last_id: str | None = None, within: float = 90) -> Events:
    async with asyncio.timeout(within), stream(api, path, last_id=last_id) as events:
        return [event async for event in events]


async def release_of(api: Api, workload: str, *, result: str, within: float = 90) -> dict[str, Any]:
    seen: Any = None
    try:
        async with asyncio.timeout(within):
            while True:
                seen = (await api.ask("GET", f"releases?workload={workload}"))["items"]
                if seen and seen[0]["result"] == result:
                    return dict(seen[0])
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"no release of {workload} is {result}: {seen}") from None


async def test_a_failure_that_nobody_watched_can_be_looked_at_the_next_morning(
    kubectl: Kubectl, gateway: tuple[Process, Api]
) -> None:
    process, api = gateway
    kubectl.apply(deployment("night", **FAILING["crash"][0]))
    release = await release_of(api, "night", result="failed")
    await process.stop(signal.SIGKILL)
    await process.start()
    assert await api.ask("GET", f"releases/{release['id']}") == release
    events = await published(api, f"{release['id']}/events")
    assert events[0]["release"] == release["id"]
    assert events[-1]["text"] == release["text"]
    assert "Could not find or load main class NoSuchClass" in release["text"]
    # Both runs of the container were read, the one before the crash too.
    assert {e["restart"] for e in found(events, "log", container="app")} == {0, 1}
    assert {e["restart"] for e in found(await published(api, f"{release['id']}/events?previous=false"), "log")} == {1}
    async with api.http.get(f"{api.url}/api/v1/releases/{release['id']}/log?filter=nosuchCLASS&tail=1") as answer:
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="night-r-')
        text = await answer.text()
    lines = [line for line in text.splitlines() if " app  " in line]
    assert len(lines) == 1
    assert "NoSuchClass" in lines[0]
    # A look at it later, which sees less, takes nothing of it away.
    await published(api, await followed(api, kubectl, "night"))
    assert await published(api, f"{release['id']}/events?last_event_id=x-1") != []
    assert (await api.ask("GET", f"releases/{release['id']}"))["started_at"] == release["started_at"]
    kubectl("delete", "deployment", "night")


async def test_a_cut_stream_goes_on_with_the_next_event(kubectl: Kubectl, gateway: tuple[Process, Api]) -> None:
    _, api = gateway
    env = [{"name": "START_SECONDS", "value": "3"}, {"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx32m"}]
    kubectl.apply(deployment("cut", env=env))
    path = await followed(api, kubectl, "cut")
    first: Events = []
    async with stream(api, path) as events:
        async for event in events:
            first.append(event)
            if len(first) == 10:
                break
    id = first[0]["release"]
    rest = await published(api, f"{id}/events", last_id=first[-1]["id"])
    assert [event["n"] for event in first + rest] == list(range(1, len(first + rest) + 1))
    assert rest[-1]["result"] == "done"
    assert await published(api, f"{id}/events", last_id=rest[-2]["id"]) == rest[-1:]
    # Numbers of another run mean nothing here.
    again = await published(api, f"{id}/events", last_id="0badcafe-7")
    assert [event["kind"] for event in again[:2]] == [ReleaseEventKind.RESTARTED, "release"]
    assert again[1:] == first + rest
    assert [
        e["kind"] for e in await published(api, f"{id}/events?tail=0&since=1s&pod=nobody") if e["kind"] == "log"
    ] == []
    kubectl("delete", "deployment", "cut")


async def test_a_killed_gateway_goes_on_with_the_release_and_shows_no_line_twice(
    kubectl: Kubectl, gateway: tuple[Process, Api], tmp_path: Path
) -> None:
    process, api = gateway
    kubectl.apply(counting("killed", pods=1, seconds=14))
    shown = tmp_path / "shown"
    with shown.open("wb") as out:
        watching = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "noah", "release", "watch", "killed", "-n", kubectl.namespace, "-o", "json"),
            env={**process.env, "NOAH_URL": process.url},
            stdout=out,
        )
        async with killed_after(watching):
            before = await release_of(api, "killed", result="running")
            await asyncio.sleep(4)
            await process.stop(signal.SIGKILL)
            await process.start()
            assert await asyncio.wait_for(watching.wait(), 60) == 0
    events = [json.loads(line) for line in shown.read_text().splitlines()]
    assert_whole(events, pods=1)
    after = await release_of(api, "killed", result="done")
    assert (after["id"], after["started_at"]) == (before["id"], before["started_at"])
    kubectl("delete", "deployment", "killed")


async def test_a_newer_release_ends_the_one_before(kubectl: Kubectl, gateway: tuple[Process, Api]) -> None:
    _, api = gateway
    kubectl.apply(deployment("twice", image="nowhere-yet", imagePullPolicy="IfNotPresent", env=[]))
    async with asyncio.timeout(90), stream(api, await followed(api, kubectl, "twice")) as events:
        async for event in events:
            if event["kind"] == "release":
                kubectl.apply(deployment("twice"))
                break
    last = await release_of(api, "twice", result="done")
    assert last["revision"] == "2"
    results = [one["result"] for one in (await api.ask("GET", "releases?workload=twice"))["items"]]
    assert results in (["done", "replaced"], ["done", "failed"])
    kubectl("delete", "deployment", "twice")


async def test_a_release_says_who_is_paused_in_a_pod_that_it_replaces(
    kubectl: Kubectl, gateway: tuple[Process, Api]
) -> None:
    _, api = gateway
    kubectl.apply(deployment("paused", annotations={"debug.noah/agent": "always"}))
    kubectl("rollout", "status", "deployment/paused", "--timeout=90s")
    session = await api.ready(f"pod/c/{kubectl.namespace}/" + pod_of(kubectl, "paused"))
    async with jdb(session["host"], session["port"]) as debugger:
        debugger.type("suspend")
        stopped = await api.until(session, "suspended")
        kubectl("rollout", "restart", "deployment/paused")
        async with asyncio.timeout(60), stream(api, await followed(api, kubectl, "paused")) as events:
            async for event in events:
                if event["kind"] == "paused":
                    break
        assert event["session"] == session["id"]
        assert event["text"].startswith("ada is paused in pod paused-")
        assert "which this release is about to replace" in event["text"]
        steps = [step["text"] for step in (await api.show(session))["steps"]]
        assert any("about to replace this pod" in step for step in steps)
    async with asyncio.timeout(90):
        while (moved := await api.until(session, "ready"))["target"] == stopped["target"]:
            await asyncio.sleep(0.2)
    assert moved["port"] == session["port"]
    await api.end(session)
    kubectl("delete", "deployment", "paused")


async def test_bad_input_gets_one_sentence(kubectl: Kubectl, gateway: tuple[Process, Api]) -> None:
    _, api = gateway
    for path, status, says in (
        ("releases/r-nothing", 404, "There is no release 'r-nothing'"),
        ("releases/r-nothing/events", 404, "There is no release"),
        ("releases/r-nothing/log", 404, "There is no release"),
        ("releases/r-x/events?since=yesterday", 400, "a length of time like 10m, or a time"),
        ("releases/r-x/events?tail=-1", 400, "tail"),
        ("releases?result=good", 400, "result"),
        ("releases?continue=x", 400, "not a token"),
    ):
        with pytest.raises(Refused) as caught:
            await api.ask("GET", path)
        assert (caught.value.status, says in caught.value.detail) == (status, True), caught.value
    for wanted, status, says in (
        ({"cluster": "c", "workload": "nobody"}, 404, 'eployments.apps "nobody" not found'),
        ({"cluster": "nowhere", "workload": "x"}, 404, "There is no cluster 'nowhere': it is one of c."),
        ({"cluster": "c", "workload": "x", "kind": "job"}, 400, "'job' has no releases"),
    ):
        with pytest.raises(Refused) as caught:
            await api.ask("POST", "releases", {"namespace": kubectl.namespace, **wanted})
        assert (caught.value.status, says in caught.value.detail) == (status, True), caught.value


def pod_of(kubectl: Kubectl, app: str) -> str:
    return str(kubectl.list("pods", f"app={app}")[0]["metadata"]["name"])


# -- nothing lost, nothing doubled

LINES_PER_SECOND = 50


def counting(name: str, *, pods: int, seconds: int) -> dict[str, Any]:
    """A Deployment whose pods count aloud, and that is not done before they have counted for *seconds*."""
    last, pause = (seconds + 8) * LINES_PER_SECOND, 1 / LINES_PER_SECOND
    count = f'$|=1; for $i (0..{last}) {{ print "line $i\\n"; select undef,undef,undef,{pause} }} sleep 3600'
    template = java_app(name, options="", command=["perl", "-e", count])
    del template["spec"]["containers"][0]["readinessProbe"]
    template["metadata"]["annotations"] = {"debug.noah/original": "{}"}
    spec = {"replicas": pods, "minReadySeconds": seconds, "selector": {"matchLabels": {"app": name}}}
    spec["template"] = template
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def assert_whole(events: Events, *, pods: int) -> None:
    """Every pod's lines are there from the first one on, each once and in order."""
    lines: dict[str, list[int]] = {}
    for event in found(events, "log"):
        lines.setdefault(event["pod"], []).append(int(event["text"].removeprefix("line ")))
    assert len(lines) == pods
    for pod, numbers in lines.items():
        assert numbers == list(range(len(numbers))), pod
        assert len(numbers) > 3 * LINES_PER_SECOND
    assert not found(events, "gap")


async def test_twenty_pods_at_a_thousand_lines_per_second_lose_and_double_nothing_while_the_api_server_is_away(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    async with link(to=api_port(kubectl)) as to_api:
        kubeconfig = tmp_path / "kubeconfig"
        text = kubectl.kubeconfig.read_text()
        kubeconfig.write_text(text.replace(f":{api_port(kubectl)}", f":{to_api.port}"))
        config = f'[[clusters]]\nname = "c"\nkubeconfig = "{kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
        async with serving(tmp_path, config) as (_, api), asyncio.TaskGroup() as group:
            kubectl.apply(counting("loud", pods=20, seconds=20))
            breaking = group.create_task(cut_twice(to_api))
            events = await published(api, await followed(api, kubectl, "loud"), within=120)
            breaking.cancel()
    assert events[-1]["result"] == "done"
    assert_whole(events, pods=20)
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))
    kubectl("delete", "deployment", "loud")


async def cut_twice(to_api: Link) -> None:
    for _ in range(2):
        await asyncio.sleep(8)
        await to_api.cut()
        await asyncio.sleep(3)
        await to_api.mend()


def api_port(kubectl: Kubectl) -> int:
    view: Mapping[str, Any] = json.loads(kubectl("config", "view", "-o", "json"))
    return urlsplit(str(view["clusters"][0]["cluster"]["server"])).port or 443
