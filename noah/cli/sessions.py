"""`noah sessions`, `extend`, `end`, `resume`: list and show sessions, lengthen and end them, resume their JVMs."""

from datetime import timedelta
from functools import partial
from typing import Any

import click

from noah.cli.completion import complete_sessions
from noah.cli.duration_type import DURATION
from noah.cli.output import output_option, print_list, print_one
from noah.cli.session_text import COLUMNS, describe, name, until
from noah.cli.target_names import Place, find_session, get_session, nothing, place_options
from noah.cli.terminal import echo
from noah.cli.wait import until_ended
from noah.client.environment import client_from_environment
from noah.client.gateway_client import session_path
from noah.core.printable import printable

MOST_ENDED = 100  # sessions that are shown; a gateway keeps many more

session_argument = click.argument("session", metavar="SESSION|TARGET", shell_complete=complete_sessions)


@click.command()
@click.argument("session", metavar="[SESSION|TARGET]", required=False, shell_complete=complete_sessions)
@place_options
@click.option("--all", "state", flag_value="all", help="Also those that have ended.")
@click.option("--ended", "state", flag_value="ended", help="Only those that have ended.")
@click.option("--mine", is_flag=True, help="Only yours.")
@click.option("--owner", metavar="NAME", help="Only of this person.")
@output_option
def sessions(
    *,
    session: str | None,
    place: Place,
    state: str | None,
    mine: bool,
    owner: str | None,
    output: str | None,
) -> None:
    """List who is debugging what, or show one session."""
    gateway = client_from_environment()
    if session is not None:
        found = get_session(gateway, session, place)
        print_one(found, output, COLUMNS, name=name, text=lambda: describe(found))
        return
    if place.is_in_cluster:
        raise click.UsageError("--cluster and -n go with the short name of a target.")
    wanted = {"state": state or "live", "owner": owner, "mine": "true" if mine else None}
    wanted["environment"] = place.environment
    found = gateway.items("/sessions", wanted, limit=MOST_ENDED if state else None)
    print_list(found, output, COLUMNS, name=name, nothing=partial(nothing, gateway, "sessions", place.environment))
    if found["continue"]:
        echo(f"{len(found['items'])} of {found['total']} sessions are shown.", err=True)


@click.command()
@session_argument
@place_options
@click.option("--for", "length", type=DURATION, default="2h", show_default=True, help="How long it lasts from now on.")
@output_option
def extend(*, session: str, place: Place, length: timedelta, output: str | None) -> None:
    """Make a session last longer."""
    found = _post(session, "extend", {"for": int(length.total_seconds())}, place=place)
    print_one(found, output, COLUMNS, name=name, text=lambda: printable(f"{found['target']} is yours {until(found)}."))


@click.command()
@session_argument
@place_options
@click.option("--wait", is_flag=True, help="Wait until everything is closed and verified.")
@click.option("--timeout", type=DURATION, default="1m", show_default=True, help="How long to --wait.")
@output_option
def end(*, session: str, place: Place, wait: bool, timeout: timedelta, output: str | None) -> None:
    """End a session. Everything is closed, and the JVM runs."""
    gateway = client_from_environment()
    session_id = find_session(gateway, session, place)
    found = gateway.delete(session_path(session_id))
    if wait:
        found = until_ended(gateway, found, timeout)
    print_one(found, output, COLUMNS, name=name, text=lambda: printable(f"{found['target']}: {found['status']}."))


@click.command()
@session_argument
@place_options
@output_option
def resume(*, session: str, place: Place, output: str | None) -> None:
    """Resume a suspended JVM by disconnecting its debugger.

    Its breakpoints are gone; the session stays.
    """
    found = _post(session, "resume", place=place)
    print_one(
        found,
        output,
        COLUMNS,
        name=name,
        text=lambda: printable(f"{found['target']} runs. Attach again when you like."),
    )


@click.command()
@session_argument
@click.argument("colleague", metavar="NAME")
@place_options
@click.option("--hand-over", "to", flag_value="take", help="They may become its owner too, by `noah take`.")
@click.option("--stop", "to", flag_value="", help="They may not any more.")
@output_option
def share(*, session: str, colleague: str, place: Place, to: str | None, output: str | None) -> None:
    """Let a colleague join your session, who logs in as you do.

    They may then attach (`noah join`), extend it and resume. They need the right to debug there all the same.
    """
    body = {"with": colleague, "to": "join" if to is None else to or None}
    found = _post(session, "share", body, place=place)
    what = "may not join it any more" if to == "" else "may take it over" if to else "may join it"
    print_one(
        found,
        output,
        COLUMNS,
        name=name,
        text=lambda: printable(f"{found['target']}: {colleague} {what}: {found['id']}."),
    )


@click.command()
@session_argument
@place_options
@output_option
def join(*, session: str, place: Place, output: str | None) -> None:
    """Attach to a session that is shared with you: prints the address for your IDE."""
    found = _post(session, "join", place=place)
    print_one(
        found,
        output,
        COLUMNS,
        name=name,
        text=lambda: printable(f"Point your debugger at {found['host']}:{found['port']}."),
    )


@click.command()
@session_argument
@place_options
@output_option
def take(*, session: str, place: Place, output: str | None) -> None:
    """Become the owner of a session that is handed over to you."""
    found = _post(session, "take", place=place)
    print_one(found, output, COLUMNS, name=name, text=lambda: printable(f"{found['target']} is yours {until(found)}."))


def _post(session: str, action: str, body: dict[str, Any] | None = None, *, place: Place) -> dict[str, Any]:
    """Return the session as it is after *action*."""
    gateway = client_from_environment()
    session_id = find_session(gateway, session, place)
    return gateway.post(session_path(session_id, f"/{action}"), body)[1]
