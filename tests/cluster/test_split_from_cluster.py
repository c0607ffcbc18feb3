"""One of several gateways loses its way to the API server for longer than a lease: nothing is cut or doubled."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.cluster.conftest import Kubectl
from tests.cluster.promise.outages import api_server_port, cluster, kubeconfig_through
from tests.cluster.promise.probed_app import come_up, pod_of, session_on
from tests.cluster.promise.scripted_debugger import attached
from tests.faults import link
from tests.postgres import Postgres
from tests.replicas import replicas

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.jvm,
    pytest.mark.postgres,
    pytest.mark.soak,
    pytest.mark.timeout(1200),
]
# A forwarder that hears no word for ten minutes ends what passes (inpod/forwarder.sh).
LASTS_S = 300.0
WITHIN_S = 180.0


async def test_a_gateway_that_is_split_from_its_cluster_keeps_what_it_has(
    kubectl: Kubectl, postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    apps = await come_up(kubectl, pod_of("standing"), pod_of("idle"))
    standing, idle = apps["standing"], apps["idle"]
    async with replicas(postgres, postgres_url, tmp_path, start=False) as three, AsyncExitStack() as stack:
        stack.callback(standing.close)
        stack.callback(idle.close)
        links = [await stack.enter_async_context(link(to=api_server_port(kubectl))) for _ in three.gateways]
        for way, gateway in zip(links, three.gateways, strict=True):
            through = kubeconfig_through(way.port, kubectl, gateway.file.with_suffix(".conf"))
            gateway.file.write_text(gateway.file.read_text() + cluster("c", through, kubectl.namespace))
        await three.start()
        one, other, third = three.gateways
        sessions = {app: await session_on(one.api, f"pod/c/{kubectl.namespace}/{app.name}") for app in (standing, idle)}
        for session in sessions.values():
            assert await three.owner_of(session) is one
        before = sorted(three.sessions())
        debugger = await stack.enter_async_context(attached(sessions[standing]["port"], host=one.host))
        await debugger.stop_in("compute")
        await standing.work()
        await debugger.stopped()
        await other.api.until(sessions[standing], "suspended", within=WITHIN_S)

        links[0].freeze()
        ends_at = asyncio.get_running_loop().time() + LASTS_S
        while asyncio.get_running_loop().time() < ends_at:
            for gateway in three.gateways:
                assert (await gateway.api.show(sessions[standing]))["status"] == "suspended"
            assert not await standing.answers(within=2)
            await asyncio.sleep(5)
        # The port answers: bytes go to the pod, not by way of the API server.
        async with attached(sessions[idle]["port"], host=third.host) as passing:
            await passing.stop_in("compute")
            await third.api.until(sessions[idle], "attached", within=WITHIN_S)
        assert await standing.restarts() == await idle.restarts() == 0
        assert sorted(three.sessions()) == before

        links[0].thaw()
        await debugger.resume()
        await standing.runs()
        for gateway in three.gateways:
            await gateway.api.until(sessions[standing], "attached", within=WITHIN_S)
            await gateway.api.until(sessions[idle], "ready", within=WITHIN_S)
        for session in sessions.values():
            ended = await other.api.end(session, wait=120)
            assert (ended["status"], ended["end_reason"]) == ("ended", "closed")
            assert len(ended["audit"]["connections"]) == 1
        left = await asyncio.gather(*(app.exec("sh", "-c", "ls /dev/shm") for app in apps.values()))
        assert ["noah" in names for names in left] == [False, False]
        assert await standing.restarts() == await idle.restarts() == 0
