"""Waits for a session to be ready, or to be over. A gateway that restarts meanwhile is waited for too: sessions outlive
it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from noah.backoff import Backoff
from noah.cli.exit_codes import TimeIsUp
from noah.cli.terminal import echo
from noah.client.errors import Away
from noah.client.gateway_client import GatewayClient, Json, session_path
from noah.errors import CannotDebug

ROUND_S = 1  # how long the gateway is asked to wait; steps are shown that late at most

LONGEST_PAUSE_S = 10.0  # between two attempts to reach a gateway that is away

USABLE = frozenset({"ready", "attached", "suspended"})


def until_usable(gateway: GatewayClient, session: Json, timeout: timedelta, *, seen: Callable[[Json], None]) -> Json:
    """Return the session once a debugger can attach. *seen* is called with it each time it was read."""
    now = session
    with _interruptible(session):
        for now in _reads(gateway, session, timeout):
            seen(now)
            if now["status"] in USABLE:
                return now
            if now.get("end_reason"):
                raise CannotDebug(_why_it_ended(now))
    state = f"{now['status']}: {now['reason'].rstrip('.')}" if now.get("reason") else now["status"]
    raise TimeIsUp(f"{now['target']} is still {state}. {_stays(now)}")


def until_ended(gateway: GatewayClient, session: Json, timeout: timedelta) -> Json:
    for now in _reads(gateway, session, timeout):
        if now["status"] == "ended":
            return now
    raise TimeIsUp(
        f"{session['target']} is not closed yet. The gateway keeps trying until it is: `noah sessions --all` shows it."
    )


def _reads(gateway: GatewayClient, session: Json, timeout: timedelta) -> Iterator[Json]:
    """Yield the session as it is now, and again and again until time is up."""
    deadline = time.monotonic() + timeout.total_seconds()
    backoff = Backoff(first_s=ROUND_S, longest_s=LONGEST_PAUSE_S)
    while True:
        yield session
        if time.monotonic() >= deadline:
            return
        try:
            session = gateway.get(session_path(str(session["id"])), wait_s=ROUND_S)
            backoff.reset()
        except Away as e:
            if time.monotonic() >= deadline:
                raise
            if not backoff.failures:
                echo(f"The gateway is away ({e.reason}); waiting for it.", err=True)
            time.sleep(backoff.next_s())


@contextmanager
def _interruptible(session: Json) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        echo(f"\nNot waiting any longer. {_stays(session)}", err=True)
        raise click.Abort from None


def _stays(session: Json) -> str:
    session_id = session["id"]
    return f"The session stays: `noah sessions {session_id}` shows it, `noah end {session_id}` ends it."


def _why_it_ended(session: Json) -> str:
    if session.get("end_detail"):
        return str(session["end_detail"])
    by = session.get("ended_by")
    return f"The session on {session['target']} ended: {session['end_reason']}{f', by {by}' if by else ''}."
