"""Releases on a real cluster, watched live: what is shown, and how each is ended by name."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from noah.core.inject.manifest import inject
from tests.cluster.conftest import Kubectl, java_app
from tests.gateway import Process, serving

pytestmark = pytest.mark.cluster

JAVA = ["java", "-Xmx32m", "-XX:TieredStopAtLevel=1", "-cp", "/app", "App"]
PROBE = {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": 2}


@pytest.fixture
async def gateway(kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Process]:
    config = f'[[clusters]]\nname = "c"\nkubeconfig = "{kubectl.kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
    async with serving(tmp_path, config) as (process, _):
        yield process


def deployment(
    name: str, *, replicas: int = 1, annotations: dict[str, str] | None = None, **container: Any
) -> dict[str, Any]:
    template = java_app(name, options="-Xmx32m", **{"command": JAVA, "livenessProbe": PROBE, **container})
    template["metadata"]["annotations"] = annotations or {}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    return inject(made).manifest


async def watched(
    gateway: Process, kubectl: Kubectl, name: str, *, within: float = 90
) -> tuple[int, list[dict[str, Any]]]:
    """What `noah release watch` prints, and its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "noah", "release", "watch", name, "-n", kubectl.namespace, "-o", "json"),
        env={**os.environ, "NOAH_URL": gateway.url},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), within)
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()]


async def test_a_good_release_is_told_from_the_first_line_to_online(kubectl: Kubectl, gateway: Process) -> None:
    kubectl.apply(deployment("good", replicas=2))
    code, events = await watched(gateway, kubectl, "good")
    assert code == 0
    end = events[-1]
    assert (end["kind"], end["result"], end["text"]) == ("end", "done", "2 of 2 online")
    assert [event["n"] for event in events] == list(range(1, len(events) + 1))

    logs = [(e["pod"], e["container"], e["text"]) for e in events if e["kind"] == "log"]
    assert len(logs) == len(set(logs))
    pods = {pod for pod, container, text in logs if (container, text) == ("app", "app started on 8080")}
    assert len(pods) == 2
    for kind, more, text in (
        ("pod", {}, "Running"),
        ("condition", {"condition": "Ready", "status": True}, "Ready"),
        ("event", {"reason": "Started", "type": "Normal"}, "Started container app"),
        ("online", {"online": True}, "healthcheck.html is there"),
    ):
        assert {e["pod"] for e in found(events, kind, **more) if e["text"] == text} == pods
    assert {e["pod"] for e in found(events, "checkurl") if e["text"].startswith("waiting for checkurl")} == pods
    assert [e["text"] for e in found(events, "progress")][-1] == "2 of 2 online"
    assert any(e["object"] == "Deployment/good" for e in found(events, "event", reason="ScalingReplicaSet"))


def found(events: list[dict[str, Any]], kind: str, **more: Any) -> list[dict[str, Any]]:
    return [event for event in events if event["kind"] == kind and more.items() <= event.items()]


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"image": "nowhere"}, "cannot be pulled"),
    "hook": ({"annotations": {"debug.noah/prestart": "/bin/false"}}, "preStart failed in container app"),
    "online": (
        {"annotations": {"debug.noah/preonline": "/bin/false", "debug.noah/preonline-tries": "1"}},
        "preOnline failed for good: /bin/false failed with exit code 1",
    ),
    "crash": ({"command": [*JAVA[:-1], "NoSuchClass"]}, "Could not find or load main class NoSuchClass"),
}


async def test_each_kind_of_failure_is_named(kubectl: Kubectl, gateway: Process) -> None:
    for name, (how, _) in FAILING.items():
        kubectl.apply(deployment(name, **how))
    async with asyncio.TaskGroup() as group:
        watching = {name: group.create_task(watched(gateway, kubectl, name), name=name) for name in FAILING}
    for name, (_, says) in FAILING.items():
        code, events = watching[name].result()
        assert code == 6
        assert says in events[-1]["text"], events
    kubectl("delete", "deployment", *FAILING)
