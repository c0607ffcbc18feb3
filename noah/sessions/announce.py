"""What a session announces: a log line and an event for each change that people can see, and its steps in words."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from noah.core.session.event_kind import EventKind
from noah.core.session.lifecycle import passes_by
from noah.core.session.session import Session, Status
from noah.core.session.target import Target
from noah.sessions.live_session import LiveSession
from noah.sessions.live_state import Step
from noah.store.feed import Feed

log = logging.getLogger(__name__)

# What happens at a session's port is a step of it too: who looks later should see it.
KEPT_AS_STEPS = frozenset(
    {
        EventKind.ATTACHED,
        EventKind.DETACHED,
        EventKind.REFUSED,
        EventKind.EXIT_REFUSED,
        EventKind.PACKET_REFUSED,
    }
)


class Announcer:
    def __init__(
        self, live: LiveSession, *, feed: Feed, clock: Callable[[], datetime], took: Callable[[Target, float], None]
    ) -> None:
        """*took* is given the seconds from enable to ready, once."""
        self._live = live
        self._feed = feed
        self._clock = clock
        self._took = took
        self._published: tuple[object, ...] = ()
        self._refusal: tuple[object, Step] | None = None  # the last one that was kept, and its reason

    def step(self, text: str) -> None:
        self._live.add_step(Step(self._clock(), text))
        self.notice(EventKind.STEP, {"text": text})

    def notice(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        if kind is EventKind.ATTACHED:
            self._works()  # a debugger may come before the forwarder has answered
        if kind in KEPT_AS_STEPS:
            self._keep(data)
        session = self._live.session
        self._feed.publish(kind, str(session.target), {**about_session(session), **data})

    def _keep(self, data: Mapping[str, Any]) -> None:
        """Keep it as a step. An IDE that is refused comes again each second: of these only the last is kept."""
        steps, reason, step = self._live.steps, data.get("reason"), Step(self._clock(), data["text"])
        if reason is not None and steps and self._refusal == (reason, steps[-1]):
            steps.pop()
        self._live.add_step(step)
        self._refusal = (reason, step)

    def changes(self) -> None:
        """Publish the status if it differs from the last one published, but for a suspend shorter than STANDS_AFTER."""
        live, vm = self._live, self._live.facts.vm
        if passes_by(vm, self._clock()):
            return
        now = (
            live.status,
            live.reason,
            live.attached,
            vm and (vm.vm, vm.thread, vm.location),
            live.lines,
            live.session,
        )
        if now == self._published:
            return
        before, self._published = self._published[:1], now
        live.changed()
        if live.status is Status.READY:
            self._works()
        if before != (live.status,):
            self._log_status(str(before[0]) if before else "new")
            if said := _said(live, Status.SUSPENDED in before):
                self.step(said)
        self.notice(EventKind.SESSION, {"status": live.status, "reason": live.reason})

    def _works(self) -> None:
        live = self._live
        if not live.was_ready:
            live.was_ready = True
            self._took(live.session.target, (self._clock() - live.session.created_at).total_seconds())

    def _log_status(self, before: str) -> None:
        live, session = self._live, self._live.session
        why = live.reason or (session.end_detail if session.is_over else None) or ""
        log.info("%s %s %s -> %s%s", session.target, session.id, before, live.status, f": {why}" if why else "")


def about_session(session: Session) -> dict[str, Any]:
    """Return what each event about a session says of it."""
    return {
        "session": session.id,
        "environment": session.environment,
        "owner": session.owner.name,
        "owner_principal": session.owner.public(),
    }


def _said(live: LiveSession, was_suspended: bool) -> str | None:
    session = live.session
    match live.status:
        case Status.READY:
            return f"Ready: point the debugger at port {session.port}."
        case Status.ATTACHED:
            return "Running again." if was_suspended else None  # the port says who attached
        case Status.ENDED:
            return f"Ended: {str(session.end_reason).replace('_', ' ')}."
        case status:
            return f"{status.capitalize()}."
