"""Warns people who are paused in a pod that a release is about to replace, and those who watch the release."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from noah.core.pods import Pod
from noah.core.release.release import Release
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind, timestamp
from noah.core.session.event_kind import EventKind
from noah.core.session.session import Status
from noah.core.session.target import PodTarget
from noah.sessions.announce import about_session
from noah.sessions.live_session import LiveSession
from noah.sessions.live_state import Step
from noah.store.feed import Feed


class Warnings:
    """The warnings of one release. Each pause is warned of once."""

    def __init__(
        self,
        release: Release,
        *,
        feed: Feed,
        live_in: Callable[[str, str], Iterable[LiveSession]],
        clock: Callable[[], datetime],
    ) -> None:
        self._release = release
        self._feed = feed
        self._live_in = live_in
        self._clock = clock
        self._warned: set[tuple[str, datetime]] = set()  # session, and since when its VM is suspended

    def publish(self, replaced: Iterable[Pod]) -> list[ReleaseEvent]:
        """Warn the owners of paused sessions in pods that are about to be replaced; return what watchers should see."""
        names = {pod["metadata"]["name"] for pod in replaced}
        paused = list(self._paused(names)) if names else []
        new = [one for one in paused if one[2] not in self._warned]
        self._warned = {pause for _, _, pause in paused}
        return [self._warn(live, target) for live, target, _ in new]

    def _paused(self, names: set[str]) -> Iterator[tuple[LiveSession, PodTarget, tuple[str, datetime]]]:
        for live in self._live_in(self._release.cluster, self._release.namespace):
            target, vm = live.session.target, live.facts.vm
            if not isinstance(target, PodTarget) or target.pod not in names or vm is None:
                continue
            if live.status is Status.SUSPENDED:
                yield live, target, (live.session.id, vm.since)

    def _warn(self, live: LiveSession, target: PodTarget) -> ReleaseEvent:
        session, vm = live.session, live.facts.vm
        warning = f"A release of {session.workload} is about to replace this pod; the session follows to its successor."
        live.add_step(Step(self._clock(), warning))
        live.changed()
        self._feed.publish(EventKind.WARNING, str(target), {**about_session(session), "text": warning})
        where = f" at {vm.location}" if vm and vm.location else ""
        text = f"{session.owner.name} is paused in pod {target.pod}{where}, which this release is about to replace."
        about = {"pod": target.pod, "session": session.id, "owner": session.owner.name}
        return ReleaseEvent(timestamp(self._clock()), ReleaseEventKind.PAUSED, text, about)
