"""What a session costs the cluster: execs per hour, by what the debugger does.

    python -m benchmarks.promise KUBECONFIG [MINUTES]

Makes a namespace with one sample pod for each state of a debugger, and removes it. Execs are counted in the API
server's audit log for MINUTES (5) and extrapolated to an hour; then the gateway is killed and started again, and they
are counted once more. What the liveness probe costs: benchmarks/probe.py.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.conftest import Kubectl, until
from tests.cluster.execs import AuditLog
from tests.cluster.promise.outages import cluster
from tests.cluster.promise.probed_app import ProbedApp, come_up, pod_of, session_on
from tests.cluster.promise.scripted_debugger import ScriptedDebugger, attached
from tests.gateway import Api, serving

STATES = ("idle", "attached", "suspended", "stepping")
STEP_S = 2.0  # seconds between a stop and the next resume, of a person who steps
SETTLES_S = 10.0  # seconds after which what a session's begin took is over


async def main(kubeconfig: Path, minutes: float) -> None:
    kubectl = Kubectl(kubeconfig, f"noah-bench-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    try:
        until(lambda: "default" in kubectl("get", "serviceaccounts", "-o", "name"))
        apps = await come_up(kubectl, *map(pod_of, STATES))
        figures = await measured(kubectl, apps, minutes)
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
    report(figures)


async def measured(kubectl: Kubectl, apps: Mapping[str, ProbedApp], minutes: float) -> dict[str, Any]:
    audit_log = AuditLog(Path(os.environ.get("NOAH_TEST_AUDIT_LOG") or kubectl.kubeconfig.parent / "log" / "audit.log"))
    figures: dict[str, Any] = {"minutes": minutes}
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), cluster("dev", kubectl.kubeconfig, kubectl.namespace)) as (process, api):
            sessions = {state: await session_on(api, f"pod/dev/{kubectl.namespace}/{state}") for state in STATES}
            async with AsyncExitStack() as stack:
                debuggers = {
                    state: await stack.enter_async_context(attached(sessions[state]["port"])) for state in STATES[1:]
                }
                for state in ("suspended", "stepping"):
                    await stops(debuggers[state], apps[state])
                await asyncio.sleep(SETTLES_S)
                async with asyncio.TaskGroup() as group:
                    stepping = group.create_task(steps(debuggers["stepping"], apps["stepping"]), name="stepping")
                    figures["execs per hour"] = await counted(audit_log, kubectl, minutes)
                    stepping.cancel()
                figures["restarts"] = {state: await app.restarts() for state, app in apps.items()}
            await process.stop(signal.SIGKILL)
            began = datetime.now(UTC)
            await process.start()
            await settled(api, sessions)
            figures["execs of a restart"] = count(audit_log, kubectl, began)
            figures["execs per hour after a restart"] = await counted(audit_log, kubectl, minutes)
    for app in apps.values():
        app.close()
    return figures


async def stops(debugger: ScriptedDebugger, app: ProbedApp) -> None:
    await debugger.stop_in("compute")
    await app.work()
    await debugger.stopped()


async def steps(debugger: ScriptedDebugger, app: ProbedApp) -> None:
    while True:
        await asyncio.sleep(STEP_S)
        await debugger.resume()
        await app.work()
        await debugger.stopped()


async def settled(api: Api, sessions: Mapping[str, dict[str, Any]]) -> None:
    for session in sessions.values():
        await api.until(session, "ready")
    await asyncio.sleep(SETTLES_S)


async def counted(audit_log: AuditLog, kubectl: Kubectl, minutes: float) -> dict[str, float]:
    """Execs per hour, by state."""
    began = datetime.now(UTC)
    await asyncio.sleep(minutes * 60)
    return {state: round(number * 60 / minutes, 1) for state, number in count(audit_log, kubectl, began).items()}


def count(audit_log: AuditLog, kubectl: Kubectl, since: datetime) -> dict[str, int]:
    now = datetime.now(UTC)
    return {state: len(audit_log.execs(kubectl.namespace, state, since=since, until=now)) for state in STATES}


def report(figures: dict[str, Any]) -> None:
    hour, again = figures["execs per hour"], figures["execs per hour after a restart"]
    once = figures["execs of a restart"]
    print(f"execs per hour and session, from {figures['minutes']:g} minutes")
    print(f"{'':12} {'':>8} {'of a restart':>14} {'after a restart':>16}")
    for state in STATES:
        print(f"{state:12} {hour[state]:8.1f} {once[state]:14} {again[state]:16.1f}")
    print(f"restarts of containers, before the gateway was killed: {figures['restarts']}")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-promise.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 5))
