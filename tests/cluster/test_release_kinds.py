"""What is a release on a real cluster, and what only looks like one: rollbacks, StatefulSets, what is scaled."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from noah.demo.debugger import jdb
from tests.cluster.conftest import AGENT, Kubectl, java_app
from tests.cluster.test_release import found
from tests.cluster.test_release_kept import followed, gateway, published, release_of, stream
from tests.gateway import Api, Process

__all__ = ["gateway"]  # a fixture
pytestmark = pytest.mark.cluster


def app(kind: str, name: str, *, replicas: int = 1, **container: Any) -> dict[str, Any]:
    """A workload that is online at once, and that Noah seems to have been put into."""
    shell = {"command": ["sh", "-c", "echo began; exec sleep 1000"], "readinessProbe": None, **container}
    template = java_app(name, **shell)
    template["metadata"]["annotations"] = {"debug.noah/original": "{}"}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


async def results(api: Api, workload: str) -> list[tuple[str, str]]:
    """(revision, result), the newest first."""
    items = (await api.ask("GET", f"releases?workload={workload}"))["items"]
    return [(one["revision"], one["result"]) for one in items]


async def test_a_rollback_is_a_release_of_its_own_even_where_all_of_its_pods_are_there(
    kubectl: Kubectl, gateway: tuple[Process, Api]
) -> None:
    _, api = gateway
    for kind in ("Deployment", "StatefulSet"):
        name = f"back-{kind.lower()}"
        kubectl.apply(app(kind, name, replicas=2))
        await release_of(api, name, result="done")
        kubectl("set", "image", f"{kind}/{name}", "app=nowhere")
        assert (await release_of(api, name, result="failed"))["revision"] == "2"
        kubectl("rollout", "undo", f"{kind}/{name}")
        if kind == "StatefulSet":
            # Its controller waits for the broken pod to be mended, unless somebody takes it away.
            kubectl("delete", "pod", f"{name}-1")
        last = await release_of(api, name, result="done")
        assert (last["revision"], last["text"]) == ("3", "2 of 2 online")
        assert await results(api, name) == [("3", "done"), ("2", "failed"), ("1", "done")]
        kubectl("delete", kind, name)


async def test_a_quota_is_named_though_nobody_watches_and_no_pod_is_made(
    kubectl: Kubectl, gateway: tuple[Process, Api]
) -> None:
    _, api = gateway
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    kinds = ("Deployment", "StatefulSet")
    kubectl.apply(quota, *(app(kind, f"quota-{kind.lower()}") for kind in kinds))
    try:
        for kind in kinds:
            failed = await release_of(api, f"quota-{kind.lower()}", result="failed")
            assert failed["text"].startswith("A quota forbids its pods: "), failed
    finally:
        kubectl("delete", "resourcequota", "none")
    # It recovers by itself; who looks at it then sees that, and so does the list. A change of the ReplicaSet has its
    # controller try again at once: by itself it waits twice as long after each refusal.
    kubectl("annotate", "replicaset", "--all", "tests.noah/tries=again")
    kubectl("rollout", "status", "deployment/quota-deployment", "--timeout=200s", timeout=220)
    await published(api, await followed(api, kubectl, "quota-deployment"))
    mended = await release_of(api, "quota-deployment", result="done")
    assert mended["text"].startswith("1 of 1 online; before that: A quota forbids its pods")
    events = await published(api, f"{mended['id']}/events")
    assert [event["text"] for event in events if event["kind"] == "end"] == [mended["text"]]
    kubectl("delete", "deployment,statefulset", "--all")


async def test_what_is_scaled_or_loses_a_pod_has_no_new_release(kubectl: Kubectl, gateway: tuple[Process, Api]) -> None:
    process, api = gateway
    kubectl.apply(app("Deployment", "scaled"))
    await release_of(api, "scaled", result="done")
    # As if the release was long ago, and forgotten.
    with closing(sqlite3.connect(process.database)) as database, database:
        database.execute("DELETE FROM releases")
    kubectl("delete", "pod", "-l", "app=scaled")
    for replicas in (0, 2):
        kubectl("scale", "deployment/scaled", f"--replicas={replicas}")
        kubectl("rollout", "status", "deployment/scaled", "--timeout=60s")
    # Somebody's look at it ends, and is none either.
    assert (await published(api, await followed(api, kubectl, "scaled")))[-1]["text"] == "2 of 2 online"
    assert await results(api, "scaled") == []
    # What is deleted and made again with the same template is.
    kubectl("delete", "deployment", "scaled")
    kubectl.apply(app("Deployment", "scaled"))
    await release_of(api, "scaled", result="done")
    kubectl("delete", "deployment", "scaled")


async def test_a_release_that_ends_while_the_database_is_locked_is_kept_when_it_is_free(
    kubectl: Kubectl, gateway: tuple[Process, Api]
) -> None:
    process, api = gateway
    # Without a readinessProbe it would be online for an instant, and done.
    fails: dict[str, Any] = {
        "command": ["sh", "-c", "printf 'no end of line'; exit 3"],
        "readinessProbe": {"exec": {"command": ["false"]}},
    }
    kubectl.apply(app("Deployment", "locked", **fails))
    before = await release_of(api, "locked", result="running")
    with closing(sqlite3.connect(process.database, isolation_level=None, timeout=30)) as database:
        database.execute("BEGIN IMMEDIATE")
        events = await published(api, f"{before['id']}/events")
        assert events[-1]["result"] == "failed"
        await asyncio.sleep(6)  # longer than a writer waits for another
        assert await results(api, "locked") == [("1", "running")]
    await release_of(api, "locked", result="failed")
    kept = await published(api, f"{before['id']}/events")
    assert kept[-1] | {"id": ""} == events[-1] | {"id": ""}
    assert "no end of line" in {e["text"] for e in found(kept, "log")}
    kubectl("delete", "deployment", "locked")


async def test_two_people_paused_in_pods_of_a_stateful_set_are_told_both(
    kubectl: Kubectl, gateway: tuple[Process, Api]
) -> None:
    _, api = gateway
    java = {"command": None, "options": AGENT, "readinessProbe": None}
    kubectl.apply(app("StatefulSet", "two", replicas=2, **java))
    await release_of(api, "two", result="done")
    sessions = [
        await api.ready(f"pod/c/{kubectl.namespace}/two-{n}", user=user) for n, user in enumerate(("ada", "bob"))
    ]
    async with (
        jdb(sessions[0]["host"], sessions[0]["port"]) as ada,
        jdb(sessions[1]["host"], sessions[1]["port"]) as bob,
    ):
        for debugger, session in ((ada, sessions[0]), (bob, sessions[1])):
            debugger.type("suspend")
            await api.until(session, "suspended")
        kubectl("rollout", "restart", "statefulset/two")
        paused: dict[str, str] = {}
        async with asyncio.timeout(60), stream(api, await followed(api, kubectl, "two", kind="sts")) as events:
            async for event in events:
                if event["kind"] == "paused":
                    paused[event["owner"]] = event["pod"]
                if event["kind"] == "end":
                    break
        assert paused == {"ada": "two-0", "bob": "two-1"}
        assert event["result"] == "done"
    for session, user in zip(sessions, ("ada", "bob"), strict=True):
        moved = await api.until(session, "ready")
        assert (moved["target"], moved["port"]) == (session["target"], session["port"])
        await api.end(session, user=user)
    kubectl("delete", "statefulset", "two")
