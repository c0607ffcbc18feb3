"""Debug sessions on real pods: a real gateway process, a real kubelet, a real JVM and a real jdb."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from noah.core.inject.probe import probe_spec
from noah.demo.debugger import Jdb, jdb
from tests.cluster.conftest import STARTS, Kubectl
from tests.gateway import Api, Process, Refused, serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

CHECKURL = "http://127.0.0.1:8080/checkurl"
PERIOD, FAILURES = 2, 3  # seconds, probes in a row
PLAIN = {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": PERIOD, "failureThreshold": FAILURES}
OURS = probe_spec(checkurl=CHECKURL, timeout_seconds=5, period_seconds=PERIOD, failure_threshold=FAILURES)


def configured(kubeconfig: Path, *, reach: str = "pod", name: str = "dev") -> str:
    return f'[[clusters]]\nname = "{name}"\nkubeconfig = "{kubeconfig}"\nreach = "{reach}"\n'


@pytest.fixture(params=["pod", "api-server"])
def reach(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def gateway(tmp_path: Path, kubeconfig: Path) -> AsyncIterator[tuple[Process, Api]]:
    async with serving(tmp_path, configured(kubeconfig)) as running:
        yield running


@pytest.fixture
def api(gateway: tuple[Process, Api]) -> Api:
    return gateway[1]


class Shop:
    """One app in the cluster."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.kubectl = kubectl
        self.name = name
        self.target = f"pod/dev/{kubectl.namespace}/deploy/{name}"

    def pod(self) -> dict[str, Any]:
        """The one that is not going away."""
        items = self.kubectl.list("pods", f"app={self.name}")
        return next(pod for pod in items if "deletionTimestamp" not in pod["metadata"])

    def pod_name(self) -> str:
        return str(self.pod()["metadata"]["name"])

    def restarts(self) -> int:
        return int(self.pod()["status"]["containerStatuses"][0]["restartCount"])

    async def exec(self, *argv: str) -> str:
        return await asyncio.to_thread(self.kubectl, "exec", self.pod_name(), "--", *argv)

    async def socats(self) -> list[str]:
        """Command lines of socats that are not zombies."""
        lines = (await self.exec("ps", "-eo", "stat,args")).splitlines()
        return [line for line in lines if " socat " in line and not line.startswith("Z")]

    async def lasting_processes(self) -> int:
        """Count the processes that are not a probe's, which come and go: the fewest of some looks."""
        return min([len((await self.exec("ls", "/proc")).split()) for _ in range(5)])

    async def until(self, true: Callable[["Shop"], bool], *, within: float = 60) -> None:
        async with asyncio.timeout(within):
            while not await asyncio.to_thread(true, self):
                await asyncio.sleep(0.2)


@pytest.fixture
def shop(kubectl: Kubectl, request: pytest.FixtureRequest) -> Shop:
    """A Deployment of its own for each test, probed by the liveness expression."""
    name = f"shop-{crc32(request.node.name.encode()):08x}"
    kubectl.deploy(name, livenessProbe=OURS, startupProbe=STARTS)
    return Shop(kubectl, name)


@asynccontextmanager
async def at_a_breakpoint(shop: Shop, session: dict[str, Any]) -> AsyncIterator[Jdb]:
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        debugger.type("stop in App.compute")
        await debugger.says("breakpoint")
        order = group.create_task(hit(shop))
        await debugger.says("Breakpoint hit")
        yield debugger
        order.cancel()


async def hit(shop: Shop) -> None:
    pod = await asyncio.to_thread(shop.pod_name)
    process = await asyncio.create_subprocess_exec(
        *("kubectl", "--kubeconfig", str(shop.kubectl.kubeconfig), "-n", shop.kubectl.namespace, "exec", pod, "--"),
        *("curl", "-s", "-m", "300", "http://127.0.0.1:8080/work"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_breakpoint_kills_with_the_plain_probe_and_not_with_ours(api: Api, kubectl: Kubectl) -> None:
    plain, ours = Shop(kubectl, "plain"), Shop(kubectl, "ours")
    kubectl.deploy("plain", livenessProbe=PLAIN, startupProbe=STARTS)
    kubectl.deploy("ours", livenessProbe=OURS, startupProbe=STARTS)
    first, second = await api.ready(plain.target), await api.ready(ours.target)
    async with at_a_breakpoint(ours, second):
        async with at_a_breakpoint(plain, first):
            await plain.until(lambda shop: shop.restarts() > 0)
        for _ in range(3):  # the other was killed within 8 s or so
            await asyncio.sleep(10)
            shown = await api.show(second)
            assert shown["status"] == "suspended"
            assert shown["vm"]["location"].startswith("App.compute:")
            assert ours.restarts() == 0
        assert "The debugger of ada has stopped the JVM" in kubectl("describe", "pod", ours.pod_name())
    await api.end(first)
    await api.end(second)
    assert ours.restarts() == 0


async def test_a_session_in_which_nothing_is_suspended_hides_no_deadlock(api: Api, shop: Shop) -> None:
    session = await api.ready(shop.target)
    async with jdb(session["host"], session["port"]):
        await api.until(session, "attached")
        await shop.exec("curl", "-s", "http://127.0.0.1:8080/hang")
        await shop.until(lambda shop: shop.restarts() > 0)
    back = await api.until(session, "ready")
    assert back["port"] == session["port"]


async def test_a_gateway_that_is_killed_at_a_breakpoint_hides_no_dead_app(
    gateway: tuple[Process, Api], shop: Shop
) -> None:
    process, api = gateway
    session = await api.ready(shop.target, **{"for": "10m"})
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        debugger.type("stop in App.compute")
        await debugger.says("breakpoint")
        order = group.create_task(hit(shop))
        await api.until(session, "suspended")
        await debugger.says("Breakpoint hit")
        await asyncio.sleep(2)
        await process.stop(signal.SIGKILL)
        order.cancel()
    # Its sockets have closed, so the VM runs: from here on checkurl decides.
    await shop.exec("curl", "-s", "http://127.0.0.1:8080/hang")
    await shop.until(lambda shop: shop.restarts() > 0, within=60)


async def test_a_killed_socat_is_started_again(api: Api, shop: Shop, kubeconfig: Path) -> None:
    session = await api.ready(shop.target)
    before = await shop.socats()
    assert len(before) == 1
    await shop.exec("pkill", "-9", "socat")
    await asyncio.sleep(0.5)
    await api.until(session, "ready")
    async with jdb(session["host"], session["port"]):
        await api.until(session, "attached")
    await api.end(session)
    assert await shop.socats() == []
    assert "noah" not in await shop.exec("ls", "-A", "/dev/shm")


async def test_a_gateway_that_comes_back_goes_on(gateway: tuple[Process, Api], shop: Shop) -> None:
    process, api = gateway
    session = await api.ready(shop.target)
    before = await shop.socats()
    await process.stop(signal.SIGKILL)
    await process.start()
    after = await api.until(session, "ready")
    assert (after["id"], after["port"]) == (session["id"], session["port"])
    assert await shop.socats() == before
    async with jdb(session["host"], session["port"]):
        await api.until(session, "attached")
    ended = await api.end(session)
    assert ended["status"] == "ended"
    assert await shop.socats() == []


async def test_a_session_that_ended_while_the_gateway_was_away_is_cleared_up(
    gateway: tuple[Process, Api], shop: Shop
) -> None:
    process, api = gateway
    session = await api.ready(shop.target, **{"for": "25s"})
    await process.stop(signal.SIGKILL)
    await asyncio.sleep(max(session["expires_in_seconds"], 0) + 1)
    await process.start()
    ended = await api.until(session, "ended")
    assert ended["end_reason"] == "expired"
    assert await shop.socats() == []


async def test_a_breakpoint_works_and_ends_cleanly_on_both_routes(
    tmp_path: Path, kubeconfig: Path, shop: Shop, reach: str
) -> None:
    async with serving(tmp_path, configured(kubeconfig, reach=reach)) as (_, api):
        session = await api.ready(shop.target)
        async with at_a_breakpoint(shop, session) as debugger:
            await api.until(session, "suspended")
            debugger.type("where all")
            await debugger.says("App.compute")
            debugger.type("clear App.compute")
            debugger.type("cont")
            await api.until(session, "attached")
        await api.until(session, "ready")
        async with at_a_breakpoint(shop, session):
            ended = await api.end(session)  # with a debugger at a breakpoint
            assert (ended["status"], ended["end_reason"]) == ("ended", "closed")
        await hit(shop)  # the VM was resumed: this answers
        assert await shop.socats() == []
        assert shop.restarts() == 0


async def test_a_replaced_pod_is_followed_to_its_successor(api: Api, shop: Shop) -> None:
    session = await api.ready(shop.target)
    gone = shop.pod_name()
    assert gone in session["target"]
    await asyncio.to_thread(shop.kubectl, "delete", "pod", gone, "--wait=false")
    async with asyncio.timeout(90):
        while True:
            shown = await api.show(session)
            if shown["status"] == "ready" and gone not in shown["target"]:
                break
            assert shown["end_reason"] is None, shown
            await asyncio.sleep(0.1)
    assert shown["port"] == session["port"]
    async with jdb(session["host"], session["port"]):
        await api.until(session, "attached")
    await api.end(session)


async def test_a_restarted_container_is_waited_for(api: Api, shop: Shop) -> None:
    session = await api.ready(shop.target)
    await asyncio.to_thread(_exit, shop)
    await shop.until(lambda shop: shop.restarts() > 0)
    await api.until(session, "ready")
    async with jdb(session["host"], session["port"]):
        await api.until(session, "attached")
    assert len(await shop.socats()) == 1
    await api.end(session)


def _exit(shop: Shop) -> None:
    with suppress(AssertionError):  # it takes curl with it
        shop.kubectl("exec", shop.pod_name(), "--", "curl", "-s", "http://127.0.0.1:8080/exit")


async def test_a_pod_on_its_own_that_is_deleted_ends_the_session(api: Api, kubectl: Kubectl) -> None:
    kubectl.run("alone")
    session = await api.ready(f"pod/dev/{kubectl.namespace}/alone")
    await asyncio.to_thread(kubectl, "delete", "pod", "alone", "--wait=false")
    ended = await api.until(session, "ended")
    assert ended["end_reason"] == "target_gone"
    assert "alone" in ended["end_detail"]


async def test_the_same_person_gets_the_same_session_and_somebody_else_the_holders_name(api: Api, shop: Shop) -> None:
    first, again = await asyncio.gather(api.enable(shop.target), api.enable(shop.target))
    assert first["id"] == again["id"]
    with pytest.raises(Refused, match="ada is already debugging") as refused:
        await api.enable(shop.target, user="bob")
    assert refused.value.status == 409
    assert refused.value.problem["holder"] == "ada"
    ended = await api.end(first, user="bob")
    assert (ended["end_reason"], ended["ended_by"]) == ("canceled", "bob")
    theirs = await api.ready(shop.target, user="bob")
    assert theirs["port"] != first["port"]
    await api.end(theirs, user="bob")
    mine = await api.ready(shop.target)
    assert mine["port"] == first["port"]
    await api.end(mine)


async def test_sixty_sessions_leave_nothing_behind(gateway: tuple[Process, Api], shop: Shop) -> None:
    process, api = gateway
    assert process.process is not None
    descriptors = f"/proc/{process.process.pid}/fd"
    await api.end(await api.ready(shop.target))
    processes, opened = await shop.lasting_processes(), len(os.listdir(descriptors))
    for _ in range(60):
        await api.end(await api.ready(shop.target))
    async with asyncio.timeout(60):
        while await shop.lasting_processes() > processes:
            pass  # a probe that takes long on a busy machine
    assert len(os.listdir(descriptors)) - opened <= 3  # pooled connections come and go
    assert await shop.exec("ls", "-A", "/dev/shm") == ""


async def test_a_black_holed_cluster_does_not_touch_the_other(tmp_path: Path, kubeconfig: Path, shop: Shop) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(4096):
                pass
        finally:
            writer.close()

    hole = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = hole.sockets[0].getsockname()[1]
    token = tmp_path / "token"
    token.write_text("t")
    other = f'[[clusters]]\nname = "hole"\nurl = "http://127.0.0.1:{port}"\ntoken_file = "{token}"\n'
    async with hole, serving(tmp_path, configured(kubeconfig) + other) as (_, api):
        session = await api.ready(shop.target)
        clusters = {c["name"]: c for c in (await api.ask("GET", "clusters"))["items"]}
        assert clusters["dev"]["reachable"]
        assert not clusters["hole"]["reachable"]
        assert clusters["hole"]["reason"]
        with pytest.raises(Refused) as refused:
            await api.enable("pod/hole/team/shop")
        assert refused.value.status == 503
        await api.end(session)
