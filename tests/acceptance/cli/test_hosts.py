"""Apps on hosts from the command line: the question before a restart, and drift."""

import asyncio
import os
import pty
import sys

from tests.acceptance.cli.command import SESSION, environment, noah
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, refuses, says

ORDERS = {**SESSION, "target": "host/kvm-1/orders"}
NEEDED = refuses(409, "host/kvm-1/orders needs a restart: its JVM does not listen.", needs_restart=True)


async def on_a_terminal(url: str, typed: str, *argv: str) -> tuple[int, str]:
    """The exit code, and what was on the screen."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "noah", *argv, env=environment(url), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    screen = b""
    try:
        while piece := await asyncio.to_thread(os.read, ours, 4096):
            screen += piece
    except OSError:  # Linux says EIO when the other side is closed
        pass
    os.close(ours)
    return await process.wait(), screen.decode()


async def test_a_restart_is_asked_about_on_a_terminal(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", NEEDED, says(ORDERS, 201))
    code, screen = await on_a_terminal(gateway.url, "y\n", "enable", "host/kvm-1/orders")
    assert code == 0, screen
    assert "needs a restart" in screen
    assert [asked.body.get("confirm_restart") for asked in gateway.asked] == [None, True]


async def test_who_says_no_changes_nothing(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", NEEDED)
    code, screen = await on_a_terminal(gateway.url, "\n", "enable", "host/kvm-1/orders")
    assert code == 130, screen
    assert len(gateway.asked) == 1


async def test_a_script_says_it_beforehand(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", NEEDED, says(ORDERS, 201))
    asked = await noah(gateway.url, "enable", "host/kvm-1/orders")
    assert (asked.code, asked.out) == (4, "")
    assert "--confirm-restart" in asked.err
    assert (await noah(gateway.url, "enable", "host/kvm-1/orders", "-y")).code == 0
    assert gateway.asked[-1].body["confirm_restart"] is True


async def test_drift_is_a_table(gateway: ScriptedGateway) -> None:
    drift = {
        "target": "host/kvm-1/orders",
        "finding": "flags-without-session",
        "detail": "/etc/orders has debug flags.",
    }
    gateway.on("POST /drift", says({"items": [drift]}), says({"items": []}))
    said = await noah(gateway.url, "drift")
    assert said.out.splitlines()[1].split(maxsplit=2) == [drift["target"], drift["finding"], drift["detail"]]
    assert (await noah(gateway.url, "drift")).err == "No drift found.\n"


async def test_on_a_terminal_an_error_names_the_command_that_says_more(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", refuses(409, "bob is already debugging it.", type="../../help#already-debugged"))
    code, screen = await on_a_terminal(gateway.url, "", "enable", "local/orders")
    assert code == 4
    assert "`noah explain already-debugged` says more." in screen
    assert "noah sessions" in (await noah(gateway.url, "explain", "already-debugged")).out
    assert (await noah(gateway.url, "explain", "nothing")).code == 2
