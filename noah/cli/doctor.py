"""`noah doctor`: what stands in the way of debugging, in a cluster or a pod."""

import click
from click.shell_completion import CompletionItem

from noah.cli.completion import complete_clusters, complete_targets
from noah.cli.names import full_name, place_options
from noah.cli.output import BAD, CARE, GOOD, Column, clean, output_option, print_list
from noah.client.failure import Code, Failure
from noah.client.gateway import Gateway, Json, connect, target_path
from noah.core.session.target import WantedPod, parse_wanted

_COLOURS = {"ok": GOOD, "warning": CARE, "error": BAD}

COLUMNS = (
    Column("CLUSTER", lambda f: f["cluster"]),
    Column("LEVEL", lambda f: f["level"], _COLOURS),
    Column("CHECK", lambda f: f.get("check")),
    Column("MESSAGE", lambda f: f.get("message")),
)


def _complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    return complete_clusters(ctx, param, typed) + complete_targets(ctx, param, typed)


@click.command()
@click.argument("what", metavar="[CLUSTER|TARGET]", required=False, shell_complete=_complete)
@place_options
@output_option
def doctor(what: str | None, cluster: str | None, namespace: str | None, output: str | None) -> int:
    """Say what stands in the way of debugging.

    In all clusters, in one, or for one pod.

    Exits with 6 when there is an error among the findings.
    """
    gateway = connect()
    if what is not None and ("/" in what or "=" in what or namespace):
        findings = _of_pod(gateway, full_name(gateway, what, cluster=cluster, namespace=namespace))
    elif what or cluster:
        findings = _ask(gateway, str(what or cluster))
    else:
        findings = [f for c in gateway.clusters()["items"] for f in _ask(gateway, str(c["name"]))]
    if output is None:
        _tell(findings)
    else:
        print_list({"items": findings}, output, COLUMNS, name=_name, nothing="The gateway knows no clusters.")
    return Code.CANNOT_DEBUG if any(finding["level"] == "error" for finding in findings) else 0


def _of_pod(gateway: Gateway, name: str) -> list[Json]:
    match parse_wanted(name):
        case WantedPod(cluster=str(cluster), namespace=str(namespace), pod=str(pod), container=container):
            return _ask(gateway, cluster, pod="/".join(filter(None, (namespace, pod, container))))
        case WantedPod():
            return _of_pod(gateway, str(gateway.get(target_path(name))["target"]))
        case _:
            raise Failure(Code.USAGE, f"The doctor looks at clusters and pods; {name} is neither.")


def _ask(gateway: Gateway, cluster: str, *, pod: str | None = None) -> list[Json]:
    if not cluster.isprintable() or set(cluster) & set("/?#.% "):
        raise Failure(Code.NOT_FOUND, f"There is no cluster {cluster[:80]!r}: `noah clusters` lists them.")
    findings = gateway.get(f"/clusters/{cluster}/doctor", {"pod": pod})["findings"]
    return [{"cluster": cluster, **finding} for finding in findings]


def _tell(findings: list[Json]) -> None:
    cluster = None
    for finding in findings:
        if finding["cluster"] != cluster:
            cluster = finding["cluster"]
            click.secho(clean(cluster), bold=True)
        level = click.style(f"{finding['level']:<7}", fg=_COLOURS.get(finding["level"]))
        click.echo(f"  {level}  {clean(str(finding.get('message')))}")
    if not findings:
        click.echo("The gateway knows no clusters.", err=True)


def _name(finding: Json) -> str:
    return f"{finding['cluster']}/{finding.get('check')}"
