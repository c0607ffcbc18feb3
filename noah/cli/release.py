"""`noah release`: shows a rollout as it happens, and how it ended; lists past ones."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from urllib.parse import quote
from zlib import crc32

import click

from noah.cli.completion import complete_clusters, complete_namespaces, complete_workloads
from noah.cli.exit_codes import ExitCode
from noah.cli.output import Column, output_option, print_list
from noah.cli.repeat_filter import RepeatFilter
from noah.cli.target_names import (
    Place,
    environment_option,
    missing_environment,
    nothing,
    only_cluster,
    place_options,
)
from noah.cli.terminal import BAD, CARE, GOOD, QUIET, echo, echo_styled, json_text, styled
from noah.cli.times import clock
from noah.client.environment import client_from_environment
from noah.client.event_stream import EventStream
from noah.client.gateway_client import GatewayClient, Json, Query
from noah.core.printable import printable
from noah.core.release.release import PATHS, Result
from noah.core.release.release_event import LINE_KINDS, ReleaseEventKind
from noah.core.workload import SHORT_NAMES, in_pod_name, workload_kind_of
from noah.errors import BadInput, NotFound

MOST_LISTED = 50  # releases that are shown; a gateway keeps more

_COLOURS = ("cyan", "magenta", "blue", "bright_cyan", "bright_magenta", "bright_blue")

COLUMNS = (
    Column("ID", lambda r: r["id"]),
    Column("NAMESPACE", lambda r: r["namespace"]),
    Column("WORKLOAD", lambda r: f"{r['kind']}/{r['workload']}"),
    Column("REVISION", lambda r: r["revision"]),
    Column("STARTED", lambda r: clock(r["started_at"], seconds=True)),
    Column(
        "RESULT",
        lambda r: r["result"],
        {Result.DONE: GOOD, Result.FAILED: BAD, Result.RUNNING: CARE, Result.LOST: CARE},
    ),
    Column("ONLINE", lambda r: f"{r['online']}/{r['wanted']}"),
    Column("DETAIL", lambda r: r["text"]),
)


@click.group()
def release() -> None:
    """Watch releases, and list past ones."""


@release.command()
@click.argument("workload", metavar="[deploy/|sts/|ds/]NAME|ID", shell_complete=complete_workloads)
@place_options
@click.option("--since", metavar="TIME", help="Nothing older: 10m, or 2026-01-31T08:00:00Z.")
@click.option("--tail", type=click.IntRange(0, 10_000), help="Of the lines already there, only the last ones.")
@click.option("--filter", "text", metavar="TEXT", help="Only lines that contain this, in upper or lower case.")
@click.option("--pod", metavar="POD", help="Only what is about this pod.")
@click.option("--container", metavar="NAME", help="Only lines of this container.")
@click.option("--previous/--no-previous", default=True, help="Lines from before a container's last crash, too.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="One object per line.")
def watch(
    *,
    workload: str,
    place: Place,
    since: str | None,
    tail: int | None,
    text: str | None,
    pod: str | None,
    container: str | None,
    previous: bool,
    output: str | None,
) -> int:
    """Show a rollout as it happens, or a past one.

    Pods, events, what every container prints, and how many are online. Ends with the release: exit code 0, or 6 with
    the reason of its failure in one sentence. An ID, as `noah release list` shows it, shows what was kept of a release.
    """
    gateway = client_from_environment()
    wanted: Query = {
        "since": since,
        "tail": tail,
        "filter": text,
        "pod": pod,
        "container": container,
        "previous": None if previous else "false",
    }
    find = _finder(gateway, workload, place)
    while True:
        end: Json = {}
        for event in _events(gateway, find() if find else workload, wanted, find):
            if event["kind"] == ReleaseEventKind.END:
                end = event
            echo_styled(json_text(event) if output else _line(event))
        if end["result"] != Result.REPLACED or find is None:
            return 0 if end["result"] == Result.DONE else ExitCode.CANNOT_DEBUG


@release.command("list")
@environment_option("Only of this environment.")
@click.option("--cluster", metavar="NAME", help="Only in this cluster.", shell_complete=complete_clusters)
@click.option("-n", "--namespace", metavar="NAME", help="Only in this namespace.", shell_complete=complete_namespaces)
@click.option("--workload", metavar="NAME", help="Only of this workload.")
@click.option("--result", type=click.Choice([result.value for result in Result]), help="Only with this result.")
@click.option("--all", "everything", is_flag=True, help=f"Not only the last {MOST_LISTED}.")
@output_option
def list_releases(
    *,
    environment: str | None,
    cluster: str | None,
    namespace: str | None,
    workload: str | None,
    result: str | None,
    everything: bool,
    output: str | None,
) -> None:
    """List running and past releases, the newest first."""
    wanted: Query = {
        "environment": environment,
        "cluster": cluster,
        "namespace": namespace,
        "workload": workload,
        "result": result,
    }
    gateway = client_from_environment()
    found = gateway.items("/releases", wanted, limit=None if everything else MOST_LISTED)
    print_list(
        found, output, COLUMNS, name=lambda r: str(r["id"]), nothing=partial(nothing, gateway, "releases", environment)
    )
    if found["continue"]:
        echo(f"{len(found['items'])} of {found['total']} releases are shown: --all shows them all.", err=True)


def _finder(gateway: GatewayClient, workload: str, place: Place) -> Callable[[], str] | None:
    """Return what has a workload's release followed and returns its ID; None if *workload* is one release's ID."""
    kind, _, name = workload.rpartition("/")
    if kind and workload_kind_of(kind) not in PATHS:
        known = ", ".join(f"{SHORT_NAMES[one]}/NAME" for one in PATHS)
        raise click.UsageError(f"{kind} has no releases: write one of {known}.")
    if not kind and not place.namespace and name.startswith("r-"):
        return None
    cluster, namespace = place.cluster, place.namespace
    if not namespace and place.environment:
        cluster, namespace = _place_of(gateway, kind or "deploy", name, place.environment)
    if not namespace:
        raise click.UsageError("Name its namespace with -n, or its environment with --env.")
    wanted = {
        "cluster": cluster or only_cluster(gateway),
        "namespace": namespace,
        "workload": name,
        "kind": kind or "deploy",
    }
    return lambda: str(gateway.post("/releases", wanted)[1]["id"])


def _place_of(gateway: GatewayClient, kind: str, name: str, environment: str) -> tuple[str, str]:
    """Return the cluster and the namespace in which an environment has the workload."""
    workload = f"{workload_kind_of(kind)}/{name}"
    wanted = {"environment": environment, "kind": "pod", "q": in_pod_name(name)}
    targets = gateway.items("/targets", wanted)["items"]
    places = sorted({(str(t["cluster"]), str(t["namespace"])) for t in targets if t["workload"] == workload})
    if not places:
        missing = missing_environment(gateway, environment)
        raise NotFound(
            missing or f"There is no {kind}/{name} with pods in environment {environment}: name its namespace with -n."
        )
    if len(places) > 1:
        several = ", ".join("/".join(place) for place in places)
        raise BadInput(f"{kind}/{name} is in several places of {environment} ({several}): say which, with -n.")
    return places[0]


def _events(gateway: GatewayClient, id: str, query: Query, find: Callable[[], str] | None) -> Iterator[Json]:
    """Yield the events of one release, over restarts of the gateway; the last one is its end.

    *find*: returns its ID again, if the gateway was ended before it had kept it.
    """
    stream = EventStream(
        gateway,
        _path(id),
        query,
        notify=lambda sentence: echo(sentence, err=True),
        find_again=None if find is None else lambda: _path(find()),
    )
    repeats = RepeatFilter()
    for event in stream:
        if repeats.is_new(event):
            yield event
        if event["kind"] == ReleaseEventKind.END:
            return


def _path(id: str) -> str:
    return f"/releases/{quote(id, safe='')}/events"


def _line(event: Json) -> str:
    at = clock(event["at"][:19] + "Z", seconds=True)
    said, colour = printable(str(event["text"])), _colour(event)
    if event["kind"] in LINE_KINDS:
        who = f"{event['pod']} {event['container']}" + (f" (run {event['restart'] + 1})" if event["restart"] else "")
        pod = _COLOURS[crc32(str(event["pod"]).encode()) % len(_COLOURS)]
        mark = styled(f"[{event['hook']}] ", bold=True) if event["kind"] == ReleaseEventKind.HOOK else ""
        return f"{at}  {styled(who, fg=pod)}  {mark}{said}"
    about = str(event.get("pod") or event.get("object") or "")
    reason = f"{event['reason']}: " if event["kind"] == ReleaseEventKind.EVENT else ""
    what = f"{about}: {reason}{said}" if about else said
    return f"{at}  {styled(what, fg=colour)}"


def _colour(event: Mapping[str, object]) -> str:
    match event["kind"]:
        case ReleaseEventKind.END:
            return GOOD if event["result"] == Result.DONE else BAD
        case ReleaseEventKind.CONDITION:
            return QUIET
        case ReleaseEventKind.EVENT:
            return BAD if event["type"] == "Warning" else QUIET
        case ReleaseEventKind.GAP | ReleaseEventKind.PAUSED:
            return BAD
        case ReleaseEventKind.ONLINE:
            return GOOD if event["online"] else BAD
        case _:
            return CARE
