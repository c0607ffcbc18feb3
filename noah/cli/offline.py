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
@click.option("--timeout", type=LENGTH, default="3s", show_default=True, help="Of one run.")
@click.option("--period", type=LENGTH, default="10s", show_default=True, help="From one run to the next.")
@click.option("--failure-threshold", type=int, default=3, show_default=True, help="Failed runs until it is killed.")
@click.option("--initial-delay", type=LENGTH, help="Before the first run.")
def probe_spec(
    *, checkurl: str, timeout: timedelta, period: timedelta, failure_threshold: int, initial_delay: timedelta | None
) -> None:
    """Print a livenessProbe that spares breakpoints.

    It is YAML for a container in a pod's manifest. Keep the rhythm of the probe that it replaces.
    """
    from noah.core.inject.probe import probe_spec as spec_of

    spec = spec_of(
        checkurl=checkurl,
        timeout_seconds=_seconds(timeout),
        period_seconds=_seconds(period),
        failure_threshold=failure_threshold,
        initial_delay_seconds=None if initial_delay is None else _seconds(initial_delay),
    )
    click.echo(to_yaml({"livenessProbe": spec}), nl=False)


def _seconds(length: timedelta) -> int:
    return int(length.total_seconds())
