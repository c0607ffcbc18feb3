"""`noah drift`: hosts whose debug flags stand without a session, and sessions whose flags are gone."""

import click

from noah.cli.output import BAD, CARE, Column, output_option, print_list
from noah.client.gateway import connect

COLUMNS = (
    Column("TARGET", lambda d: d["target"]),
    Column("FINDING", lambda d: d["finding"], {"session-without-flags": BAD, "not-configured": BAD, "unknown": CARE}),
    Column("DETAIL", lambda d: d.get("detail")),
)


@click.command()
@output_option
def drift(output: str | None) -> None:
    """Ask all hosts whose debug flags stand where nobody debugs, and the other way round."""
    found = connect().get("/drift")
    print_list(found, output, COLUMNS, name=lambda d: str(d["target"]), nothing="No drift found.")
