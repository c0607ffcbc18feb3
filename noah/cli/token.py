"""`noah token`: tokens of the gateway's own, made on the machine that has its configuration."""

from datetime import UTC, datetime, timedelta

import click

from noah.cli.duration_type import DURATION
from noah.cli.output import Column, output_option, print_list
from noah.cli.terminal import echo
from noah.cli.times import clock
from noah.client.gateway_client import Json

_config = click.option(
    "--config", metavar="FILE", help="The configuration (default: what NOAH_CONFIG names, else config/noah.toml)."
)
_COLUMNS = (
    Column("ID", lambda one: one["id"]),
    Column("NAME", lambda one: one["name"]),
    Column("CREATED", lambda one: clock(one["created_at"])),
    Column("EXPIRES", lambda one: clock(one["expires_at"]) if one["expires_at"] else "never"),
    Column("GROUPS", lambda one: ", ".join(one["groups"])),
)


@click.group()
def token() -> None:
    """Make, list and revoke tokens of the gateway's own.

    Run this where the gateway runs, as its user: the tokens' hashes are in the file that `tokens` of [access] names.
    """


@token.command()
@click.argument("name")
@click.option("--groups", metavar="A,B", default="", help="The groups that its owner is in.")
@click.option("--for", "length", type=DURATION, help="How long it lasts: 30d, 12h (default: until it is revoked).")
@_config
def create(*, name: str, groups: str, length: timedelta | None, config: str | None) -> None:
    """Make a token for NAME and print it: it is shown this once."""
    from noah.access.tokens import TokenFile
    from noah.settings import read_settings, settings_file

    now = datetime.now(UTC)
    given = [group.strip() for group in groups.split(",") if group.strip()]
    file = TokenFile(read_settings(settings_file(config)).access.tokens)
    echo(file.create(name, groups=given, now=now, expires_at=now + length if length else None))
    echo(f"Give it to {name}: NOAH_TOKEN has it for the command noah; pages ask for it.", err=True)


@token.command(name="list")
@_config
@output_option
def show(*, config: str | None, output: str | None) -> None:
    """List the tokens; what they are is not kept."""
    from noah.access.tokens import TokenFile
    from noah.settings import read_settings, settings_file

    found: list[Json] = [
        {
            "id": one.id,
            "name": one.name,
            "groups": list(one.groups),
            "created_at": one.created_at.isoformat(),
            "expires_at": one.expires_at and one.expires_at.isoformat(),
        }
        for one in TokenFile(read_settings(settings_file(config)).access.tokens).all()
    ]
    print_list({"items": found}, output, _COLUMNS, name=lambda one: one["id"], nothing="No tokens found.")


@token.command()
@click.argument("which", metavar="ID|NAME")
@_config
def revoke(*, which: str, config: str | None) -> None:
    """Revoke one token, or all of a name; the gateway refuses them at once."""
    from noah.access.tokens import TokenFile
    from noah.settings import read_settings, settings_file

    for one in TokenFile(read_settings(settings_file(config)).access.tokens).revoke(which):
        echo(f"{one.id} of {one.name} is revoked.")
