"""`noah clusters`: the gateway's clusters, and whether it reaches them."""

import click

from noah.cli.output import Column, output_option, print_list
from noah.cli.terminal import BAD, GOOD
from noah.cli.times import age, short
from noah.client.environment import client_from_environment

COLUMNS = (
    Column("NAME", lambda c: c["name"]),
    Column("REACH", lambda c: c.get("reach")),
    Column("REACHABLE", lambda c: "yes" if c.get("reachable") else "no", {"yes": GOOD, "no": BAD}),
    Column("SINCE", lambda c: age(c.get("since"))),
    Column("WATCH", lambda c: _seconds(c.get("watch_age_seconds"))),
    Column("TARGETS", lambda c: c.get("targets")),
    Column("REASON", lambda c: c.get("reason")),
)


@click.command()
@output_option
def clusters(output: str | None) -> None:
    """List the gateway's clusters, and whether it reaches them."""
    found = client_from_environment().clusters()
    print_list(found, output, COLUMNS, name=lambda c: str(c["name"]), nothing="The gateway knows no clusters.")


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else short(seconds)
