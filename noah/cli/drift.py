"""`noah drift`: hosts that have debug flags without a session, and sessions whose flags are gone."""

import click

from noah.cli.output import Column, output_option, print_list
from noah.cli.terminal import BAD, CARE
from noah.client.environment import client_from_environment

COLUMNS = (
    Column("TARGET", lambda d: d["target"]),
    Column("FINDING", lambda d: d["finding"], {"session-without-flags": BAD, "not-configured": BAD, "unknown": CARE}),
    Column("DETAIL", lambda d: d.get("detail")),
)


@click.command()
@output_option
def drift(output: str | None) -> None:
    """List hosts that have debug flags without a session, and sessions whose flags are gone."""
    _, found = client_from_environment().post("/drift")
    print_list(found, output, COLUMNS, name=lambda d: str(d["target"]), nothing="No drift found.")
