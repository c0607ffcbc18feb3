"""`noah inventory`: what the gateway's configuration lists, and the word for a removal that it does not believe."""

import click

from noah.cli.output import Column, output_option, print_list
from noah.cli.terminal import CARE, GOOD
from noah.client.environment import client_from_environment
from noah.client.gateway_client import Json

COLUMNS = (
    Column("PART", lambda p: p["part"]),
    Column("COUNT", lambda p: p.get("count")),
    Column("CURRENT", lambda p: "yes" if p.get("current") else "no", {"yes": GOOD, "no": CARE}),
    Column("GONE", lambda p: p.get("gone") or None),
    Column("MESSAGE", lambda p: p.get("message")),
)


@click.group(invoke_without_command=True)
@output_option
@click.pass_context
def inventory(ctx: click.Context, output: str | None) -> None:
    """Show what the gateway's configuration lists, and whether that is current."""
    if ctx.invoked_subcommand is None:
        _print(client_from_environment().get("/inventory"), output)


@inventory.command()
@output_option
def confirm(output: str | None) -> None:
    """Confirm that those are gone of which more than half were gone at once."""
    _, found = client_from_environment().post("/inventory/confirm")
    _print(found, output)


def _print(found: Json, output: str | None) -> None:
    print_list(found, output, COLUMNS, name=lambda p: str(p["part"]), nothing="The configuration lists nothing.")
