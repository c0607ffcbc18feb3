"""The way to the API server is cut, or frozen, at a random moment around each stop, and comes back at another."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.conftest import Kubectl
from tests.cluster.promise.outages import api_server_port, cluster, kubeconfig_through
from tests.cluster.promise.probed_app import BOUND_S, ProbedApp, come_up, pod_of
from tests.cluster.promise.scripted_debugger import ScriptedDebugger, TurnedAway, attached
from tests.faults import Link, link
from tests.gateway import Api, serving

# The stories take two minutes; on a busy node pods take as long to come up.
pytestmark = [pytest.mark.cluster, pytest.mark.jvm, pytest.mark.timeout(600)]

STOP_S = 1.25 * BOUND_S  # what nothing spares is killed after 20 s
ATTACHES_WITHIN_S = 60.0  # after an outage
ROUTES = ("pod", "api-server")


@dataclass
class Stops:
    """What became of an app that was stopped once in each round."""

    stood: int = 0
    restarts: int = 0


async def test_stops_with_the_api_server_cut_at_a_random_moment_kill_nothing(kubectl: Kubectl, tmp_path: Path) -> None:
    await _judge(kubectl, tmp_path, apps=6, rounds=1, seed=random.randrange(10**6))


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_fifty_stops_with_the_api_server_cut_at_random_moments_kill_nothing(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    await _judge(kubectl, tmp_path, apps=10, rounds=5, seed=random.randrange(10**6))


async def _judge(kubectl: Kubectl, folder: Path, *, apps: int, rounds: int, seed: int) -> None:
    print(f"seed {seed}")
    stops = await _stop_in_rounds(kubectl, folder, count=apps, rounds=rounds, chance=random.Random(seed))
    assert {name: one.restarts for name, one in stops.items() if one.restarts} == {}
    # A cut of the route through the API server may come before the breakpoint, and takes the debugger with it.
    assert all(one.stood == rounds for name, one in stops.items() if not name.endswith("api-server"))


async def _stop_in_rounds(
    kubectl: Kubectl, folder: Path, *, count: int, rounds: int, chance: random.Random
) -> dict[str, Stops]:
    names = {f"app-{count}-{number}-{ROUTES[number % 2]}": ROUTES[number % 2] for number in range(count)}
    apps = await come_up(kubectl, *map(pod_of, names))
    stops = {name: Stops() for name in apps}
    async with link(to=api_server_port(kubectl)) as way:
        file = kubeconfig_through(way.port, kubectl, folder / "way.conf")
        config = "".join(cluster(reach, file, kubectl.namespace, reach=reach) for reach in ROUTES)
        try:
            async with serving(folder, config) as (_, api):
                for _ in range(rounds):
                    # A cut that comes while somebody attaches is another story.
                    attach, over = asyncio.Barrier(count + 1), asyncio.Event()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_outage(way, chance, attach, over))
                        for name, app in apps.items():
                            after = chance.uniform(2, 6)
                            group.create_task(_stop(api, names[name], app, stops[name], attach, over, after=after))
        finally:
            for app in apps.values():
                app.close()
    for name, app in apps.items():
        stops[name].restarts = await app.restarts()
    print(stops)
    return stops


async def _stop(
    api: Api, reach: str, app: ProbedApp, stops: Stops, attach: asyncio.Barrier, over: asyncio.Event, *, after: float
) -> None:
    # The same session in each round: who has one gets it again.
    session = await api.enable(f"pod/{reach}/{app.kubectl.namespace}/{app.name}")
    await api.until(session, "ready")
    async with _attached_at_last(session["port"]) as debugger:
        await debugger.stop_in("compute")
        await attach.wait()
        await asyncio.sleep(after)
        await app.work()
        await asyncio.sleep(1)
        stops.stood += not await app.answers()
        await asyncio.sleep(STOP_S)
        await over.wait()


@asynccontextmanager
async def _attached_at_last(port: int) -> AsyncIterator[ScriptedDebugger]:
    """A debugger that comes again when it is turned away; after an outage that is for another test to judge."""
    async with AsyncExitStack() as stack, asyncio.timeout(None) as deadline:
        deadline.reschedule(asyncio.get_running_loop().time() + ATTACHES_WITHIN_S)
        while True:
            try:
                debugger = await stack.enter_async_context(attached(port))
            except TurnedAway:
                await asyncio.sleep(0.5)
            else:
                break
        deadline.reschedule(None)
        yield debugger


async def _outage(way: Link, chance: random.Random, attach: asyncio.Barrier, over: asyncio.Event) -> None:
    begins, lasts, freezes = chance.uniform(0, 10), chance.uniform(3, STOP_S), chance.random() < 0.5
    await attach.wait()
    await asyncio.sleep(begins)
    if freezes:
        way.freeze()
    else:
        await way.cut()
    await asyncio.sleep(lasts)
    if freezes:
        way.thaw()
    else:
        await way.mend()
    over.set()
