"""`noah enable`: from a target's name to an address that an IDE connects to."""

import sys
from datetime import timedelta

import click

from noah.cli.completion import complete_targets
from noah.cli.duration_type import DURATION
from noah.cli.output import output_option, print_one
from noah.cli.session_text import COLUMNS, address, name, step_line, until, why
from noah.cli.target_names import Place, full_name, place_options
from noah.cli.terminal import echo, echo_styled, styled
from noah.cli.wait import USABLE, until_usable
from noah.client.environment import client_from_environment
from noah.client.gateway_client import Json
from noah.core.printable import printable
from noah.errors import NeedsRestart


class _PauseBudgetType(click.ParamType[timedelta | str]):
    name = "duration"

    def convert(
        self, value: timedelta | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta | str:
        return value if value == "off" else DURATION.convert(value, param, ctx)


@click.command()
@click.argument("target", shell_complete=complete_targets)
@place_options
@click.option("--for", "length", type=DURATION, help="How long the session lasts (default: the gateway's, 2h).")
@click.option("--wait", is_flag=True, help="Until a debugger can attach.")
@click.option("--timeout", type=DURATION, default="2m", show_default=True, help="How long to --wait.")
@click.option(
    "--allow",
    multiple=True,
    metavar="CIDR",
    help="Where debuggers may come from (default: from where you are); repeatable.",
)
@click.option("--allow-exit", is_flag=True, help="Let a debugger end the JVM (VirtualMachine.Exit).")
@click.option(
    "--pause-budget",
    type=_PauseBudgetType(),
    metavar="DURATION|off",
    help="How long the JVM may be suspended before it is resumed (default: the gateway's).",
)
@click.option("--take-over", is_flag=True, help="Let your next debugger end the one that is attached.")
@click.option(
    "-y",
    "--confirm-restart",
    is_flag=True,
    help="Let an app on a host be restarted if it has to be; else you are asked.",
)
@output_option
def enable(
    *,
    target: str,
    place: Place,
    length: timedelta | None,
    wait: bool,
    timeout: timedelta,
    allow: tuple[str, ...],
    allow_exit: bool,
    pause_budget: timedelta | str | None,
    take_over: bool,
    confirm_restart: bool,
    output: str | None,
) -> None:
    """Start debugging TARGET: prints the address for your IDE.

    If you have a session on it already, you get that one. Without --wait the answer comes at once, and the session may
    still be starting.
    """
    gateway = client_from_environment()
    wanted: Json = {"target": full_name(gateway, target, place)}
    if length is not None:
        wanted["for"] = int(length.total_seconds())
    if allow:
        wanted["allow"] = list(allow)
    if pause_budget is not None:
        wanted["pause_budget"] = None if isinstance(pause_budget, str) else f"{int(pause_budget.total_seconds())}s"
    flags = {"allow_exit": allow_exit, "take_over": take_over, "confirm_restart": confirm_restart}
    wanted |= {flag: True for flag, given in flags.items() if given}
    try:
        status, session = gateway.post("/sessions", wanted)
    except NeedsRestart as e:
        _confirm(e)
        status, session = gateway.post("/sessions", {**wanted, "confirm_restart": True})
    if status == 200:
        echo(f"You have a session on {printable(session['target'])} already; it stays as it is.", err=True)
    if wait:
        session = until_usable(gateway, session, timeout, seen=_Steps())
    print_one(session, output, COLUMNS, name=name, text=lambda: what_now(session))


def _confirm(needed: NeedsRestart) -> None:
    """Ask on a terminal; a script has to confirm beforehand."""
    if not sys.stdin.isatty():
        raise NeedsRestart(f"{needed.sentence} Confirm it with --confirm-restart.")
    echo(needed.sentence, err=True)
    click.confirm("Restart it?", abort=True, err=True)


class _Steps:
    """Prints each step once, on stderr."""

    def __init__(self) -> None:
        self._shown = 0

    def __call__(self, session: Json) -> None:
        steps = session.get("steps") or []
        for step in steps[self._shown :]:
            echo_styled(styled(step_line(step), dim=True), err=True)
        self._shown = len(steps)


def _where_to_attach(session: Json) -> list[str]:
    if session.get("needs_connect"):
        return [f"Connect with  noah connect {printable(name(session))}   (it prints where to attach)"]
    where = printable(address(session) or "-")
    return [f"  {styled(where, bold=True)}", "", f"Attach with   jdb -attach {where}"]


def what_now(session: Json) -> str:
    session_id = printable(name(session))
    state = f"{session['target']} is {session['status']}" + (f": {why(session)}" if why(session) else "")
    lines = [
        printable(state),
        *([] if session["status"] in USABLE else ["The same command with --wait waits until it is ready."]),
        "",
        *_where_to_attach(session),
        f"or your IDE   noah ide {session_id} --format intellij --write",
        f"It is yours   {printable(until(session))}; noah extend {session_id}",
        f"End it with   noah end {session_id}",
    ]
    return "\n".join(lines)
