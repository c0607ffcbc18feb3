"""`noah events -f`: what happens, as it happens; over cuts and restarts of the gateway without gaps and doubles."""

import json
import random
import time
from collections.abc import Iterator, Mapping

import click

from noah.cli.completion import complete_sessions, complete_targets
from noah.cli.names import find_session, full_name, place_options
from noah.cli.output import BAD, CARE, QUIET, clean, clock, output_option, to_yaml
from noah.client.event_reader import EventReader
from noah.client.failure import Code, Failure
from noah.client.gateway import Away, Gateway, Json, Query, connect
from noah.core.session.event_kind import EventKind

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two attempts to connect again

_PROSE = ("status", "text", "reason")
_SHOWN = frozenset({"at", "kind", "subject", *_PROSE})
_COLOURS: Mapping[str, str] = {EventKind.WARNING: CARE, EventKind.RELOAD: BAD, EventKind.STEP: QUIET}


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--target", metavar="TARGET", help="Only of this target.", shell_complete=complete_targets)
@place_options
@click.option("--session", metavar="SESSION", help="Only of this session.", shell_complete=complete_sessions)
@output_option
def events(
    *,
    follow: bool,
    target: str | None,
    cluster: str | None,
    namespace: str | None,
    session: str | None,
    output: str | None,
) -> None:
    """Watch what happens, as it happens.

    -o json prints one object per line. A cut connection is taken up where it was.
    """
    if not follow:
        raise click.UsageError(
            "Events are shown as they happen: say `noah events -f`. What was: `noah sessions --ended`."
        )
    gateway = connect()
    query = {
        "target": target and full_name(gateway, target, cluster=cluster, namespace=namespace),
        "session": session and find_session(gateway, session, cluster=cluster, namespace=namespace),
    }
    watched = watch(gateway, query)
    for event in _for_people(watched) if output in (None, "table") else watched:
        click.echo(_printed(event, output), nl=output != "yaml")


def watch(gateway: Gateway, query: Query) -> Iterator[Json]:
    """Never ends. A gateway that cannot be reached at first is an error; one that goes away later is waited for."""
    reader = EventReader()
    pieces = gateway.stream("/events", query, last_id=None)
    while True:
        try:
            for piece in pieces:
                yield from _new_events(reader, piece, gateway.url)
        except Away:
            pass
        reader = EventReader(reader.last_id)
        pieces = _again(gateway, query, reader.last_id)


def _new_events(reader: EventReader, piece: bytes, url: str) -> Iterator[Json]:
    try:
        for event in reader.feed(piece):
            yield json.loads(event.data)
    except ValueError:
        raise Failure(Code.UNEXPECTED, f"{url} sends something that is no event: is NOAH_URL right?") from None


def _again(gateway: Gateway, query: Query, last_id: str | None) -> Iterator[bytes]:
    """Connects again, however long that takes."""
    pause = FIRST_PAUSE
    while True:
        time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - only so that not all watchers come at once
        try:
            pieces = gateway.stream("/events", query, last_id=last_id)
        except Away as e:
            if pause == FIRST_PAUSE:
                click.echo(f"The gateway is away ({e.reason}); waiting for it.", err=True)
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            if pause > FIRST_PAUSE:
                click.echo("The gateway is back.", err=True)
            return pieces


def _for_people(events: Iterator[Json]) -> Iterator[Json]:
    """A change of a session's status is told by its step; what the step does not say is the reason."""
    reasons: dict[object, object] = {}
    for event in events:
        session, reason = event.get("session"), event.get("reason")
        if event.get("kind") != EventKind.SESSION or (reason and reasons.get(session) != reason):
            yield event
        if event.get("kind") == EventKind.SESSION:
            reasons[session] = reason


def _printed(event: Json, output: str | None) -> str:
    match output:
        case "json":
            return json.dumps(event, ensure_ascii=False)
        case "yaml":
            return "---\n" + to_yaml(event)
        case "name":
            return clean(str(event.get("subject", "")))
        case _:
            return _line(event)


def _line(event: Json) -> str:
    at, kind, subject = clock(event.get("at"), seconds=True), str(event.get("kind")), str(event.get("subject") or "-")
    if kind == EventKind.RELOAD:
        subject = "some events were missed: look with `noah sessions`"
    prose = ": ".join(str(event[key]) for key in _PROSE if event.get(key))
    rest = "  ".join(_pair(key, value) for key, value in event.items() if key not in _SHOWN and value is not None)
    mark = click.style(clean(f"{kind:<10}"), fg=_COLOURS.get(kind))
    return f"{at}  {mark}  " + clean("  ".join(filter(None, [subject, prose, rest])))


def _pair(key: str, value: object) -> str:
    return f"{key}={value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)}"
