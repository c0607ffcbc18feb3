"""The demonstration on a real cluster: a namespace of its own, two pods, a real kubelet; all is removed afterwards."""

import asyncio
import base64
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from noah.app import gateway
from noah.client.gateway_client import GatewayClient, Json, session_path
from noah.core import pods
from noah.core.inject.probe import probe_spec
from noah.demo.debugger import Jdb, jdb
from noah.demo.on_this_machine import AT_BREAKPOINT_S, enable, end, say
from noah.demo.sample_app import free_port
from noah.errors import BadSettings, NoahError, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.exec.commands import Container
from noah.kube.kubeconfig import files_of
from noah.settings import ClusterSettings, GatewaySettings, Settings
from noah.store import upgrade

CHECKURL = "http://127.0.0.1:8080/checkurl"
AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:50005,quiet=y"
COMES_UP_WITHIN_S = 120.0
PLAIN = {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": 2, "failureThreshold": 3}


async def run_on_cluster(folder: Path, *, classes: Mapping[str, bytes], context: str | None, image: str) -> None:
    """Show both pods at a breakpoint. *classes* are the sample app's class files by name."""
    known = ClusterSettings(name="demo", kubeconfig=_kubeconfig(), context=context)
    tree = Settings(
        gateway=GatewaySettings(listen=f"127.0.0.1:{free_port()}", database=f"sqlite:///{folder}/noah.db"),
        clusters=(known,),
    )
    await asyncio.to_thread(upgrade, tree.gateway.database)
    async with gateway(tree) as serving, Cluster(known) as cluster, _namespace(cluster) as namespace:
        say(f"Two pods in namespace {namespace} ...")
        await _create(cluster, namespace, classes, image)
        await _healthy(cluster, namespace)
        await _show(cluster, namespace, GatewayClient(serving.url))


def _kubeconfig() -> Path:
    kubeconfig = Path(os.environ.get("KUBECONFIG") or "~/.kube/config")
    if not any(file.exists() for file in files_of(kubeconfig)):
        raise BadSettings(f"There is no kubeconfig at {kubeconfig}: set KUBECONFIG.")
    return kubeconfig


async def _show(cluster: Cluster, namespace: str, api: GatewayClient) -> None:
    say("\n1. orders-plain: the kubelet asks checkurl, every 2 s; 3 failures and it kills the container.\n")
    async with _at_a_breakpoint(cluster, namespace, "orders-plain", api) as (session, _):
        began = asyncio.get_running_loop().time()
        await _until(cluster, namespace, "orders-plain", lambda pod: pods.restarts_of(pod) > 0)
        say(f"   ✗ killed after {asyncio.get_running_loop().time() - began:.0f} s.")
    await end(api, session)

    say("\n2. orders: the probe is the liveness expression.\n")
    async with _at_a_breakpoint(cluster, namespace, "orders", api) as (session, debugger):
        say(f"   {2 * AT_BREAKPOINT_S:.0f} s of looking at variables ...")
        await asyncio.sleep(2 * AT_BREAKPOINT_S)
        shown = await asyncio.to_thread(api.get, session_path(session["id"]))
        where = (shown.get("vm") or {}).get("location") or "a breakpoint"
        say(f"   the gateway: {shown['status']} at {where}, held by {shown['owner']}")
        debugger.type("clear OrderService.price")
        debugger.type("cont")
    ended = await end(api, session)
    restarts = pods.restarts_of(_pod(cluster, namespace, "orders"))
    if restarts or shown["status"] != "suspended":
        raise Unavailable(f"It should be suspended and alive: {shown['status']}, {restarts} restarts.")
    say(f"   ✓ {restarts} restarts, the session {ended['status']}.")


@contextlib.asynccontextmanager
async def _at_a_breakpoint(
    cluster: Cluster, namespace: str, pod: str, api: GatewayClient
) -> AsyncIterator[tuple[Json, Jdb]]:
    session = await enable(api, f"pod/demo/{namespace}/{pod}")
    say(f"   noah enable {session['target']}   ->  {session['host']}:{session['port']}")
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        debugger.type("stop in OrderService.price")
        await debugger.says("breakpoint")
        order = group.create_task(_order(cluster, namespace, pod), name="an order")
        await debugger.says("Breakpoint hit")
        say("   jdb stops in OrderService.price: the whole VM is suspended, and checkurl hangs.")
        yield session, debugger
        order.cancel()


async def _order(cluster: Cluster, namespace: str, pod: str) -> None:
    """Order something; the answer does not matter."""
    argv = ["curl", "-s", "http://127.0.0.1:8080/orders"]
    with contextlib.suppress(NoahError):
        await cluster.exec.run(Container(namespace, pod, "app"), argv, timeout=300)


@contextlib.asynccontextmanager
async def _namespace(cluster: Cluster) -> AsyncIterator[str]:
    name = f"noah-demo-{secrets.token_hex(3)}"
    labels = {"app.kubernetes.io/managed-by": "noah"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    await cluster.post("/api/v1/namespaces", body)
    try:
        yield name
    finally:
        with contextlib.suppress(NotFound):
            await cluster.delete(f"/api/v1/namespaces/{name}")
        say(f"   (namespace {name} is being removed)")


async def _create(cluster: Cluster, namespace: str, classes: Mapping[str, bytes], image: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    # A ConfigMap's keys have no '$', as inner classes' names do: they are keys by number, and get their names back.
    files = {f"c{n}": base64.b64encode(content).decode() for n, content in enumerate(classes.values())}
    items = [{"key": f"c{n}", "path": name} for n, name in enumerate(classes)]
    await cluster.post(
        f"{path}/configmaps",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "classes"}, "binaryData": files},
    )
    ours = probe_spec(checkurl=CHECKURL, timeout_seconds=2, period_seconds=2, failure_threshold=3)
    for name, probe in (("orders-plain", PLAIN), ("orders", ours)):
        await cluster.post(f"{path}/pods", _manifest(name, image, probe, items))


def _manifest(name: str, image: str, probe: dict[str, Any], files: list[dict[str, str]]) -> dict[str, Any]:
    app = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["java", "-cp", "/demo", "OrderService"],
        "env": [{"name": "JAVA_TOOL_OPTIONS", "value": AGENT}],
        "volumeMounts": [{"name": "classes", "mountPath": "/demo"}],
        "startupProbe": {"httpGet": PLAIN["httpGet"], "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {"httpGet": PLAIN["httpGet"], "periodSeconds": 1},
        "livenessProbe": probe,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, "app.kubernetes.io/managed-by": "noah"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [app],
            "volumes": [{"name": "classes", "configMap": {"name": "classes", "items": files}}],
        },
    }


def _pod(cluster: Cluster, namespace: str, name: str) -> pods.Pod:
    pod = cluster.informer.get(namespace, name)
    if pod is None:
        raise Unavailable(f"Pod {namespace}/{name} is gone.")
    return pod


async def _healthy(cluster: Cluster, namespace: str) -> None:
    for name in ("orders-plain", "orders"):
        await _until(cluster, namespace, name, pods.is_ready)


async def _until(cluster: Cluster, namespace: str, name: str, true: Any) -> None:
    try:
        async with asyncio.timeout(COMES_UP_WITHIN_S):
            while not ((pod := cluster.informer.get(namespace, name)) and true(pod)):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    except TimeoutError:
        pod = cluster.informer.get(namespace, name)
        phase = pods.phase_of(pod) if pod else "not there"
        raise Unavailable(f"Pod {namespace}/{name} does not come up: {phase}.") from None
