"""Waiting for a session to be ready, or to be over. A gateway that restarts meanwhile is waited for too: sessions
outlive it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from noah.client.failure import Code, Failure
from noah.client.gateway import Away, Gateway, Json, session_path

ROUND = 1  # seconds that the gateway is asked to wait; steps are shown that late at most

USABLE = frozenset({"ready", "attached", "suspended"})


def until_usable(gateway: Gateway, session: Json, timeout: timedelta, *, seen: Callable[[Json], None]) -> Json:
    """*seen* is called with the session each time it was looked at."""
    now = session
    with _left_alone(session):
        for now in _looks(gateway, session, timeout):
            seen(now)
            if now["status"] in USABLE:
                return now
            if now.get("end_reason"):
                raise Failure(Code.CANNOT_DEBUG, _why_it_ended(now))
    state = f"{now['status']}: {now['reason'].rstrip('.')}" if now.get("reason") else now["status"]
    raise Failure(Code.TIMEOUT, f"{now['target']} is still {state}. {_goes_on(now)}")


def until_ended(gateway: Gateway, session: Json, timeout: timedelta) -> Json:
    for now in _looks(gateway, session, timeout):
        if now["status"] == "ended":
            return now
    raise Failure(
        Code.TIMEOUT, f"{session['target']} is not closed yet; the gateway goes on until it is: `noah sessions --all`."
    )


def _looks(gateway: Gateway, session: Json, timeout: timedelta) -> Iterator[Json]:
    """The session as it is now, and again and again until time is up."""
    deadline = time.monotonic() + timeout.total_seconds()
    away = False
    while True:
        yield session
        if time.monotonic() >= deadline:
            return
        try:
            session = gateway.get(session_path(str(session["id"])), wait=ROUND)
            away = False
        except Away as e:
            if time.monotonic() >= deadline:
                raise
            if not away:
                click.echo(f"The gateway is away ({e.reason}); waiting for it.", err=True)
            away = True
            time.sleep(ROUND)


@contextmanager
def _left_alone(session: Json) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nNot waiting any longer. {_goes_on(session)}", err=True)
        raise click.Abort from None


def _goes_on(session: Json) -> str:
    session_id = session["id"]
    return f"The session goes on: `noah sessions {session_id}` shows it, `noah end {session_id}` ends it."


def _why_it_ended(session: Json) -> str:
    if session.get("end_detail"):
        return str(session["end_detail"])
    by = session.get("ended_by")
    return f"The session on {session['target']} ended: {session['end_reason']}{f', by {by}' if by else ''}."
