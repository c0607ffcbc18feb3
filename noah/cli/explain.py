"""`noah explain`: what an error means; no gateway is asked."""

import click

from noah.cli.terminal import echo
from noah.errors import BadInput
from noah.help import explanations


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Say what an error means, by its code. Without one: list the codes."""
    known = explanations()
    if code is None:
        echo("\n".join(known))
    elif code in known:
        echo(known[code])
    else:
        raise BadInput(f"There is no error {code[:40]!r}: `noah explain` lists them.")
