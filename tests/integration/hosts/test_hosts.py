"""Apps on hosts, by a real sshd and a real start script: enable, debug, end, and what is left on the host."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from noah.demo.debugger import Jdb, jdb
from tests.gateway import Refused, serving
from tests.integration.hosts.machines import OPTIONS, HostedOrders, Machine, as_user
from tests.processes import killed_after

pytestmark = pytest.mark.jvm


@asynccontextmanager
async def at_a_breakpoint(orders: HostedOrders, session: dict[str, Any]) -> AsyncIterator[Jdb]:
    async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
        debugger.type("stop in OrderService.price")
        await debugger.says("breakpoint")
        order = group.create_task(orders.answers("/orders", within=300))
        await debugger.says("Breakpoint hit")
        yield debugger
        order.cancel()


async def test_a_jvm_that_listens_is_debugged_without_a_restart(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    orders.file.write_bytes(OPTIONS.replace(b'"-D', b'"' + orders.agent.encode() + b" -D"))
    await orders.restart()
    pid = orders.pid
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        listed = await api.ask("GET", "targets?kind=host")
        assert [one["target"] for one in listed["items"]] == [orders.target]
        session = await api.ready(orders.target)
        async with at_a_breakpoint(orders, session):
            shown = await api.until(session, "suspended")
            assert re.match(r"OrderService\.price:\d+", shown["vm"]["location"])
            assert not await orders.answers()
            async with asyncio.timeout(60):
                while not await orders.probe_says_alive():
                    await asyncio.sleep(0.1)
        assert await orders.answers(within=10)
        await api.until(session, "ready")
        assert (await api.end(session))["status"] == "ended"
    assert orders.pid == pid


async def test_the_whole_story_with_a_restart_and_a_revert(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    before, was = orders.state(), orders.pid
    async with serving(tmp_path, machine.settings(orders.settings(), ends="revert")) as (_, api):
        await orders.has_settled()
        with pytest.raises(Refused, match="needs a restart") as refused:
            await api.enable(orders.target)
        assert (refused.value.status, refused.value.problem["needs_restart"]) == (409, True)
        assert (orders.state(), orders.pid) == (before, was)
        session = await api.ready(orders.target, confirm_restart=True)
        assert orders.pid != was
        assert orders.state()[1:] == before[1:]  # mode and owner
        said = [step["text"].strip() for step in session["steps"]]
        assert {"stopping orders", "starting orders"} <= set(said)
        async with at_a_breakpoint(orders, session):
            await api.until(session, "suspended")
        again = await api.enable(orders.target)
        assert again["id"] == session["id"]
        ended = await api.end(session)
        assert ended["status"] == "ended", ended
    assert orders.state() == before
    assert await orders.answers()
    assert "jdwp" not in orders.command_line()


async def test_a_shell_that_greets_whoever_comes_is_understood(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await machine.kill()
    await machine.start('ForceCommand echo "Welcome, done"; echo; eval "$SSH_ORIGINAL_COMMAND"')
    await orders.restart()
    before = orders.state()
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        assert (await api.end(session))["status"] == "ended"
    assert orders.state() == before


async def test_at_the_next_restart_the_flags_are_gone(tmp_path: Path, machine: Machine, orders: HostedOrders) -> None:
    await orders.restart()
    before = orders.state()
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        pid = orders.pid
        await api.end(session)
        assert (orders.state(), orders.pid) == (before, pid)
        assert "jdwp" in orders.command_line()
        second = await api.ready(orders.target)  # it still listens: there is nothing to confirm
        await api.end(second)
    assert (orders.state(), orders.pid) == (before, pid)


async def test_an_agent_that_sleeps_is_woken_in_the_same_process(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    asleep = orders.agent + ",onjcmd=y"
    orders.file.write_bytes(OPTIONS.replace(b'"-D', b'"' + asleep.encode() + b" -D"))
    await orders.restart()
    await orders.has_settled()
    before, pid = orders.state(), orders.pid
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        session = await api.ready(orders.target)
        async with at_a_breakpoint(orders, session):
            await api.until(session, "suspended")
        await api.end(session)
    assert (orders.state(), orders.pid) == (before, pid)


async def test_an_app_that_does_not_come_up_is_as_it_was(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    (orders.folder / "refuse").touch()
    await orders.restart()
    before = orders.state()
    async with serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        await orders.has_settled()
        session = await api.enable(orders.target, confirm_restart=True)
        assert (session["status"], session["end_reason"]) == ("ended", "failed"), session
        assert "jdwp is forbidden here" in session["end_detail"]
        assert "it runs again" in session["end_detail"]
        assert orders.state() == before
        assert await orders.answers()
        (orders.folder / "refuse").unlink()
        await orders.has_settled()
        await api.ready(orders.target, confirm_restart=True)


async def test_a_port_that_is_taken_is_said_before_anything_is_done(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    await orders.has_settled()
    before, pid = orders.state(), orders.pid
    # Of the app's user: a port of root might be a JVM's of root, which this user cannot look into.
    other = await asyncio.create_subprocess_exec(
        "socat", f"TCP-LISTEN:{orders.jdwp},bind=127.0.0.1,reuseaddr,fork", "EXEC:true", **as_user()
    )
    async with killed_after(other), serving(tmp_path, machine.settings(orders.settings())) as (_, api):
        session = await api.enable(orders.target, confirm_restart=True)
        assert session["end_reason"] == "failed", session
        assert f"Port {orders.jdwp}" in session["end_detail"]
        assert (orders.state(), orders.pid) == (before, pid)


async def test_options_that_were_bad_already_are_said_to_be(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    orders.file.write_bytes(OPTIONS.replace(b"-Dx", b"-XX:+NoSuchFlag -Dx"))
    before = orders.state()
    async with serving(tmp_path, machine.settings(orders.settings(restart_takes="4s"))) as (_, api):
        await orders.has_settled()
        session = await api.enable(orders.target, confirm_restart=True)
        assert session["end_reason"] == "failed", session
        assert "did not come up with the debug flags" in session["end_detail"]
        assert "does not come up with them either" in session["end_detail"]
    assert orders.state() == before


async def test_flags_that_are_kept_are_drift_and_save_the_next_restart(
    tmp_path: Path, machine: Machine, orders: HostedOrders
) -> None:
    await orders.restart()
    async with serving(tmp_path, machine.settings(orders.settings(), ends="keep")) as (_, api):
        await orders.has_settled()
        session = await api.ready(orders.target, confirm_restart=True)
        assert (await api.ask("POST", "drift"))["items"] == []
        edited = orders.state()
        await api.end(session)
        assert orders.state() == edited
        [examined] = [one for one in (await api.ask("POST", "doctor"))["items"] if one["what"].startswith("host/")]
        assert (examined["level"], examined["message"]) == ("ok", "orders can be debugged.")
        [drift] = (await api.ask("POST", "drift"))["items"]
        assert (drift["target"], drift["finding"]) == (orders.target, "flags-without-session")
        pid = orders.pid
        await api.ready(orders.target)
        orders.file.write_bytes(OPTIONS)
        await orders.restart()
        assert orders.pid != pid
        await orders.has_settled()
        [drift] = (await api.ask("POST", "drift"))["items"]
        assert drift["finding"] == "session-without-flags"
