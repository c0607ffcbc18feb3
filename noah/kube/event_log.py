"""A cluster's events (v1) of one namespace, or of all: those that it keeps, and then each new one.

They are listed and watched once, however many follow them, and as long as somebody does.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from noah.errors import NoahError, Unavailable
from noah.kube.bounded_json import parse
from noah.kube.client import Client
from noah.kube.watch import Change, Key, Listed, Pace, Removed, Updated, Watch, key_of

log = logging.getLogger(__name__)

PAGE = 500  # events; reading one blocks the event loop for some 10 ms
# A release waits for its events, so an API that was away for a while is asked again sooner than for pods.
PACE = Pace(longest_wait=5.0)

# That a follower may be behind: more than a busy namespace keeps in an hour. Of more, the oldest are left out.
LONGEST_QUEUE = 10_000
MOST_KEPT = 50_000  # events of a namespace; of more, the oldest are not known to who begins to follow them
AT_ONCE = 50  # events that are yielded before everybody else has a turn

LONGEST_MESSAGE = 4096  # characters; an API server takes 1,024 bytes
_EVENT = {"involvedObject", "series", "eventTime", "lastTimestamp", "type", "reason", "message", "note"}
_METADATA = {"uid", "name", "namespace", "resourceVersion"}

Event = Mapping[str, Any]


class EventLog:
    def __init__(self, client: Client, *, pace: Pace = PACE) -> None:
        self._client = client
        self._pace = pace
        self._followed: dict[tuple[str | None, str], _Followed] = {}
        self._runs = asyncio.Event()

    async def run(self) -> None:
        """Runs until it is cancelled; follow() waits for it to begin, and works only meanwhile."""
        async with asyncio.TaskGroup() as self._group:
            self._runs.set()
            await asyncio.Event().wait()

    async def follow(self, namespace: str | None, *, reason: str = "") -> AsyncGenerator[Event, None]:
        """Yield each event that the cluster keeps, then each new one; again when it happens again, with a higher count.

        With *reason*, only events that have it. An API that is away is waited for; raises what else it answers,
        above all MissingRight.
        """
        await self._runs.wait()
        what = namespace, reason
        followed = self._followed.get(what)
        if followed is None:
            followed = self._followed[what] = _Followed(self._client, namespace, reason, pace=self._pace)
            followed.task = self._group.create_task(followed.run(), name=f"events of {self._client.name} {what}")
        queue = followed.queues[key := object()] = _Queue(followed.events.values())
        try:
            while True:
                for _ in range(min(AT_ONCE, len(queue.events))):
                    yield queue.events.popleft()
                if queue.events:
                    await asyncio.sleep(0)
                    continue
                if followed.refusal:
                    raise followed.refusal
                queue.has_news.clear()
                await queue.has_news.wait()
        finally:
            del followed.queues[key]
            if not followed.queues:
                followed.task.cancel()
                if self._followed.get(what) is followed:
                    del self._followed[what]


def _read(text: bytes | msgspec.Raw) -> dict[str, Any]:
    """Return what is asked about of an event: an API server takes messages of 1 KiB, and others may not."""
    event = parse(bytes(text))
    if not isinstance(event, dict) or not isinstance(event.get("metadata"), dict):
        raise ValueError("it is not an event")
    kept = {key: value for key, value in event.items() if key in _EVENT}
    kept["metadata"] = {key: value for key, value in event["metadata"].items() if key in _METADATA}
    kept |= {key: str(kept[key])[:LONGEST_MESSAGE] for key in ("message", "note") if key in kept}
    return kept


class _Queue:
    """The events that a follower has not taken yet."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = deque(events, maxlen=LONGEST_QUEUE)
        self.has_news = asyncio.Event()

    def put(self, event: Event) -> None:
        if len(self.events) == LONGEST_QUEUE and not self.has_news.is_set():
            log.warning("a follower of events is %d behind: the oldest are left out", LONGEST_QUEUE)
        self.events.append(event)
        self.has_news.set()


class _Followed:
    task: asyncio.Task[None]

    def __init__(self, client: Client, namespace: str | None, reason: str, *, pace: Pace) -> None:
        self.events: dict[str, Event] = {}  # by UID: those that the cluster keeps
        self.queues: dict[object, _Queue] = {}  # one per follower
        self.refusal: NoahError | None = None  # why nothing more comes
        self._watch = Watch(
            client,
            f"/api/v1/namespaces/{quote(namespace, safe='')}/events" if namespace else "/api/v1/events",
            name=f"events of {client.name}" + (f"/{namespace}" if namespace else ""),
            page_size=PAGE,
            selected={"fieldSelector": f"reason={reason}"} if reason else {},
            pace=pace,
            waits_for=Unavailable,
            read=_read,
            held=lambda: [key_of(event) for event in self.events.values()],
        )

    async def run(self) -> None:
        try:
            await self._watch.run(self._change)
        except NoahError as e:
            self.refusal = e
            for queue in self.queues.values():
                queue.has_news.set()

    def _change(self, change: Change) -> Iterator[None] | None:
        match change:
            case Updated(event):
                self._put(event)
            case Removed(event):
                self.events.pop(event["metadata"]["uid"], None)
            case Listed(gone):
                return self._forget(gone)
        return None

    def _forget(self, gone: Collection[Key]) -> Iterator[None]:
        for uid, event in list(self.events.items()):
            if key_of(event) in gone:
                self.events.pop(uid, None)
            yield

    def _put(self, event: Event) -> None:
        known = self.events.get(event["metadata"]["uid"])
        if known is None or known["metadata"]["resourceVersion"] != event["metadata"]["resourceVersion"]:
            self.events[event["metadata"]["uid"]] = event
            if len(self.events) > MOST_KEPT:
                del self.events[next(iter(self.events))]
            for queue in self.queues.values():
                queue.put(event)
