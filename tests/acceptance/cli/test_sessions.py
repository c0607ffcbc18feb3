"""Sessions from the command line: enable, wait, lengthen, end."""

import json
import signal

from tests.acceptance.cli.command import SESSION, noah, ran, start
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, says, scripted_gateway, streams
from tests.ports import free_port

ON_ITS_WAY = {**SESSION, "status": "starting", "reason": "socat is being started", "steps": []}


async def test_enable_with_a_short_name_asks_for_everything_that_was_said(gateway: ScriptedGateway) -> None:
    gateway.on("GET /clusters", says({"items": [{"name": "dev"}], "continue": None, "total": 1}))
    gateway.on("POST /sessions", says(SESSION, 201))
    options = ["--for", "1h30m", "--allow", "10.0.0.0/8", "--allow", "192.0.2.1", "--allow-exit", "--take-over"]
    said = await noah(gateway.url, "enable", "deploy/shop", "-n", "team-a", *options, "--pause-budget", "10m")
    assert said.code == 0, said.err
    assert gateway.asked[-1].body == {
        "target": "pod/dev/team-a/deploy/shop",
        "for": 5400,
        "allow": ["10.0.0.0/8", "192.0.2.1"],
        "allow_exit": True,
        "take_over": True,
        "pause_budget": "600s",
    }
    assert "127.0.0.1:20001" in said.out
    assert "jdb -attach 127.0.0.1:20001" in said.out
    assert "noah end s-1" in said.out


async def test_a_pause_budget_that_is_off_is_said_as_such(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", says(SESSION, 201))
    await noah(gateway.url, "enable", "local/orders", "--pause-budget", "off")
    assert gateway.asked[0].body == {"target": "local/orders", "pause_budget": None}


async def test_one_of_several_clusters_has_to_be_named(gateway: ScriptedGateway) -> None:
    gateway.on("GET /clusters", says({"items": [{"name": "dev"}, {"name": "test"}], "continue": None, "total": 2}))
    said = await noah(gateway.url, "enable", "deploy/shop", "-n", "team-a")
    assert (said.code, said.err) == (2, "Error: Say in which cluster, with --cluster. The gateway knows dev, test.\n")


async def test_waiting_shows_each_step_once_on_stderr_and_prints_the_session_that_is_ready(
    gateway: ScriptedGateway,
) -> None:
    gateway.on("POST /sessions", says(ON_ITS_WAY, 201))
    second = {"at": "2026-01-01T10:00:01.000Z", "text": "started socat"}
    started = {**SESSION, "steps": [*SESSION["steps"], second]}
    gateway.on("GET /sessions/s-1", says({**ON_ITS_WAY, "steps": SESSION["steps"]}), says(started))
    said = await noah(gateway.url, "enable", "local/orders", "--wait", "-o", "json")
    assert json.loads(said.out) == started
    assert [line.split("  ")[1] for line in said.err.splitlines()] == ["looked at the pod", "started socat"]


async def test_a_session_that_fails_while_it_is_waited_for_says_why(gateway: ScriptedGateway) -> None:
    failed = {**SESSION, "status": "ended", "end_reason": "failed", "end_detail": "There is no socat in the container."}
    gateway.on("POST /sessions", says(ON_ITS_WAY, 201))
    gateway.on("GET /sessions/s-1", says({**failed, "steps": []}))
    said = await noah(gateway.url, "enable", "local/orders", "--wait")
    assert (said.code, said.out, said.err) == (6, "", "Error: There is no socat in the container.\n")


async def test_waiting_ends_when_time_is_up_and_the_session_stays(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", says(ON_ITS_WAY, 201))
    gateway.on("GET /sessions/s-1", says(ON_ITS_WAY))
    said = await noah(gateway.url, "enable", "local/orders", "--wait", "--timeout", "1s")
    assert (said.code, said.out) == (7, "")
    assert "is still starting: socat is being started. The session stays: `noah sessions s-1`" in said.err
    assert not any(asked.what.startswith("DELETE") for asked in gateway.asked)


async def test_ctrl_c_while_waiting_leaves_the_session_and_says_so(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", says(ON_ITS_WAY, 201))
    gateway.on("GET /sessions/s-1", streams(forever=True))
    process = await start(gateway.url, "enable", "local/orders", "--wait")
    await gateway.until_asked("GET /sessions/s-1")
    process.send_signal(signal.SIGINT)
    said = await ran(process)
    assert (said.code, said.out) == (130, "")
    assert "The session stays: `noah sessions s-1` shows it, `noah end s-1` ends it." in said.err


async def test_a_gateway_that_restarts_while_it_is_waited_for_is_waited_for_too() -> None:
    port = free_port()
    async with scripted_gateway(port) as before:
        before.on("POST /sessions", says(ON_ITS_WAY, 201))
        before.on("GET /sessions/s-1", streams(cut=True))
        process = await start(before.url, "enable", "local/orders", "--wait", "-o", "name")
        await before.until_asked("GET /sessions/s-1")
    async with scripted_gateway(port) as after:
        after.on("GET /sessions/s-1", says(SESSION))
        said = await ran(process)
    assert (said.code, said.out) == (0, "s-1\n")
    assert said.err.startswith("The gateway is away (")


async def test_a_session_is_found_by_its_target_and_ones_own_comes_first(gateway: ScriptedGateway) -> None:
    theirs = {**SESSION, "id": "s-0", "owner": "bob", "mine": False, "target": "pod/dev/team-a/shop-0/app"}
    gateway.on("GET /sessions", says({"items": [theirs, SESSION], "continue": None, "total": 2}))
    gateway.on("POST /sessions/s-1/extend", says(SESSION))
    said = await noah(gateway.url, "extend", "deploy/shop", "--for", "3h")
    assert (said.code, gateway.asked[-1].body) == (0, {"for": 10800})
    assert said.out.startswith("pod/dev/team-a/shop-1/app is yours until ")
    gateway.on("GET /sessions", says({"items": [theirs, {**theirs, "id": "s-2"}], "continue": None, "total": 2}))
    several = await noah(gateway.url, "resume", "app=shop")
    assert (several.code, several.err) == (
        2,
        "Error: app=shop means several sessions: say which of s-0, s-2.\n",
    )
    nobody = await noah(gateway.url, "end", "app=orders")
    assert nobody.code == 3
    assert nobody.err == "Error: Nobody is debugging app=orders: `noah sessions` lists who debugs what.\n"
    nobody = await noah(gateway.url, "connect", "app=orders")
    assert nobody.code == 3
    assert "`noah sessions` lists who debugs what, and `--enable` begins a session." in nobody.err


async def test_end_waits_until_everything_is_verified(gateway: ScriptedGateway) -> None:
    gateway.on("DELETE /sessions/s-1", says({**SESSION, "status": "ending", "end_reason": "closed"}))
    gateway.on("GET /sessions/s-1", says({**SESSION, "status": "ended", "end_reason": "closed"}))
    at_once = await noah(gateway.url, "end", "s-1")
    waited = await noah(gateway.url, "end", "s-1", "--wait")
    assert (at_once.out, waited.out) == (f"{SESSION['target']}: ending.\n", f"{SESSION['target']}: ended.\n")
