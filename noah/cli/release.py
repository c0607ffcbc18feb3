"""`noah release watch`: a rollout as it happens, ended by how it ended."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from zlib import crc32

import click

from noah.cli.client import Away, Gateway, Json, connect
from noah.cli.failure import Code, Failure
from noah.cli.names import place_options
from noah.cli.output import BAD, CARE, GOOD, clean, clock
from noah.cli.sse import EventReader
from noah.core.lines import Seen

PAUSE = 1.0  # seconds until a gateway that went away is asked again

_KINDS = {"deploy", "deployment", "sts", "statefulset", "ds", "daemonset"}
_COLOURS = ("cyan", "magenta", "blue", "bright_cyan", "bright_magenta", "bright_blue")


@click.group()
def release() -> None:
    """Watch releases."""


@release.command()
@click.argument("workload", metavar="[deploy/|sts/|ds/]NAME")
@place_options
@click.option("-o", "--output", type=click.Choice(["json"]), help="One object per line.")
def watch(*, workload: str, cluster: str | None, namespace: str | None, output: str | None) -> int:
    """Show a rollout as it happens.

    Pods, what they print, and how many are online. Ends with the release: exit code 0, or 6 with the reason of its
    failure in one sentence.
    """
    gateway = connect()
    kind, _, name = workload.rpartition("/")
    if kind and kind not in _KINDS:
        raise click.UsageError(f"{kind} has no releases: deploy/NAME, sts/NAME and ds/NAME have.")
    if not namespace:
        raise click.UsageError("-n says in which namespace it is.")
    path = f"/releases/{cluster or _only_cluster(gateway)}/{namespace}/{name}/events"
    for event in _followed(gateway, path, kind or "deploy"):
        click.echo(json.dumps(event, ensure_ascii=False) if output else _line(event))
        if event["kind"] == "end":
            return 0 if event["result"] == "done" else Code.CANNOT_DEBUG
    return Code.UNEXPECTED


def _only_cluster(gateway: Gateway) -> str:
    names = [str(one["name"]) for one in gateway.clusters()["items"]]
    if len(names) != 1:
        raise click.UsageError(f"--cluster says where it is: {', '.join(names) or 'the gateway knows none'}.")
    return names[0]


def _followed(gateway: Gateway, path: str, kind: str) -> Iterator[Json]:
    """A stream that is cut begins anew; what was shown already is left out."""
    seen: dict[tuple[str, str], Seen] = defaultdict(Seen)
    told: set[tuple[str, str]] = set()
    pieces = gateway.stream(path, {"kind": kind}, last_id=None)
    while True:
        for log in seen.values():
            log.reconnected()
        reader = EventReader()
        try:
            for piece in pieces:
                for event in map(_event, (one.data for one in reader.feed(piece))):
                    if event["kind"] == "log":
                        if seen[event["pod"], event["container"]].is_new(event["at"]):
                            yield event
                    elif (one := (str(event.get("pod")), str(event["text"]))) not in told or event["kind"] == "end":
                        told.add(one)
                        yield event
                        if event["kind"] == "end":
                            return
        except Away:
            pass
        pieces = _again(gateway, path, kind)


def _event(data: str) -> Json:
    try:
        event: Json = json.loads(data)
    except ValueError:
        raise Failure(Code.UNEXPECTED, "The gateway sends something that is no event.") from None
    return event


def _again(gateway: Gateway, path: str, kind: str) -> Iterator[bytes]:
    click.echo("The gateway is away; waiting for it.", err=True)
    while True:
        time.sleep(PAUSE)
        try:
            return gateway.stream(path, {"kind": kind}, last_id=None)
        except Away:
            continue


def _line(event: Json) -> str:
    at = clock(event["at"][:19] + "Z", seconds=True)
    match event["kind"]:
        case "log":
            who = f"{event['pod']} {event['container']}"
            colour = _COLOURS[crc32(str(event["pod"]).encode()) % len(_COLOURS)]
            return f"{at}  {click.style(clean(who), fg=colour)}  {clean(event['text'])}"
        case "end":
            return f"{at}  {click.style(clean(event['text']), fg=GOOD if event['result'] == 'done' else BAD)}"
        case _:
            who = f"{event['pod']}: " if event.get("pod") else ""
            return f"{at}  {click.style(clean(who + str(event['text'])), fg=CARE)}"
