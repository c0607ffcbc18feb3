"""A pod is deleted while somebody debugs it: nothing is cut before the pod ends, and nothing is done over and over."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Kubectl
from tests.cluster.execs import AuditLog, Exec
from tests.cluster.promise.outages import cluster
from tests.cluster.promise.probed_app import ProbedApp, pods_named, probed_app, session_on
from tests.cluster.promise.rows import Rows, side_by_side
from tests.cluster.promise.scripted_debugger import ScriptedDebugger, attached
from tests.gateway import Api, serving

# The stories take two minutes; on a busy node pods take as long to come up.
pytestmark = [pytest.mark.cluster, pytest.mark.jvm, pytest.mark.timeout(600)]

# The gateway gave up a pod without a successor after 60 s; what is debugged may need longer than that to end.
LONG_GRACE_S = 75
GRACE_S = 30  # of a pod that has a successor from the first second on
COMES_UP_WITHIN_S = 120.0
ONE_AFTER_THE_OTHER = ("statefulset", "recreate")
OVERLAPPING = ("suspended", "running")


@dataclass(frozen=True)
class Replaced:
    """A pod's end with a debugger attached."""

    stayed: float  # seconds from the deletion to the end of the debugger's connection
    lasted: float  # seconds from the deletion to the pod's disappearance
    execs: Sequence[Exec]  # of the gateway, in the workload's pods, before the pod ended
    steps: Sequence[str]  # of the session, in that time
    followed: bool  # the session is ready on the successor, with the port it had


@pytest.fixture(scope="module")
def observed(kubectl: Kubectl, audit_log: AuditLog, tmp_path_factory: pytest.TempPathFactory) -> Rows[Replaced]:
    return asyncio.run(_observe(kubectl, audit_log, tmp_path_factory.mktemp("replaced")))


@pytest.mark.parametrize("kind", OVERLAPPING)
def test_a_pod_that_ends_beside_its_successor_is_left_alone(observed: Rows[Replaced], kind: str) -> None:
    replaced = observed[kind]
    assert len(replaced.execs) <= 2, replaced.execs
    assert len(replaced.steps) <= 1, replaced.steps


@pytest.mark.parametrize("kind", [*ONE_AFTER_THE_OTHER, *OVERLAPPING])
def test_a_debugger_stays_attached_until_its_pod_ends(observed: Rows[Replaced], kind: str) -> None:
    replaced = observed[kind]
    assert replaced.stayed > (LONG_GRACE_S if kind in ONE_AFTER_THE_OTHER else GRACE_S) - 2
    assert replaced.stayed > replaced.lasted - 5


@pytest.mark.parametrize("kind", [*ONE_AFTER_THE_OTHER, *OVERLAPPING])
def test_the_session_follows_to_the_successor_of_a_pod_that_took_long_to_end(
    observed: Rows[Replaced], kind: str
) -> None:
    assert observed[kind].followed


async def _observe(kubectl: Kubectl, audit_log: AuditLog, folder: Path) -> Rows[Replaced]:
    await asyncio.to_thread(
        kubectl.apply,
        _workload("StatefulSet", "statefulset", LONG_GRACE_S, serviceName="statefulset"),
        _workload("Deployment", "recreate", LONG_GRACE_S, strategy={"type": "Recreate"}),
        _workload("Deployment", "suspended", GRACE_S),
        # It runs until the end of its grace period, since its end begins when its hook has ended.
        _workload("Deployment", "running", GRACE_S, hook=["sleep", "300"]),
    )
    async with serving(folder, cluster("dev", kubectl.kubeconfig, kubectl.namespace)) as (_, api):

        def restarted(name: str) -> Callable[[], str]:
            return lambda: kubectl("rollout", "restart", f"deployment/{name}")

        def story(name: str, replace: Callable[[], str], *, stops: bool = True) -> Any:
            return _replaced(api, kubectl, name, replace, stops=stops, audit_log=audit_log)

        return await side_by_side(
            {
                "statefulset": story("statefulset", lambda: kubectl("delete", "pod", "statefulset-0", "--wait=false")),
                "recreate": story("recreate", restarted("recreate")),
                "suspended": story("suspended", restarted("suspended")),
                "running": story("running", restarted("running"), stops=False),
            }
        )


def _workload(kind: str, name: str, grace_s: int, *, hook: Sequence[str] | None = None, **spec: Any) -> dict[str, Any]:
    lifecycle: dict[str, Any] = {"lifecycle": {"preStop": {"exec": {"command": hook}}}} if hook else {}
    template = probed_app(name, **lifecycle)
    template["spec"]["terminationGracePeriodSeconds"] = grace_s
    whole = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": whole}


async def _replaced(
    api: Api, kubectl: Kubectl, name: str, replace: Callable[[], object], *, stops: bool, audit_log: AuditLog
) -> Replaced:
    first = await _first_pod(kubectl, name)
    app = ProbedApp(kubectl, first["metadata"]["name"])
    await app.come_up()
    session = await session_on(api, f"pod/dev/{kubectl.namespace}/{app.name}")
    try:
        async with attached(session["port"]) as debugger:
            if stops:
                await debugger.stop_in("compute")
                await app.work()
                await debugger.stopped()
            await api.until(session, "suspended" if stops else "attached")
            await asyncio.to_thread(replace)
            await _until(lambda: _is_deleted(kubectl, name, first))
            before = len((await api.show(session))["steps"])
            at, began = datetime.now(UTC), time.monotonic()
            stayed, lasted = await asyncio.gather(_time_of(debugger, began), _time_of_end(kubectl, name, first, began))
    finally:
        app.close()
    # What is done for the successor does not count.
    until = datetime.fromtimestamp(at.timestamp() + min(stayed, lasted) - 2, UTC)
    execs = audit_log.execs(kubectl.namespace, since=at, until=until)
    steps = [
        step["text"]
        for step in (await api.show(session))["steps"][before:]
        if datetime.fromisoformat(step["at"]) < until
    ]
    return Replaced(
        stayed, lasted, [one for one in execs if one.pod.startswith(name)], steps, await _follows(api, session, first)
    )


async def _first_pod(kubectl: Kubectl, name: str) -> dict[str, Any]:
    async with asyncio.timeout(COMES_UP_WITHIN_S):
        while not (found := await asyncio.to_thread(pods_named, kubectl, name)):
            await asyncio.sleep(0.2)
    return found[0]


def _is_deleted(kubectl: Kubectl, name: str, pod: dict[str, Any]) -> bool:
    return any("deletionTimestamp" in one["metadata"] for one in _the_same(kubectl, name, pod))


def _the_same(kubectl: Kubectl, name: str, pod: dict[str, Any]) -> list[dict[str, Any]]:
    uid = pod["metadata"]["uid"]
    return [one for one in pods_named(kubectl, name) if one["metadata"]["uid"] == uid]


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(COMES_UP_WITHIN_S):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.5)


async def _time_of(debugger: ScriptedDebugger, began: float) -> float:
    async with asyncio.timeout(LONG_GRACE_S + 60):
        await debugger.is_cut_off()
    return time.monotonic() - began


async def _time_of_end(kubectl: Kubectl, name: str, pod: dict[str, Any], began: float) -> float:
    await _until(lambda: not _the_same(kubectl, name, pod))
    return time.monotonic() - began


async def _follows(api: Api, session: dict[str, Any], first: dict[str, Any]) -> bool:
    """True when the session is ready, with its port, and a debugger finds a JVM of another pod there."""
    shown = await api.until(session, "ready", "ended", within=COMES_UP_WITHIN_S)
    if shown["status"] == "ended" or shown["port"] != session["port"]:
        return False
    is_successor = first["metadata"]["name"] not in shown["target"] or shown["workload"].startswith("StatefulSet")
    async with attached(shown["port"]):
        return is_successor
