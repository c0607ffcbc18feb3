"""`noah doctor`: what stands in the way of debugging, in a cluster or a pod."""

import click
from click.shell_completion import CompletionItem

from noah.cli.completion import complete_clusters, complete_targets
from noah.cli.exit_codes import ExitCode
from noah.cli.output import Column, output_option, print_list
from noah.cli.target_names import Place, full_name, place_options
from noah.cli.terminal import BAD, CARE, GOOD, echo, echo_styled, styled
from noah.client.environment import client_from_environment
from noah.client.gateway_client import GatewayClient, Json, target_path
from noah.core.printable import printable
from noah.core.session.target import WantedPod, parse_wanted
from noah.errors import BadInput, NotFound

_COLOURS = {"ok": GOOD, "warning": CARE, "error": BAD}

COLUMNS = (
    Column("CLUSTER", lambda f: f["cluster"]),
    Column("LEVEL", lambda f: f["level"], _COLOURS),
    Column("CHECK", lambda f: f.get("check")),
    Column("MESSAGE", lambda f: f.get("message")),
)
ALL_COLUMNS = (
    Column("WHAT", lambda line: line["what"]),
    Column("LEVEL", lambda line: line["level"], _COLOURS),
    Column("TOOK", lambda line: f"{line['took_seconds']:.1f}s"),
    Column("MESSAGE", lambda line: line.get("message")),
)
ALL_TAKES_S = 120


def _complete(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    return complete_clusters(ctx, param, typed) + complete_targets(ctx, param, typed)


@click.command()
@click.argument("what", metavar="[CLUSTER|TARGET]", required=False, shell_complete=_complete)
@place_options
@output_option
def doctor(what: str | None, place: Place, output: str | None) -> int:
    """Say what stands in the way of debugging.

    In all of the inventory, with a line for each cluster, host and JVM of the gateway's machine; in one cluster; or for
    one pod.

    Exits with 6 when there is an error among the findings.
    """
    gateway = client_from_environment()
    if what is not None and ("/" in what or "=" in what or place.namespace):
        findings = _of_pod(gateway, full_name(gateway, what, place))
    elif what or place.cluster:
        findings = _ask(gateway, str(what or place.cluster))
    else:
        return _of_all(gateway, output)
    if output is None:
        _print(findings)
    else:
        print_list({"items": findings}, output, COLUMNS, name=_name, nothing="The gateway knows no clusters.")
    return ExitCode.CANNOT_DEBUG if any(finding["level"] == "error" for finding in findings) else 0


def _of_all(gateway: GatewayClient, output: str | None) -> int:
    _, found = gateway.post("/doctor", wait_s=ALL_TAKES_S)
    print_list(found, output, ALL_COLUMNS, name=lambda line: str(line["what"]), nothing="The gateway knows nothing.")
    return ExitCode.CANNOT_DEBUG if any(line["level"] == "error" for line in found["items"]) else 0


def _of_pod(gateway: GatewayClient, name: str) -> list[Json]:
    match parse_wanted(name):
        case WantedPod(cluster=str(cluster), namespace=str(namespace), pod=str(pod), container=container):
            return _ask(gateway, cluster, pod="/".join(filter(None, (namespace, pod, container))))
        case WantedPod():
            return _of_pod(gateway, str(gateway.get(target_path(name))["target"]))
        case _:
            raise BadInput(f"The doctor looks at clusters and pods; {name} is neither.")


def _ask(gateway: GatewayClient, cluster: str, *, pod: str | None = None) -> list[Json]:
    if not cluster.isprintable() or set(cluster) & set("/?#.% "):
        raise NotFound(f"There is no cluster {cluster[:80]!r}: `noah clusters` lists them.")
    _, answer = gateway.post(f"/clusters/{cluster}/doctor", {"pod": pod})
    return [{"cluster": cluster, **finding} for finding in answer["findings"]]


def _print(findings: list[Json]) -> None:
    cluster = None
    for finding in findings:
        if finding["cluster"] != cluster:
            cluster = finding["cluster"]
            echo_styled(styled(cluster, bold=True))
        level = styled(f"{finding['level']:<7}", fg=_COLOURS.get(finding["level"]))
        echo_styled(f"  {level}  {printable(str(finding.get('message')))}")
    if not findings:
        echo("The gateway knows no clusters.", err=True)


def _name(finding: Json) -> str:
    return f"{finding['cluster']}/{finding.get('check')}"
