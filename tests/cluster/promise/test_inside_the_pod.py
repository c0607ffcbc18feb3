"""What happens inside a pod while a debugger is attached: /dev/shm fills up, a second JVM starts, another JVM dies.

The liveness probe spares the JVM of the session, for as long as it stands at a breakpoint, and nothing else.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import AGENT, Kubectl
from tests.cluster.execs import AuditLog
from tests.cluster.promise.outages import cluster
from tests.cluster.promise.probed_app import BOUND_S, MARGIN_S, ProbedApp, come_up, pod_of, session_on
from tests.cluster.promise.rows import Rows, side_by_side
from tests.cluster.promise.scripted_debugger import TurnedAway, attached
from tests.gateway import Api, serving

# The stories take two minutes; on a busy node pods take as long to come up.
pytestmark = [pytest.mark.cluster, pytest.mark.jvm, pytest.mark.timeout(600)]

WATCHED_S = 40.0  # what nothing spares is killed after 20 s
GRACE_S = 15.0  # after a long stop an app is given 10 s to answer again, and a stop counts for 3 s more
HIDDEN_S = 90.0  # a dead app that is not killed within that counts as hidden
TOOL_PORT, HELPER_PORT = 8081, 8081
# The app that checkurl means has no agent; the helper beside it is what is debugged.
TWO_JVMS = (
    f"java -cp /app App & echo $! > /tmp/app.pid; JAVA_TOOL_OPTIONS='{AGENT}' PORT={HELPER_PORT} java -cp /app App"
)


@dataclass(frozen=True)
class Full:
    restarts: int  # WATCHED_S after a breakpoint with a full /dev/shm
    first_half: int  # of the execs meanwhile
    second_half: int
    said_after: float | None  # seconds until the session said that /dev/shm is full; None: it did not
    killed_after: float | None  # seconds, once the VM runs again and the app hangs; None: it was hidden


@dataclass(frozen=True)
class Tool:
    restarts: int  # WATCHED_S after the tool's end, at a breakpoint all the while
    next_stops: bool  # the next debugger's breakpoint in the app is hit


@dataclass(frozen=True)
class Stranger:
    landed: bool  # a debugger of the session, in the tool's JVM
    reason: str | None  # of the session, right after the attempt


@dataclass(frozen=True)
class Helper:
    spared: int  # restarts while the helper stood at a breakpoint and the app was well
    killed_after: float | None  # seconds from the app's death; None: it was hidden


@dataclass(frozen=True)
class Observed:
    full: Rows[Full]
    tool: Rows[Tool]
    stranger: Rows[Stranger]
    helper: Rows[Helper]


@pytest.fixture(scope="module")
def observed(kubectl: Kubectl, audit_log: AuditLog, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    return asyncio.run(_observe(kubectl, audit_log, tmp_path_factory.mktemp("inside")))


@pytest.mark.parametrize("reach", ["pod", "api-server"])
def test_a_breakpoint_with_a_full_shared_memory_kills_nothing(observed: Observed, reach: str) -> None:
    assert observed.full[reach].restarts == 0


@pytest.mark.parametrize("reach", ["pod", "api-server"])
def test_a_report_that_cannot_be_written_is_tried_again_with_growing_pauses(observed: Observed, reach: str) -> None:
    full = observed.full[reach]
    # Pauses that double from half a second up to 15 s allow for six in 40 s.
    assert full.first_half + full.second_half <= 8
    assert full.second_half <= max(1, full.first_half)


@pytest.mark.parametrize("reach", ["pod", "api-server"])
def test_a_full_shared_memory_is_said_at_once_or_hides_no_dead_app(observed: Observed, reach: str) -> None:
    full = observed.full[reach]
    is_said = full.said_after is not None and full.said_after < 5
    is_killed = full.killed_after is not None and full.killed_after < BOUND_S + MARGIN_S
    assert is_said or is_killed


def test_a_tools_jvm_that_took_the_debug_port_and_ended_kills_nothing(observed: Observed) -> None:
    assert observed.tool["pod"].restarts == 0


def test_the_debugger_after_a_tool_lands_in_the_apps_jvm(observed: Observed) -> None:
    assert observed.tool["pod"].next_stops


def test_a_debugger_does_not_land_in_a_tool_that_has_the_apps_debug_port(observed: Observed) -> None:
    stranger = observed.stranger["pod"]
    assert not stranger.landed
    assert stranger.reason


def test_a_helpers_breakpoint_kills_nothing_while_the_app_is_well(observed: Observed) -> None:
    assert [helper.spared for _, helper in observed.helper.items()] == [0, 0]


@pytest.mark.parametrize("death", ["hangs", "dies"])
def test_an_app_that_is_dead_is_killed_though_a_helper_stands_at_a_breakpoint(observed: Observed, death: str) -> None:
    after = observed.helper[death].killed_after
    assert after is not None, "hidden"
    assert after < BOUND_S + MARGIN_S


async def _observe(kubectl: Kubectl, audit_log: AuditLog, folder: Path) -> Observed:
    # Java's own files in /dev/shm or /tmp are not what fills it up.
    two = {"command": ["sh", "-c", TWO_JVMS], "options": ""}
    helpers = [pod_of(name, **two) for name in ("hangs", "dies")]
    apps = await come_up(kubectl, *map(pod_of, ("full", "full-exec", "tool", "stranger")), *helpers)
    config = cluster("near", kubectl.kubeconfig, kubectl.namespace)
    config += cluster("far", kubectl.kubeconfig, kubectl.namespace, reach="api-server")
    try:
        async with serving(folder, config) as (_, api):
            return Observed(
                *await asyncio.gather(
                    side_by_side(
                        {
                            "pod": _full(api, "near", apps["full"], audit_log),
                            "api-server": _full(api, "far", apps["full-exec"], audit_log),
                        }
                    ),
                    side_by_side({"pod": _tool(api, apps["tool"])}),
                    side_by_side({"pod": _stranger(api, apps["stranger"])}),
                    side_by_side(
                        {
                            "hangs": _helper(api, apps["hangs"], _hangs),
                            "dies": _helper(api, apps["dies"], _dies),
                        }
                    ),
                )
            )
    finally:
        for app in apps.values():
            app.close()


async def _full(api: Api, cluster: str, app: ProbedApp, audit_log: AuditLog) -> Full:
    session = await session_on(api, f"pod/{cluster}/{app.kubectl.namespace}/{app.name}")
    async with attached(session["port"]) as debugger:
        await debugger.stop_in("compute")
        await api.until(session, "attached")
        await app.exec("sh", "-c", "dd if=/dev/zero of=/dev/shm/fill bs=64k 2> /dev/null; test -s /dev/shm/fill")
        await app.work()
        await debugger.stopped()
        at = datetime.now(UTC)
        said_after = await _says(api, session, "/dev/shm")
        await asyncio.sleep(max(0.0, WATCHED_S - (datetime.now(UTC) - at).total_seconds()))
        restarts = await app.restarts()
        half = at + timedelta(seconds=WATCHED_S / 2)
        first = audit_log.execs(app.kubectl.namespace, app.name, since=at, until=half)
        second = audit_log.execs(app.kubectl.namespace, app.name, since=half, until=half + (half - at))
        # Attached, with a VM that runs: only what reaches the pod can tell the probe so.
        await debugger.resume()
        await app.runs()
        await asyncio.sleep(GRACE_S)
        killed_after = await app.killed_after(await app.hang(), within=HIDDEN_S)
    return Full(restarts, len(first), len(second), said_after, killed_after)


async def _says(api: Api, session: dict[str, Any], words: str, *, within: float = 20) -> float | None:
    """Seconds until the session has a sentence with *words*; None when it has none within *within*."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + within:
        shown = await api.show(session)
        if any(words in said for said in [shown["reason"] or "", *(step["text"] for step in shown["steps"])]):
            return loop.time() - began
        await asyncio.sleep(0.2)
    return None


async def _tool(api: Api, app: ProbedApp) -> Tool:
    session = await session_on(api, f"pod/near/{app.kubectl.namespace}/{app.name}")
    async with attached(session["port"]) as debugger:
        await debugger.stop_in("compute")
        await app.work()
        await debugger.stopped()
        await api.until(session, "suspended")
        # The agent of the app does not listen while it has a debugger, so the tool's gets the port.
        async with _java(app):
            await _comes_up(app, TOOL_PORT)
            # A stop of its own while the tool has the port: whatever is reported about it is reported now.
            await debugger.resume()
            await app.runs()
            await asyncio.sleep(4)  # what a VM that runs again is believed after
            await app.work()
            await debugger.stopped()
            await asyncio.sleep(2)
            await _exits(app, TOOL_PORT)
        await asyncio.sleep(WATCHED_S)
        restarts = await app.restarts()
    return Tool(restarts, await _stops_the_app(session["port"], app))


async def _stranger(api: Api, app: ProbedApp) -> Stranger:
    session = await session_on(api, f"pod/near/{app.kubectl.namespace}/{app.name}")
    async with AsyncExitStack() as stack:
        async with attached(session["port"]):
            await api.until(session, "attached")
            await stack.enter_async_context(_java(app))
            await _comes_up(app, TOOL_PORT)
        # The app's agent cannot listen again: from here on only the tool's does.
        try:
            async with attached(session["port"]):
                landed = True
        except TurnedAway:
            landed = False
        reason = (await api.show(session))["reason"]
        await _exits(app, TOOL_PORT)
    return Stranger(landed, reason)


async def _stops_the_app(port: int, app: ProbedApp) -> bool:
    await app.runs(within=60)
    async with attached(port) as debugger:
        await debugger.stop_in("compute")
        await app.work()
        try:
            await debugger.stopped(within=10)
        except TimeoutError:
            return False
        return not await app.answers()


@asynccontextmanager
async def _java(app: ProbedApp) -> AsyncIterator[None]:
    """A java in the app's container, started as a person does who tries something out there."""
    process = await asyncio.create_subprocess_exec(
        *("kubectl", "--kubeconfig", str(app.kubectl.kubeconfig), "-n", app.kubectl.namespace, "exec", app.name),
        *("--", "env", f"PORT={TOOL_PORT}", "java", "-cp", "/app", "App"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _comes_up(app: ProbedApp, port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await app.get("/checkurl", port=port)
            except (OSError, TimeoutError):
                await asyncio.sleep(0.2)
            else:
                return


async def _exits(app: ProbedApp, port: int) -> None:
    try:
        await app.get("/exit", port=port)
    except ConnectionError:  # it takes the answer with it
        return


async def _helper(api: Api, app: ProbedApp, death: Callable[[ProbedApp], Awaitable[datetime]]) -> Helper:
    session = await session_on(api, f"pod/near/{app.kubectl.namespace}/{app.name}")
    async with attached(session["port"]) as debugger:
        await debugger.stop_in("compute")
        await app.work(port=HELPER_PORT)
        await debugger.stopped()
        await api.until(session, "suspended")
        await asyncio.sleep(BOUND_S)
        spared = await app.restarts()
        killed_after = await app.killed_after(await death(app), within=HIDDEN_S, port=HELPER_PORT)
    return Helper(spared, killed_after)


async def _hangs(app: ProbedApp) -> datetime:
    return await app.hang()


async def _dies(app: ProbedApp) -> datetime:
    at = datetime.now(UTC)
    await app.exec("sh", "-c", "kill -9 $(cat /tmp/app.pid)")
    return at
