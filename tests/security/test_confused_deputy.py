"""A cluster that reports whatever it likes as a pod's address does not have the gateway connect to somebody else."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from noah.errors import CannotDebug
from noah.kube.clusters import Cluster
from noah.targets.pod.address import checked, connect
from tests.security.hostile_api import api_in_a_thread
from tests.unit.kube.fake_api import Call

POD_NETWORK = ipaddress.ip_network("10.244.0.0/16")


def own_addresses() -> list[str]:
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return sorted(str(one) for one in found)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "169.254.169.254", "fe80::1",
        "224.0.0.1", "ff02::1", "255.255.255.255", "", "localhost", "10.0.0.1;id", "2130706433", *own_addresses(),
    ],
)  # fmt: skip
def test_what_is_not_a_pods_address_is_refused_with_the_setting(address: str) -> None:
    with pytest.raises(CannotDebug) as refused:
        checked(address, networks=(), cluster="theirs")
    assert "theirs" in refused.value.sentence


def test_with_pod_networks_no_other_address_is_connected_to() -> None:
    assert checked("10.244.3.7", networks=(POD_NETWORK,), cluster="theirs") == "10.244.3.7"
    assert checked("::ffff:10.244.3.7", networks=(POD_NETWORK,), cluster="theirs") == "10.244.3.7"
    for other in ("10.245.0.1", "192.168.0.1", "127.0.0.1", "::1"):
        with pytest.raises(CannotDebug):
            checked(other, networks=(POD_NETWORK,), cluster="theirs")


@pytest.mark.parametrize("spec", [{"podCIDRs": ["10.244.3.0/24", "fd00::/64"]}, {"podCIDR": "10.244.3.0/24"}])
async def test_the_networks_of_a_pods_node_can_be_the_only_ones(spec: dict[str, Any]) -> None:
    async def nodes(call: Call) -> None:
        call.json(200, {"spec": spec if call.path == "/api/v1/nodes/n1" else {"podCIDRs": [5, None, "x", "::/200"]}})

    async with api_in_a_thread(nodes) as api:
        settings = api.settings.model_copy(update={"pod_networks": "nodes"})
        async with Cluster(settings) as cluster:
            networks = await cluster.pod_networks("n1")
            assert checked("10.244.3.7", networks=networks, cluster="theirs") == "10.244.3.7"
            with pytest.raises(CannotDebug):
                checked("10.244.4.7", networks=networks, cluster="theirs")
            with pytest.raises(CannotDebug) as refused:
                await cluster.pod_networks("n2")
            assert "pod_networks" in refused.value.sentence


async def test_who_is_connected_to_is_shown_the_secret_before_anything_else() -> None:
    """A forwarder of another session, which knows another one, hangs up; the handshake comes after it."""
    got = asyncio.Queue[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.put_nowait(await reader.readline())
        got.put_nowait(await reader.readexactly(14))
        writer.close()

    class Debugger(asyncio.Protocol, asyncio.BufferedProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(b"JDWP-Handshake")  # type: ignore[attr-defined]

    async with asyncio.timeout(60), await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        transport = await connect(Debugger, "127.0.0.1", port, token="c0ffee")
        assert await got.get() == b"c0ffee\n"
        assert await got.get() == b"JDWP-Handshake"
        transport.close()
