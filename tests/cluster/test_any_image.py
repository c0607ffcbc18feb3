"""Images without socat, and without a shell: the whole story on a real kubelet, by both routes."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from noah.core.inject.manifest import inject
from noah.core.pods import TOOLS
from noah.demo.debugger import Jdb, jdb
from tests.cluster import images
from tests.cluster.conftest import AGENT, Kubectl, until
from tests.cluster.test_enable import configured
from tests.gateway import Api, serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

# A container that stands still is killed after 2 x 3 s with the probe that the manifests begin with.
PROBE = {"httpGet": {"path": "/checkurl", "port": "http"}, "periodSeconds": 2, "failureThreshold": 3}
STARTS_WITHIN_S = 300  # on a busy machine
STARTS = {"httpGet": {"path": "/checkurl", "port": "http"}, "periodSeconds": 1, "failureThreshold": 180}


@dataclass(frozen=True)
class Image:
    image: str
    breakpoint: str
    path: str  # of a request that reaches it
    way: str  # a part of the step that names it
    probed_beside: bool = False


BARE = Image(
    "noah.test/bare:1", "App.compute", "/work", "a port-forward through the API server: its image has no socat"
)
SIDECAR = Image(images.NO_SHELL, "OrderService.price", "/orders", "socat in the sidecar noah-tools", probed_beside=True)


@pytest.fixture(scope="module", autouse=True)
def _images(kubeconfig: Path) -> None:
    images.give(kubeconfig)


def deployment(name: str, image: Image, **container: Any) -> dict[str, Any]:
    annotations = {"debug.noah/probe-by": "sidecar"} if image.probed_beside else {}
    app = {
        "name": "app",
        "image": image.image,
        "imagePullPolicy": "Never",
        "env": [{"name": "JAVA_TOOL_OPTIONS", "value": "-Xshare:auto"}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "livenessProbe": PROBE,
        "startupProbe": STARTS,
        **container,
    }
    template = {
        "metadata": {"labels": {"app": name}, "annotations": annotations},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [app]},
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


class App:
    def __init__(self, kubectl: Kubectl, name: str, image: Image) -> None:
        self.kubectl = kubectl
        self.name = name
        self.image = image
        self.target = f"pod/dev/{kubectl.namespace}/deploy/{name}"

    async def pod(self) -> dict[str, Any]:
        return (await asyncio.to_thread(self.kubectl.list, "pods", f"app={self.name}"))[0]

    async def restarts(self) -> int:
        statuses = (await self.pod())["status"]
        return sum(
            c["restartCount"] for c in (*statuses["containerStatuses"], *statuses.get("initContainerStatuses", ()))
        )

    async def request(self) -> None:
        url = f"http://{(await self.pod())['status']['podIP']}:8080{self.image.path}"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            await answer.read()

    async def left(self, container: str) -> str:
        """What a session has left: files, and processes."""
        commands = "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/cmdline; done"
        script = f"ls -A /dev/shm; {commands} | grep noah-s-[0-9a-f]"
        pod = (await self.pod())["metadata"]["name"]
        return await asyncio.to_thread(self.kubectl, "exec", pod, "-c", container, "--", "sh", "-c", f"{script}; true")

    @asynccontextmanager
    async def at_a_breakpoint(self, session: dict[str, Any]) -> AsyncIterator[Jdb]:
        async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
            debugger.type(f"stop in {self.image.breakpoint}")
            await debugger.says("breakpoint")
            request = group.create_task(self.request())
            await debugger.says("Breakpoint hit")
            yield debugger
            request.cancel()


async def story(app: App, api: Api, *, seconds: float) -> None:
    session = await api.ready(app.target)
    steps = [step["text"] for step in (await api.show(session))["steps"]]
    assert any(app.image.way in step for step in steps), steps
    name = (await app.pod())["metadata"]["name"]
    findings = (await api.ask("POST", "clusters/dev/doctor", {"pod": f"{app.kubectl.namespace}/{name}"}))["findings"]
    assert [app.image.way in found["message"] for found in findings if found["check"] == "way"] == [True], findings
    assert {found["level"] for found in findings} == {"ok"}, findings
    async with app.at_a_breakpoint(session) as debugger:
        await api.until(session, "suspended")
        await asyncio.sleep(seconds)  # what the kubelet does meanwhile is the question
        assert (await api.show(session))["status"] == "suspended"
        assert await app.restarts() == 0
        debugger.type(f"clear {app.image.breakpoint}")
        debugger.type("cont")
        await api.until(session, "attached")
    await api.until(session, "ready")
    ended = await api.end(session)
    assert (ended["status"], ended["end_reason"]) == ("ended", "closed")
    assert await app.left(TOOLS if app.image.probed_beside else "app") == ""
    assert await app.restarts() == 0


@pytest.mark.parametrize("seconds", [25, pytest.param(120, marks=pytest.mark.soak)])
async def test_any_image_is_debugged_and_spared_by_either_route(
    tmp_path: Path, kubeconfig: Path, kubectl: Kubectl, seconds: float
) -> None:
    apps = {
        reach: [App(kubectl, f"{name}-{reach}-{seconds}", image) for name, image in (("bare", BARE), ("none", SIDECAR))]
        for reach in ("pod", "api-server")
    }
    everything = [app for each in apps.values() for app in each]
    kubectl.apply(*(inject(deployment(app.name, app.image), tools_image=images.TOOLS).manifest for app in everything))
    for app in everything:
        kubectl.wait(f"deployment/{app.name}", "condition=Available", timeout=STARTS_WITHIN_S)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for reach, each in apps.items():
            (tmp_path / reach).mkdir()
            _, api = await stack.enter_async_context(serving(tmp_path / reach, configured(kubeconfig, reach=reach)))
            for app in each:
                group.create_task(story(app, api, seconds=seconds), name=app.name)
    kubectl("delete", "deployment", *(app.name for app in everything), "--wait=false")


async def test_a_pod_without_a_shell_into_which_nothing_was_injected_is_debugged(
    tmp_path: Path, kubeconfig: Path, kubectl: Kubectl
) -> None:
    """With a tools_image an ephemeral container sees what its JVM does; without one only the bytes pass."""
    plain = dataclasses.replace(SIDECAR, probed_beside=False)
    unprobed = {"livenessProbe": None, "startupProbe": None, "env": [{"name": "JAVA_TOOL_OPTIONS", "value": AGENT}]}
    helped, alone = App(kubectl, "helped", plain), App(kubectl, "alone", plain)
    kubectl.apply(*(deployment(app.name, plain, readinessProbe=STARTS, **unprobed) for app in (helped, alone)))
    for app in (helped, alone):
        kubectl.wait(f"deployment/{app.name}", "condition=Available", timeout=STARTS_WITHIN_S)
    config = configured(kubeconfig) + f'tools_image = "{images.TOOLS}"\n' + configured(kubeconfig, name="without")
    async with serving(tmp_path, config) as (_, api):
        session = await api.ready(helped.target)
        [step] = [one["text"] for one in (await api.show(session))["steps"] if "The way to the JVM" in one["text"]]
        assert "socat in the ephemeral container noah-tools-" in step
        async with helped.at_a_breakpoint(session):
            await api.until(session, "suspended")
        assert (await api.end(session))["end_reason"] == "closed"
        await asyncio.to_thread(until, lambda: "terminated" in ephemeral_states(helped))
        alone.target = alone.target.replace("pod/dev/", "pod/without/")
        session = await api.ready(alone.target)
        async with alone.at_a_breakpoint(session):
            await api.until(session, "suspended")
        steps = str((await api.show(session))["steps"])
        assert "a port-forward through the API server: its image has no shell" in steps
        assert (await api.end(session))["end_reason"] == "closed"
    assert ephemeral_states(alone) == "[]"
    assert (await helped.restarts(), await alone.restarts()) == (0, 0)


def ephemeral_states(app: App) -> str:
    pod = app.kubectl.list("pods", f"app={app.name}")[0]
    return str([status["state"] for status in pod["status"].get("ephemeralContainerStatuses") or ()])
