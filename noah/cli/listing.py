"""Clusters and targets, as tables."""

import click

from noah.cli.completion import complete_apps, complete_clusters, complete_namespaces
from noah.cli.output import BAD, CARE, GOOD, Column, age, output_option, print_list, short
from noah.client.gateway import Json, connect

_PHASES = {"Running": GOOD, "Pending": CARE, "CrashLoopBackOff": BAD, "Failed": BAD, "Error": BAD}

TARGETS = (
    Column("TARGET", lambda t: t["target"]),
    Column("APP", lambda t: t.get("app")),
    Column("READY", lambda t: "yes" if t.get("ready") else "no", {"no": CARE}),
    Column("STATUS", lambda t: t.get("phase"), _PHASES),
    Column("RESTARTS", lambda t: t.get("restarts")),
    Column("AGE", lambda t: age(t.get("started_at"))),
    Column("VERSION", lambda t: t.get("version")),
    Column("DEBUGGED BY", lambda t: _debugged_by(t.get("session"))),
)

CLUSTERS = (
    Column("NAME", lambda c: c["name"]),
    Column("REACH", lambda c: c.get("reach")),
    Column("REACHABLE", lambda c: "yes" if c.get("reachable") else "no", {"yes": GOOD, "no": BAD}),
    Column("SINCE", lambda c: age(c.get("since"))),
    Column("WATCH", lambda c: _seconds(c.get("watch_age_seconds"))),
    Column("TARGETS", lambda c: c.get("targets")),
    Column("REASON", lambda c: c.get("reason")),
)


@click.command()
@click.option("--cluster", metavar="NAME", help="Only of this cluster.", shell_complete=complete_clusters)
@click.option("-n", "--namespace", metavar="NAME", help="Only of this one.", shell_complete=complete_namespaces)
@click.option("--app", metavar="NAME", help="Only of this app.", shell_complete=complete_apps)
@click.option("-l", "--label", "labels", metavar="KEY=VALUE", multiple=True, help="Only with this label; repeatable.")
@click.option("--kind", type=click.Choice(["pod", "host", "local"]), help="Only of this kind.")
@click.option("-q", "--query", metavar="TEXT", help="Only with this in the name.")
@output_option
def targets(
    *,
    cluster: str | None,
    namespace: str | None,
    app: str | None,
    labels: tuple[str, ...],
    kind: str | None,
    query: str | None,
    output: str | None,
) -> None:
    """List what can be debugged, and who is debugging it."""
    wanted = {"cluster": cluster, "namespace": namespace, "app": app, "label": _labels(labels), "kind": kind}
    found = connect().items("/targets", {**wanted, "q": query})
    print_list(found, output, TARGETS, name=lambda t: str(t["target"]), nothing="No targets found.")


@click.command()
@output_option
def clusters(output: str | None) -> None:
    """List the gateway's clusters, and whether it reaches them."""
    found = connect().clusters()
    print_list(found, output, CLUSTERS, name=lambda c: str(c["name"]), nothing="The gateway knows no clusters.")


def _labels(given: tuple[str, ...]) -> list[str]:
    """kubectl's `-l a=1,b=2` is two."""
    labels = [label for several in given for label in several.split(",")]
    for label in labels:
        if not label.partition("=")[0] or "=" not in label:
            raise click.BadParameter(f"{label!r} is no label: write KEY=VALUE.", param_hint="--label")
    return labels


def _debugged_by(session: Json | None) -> str | None:
    if session is None:
        return None
    status, since = session.get("status"), age(session.get("since"))
    return f"{session.get('owner')} ({status}{f' {since}' if since else ''})"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else short(seconds)
