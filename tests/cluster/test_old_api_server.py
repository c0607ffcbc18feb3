"""An API server before 1.30 cannot end a command's stdin: every script that comes by it has to end by itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from noah.errors import Unavailable
from noah.kube.clusters import Cluster
from noah.kube.exec.commands import Container
from noah.settings import ClusterSettings
from tests.cluster.conftest import STARTS, Kubectl
from tests.cluster.proxies import path_proxy
from tests.cluster.test_enable import OURS, Shop, at_a_breakpoint
from tests.gateway import serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

QUICK_S = 10.0  # an exec that waits for the end of its stdin is given up after 15 s


@pytest.fixture(scope="module")
def orders(kubectl: Kubectl) -> Shop:
    kubectl("create", "serviceaccount", "gateway")
    who = f"--serviceaccount={kubectl.namespace}:gateway"
    kubectl("create", "rolebinding", "gateway", "--clusterrole=admin", who)
    kubectl.deploy("orders", livenessProbe=OURS, startupProbe=STARTS)
    return Shop(kubectl, "orders")


def server_of(kubeconfig: Path) -> str:
    return str(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])


@pytest.fixture
async def old_server(kubeconfig: Path, orders: Shop, tmp_path: Path) -> AsyncIterator[ClusterSettings]:
    token = await asyncio.to_thread(orders.kubectl, "create", "token", "gateway")
    (tmp_path / "token").write_text(token)
    async with path_proxy("/old", to=server_of(kubeconfig), before_1_30=True) as url:
        yield ClusterSettings(
            name="dev", url=url, token_file=tmp_path / "token", namespaces=(orders.kubectl.namespace,)
        )


async def test_commands_run_over_v4_and_the_end_of_stdin_does_not_come(
    old_server: ClusterSettings, orders: Shop
) -> None:
    pod = Container(orders.kubectl.namespace, orders.pod_name(), "app")
    async with Cluster(old_server) as cluster:
        result = await cluster.exec.run(pod, ["sh", "-s"], stdin=b"echo hi; exit 7\n", timeout=QUICK_S)
        assert (result.stdout, result.code) == (b"hi\n", 7)
        with pytest.raises(Unavailable, match="did not end within 1 s"):
            await cluster.exec.run(pod, ["sh", "-s"], stdin=b"echo hi\n", timeout=1)
        lines: list[str] = []
        held = await cluster.exec.hold(
            pod,
            ["sh", "-s"],
            stdin=b'echo up; read -r line; echo "got $line"; exit 3\n',
            keep_stdin=True,
            until="up",
            first_line_timeout=QUICK_S,
            on_line=lines.append,
        )
        held.write(b"a word\n")
        await asyncio.wait_for(held.ended.wait(), QUICK_S)
        assert (held.how, lines) == (3, ["got a word"])


@pytest.mark.parametrize("reach", ["pod", "api-server"])
async def test_a_session_starts_looks_reports_and_stops_without_waiting_for_stdin(
    old_server: ClusterSettings, orders: Shop, tmp_path: Path, reach: str
) -> None:
    config = (
        f'[[clusters]]\nname = "dev"\nurl = "{old_server.url}"\ntoken_file = "{old_server.token_file}"\n'
        f'namespaces = ["{orders.kubectl.namespace}"]\nreach = "{reach}"\n'
    )
    async with serving(tmp_path, config) as (_, api):
        began = time.monotonic()
        session = await api.ready(orders.target)
        assert time.monotonic() - began < QUICK_S
        async with at_a_breakpoint(orders, session):
            await api.until(session, "suspended", within=QUICK_S)
            await asyncio.sleep(QUICK_S)  # several probes, and whatever had not been reported
            assert (await api.show(session))["status"] == "suspended"
        await api.until(session, "ready", within=QUICK_S)
        await orders.exec("pkill", "-9", "socat")
        async with asyncio.timeout(2 * QUICK_S):
            while len(await orders.socats()) != 1:
                await asyncio.sleep(0.2)
        await api.until(session, "ready", within=2 * QUICK_S)
        began = time.monotonic()
        await api.end(session)
        assert time.monotonic() - began < QUICK_S
    assert await orders.socats() == []
    assert "noah" not in await orders.exec("ls", "-A", "/dev/shm")
    assert orders.restarts() == 0
