"""`noah targets`: what can be debugged, and who is debugging it."""

from functools import partial

import click

from noah.cli.completion import complete_apps, complete_clusters, complete_namespaces
from noah.cli.output import Column, output_option, print_list
from noah.cli.target_names import environment_option, nothing
from noah.cli.terminal import BAD, CARE, GOOD
from noah.cli.times import age
from noah.client.environment import client_from_environment
from noah.client.gateway_client import Json, Query

_PHASES = {"Running": GOOD, "Pending": CARE, "CrashLoopBackOff": BAD, "Failed": BAD, "Error": BAD}

COLUMNS = (
    Column("TARGET", lambda t: t["target"]),
    Column("ENVIRONMENT", lambda t: t.get("environment")),
    Column("APP", lambda t: t.get("app")),
    # An app on a host is not asked before somebody wants it.
    Column("READY", lambda t: None if t.get("phase") == "Unknown" else "yes" if t.get("ready") else "no", {"no": CARE}),
    Column("STATUS", lambda t: t.get("phase"), _PHASES),
    Column("RESTARTS", lambda t: t.get("restarts")),
    Column("AGE", lambda t: age(t.get("started_at"))),
    Column("VERSION", lambda t: t.get("version")),
    Column("DEBUGGED BY", lambda t: _debugged_by(t.get("session"))),
)


@click.command()
@environment_option("Only of this environment.")
@click.option("--cluster", metavar="NAME", help="Only of this cluster.", shell_complete=complete_clusters)
@click.option("-n", "--namespace", metavar="NAME", help="Only of this one.", shell_complete=complete_namespaces)
@click.option("--app", metavar="NAME", help="Only of this app.", shell_complete=complete_apps)
@click.option("-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, help="Only with this label; repeatable.")
@click.option("--kind", type=click.Choice(["pod", "host", "local"]), help="Only of this kind.")
@click.option("-q", "--query", metavar="TEXT", help="Only with this in the name.")
@output_option
def targets(
    *,
    environment: str | None,
    cluster: str | None,
    namespace: str | None,
    app: str | None,
    labels: tuple[str, ...],
    kind: str | None,
    query: str | None,
    output: str | None,
) -> None:
    """List what can be debugged, and who is debugging it."""
    wanted: Query = {
        "environment": environment,
        "cluster": cluster,
        "namespace": namespace,
        "app": app,
        "label": _labels(labels),
        "kind": kind,
    }
    gateway = client_from_environment()
    found = gateway.items("/targets", {**wanted, "q": query})
    is_in_several = len({target.get("environment") for target in found["items"]}) > 1
    columns = COLUMNS if is_in_several else [one for one in COLUMNS if one.header != "ENVIRONMENT"]
    none = partial(nothing, gateway, "targets", environment)
    print_list(found, output, columns, name=lambda t: str(t["target"]), nothing=none)


def _labels(given: tuple[str, ...]) -> list[str]:
    """Split kubectl's `-l a=1,b=2` into two labels."""
    labels = [label for several in given for label in several.split(",")]
    for label in labels:
        if not label.partition("=")[0] or "=" not in label:
            raise click.BadParameter(f"{label!r} is not a label: write KEY=VALUE.", param_hint="--label")
    return labels


def _debugged_by(session: Json | None) -> str | None:
    if session is None:
        return None
    status, since = session.get("status"), age(session.get("since"))
    return f"{session.get('owner')} ({status}{f' {since}' if since else ''})"
