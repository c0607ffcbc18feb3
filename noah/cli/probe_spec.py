"""`noah probe-spec`: a livenessProbe for a manifest that is written by hand; no gateway is asked."""

from datetime import timedelta

import click

from noah.cli.duration_type import DURATION
from noah.cli.manifests.writing import to_yaml
from noah.cli.terminal import echo


@click.command("probe-spec")
@click.option("--checkurl", metavar="URL", required=True, help="What to ask whether the app is healthy.")
@click.option("--timeout", type=DURATION, default="3s", show_default=True, help="The time limit of one run.")
@click.option("--period", type=DURATION, default="10s", show_default=True, help="From one run to the next.")
@click.option("--failure-threshold", type=int, default=3, show_default=True, help="Failed runs until it is killed.")
@click.option("--initial-delay", type=DURATION, help="Before the first run.")
@click.option(
    "--healthy",
    type=click.Choice(["200", "200-399"]),
    default="200",
    show_default=True,
    help="The statuses of a healthy app; 200-399 is what an httpGet takes, redirects on the same host followed.",
)
def probe_spec(
    *,
    checkurl: str,
    timeout: timedelta,
    period: timedelta,
    failure_threshold: int,
    initial_delay: timedelta | None,
    healthy: str,
) -> None:
    """Print a livenessProbe that spares breakpoints.

    It is YAML for a container in a pod's manifest. Keep the period and the thresholds of the probe that it replaces.
    """
    from noah.core.inject.probe import probe_spec as spec_of

    spec = spec_of(
        checkurl=checkurl,
        timeout_seconds=_seconds(timeout),
        period_seconds=_seconds(period),
        failure_threshold=failure_threshold,
        initial_delay_seconds=None if initial_delay is None else _seconds(initial_delay),
        as_kubelet=healthy == "200-399",
    )
    echo(to_yaml({"livenessProbe": spec}), nl=False)


def _seconds(length: timedelta) -> int:
    return int(length.total_seconds())
