"""`noah version`: this command's version; no gateway is asked."""

import platform

import click

from noah import __version__
from noah.cli.output import output_option, print_data
from noah.cli.terminal import echo


@click.command()
@output_option
def version(output: str | None) -> None:
    """Print this command's version."""
    if output in ("json", "yaml"):
        print_data({"version": __version__, "python": platform.python_version()}, output)
    else:
        echo(f"noah {__version__}")
