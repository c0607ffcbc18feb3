"""`noah release`: a rollout as it happens, ended by how it ended; and those that were."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from urllib.parse import quote
from zlib import crc32

import click

from noah.cli.names import place_options
from noah.cli.output import BAD, CARE, GOOD, QUIET, Column, clean, clock, output_option, print_list
from noah.client.event_reader import EventReader
from noah.client.failure import Code, Failure
from noah.client.gateway import Away, Gateway, Json, Query, connect
from noah.core.release.log_cursor import LogCursor
from noah.core.release.release import PATHS, Result
from noah.core.release.release_event import LINE_KINDS, ReleaseEventKind
from noah.core.workload import SHORT_NAMES, workload_kind_of

PAUSE = 1.0  # seconds until a gateway that went away is asked again
PAST = 50  # releases are shown; a gateway keeps more

# What comes from a container's output: after a restart its own times tell what is new.
_PRINTED = LINE_KINDS | {ReleaseEventKind.CHECKURL, ReleaseEventKind.ONLINE}
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
    """Watch releases, and look back at them."""


@release.command()
@click.argument("workload", metavar="[deploy/|sts/|ds/]NAME|ID")
@place_options
@click.option("--since", metavar="TIME", help="Nothing older: 10m, or 2026-01-31T08:00:00Z.")
@click.option("--tail", type=click.IntRange(0, 10_000), help="Of the lines already there, only the last ones.")
@click.option("--filter", "text", metavar="TEXT", help="Only lines that contain this, in whatever case.")
@click.option("--pod", metavar="POD", help="Only what is about this pod.")
@click.option("--container", metavar="NAME", help="Only lines of this container.")
@click.option("--previous/--no-previous", default=True, help="Lines from before a container's last crash, too.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="One object per line.")
def watch(
    *,
    workload: str,
    cluster: str | None,
    namespace: str | None,
    since: str | None,
    tail: int | None,
    text: str | None,
    pod: str | None,
    container: str | None,
    previous: bool,
    output: str | None,
) -> int:
    """Show a rollout as it happens, or again.

    Pods, events, what every container prints, and how many are online. Ends with the release: exit code 0, or 6 with
    the reason of its failure in one sentence. An ID, as `noah release list` shows it, gives what was kept of a release.
    """
    gateway = connect()
    wanted: Query = {
        "since": since,
        "tail": tail,
        "filter": text,
        "pod": pod,
        "container": container,
        "previous": None if previous else "false",
    }
    path, kind = _path(gateway, workload, cluster=cluster, namespace=namespace)
    while True:
        end: Json = {}
        for event in _Watch(gateway, path, {**wanted, "kind": kind}).events():
            if event["kind"] == ReleaseEventKind.END:
                end = event
            click.echo(json.dumps(event, ensure_ascii=False) if output else _line(event))
        if end["result"] != Result.REPLACED or kind is None:
            return 0 if end["result"] == Result.DONE else Code.CANNOT_DEBUG


@release.command("list")
@click.option("--cluster", metavar="NAME", help="Only in this cluster.")
@click.option("-n", "--namespace", metavar="NAME", help="Only in this namespace.")
@click.option("--workload", metavar="NAME", help="Only of this workload.")
@click.option("--result", type=click.Choice([result.value for result in Result]), help="Only such.")
@click.option("--all", "everything", is_flag=True, help=f"Not only the last {PAST}.")
@output_option
def list_releases(
    *,
    cluster: str | None,
    namespace: str | None,
    workload: str | None,
    result: str | None,
    everything: bool,
    output: str | None,
) -> None:
    """List releases that go on and past ones, the newest first."""
    wanted = {"cluster": cluster, "namespace": namespace, "workload": workload, "result": result}
    found = connect().items("/releases", wanted, limit=None if everything else PAST)
    print_list(found, output, COLUMNS, name=lambda r: str(r["id"]), nothing="No releases found.")
    if found["continue"]:
        click.echo(f"{len(found['items'])} of {found['total']} releases are shown: --all shows them all.", err=True)


def _path(gateway: Gateway, workload: str, *, cluster: str | None, namespace: str | None) -> tuple[str, str | None]:
    """Where its stream is, and the kind of workload; None for one release, by its ID."""
    kind, _, name = workload.rpartition("/")
    if kind and workload_kind_of(kind) not in PATHS:
        known = ", ".join(f"{SHORT_NAMES[one]}/NAME" for one in PATHS)
        raise click.UsageError(f"{kind} has no releases: write one of {known}.")
    if not kind and not namespace and name.startswith("r-"):
        return f"/releases/{quote(name, safe='')}/events", None
    if not namespace:
        raise click.UsageError("-n says in which namespace it is.")
    where = "/".join(quote(part, safe="") for part in (cluster or _only_cluster(gateway), namespace, name))
    return f"/releases/{where}/events", kind or "deploy"


def _only_cluster(gateway: Gateway) -> str:
    names = [str(one["name"]) for one in gateway.clusters()["items"]]
    if len(names) != 1:
        raise click.UsageError(f"--cluster says where it is: {', '.join(names) or 'the gateway knows none'}.")
    return names[0]


class _Watch:
    """One release, over cuts of the stream and restarts of the gateway."""

    def __init__(self, gateway: Gateway, path: str, query: Query) -> None:
        self._gateway = gateway
        self._first = self._path, self._query = path, query
        self._shown = _Shown()

    def events(self) -> Iterator[Json]:
        """The last one is the end."""
        reader = EventReader()
        pieces = self._gateway.stream(self._path, self._query, last_id=None)
        while True:
            try:
                for piece in pieces:
                    for event in (_event(one.data) for one in reader.feed(piece)):
                        if event["kind"] == ReleaseEventKind.RELEASE:
                            # The same release by its ID: its workload may have a newer one by the next connection.
                            self._path = f"/releases/{event['release']}/events"
                            self._query = {key: value for key, value in self._query.items() if key != "kind"}
                        if self._shown.is_new(event):
                            yield event
                        if event["kind"] == ReleaseEventKind.END:
                            return
            except Away:
                pass
            reader = EventReader(reader.last_id)
            pieces = self._again(reader.last_id)

    def _again(self, last_id: str | None) -> Iterator[bytes]:
        click.echo("The gateway is away; waiting for it.", err=True)
        while True:
            time.sleep(PAUSE)
            try:
                return self._gateway.stream(self._path, self._query, last_id=last_id)
            except Away:
                continue
            except Failure as e:
                if e.code is not Code.NOT_FOUND or self._first == (self._path, self._query):
                    raise
                # The gateway was killed before it kept anything of it.
                self._path, self._query = self._first


class _Shown:
    """What was shown already: a gateway that was restarted tells a release anew, in almost the same words."""

    def __init__(self) -> None:
        self._anew = False
        self._lines: dict[tuple[str, ...], LogCursor] = defaultdict(LogCursor)
        self._before: Counter[tuple[str, ...]] = Counter()
        self._now: Counter[tuple[str, ...]] = Counter()

    def is_new(self, event: Json) -> bool:
        if event["kind"] == ReleaseEventKind.RESTARTED:
            self._anew = True
            self._before |= self._now
            self._now.clear()
            for cursor in self._lines.values():
                cursor.reconnected()
            return False
        if event["kind"] in _PRINTED:
            source = (str(event.get("pod")), str(event.get("container")), str(event.get("restart")))
            return self._lines[source].is_new(event["at"])
        key = (event["kind"], str(event.get("pod") or event.get("object")), event["text"])
        self._now[key] += 1
        return event["kind"] == ReleaseEventKind.END or not self._anew or self._now[key] > self._before[key]


def _event(data: str) -> Json:
    try:
        event: Json = json.loads(data)
    except ValueError:
        raise Failure(Code.UNEXPECTED, "The gateway sends something that is no event.") from None
    return event


def _line(event: Json) -> str:
    at = clock(event["at"][:19] + "Z", seconds=True)
    said, colour = clean(str(event["text"])), _colour(event)
    if event["kind"] in LINE_KINDS:
        who = f"{event['pod']} {event['container']}" + (f" (run {event['restart'] + 1})" if event["restart"] else "")
        pod = _COLOURS[crc32(str(event["pod"]).encode()) % len(_COLOURS)]
        mark = click.style(f"[{event['hook']}] ", bold=True) if event["kind"] == ReleaseEventKind.HOOK else ""
        return f"{at}  {click.style(clean(who), fg=pod)}  {mark}{said}"
    about = str(event.get("pod") or event.get("object") or "")
    reason = f"{event['reason']}: " if event["kind"] == ReleaseEventKind.EVENT else ""
    what = f"{about}: {reason}{said}" if about else said
    return f"{at}  {click.style(clean(what), fg=colour)}"


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
