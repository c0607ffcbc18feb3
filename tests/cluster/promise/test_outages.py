"""An outage of the gateway, of the way to the API server or of the network, before the breakpoint and at it.

Two promises: a JVM at a breakpoint is not killed before its session's end; a dead app is not hidden.
"""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Kubectl
from tests.cluster.promise.outages import api_server_port, cluster, kubeconfig_through, packets_dropped
from tests.cluster.promise.probed_app import BOUND_S, MARGIN_S, READY_WITHIN_S, ProbedApp, come_up, pod_of, session_on
from tests.cluster.promise.rows import Rows, side_by_side
from tests.cluster.promise.scripted_debugger import ScriptedDebugger, attached
from tests.faults import link
from tests.gateway import Api, Process, serving

# The stories take two minutes; on a busy node pods take as long to come up.
pytestmark = [pytest.mark.cluster, pytest.mark.jvm, pytest.mark.timeout(600)]

SESSION = "75s"
LASTS_S = 1.25 * BOUND_S  # of a stop, at least; a JVM that nothing spares is killed 20 s after it
HIDDEN_S = 90.0  # a dead app that is not killed within that counts as hidden
OUTAGES = ("cut", "frozen", "frozen-exec", "dropped", "stopped", "stopped-exec")
DEATHS = ("killed", "killed-exec", "ended", "ended-exec")
DROPS_PACKETS = os.geteuid() == 0 and shutil.which("nft") is not None


@dataclass(frozen=True)
class Stop:
    """An outage, then a breakpoint, then the session's end."""

    stood: float  # seconds, as far as the app's checkurl shows, up to the session's end
    restarts: int  # until 25 s after the session's end
    answers: bool  # checkurl, at the end of all
    shown: dict[str, Any] | None  # the session 15 s after the stop, where the gateway can be asked


@dataclass(frozen=True)
class Death:
    """A gateway's end at a breakpoint, then the app's."""

    killed_after: float | None  # seconds from when checkurl hung; None: it was hidden


@dataclass(frozen=True)
class Observed:
    stops: Rows[Stop]
    deaths: Rows[Death]


@pytest.fixture(scope="module")
def observed(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return asyncio.run(_observe(kubectl, tmp_path_factory.mktemp("outages")))


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_breakpoint_that_comes_after_an_outage_kills_nothing(observed: Observed, outage: str) -> None:
    if outage == "dropped" and not DROPS_PACKETS:
        pytest.skip("dropping packets needs root and nft")
    stop = observed.stops[outage]
    assert stop.stood > LASTS_S
    assert stop.restarts == 0
    assert stop.answers


@pytest.mark.parametrize("outage", ["cut", "frozen"])
def test_a_person_at_a_breakpoint_is_shown_that_the_api_server_is_away(observed: Observed, outage: str) -> None:
    shown = observed.stops[outage].shown
    assert shown is not None
    assert shown["status"] == "suspended"
    assert shown["reason"], shown


@pytest.mark.parametrize("death", DEATHS)
def test_an_app_that_hangs_after_its_gateway_died_at_a_breakpoint_is_killed(observed: Observed, death: str) -> None:
    after = observed.deaths[death].killed_after
    assert after is not None, "hidden"
    assert after < BOUND_S + MARGIN_S


async def _observe(kubectl: Kubectl, folder: Path) -> Observed:
    names = [*OUTAGES, *DEATHS]
    apps = await come_up(kubectl, *map(pod_of, names))
    async with AsyncExitStack() as stack:
        for app in apps.values():
            stack.callback(app.close)
        cut, frozen = [await stack.enter_async_context(link(to=api_server_port(kubectl))) for _ in range(2)]
        through_cut = kubeconfig_through(cut.port, kubectl, folder / "cut.conf")
        through_frozen = kubeconfig_through(frozen.port, kubectl, folder / "frozen.conf")

        async def gateway(name: str, **clusters: tuple[Path, str]) -> tuple[Process, Api]:
            (folder / name).mkdir()
            config = "".join(
                cluster(one, file, kubectl.namespace, reach=reach) for one, (file, reach) in clusters.items()
            )
            return await stack.enter_async_context(serving(folder / name, config))

        both = {"near": (kubectl.kubeconfig, "pod"), "far": (kubectl.kubeconfig, "api-server")}
        _, one = await gateway(
            "lasting",
            near=both["near"],
            cut=(through_cut, "pod"),
            frozen=(through_frozen, "pod"),
            far=(through_frozen, "api-server"),
        )
        stopped, killed, ended = [await gateway(name, **both) for name in ("stopped", "killed", "ended")]

        async def now(act: Callable[[], object]) -> None:
            act()

        freezing = _Once(lambda: now(frozen.freeze), parties=2)
        stopping = _Once(lambda: now(lambda: stopped[0].send(signal.SIGSTOP)), parties=2)
        stack.callback(lambda: stopped[0].send(signal.SIGCONT))
        stack.callback(frozen.thaw)

        async def drop() -> None:
            stack.enter_context(packets_dropped(apps["dropped"].ip, but_port=8080))

        stops = {
            "cut": _stop(one, "cut", apps["cut"], cut.cut),
            "frozen": _stop(one, "frozen", apps["frozen"], freezing),
            "frozen-exec": _stop(one, "far", apps["frozen-exec"], freezing),
            "stopped": _stop(stopped[1], "near", apps["stopped"], stopping, asks=False),
            "stopped-exec": _stop(stopped[1], "far", apps["stopped-exec"], stopping, asks=False),
        }
        if DROPS_PACKETS:
            stops["dropped"] = _stop(one, "near", apps["dropped"], drop)
        killing = _Once(lambda: _end(killed[0], signal.SIGKILL), parties=2)
        ending = _Once(lambda: _end(ended[0], signal.SIGTERM), parties=2)
        deaths = {
            "killed": _death(killed[1], "near", apps["killed"], killing),
            "killed-exec": _death(killed[1], "far", apps["killed-exec"], killing),
            "ended": _death(ended[1], "near", apps["ended"], ending),
            "ended-exec": _death(ended[1], "far", apps["ended-exec"], ending),
        }
        return Observed(*await asyncio.gather(side_by_side(stops), side_by_side(deaths)))


class _Once:
    """An outage of several apps at once: it comes when the last of them is ready for it."""

    def __init__(self, act: Callable[[], Awaitable[None]], *, parties: int) -> None:
        self._act = act
        self._missing = parties
        self._done = asyncio.Event()

    async def __call__(self) -> None:
        self._missing -= 1
        if not self._missing:
            await self._act()
            self._done.set()
        async with asyncio.timeout(READY_WITHIN_S):
            await self._done.wait()


async def _end(process: Process, number: signal.Signals) -> None:
    await process.stop(number)


async def _stop(
    api: Api, cluster: str, app: ProbedApp, outage: Callable[[], Awaitable[None]], *, asks: bool = True
) -> Stop:
    session = await session_on(api, _target(cluster, app), **{"for": SESSION})
    async with attached(session["port"]) as debugger:
        await debugger.stop_in("compute")
        await api.until(session, "attached")
        # Long enough for whatever the gateway says about a VM that runs to have reached the pod, and to be renewed.
        await asyncio.sleep(6)
        session = await api.ask("POST", f"sessions/{session['id']}/extend", {"for": SESSION})
        ends = datetime.fromisoformat(session["expires_at"]).timestamp()
        await outage()
        await app.work()
        await app.stands()
        began = last = time.time()
        shown = None
        while time.time() < ends - 6 and not await app.answers(within=4):
            last = time.time()
            if asks and shown is None and last - began > 15:
                shown = await api.show(session)
            await asyncio.sleep(0.5)
        # The session's end resumes the VM, by the gateway or by the deadline that the forwarder carries.
        await asyncio.sleep(max(0.0, ends + 25 - time.time()))
    return Stop(last - began, await app.restarts(), await app.answers(), shown)


async def _death(api: Api, cluster: str, app: ProbedApp, outage: Callable[[], Awaitable[None]]) -> Death:
    session = await session_on(api, _target(cluster, app))
    async with attached(session["port"]) as debugger:
        await _breaks(debugger, app)
        await api.until(session, "suspended")
        await asyncio.sleep(6)  # the same as above, for a VM that stands
        await outage()
        await app.runs()  # its sockets were closed, and that resumes
    return Death(await app.killed_after(await app.hang(), within=HIDDEN_S))


async def _breaks(debugger: ScriptedDebugger, app: ProbedApp) -> None:
    await debugger.stop_in("compute")
    await app.work()
    await debugger.stopped()


def _target(cluster: str, app: ProbedApp) -> str:
    return f"pod/{cluster}/{app.kubectl.namespace}/{app.name}"
