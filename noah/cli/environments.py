"""`noah environments`: which environments there are, what is in them, and who debugs there."""

import click

from noah.cli.output import Column, output_option, print_list
from noah.cli.terminal import CARE
from noah.client.environment import client_from_environment
from noah.client.gateway_client import Json

_FEW = 3  # names of people that are shown


def _ready(environment: Json) -> str:
    if not environment["targets"]:
        return "gone"
    unknown = environment["unknown"]
    return f"{environment['ready']}/{environment['targets']}" + (f" ({unknown} not known)" if unknown else "")


def _debugged_by(environment: Json) -> str | None:
    owners = list(dict.fromkeys(str(one["owner"]) for one in environment["sessions"]))
    return ", ".join(owners[:_FEW]) + (f" and {len(owners) - _FEW} more" if len(owners) > _FEW else "") or None


COLUMNS = (
    Column("ENVIRONMENT", lambda e: e["name"]),
    Column("APPS", lambda e: e["apps"]),
    Column("PODS", lambda e: e["pods"]),
    Column("HOSTS", lambda e: e["hosts"]),
    Column("LOCAL", lambda e: e["local"]),
    Column("READY", _ready, {"gone": CARE}),
    Column("SUSPENDED", lambda e: e["suspended"]),
    Column("DEBUGGED BY", _debugged_by),
)


@click.command()
@click.option("-q", "--query", metavar="TEXT", help="Only with this in the name.")
@output_option
def environments(*, query: str | None, output: str | None) -> None:
    """List environments: what is in them, and who debugs there.

    `--env NAME` narrows another command to one of them, NOAH_ENV all commands of a shell.
    """
    found = client_from_environment().items("/environments", {"q": query})
    print_list(found, output, COLUMNS, name=lambda e: str(e["name"]), nothing="No environments found.")
