"""A cluster behind a reverse proxy with a base path, as behind Rancher and KubeSphere: nginx and a real API server.

The proxy takes a token of its own, and is somebody else at the API server, as Rancher is.
"""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from noah.demo.debugger import jdb
from noah.kube.clusters import Cluster
from noah.kube.exec.commands import Container
from noah.kube.logs import Run
from noah.settings import ClusterSettings
from tests.cluster.conftest import Kubectl, flattened
from tests.cluster.test_exec import Receiver
from tests.gateway import serving
from tests.ports import free_port
from tests.reverse_proxies import nginx

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

BASE, TOKEN = "/k8s/clusters/c-abc", "kubeconfig-u-abc:s3cret"


def _location(folder: Path, kubeconfig: Path) -> str:
    there, user = flattened(kubeconfig)
    for name, data in (
        ("ca", there["certificate-authority-data"]),
        ("client", user["client-certificate-data"]),
        ("key", user["client-key-data"]),
    ):
        (folder / f"{name}.pem").write_bytes(base64.b64decode(data))
    (folder / "token").write_text(TOKEN)
    return f"""
      location {BASE}/ {{
        if ($http_authorization != "Bearer {TOKEN}") {{ return 401; }}
        set $upgrading "";
        if ($http_upgrade) {{ set $upgrading upgrade; }}
        proxy_pass {there["server"]}/;
        proxy_ssl_certificate {folder}/client.pem;
        proxy_ssl_certificate_key {folder}/key.pem;
        proxy_ssl_trusted_certificate {folder}/ca.pem;
        proxy_ssl_verify on;
        proxy_ssl_name kubernetes.default.svc;
        proxy_http_version 1.1;
        proxy_set_header Authorization "";
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $upgrading;
        proxy_buffering off;
        proxy_read_timeout 1h;
      }}"""


@asynccontextmanager
async def behind_nginx(folder: Path, kubeconfig: Path) -> AsyncIterator[ClusterSettings]:
    port, location = free_port(), _location(folder, kubeconfig)
    async with nginx(folder, location, port=port, name="localhost"):
        yield ClusterSettings(
            name="rancher",
            url=f"https://localhost:{port}{BASE}",
            token_file=folder / "token",
            ca_file=folder / "proxy.crt",
            reach="api-server",
        )


async def test_pods_are_watched_and_debugged_through_the_proxy(
    tmp_path: Path, kubeconfig: Path, kubectl: Kubectl
) -> None:
    await asyncio.to_thread(kubectl.run, "orders")
    async with behind_nginx(tmp_path, kubeconfig) as settings:
        for server in (f"{settings.url}/", str(settings.url)):
            await listed_watched_and_reached(_by_kubeconfig(tmp_path, server), kubectl)
        config = "".join(f'{key} = "{value}"\n' for key, value in _given(settings).items())
        async with serving(tmp_path, f"[[clusters]]\n{config}") as (_, api):
            session = await api.ready(f"pod/rancher/{kubectl.namespace}/orders/app")
            async with jdb(session["host"], session["port"]) as debugger:
                await api.until(session, "attached")
                debugger.type("threads")
                await debugger.says("main")
            assert (await api.end(session))["end_reason"] == "closed"


async def listed_watched_and_reached(settings: ClusterSettings, kubectl: Kubectl) -> None:
    async with Cluster(settings) as cluster, asyncio.timeout(60):
        assert await cluster.informer.wait_synced(30)
        changed = asyncio.Event()
        cluster.informer.subscribe(lambda pod, _: changed.set() if pod["metadata"]["name"] == "orders" else None)
        await asyncio.to_thread(kubectl, "label", "pod", "orders", f"seen=a{uuid.uuid4().hex}", "--overwrite")
        await changed.wait()
        pod = Container(kubectl.namespace, "orders", "app")
        assert (await cluster.exec.run(pod, ["cat"], stdin=b"hi\n", timeout=60)).stdout == b"hi\n"
        uid = (await cluster.get(f"/api/v1/namespaces/{kubectl.namespace}/pods/orders"))["metadata"]["uid"]
        async for line in cluster.logs.follow(Run(kubectl.namespace, "orders", uid, "app", 0)):
            assert line.text
            break
        receiver = Receiver()
        transport = await cluster.port_forward.connect(pod, 8080, lambda: receiver, on_behalf=None)
        transport.write(b"GET /checkurl HTTP/1.0\r\n\r\n")
        await receiver.lost.wait()
        assert receiver.first.startswith(b"HTTP/1.")
        assert b" 200 " in receiver.first.partition(b"\r\n")[0]


def _by_kubeconfig(folder: Path, server: str) -> ClusterSettings:
    """Return a cluster as Rancher's own kubeconfigs name it, with a slash at the end of its server or without."""
    there = {"server": server, "certificate-authority": str(folder / "proxy.crt")}
    tree = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": there}],
        "users": [{"name": "it", "user": {"token": TOKEN}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(tree))
    return ClusterSettings(name="rancher", kubeconfig=folder / "kubeconfig", reach="api-server")


def _given(settings: ClusterSettings) -> dict[str, Any]:
    return {key: getattr(settings, key) for key in ("name", "url", "token_file", "ca_file", "reach")}
