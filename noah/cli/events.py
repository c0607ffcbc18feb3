"""`noah events -f`: what happens, as it happens; over cuts and restarts of the gateway without a gap, nothing twice."""

import json
from collections.abc import Iterable, Iterator, Mapping

import click

from noah.cli.completion import complete_sessions, complete_targets
from noah.cli.manifests.writing import to_yaml
from noah.cli.output import output_option
from noah.cli.target_names import Place, find_session, full_name, missing_environment, place_options
from noah.cli.terminal import BAD, CARE, QUIET, echo, echo_styled, json_text, styled
from noah.cli.times import clock
from noah.client.environment import client_from_environment
from noah.client.event_stream import EventStream
from noah.client.gateway_client import Json
from noah.core.printable import printable
from noah.core.session.event_kind import EventKind

_PROSE = ("status", "text", "reason")
_SHOWN = frozenset({"at", "kind", "subject", *_PROSE})
_COLOURS: Mapping[str, str] = {EventKind.WARNING: CARE, EventKind.RELOAD: BAD, EventKind.STEP: QUIET}


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Print events until Ctrl-C; required.")
@click.option("--target", metavar="TARGET", help="Only of this target.", shell_complete=complete_targets)
@place_options
@click.option("--session", metavar="SESSION", help="Only of this session.", shell_complete=complete_sessions)
@output_option
def events(
    *,
    follow: bool,
    target: str | None,
    place: Place,
    session: str | None,
    output: str | None,
) -> None:
    """Watch what happens, as it happens.

    -o json prints one object per line. A connection that is cut continues where it was.
    """
    if not follow:
        raise click.UsageError(
            "Past events are not kept: `noah events -f` shows new ones, `noah sessions --ended` shows past sessions."
        )
    gateway = client_from_environment()
    is_of_one = target or session
    environment = None if is_of_one else place.environment
    if environment and (missing := missing_environment(gateway, environment)):
        echo(f"{missing} Its events are shown once it is there.", err=True)
    query = {
        "environment": environment,
        "target": target and full_name(gateway, target, place),
        "session": session and find_session(gateway, session, place),
    }
    watched: Iterable[Json] = EventStream(gateway, "/events", query, notify=lambda sentence: echo(sentence, err=True))
    for event in _for_people(watched) if output in (None, "table") else watched:
        echo_styled(_printed(event, output), nl=output != "yaml")


def _for_people(events: Iterable[Json]) -> Iterator[Json]:
    """Leave out changes of status that a step has reported already, unless they have a new reason."""
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
            return json_text(event)
        case "yaml":
            return "---\n" + to_yaml(event)
        case "name":
            return printable(str(event.get("subject", "")))
        case _:
            return _line(event)


def _line(event: Json) -> str:
    at, kind, subject = clock(event.get("at"), seconds=True), str(event.get("kind")), str(event.get("subject") or "-")
    if kind == EventKind.RELOAD:
        subject = "some events were missed: `noah sessions` shows how things are now"
    prose = ": ".join(str(event[key]) for key in _PROSE if event.get(key))
    rest = "  ".join(_pair(key, value) for key, value in event.items() if key not in _SHOWN and value is not None)
    mark = styled(f"{kind:<10}", fg=_COLOURS.get(kind))
    return f"{at}  {mark}  " + printable("  ".join(filter(None, [subject, prose, rest])))


def _pair(key: str, value: object) -> str:
    return f"{key}={value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)}"
