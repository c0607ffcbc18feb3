"""Whom a release stops: whoever is paused in a pod that it is about to replace is told, and so is who watches it."""

from collections.abc import Callable, Iterable
from datetime import datetime

from noah.core.pods import Pod
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind, timestamp
from noah.core.session.event_kind import EventKind
from noah.core.session.session import Status
from noah.core.session.target import PodTarget
from noah.releases.stream import Stream
from noah.sessions.live_session import Live, Step
from noah.store.feed import Feed


class Warnings:
    """Of one release."""

    def __init__(
        self, stream: Stream, *, feed: Feed, live: Callable[[], list[Live]], clock: Callable[[], datetime]
    ) -> None:
        self._stream = stream
        self._feed = feed
        self._live = live
        self._clock = clock
        self._warned: set[tuple[str, datetime]] = set()  # session, and since when it stands

    def replaces(self, pods: Iterable[Pod]) -> None:
        names = {pod["metadata"]["name"] for pod in pods}
        here = self._stream.release.cluster, self._stream.release.namespace
        for live in self._live():
            target = live.session.target
            if isinstance(target, PodTarget) and (target.cluster, target.namespace) == here and target.pod in names:
                self._warn(live, target)

    def _warn(self, live: Live, target: PodTarget) -> None:
        session, vm = live.session, live.facts.vm
        if live.status is not Status.SUSPENDED or vm is None or (session.id, vm.since) in self._warned:
            return
        self._warned.add((session.id, vm.since))
        where = f" at {vm.location}" if vm.location else ""
        text = f"{session.owner} is paused in pod {target.pod}{where}, which this release is about to replace."
        about = {"pod": target.pod, "session": session.id, "owner": session.owner}
        self._stream.tell(ReleaseEvent(timestamp(self._clock()), ReleaseEventKind.PAUSED, text, about))
        told = f"A release of {session.workload} is about to replace this pod; the session follows to its successor."
        live.steps.append(Step(self._clock(), told))
        live.changed()
        self._feed.publish(
            EventKind.WARNING, str(target), {"session": session.id, "owner": session.owner, "text": told}
        )
