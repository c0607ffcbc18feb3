"""What a cluster says has happened in a namespace, or in all: its events (v1), the kept ones and then each new one.

They are listed and watched once, however many follow them, and as long as somebody does.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from noah.errors import NoahError, Unavailable
from noah.kube.client import Client, within
from noah.kube.errors import Asked, TooOld, refused
from noah.kube.lines import lines_of

log = logging.getLogger(__name__)

LIST = 60.0  # seconds for a page
PAGE = 500  # events; reading one blocks the event loop for some 10 ms
PAUSE = 2.0  # seconds at most between two attempts
LASTS = 300  # seconds that the server is asked to keep a watch
MARGIN = 15.0  # seconds; after that a watch that the server should have ended counts as lost

Event = Mapping[str, Any]
Take = Callable[[Event], None]


class EventLog:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._followed: dict[tuple[str | None, str], _Followed] = {}

    async def run(self) -> None:
        """Until it is cancelled; nothing is followed before."""
        async with asyncio.TaskGroup() as self._group:
            await asyncio.Event().wait()

    async def follow(self, namespace: str | None, take: Take, *, reason: str = "") -> None:
        """Until it is cancelled. An event that happens again, with a higher count, is told again. An API that is away
        is waited for; raises what else it answers, above all MissingRight. *reason*: only events that have it."""
        what = namespace, reason
        followed = self._followed.get(what)
        if followed is None:
            followed = self._followed[what] = _Followed(self._client, namespace, reason)
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

    def __init__(self, client: Client, namespace: str | None, reason: str) -> None:
        self.events: dict[str, Event] = {}  # by UID: those that the cluster keeps
        self.takes: dict[object, Take] = {}
        self.over: asyncio.Future[NoahError] = asyncio.get_running_loop().create_future()
        self._version: str | None = None  # where the next watch begins; None: list first
        self._client = client
        self._path = f"/api/v1/namespaces/{quote(namespace, safe='')}/events" if namespace else "/api/v1/events"
        self._selected = {"fieldSelector": f"reason={reason}"} if reason else {}

    async def run(self) -> None:
        while True:
            try:
                if self._version is None:
                    self._version = await self._list()
                await self._watch(self._version)
            except TooOld:
                self._version = None
            except Unavailable:
                pass
            except NoahError as e:
                self.over.set_result(e)
                return
            except Exception:  # the task's outermost loop
                log.exception("%s: following the events failed", self._path)
                self._version = None
            await asyncio.sleep(PAUSE * random.uniform(0.2, 1))  # noqa: S311 - not a secret

    async def _list(self) -> str:
        listed: list[Event] = []
        params = {"limit": str(PAGE), **self._selected}
        while True:
            page = await self._client.ask("GET", self._path, params=params, timeout=LIST)
            listed += page.get("items") or ()
            if not (after := page["metadata"].get("continue")):
                break
            params["continue"] = after
        for event in listed:
            self._put(event)
        self.events = {event["metadata"]["uid"]: event for event in listed}
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> None:
        late = f'Cluster "{self._client.name}" does not answer: it neither feeds nor ends a watch.'
        asked = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(LASTS)}
        params = {**asked, **self._selected, "resourceVersion": version}
        async with self._client.stream(self._path, params) as stream, within(LASTS + MARGIN, late):
            async for line in lines_of(stream):
                told = json.loads(line)
                event = told["object"]
                match told["type"]:
                    case "ADDED" | "MODIFIED":
                        self._put(event)
                    case "DELETED":
                        self.events.pop(event["metadata"]["uid"], None)
                    case "ERROR":
                        asked_by = Asked.by(self._client.name, "GET", self._path, asked)
                        raise refused(asked_by, event.get("code") or 500, line)
                self._version = str(event["metadata"]["resourceVersion"])

    def _put(self, event: Event) -> None:
        known = self.events.get(event["metadata"]["uid"])
        if known is None or known["metadata"]["resourceVersion"] != event["metadata"]["resourceVersion"]:
            self.events[event["metadata"]["uid"]] = event
            for take in list(self.takes.values()):
                take(event)
