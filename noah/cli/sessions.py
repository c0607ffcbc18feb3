"""Sessions: list and show them, lengthen and end them, and let a paused JVM run."""

from datetime import timedelta

import click

from noah.cli.completion import complete_sessions
from noah.cli.length import LENGTH
from noah.cli.names import find_session, get_session, place_options
from noah.cli.output import output_option, print_list, print_one
from noah.cli.session import COLUMNS, describe, name, until
from noah.cli.waiting import until_ended
from noah.client.gateway import connect, session_path

PAST = 100  # ended sessions are shown; a gateway keeps many more

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
    cluster: str | None,
    namespace: str | None,
    state: str | None,
    mine: bool,
    owner: str | None,
    output: str | None,
) -> None:
    """List who is debugging what, or show one session."""
    gateway = connect()
    if session is not None:
        found = get_session(gateway, session, cluster=cluster, namespace=namespace)
        print_one(found, output, COLUMNS, name=name, text=lambda: describe(found))
        return
    if cluster or namespace:
        raise click.UsageError("--cluster and -n go with the short name of a target.")
    wanted = {"state": state or "live", "owner": gateway.user if mine else owner}
    found = gateway.items("/sessions", wanted, limit=PAST if state else None)
    print_list(found, output, COLUMNS, name=name, nothing="No sessions found.")
    if found["continue"]:
        click.echo(f"{len(found['items'])} of {found['total']} sessions are shown.", err=True)


@click.command()
@session_argument
@place_options
@click.option("--for", "length", type=LENGTH, default="2h", show_default=True, help="How long it lasts from now on.")
@output_option
def extend(*, session: str, cluster: str | None, namespace: str | None, length: timedelta, output: str | None) -> None:
    """Let a session last longer."""
    gateway = connect()
    session_id = find_session(gateway, session, cluster=cluster, namespace=namespace)
    _, found = gateway.post(session_path(session_id, "/extend"), {"for": int(length.total_seconds())})
    print_one(found, output, COLUMNS, name=name, text=lambda: f"{found['target']} is yours {until(found)}.")


@click.command()
@session_argument
@place_options
@click.option("--wait", is_flag=True, help="Until everything is closed and verified.")
@click.option("--timeout", type=LENGTH, default="1m", show_default=True, help="How long to --wait.")
@output_option
def end(
    *, session: str, cluster: str | None, namespace: str | None, wait: bool, timeout: timedelta, output: str | None
) -> None:
    """End a session. Everything is closed, and the JVM runs."""
    gateway = connect()
    session_id = find_session(gateway, session, cluster=cluster, namespace=namespace)
    found = gateway.delete(session_path(session_id))
    if wait:
        found = until_ended(gateway, found, timeout)
    print_one(found, output, COLUMNS, name=name, text=lambda: f"{found['target']}: {found['status']}.")


@click.command()
@session_argument
@place_options
@output_option
def resume(*, session: str, cluster: str | None, namespace: str | None, output: str | None) -> None:
    """Let a paused JVM run, by disconnecting its debugger.

    Breakpoints are gone with it; the session stays."""
    gateway = connect()
    session_id = find_session(gateway, session, cluster=cluster, namespace=namespace)
    _, found = gateway.post(session_path(session_id, "/resume"))
    print_one(found, output, COLUMNS, name=name, text=lambda: f"{found['target']} runs; attach again when you like.")
