"""A JVM that has not come up is not killed while it stands still: it waits for its first debugger, or is suspended."""

import asyncio
from pathlib import Path

import pytest

from noah.core.inject.manifest import inject
from noah.demo.debugger import jdb
from tests.cluster import images
from tests.cluster.conftest import AGENT, Kubectl
from tests.cluster.test_any_image import BARE, SIDECAR, STARTS_WITHIN_S, App, Image, deployment
from tests.cluster.test_enable import configured
from tests.gateway import Api, serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

WAITS = {"name": "JAVA_TOOL_OPTIONS", "value": AGENT.replace("suspend=n", "suspend=y")}
LIVENESS = {"httpGet": {"path": "/checkurl", "port": "http"}, "periodSeconds": 2, "failureThreshold": 3}
# 15 s until the app has to be up; it takes 8 and stands still for 25.
STARTUP = {"httpGet": {"path": "/checkurl", "port": "http"}, "periodSeconds": 1, "failureThreshold": 15}
LONG_S = 25  # several times what either probe gives


async def waits_for_its_first_debugger(app: App, api: Api) -> None:
    async with asyncio.timeout(STARTS_WITHIN_S):
        while "running" not in str((await app.pod())["status"].get("containerStatuses")):
            await asyncio.sleep(0.5)
    await asyncio.sleep(LONG_S)
    assert await app.restarts() == 0
    session = await api.ready(f"pod/dev/{app.kubectl.namespace}/{(await app.pod())['metadata']['name']}")
    async with jdb(session["host"], session["port"]) as debugger:
        await debugger.says("main[1]")
        debugger.type("cont")
        await asyncio.to_thread(
            app.kubectl.wait, f"deployment/{app.name}", "condition=Available", timeout=STARTS_WITHIN_S
        )
    await api.end(session)
    assert await app.restarts() == 0


async def is_suspended_while_it_starts(app: App, api: Api) -> None:
    async with asyncio.timeout(STARTS_WITHIN_S):
        while "running" not in str((await app.pod())["status"].get("containerStatuses")):
            await asyncio.sleep(0.2)
    session = await api.ready(f"pod/dev/{app.kubectl.namespace}/{(await app.pod())['metadata']['name']}")
    async with jdb(session["host"], session["port"]) as debugger:
        debugger.type("suspend")
        await api.until(session, "suspended")
        await asyncio.sleep(LONG_S)
        assert await app.restarts() == 0
        debugger.type("resume")
        await asyncio.to_thread(
            app.kubectl.wait, f"deployment/{app.name}", "condition=Available", timeout=STARTS_WITHIN_S
        )
    await api.end(session)
    assert await app.restarts() == 0


async def test_a_startup_that_stands_still_is_spared(tmp_path: Path, kubeconfig: Path, kubectl: Kubectl) -> None:
    images.give(kubeconfig)
    java = Image("noah.test/java17:1", BARE.breakpoint, BARE.path, way="")
    waits = {"env": [WAITS], "livenessProbe": LIVENESS, "startupProbe": None}
    slow = {"env": [{"name": "START_SECONDS", "value": "8"}], "startupProbe": STARTUP}
    manifests = [
        deployment("waits", java, **waits),
        deployment("waits-no-shell", SIDECAR, **waits),
        deployment("slow", java, **slow),
    ]
    kubectl.apply(*(inject(manifest, tools_image=images.TOOLS).manifest for manifest in manifests))
    async with serving(tmp_path, configured(kubeconfig)) as (_, api), asyncio.TaskGroup() as group:
        group.create_task(waits_for_its_first_debugger(App(kubectl, "waits", java), api))
        group.create_task(waits_for_its_first_debugger(App(kubectl, "waits-no-shell", SIDECAR), api))
        group.create_task(is_suspended_while_it_starts(App(kubectl, "slow", java), api))
