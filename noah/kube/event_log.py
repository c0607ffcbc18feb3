"""A cluster's events (v1) of one namespace, or of all: those that it keeps, and then each new one.

They are listed and watched once, however many follow them, and as long as somebody does.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from noah.errors import NoahError, Unavailable
from noah.kube.client import Client
from noah.kube.watch import Change, Listed, Pace, Put, Removed, Watch

log = logging.getLogger(__name__)

PAGE = 500  # events; reading one blocks the event loop for some 10 ms
# A release waits for its events, so an API that was away for a while is asked again sooner than for pods.
PACE = Pace(longest_wait=5.0)

Event = Mapping[str, Any]
Take = Callable[[Event], None]


class EventLog:
    def __init__(self, client: Client, *, pace: Pace = PACE) -> None:
        self._client = client
        self._pace = pace
        self._followed: dict[tuple[str | None, str], _Followed] = {}

    async def run(self) -> None:
        """Runs until it is cancelled; follow() works only meanwhile."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.Event().wait()

    async def follow(self, namespace: str | None, take: Take, *, reason: str = "") -> None:
        """Call *take* with each event until cancelled; again when it happens again, with a higher count.

        With *reason*, only with events that have it. An API that is away is waited for; raises what else it answers,
        above all MissingRight.
        """
        what = namespace, reason
        followed = self._followed.get(what)
        if followed is None:
            followed = self._followed[what] = _Followed(self._client, namespace, reason, pace=self._pace)
            followed.task = self._group.create_task(followed.run(), name=f"events of {self._client.name} {what}")
        key = object()
        for event in list(followed.events.values()):
            take(event)
        followed.takes[key] = take
        try:
            raise await asyncio.shield(followed.over)
        finally:
            del followed.takes[key]
            if not followed.takes:
                followed.task.cancel()
                if self._followed.get(what) is followed:
                    del self._followed[what]


class _Followed:
    task: asyncio.Task[None]

    def __init__(self, client: Client, namespace: str | None, reason: str, *, pace: Pace) -> None:
        self.events: dict[str, Event] = {}  # by UID: those that the cluster keeps
        self.takes: dict[object, Take] = {}
        self.over: asyncio.Future[NoahError] = asyncio.get_running_loop().create_future()
        self._watch = Watch(
            client,
            f"/api/v1/namespaces/{quote(namespace, safe='')}/events" if namespace else "/api/v1/events",
            name=f"events of {client.name}" + (f"/{namespace}" if namespace else ""),
            page_size=PAGE,
            selected={"fieldSelector": f"reason={reason}"} if reason else {},
            pace=pace,
            waits_for=Unavailable,
        )

    async def run(self) -> None:
        try:
            await self._watch.run(self._change)
        except NoahError as e:
            self.over.set_result(e)

    def _change(self, change: Change) -> None:
        match change:
            case Listed(listed):
                for event in listed:
                    self._put(event)
                self.events = {event["metadata"]["uid"]: event for event in listed}
            case Put(event):
                self._put(event)
            case Removed(event):
                self.events.pop(event["metadata"]["uid"], None)

    def _put(self, event: Event) -> None:
        known = self.events.get(event["metadata"]["uid"])
        if known is None or known["metadata"]["resourceVersion"] != event["metadata"]["resourceVersion"]:
            self.events[event["metadata"]["uid"]] = event
            for take in list(self.takes.values()):
                try:
                    take(event)
                except Exception:  # one follower's bug must not end the watch that all share
                    log.exception("event %s: a follower failed", event["metadata"]["name"])
