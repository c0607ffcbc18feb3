"""Commands that ask nobody."""

import platform
from datetime import timedelta

import click

from noah import __version__
from noah.cli.length import LENGTH
from noah.cli.output import output_option, print_data, to_yaml


@click.command()
@output_option
def version(output: str | None) -> None:
    """Print this command's version."""
    if output in ("json", "yaml"):
        print_data({"version": __version__, "python": platform.python_version()}, output)
    else:
        click.echo(f"noah {__version__}")


@click.command("probe-spec")
@click.option("--checkurl", metavar="URL", required=True, help="What says 200 when the app is healthy.")
@click.option("--timeout", type=LENGTH, help="Of one run.")
@click.option("--period", type=LENGTH, help="Between two runs.")
@click.option("--failure-threshold", type=click.IntRange(min=1), help="Failed runs until the container is killed.")
def probe_spec(
    checkurl: str, timeout: timedelta | None, period: timedelta | None, failure_threshold: int | None
) -> None:
    """Print a livenessProbe that spares breakpoints."""
    from noah.core.probe import probe_spec as spec_of

    click.echo(to_yaml({"livenessProbe": spec_of(checkurl)}), nl=False)
