"""What a cluster says has happened in a namespace: its events (v1), the kept ones and then each new one."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from noah.errors import Unavailable
from noah.kube.client import Client, within
from noah.kube.errors import Asked, TooOld, refused
from noah.kube.streams import lines_of

LIST = 60.0  # seconds for the list
PAUSE = 2.0  # seconds at most between two attempts
LASTS = 300  # seconds that the server is asked to keep a watch
MARGIN = 15.0  # seconds; after that a watch that the server should have ended counts as lost

Event = Mapping[str, Any]


class EventLog:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def follow(self, namespace: str, take: Callable[[Event], None]) -> None:
        """Until it is cancelled. An event that happens again, with a higher count, is told again. An API that is away
        is waited for; raises what else it answers, above all MissingRight."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/events"
        seen: dict[str, str] = {}  # resource version by UID; a list after a cut tells most of them again
        while True:
            try:
                listed = await self._client.ask("GET", path, timeout=LIST)
                items = listed.get("items") or ()
                for event in items:
                    if seen.get(event["metadata"]["uid"]) != event["metadata"]["resourceVersion"]:
                        take(event)
                seen = {event["metadata"]["uid"]: event["metadata"]["resourceVersion"] for event in items}
                await self._watch(path, str(listed["metadata"]["resourceVersion"]), seen, take)
            except (Unavailable, TooOld):
                pass
            await asyncio.sleep(PAUSE * random.uniform(0.2, 1))  # noqa: S311 - not a secret

    async def _watch(self, path: str, version: str, seen: dict[str, str], take: Callable[[Event], None]) -> None:
        """One watch after another, each from where the one before ended."""
        late = f'Cluster "{self._client.name}" does not answer: it neither feeds nor ends a watch.'
        asked = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(LASTS)}
        while True:
            params = {**asked, "resourceVersion": version}
            async with self._client.stream(path, params) as stream, within(LASTS + MARGIN, late):
                async for line in lines_of(stream):
                    told = json.loads(line)
                    event = told["object"]
                    if told["type"] == "ERROR":
                        raise refused(Asked.by(self._client.name, "GET", path, asked), event.get("code") or 500, line)
                    version = str(event["metadata"]["resourceVersion"])
                    if told["type"] in ("ADDED", "MODIFIED"):
                        seen[event["metadata"]["uid"]] = version
                        take(event)
            await asyncio.sleep(PAUSE * random.uniform(0.2, 1))  # noqa: S311 - not a secret
