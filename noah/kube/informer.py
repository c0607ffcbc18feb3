"""Knows the pods of one cluster: lists them once, watches from there, and never gives up.

A watch may stop without a word, may be too old to go on (410: list again), may be refused for an hour. Each costs time
and no event: after a list, what has changed meanwhile is told as if it had been seen.
"""

import asyncio
import json
import logging
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from noah.errors import NoahError
from noah.kube.client import Client, within
from noah.kube.errors import Asked, TooOld, refused
from noah.kube.lines import lines_of
from noah.kube.pods import Callback, Pod, Pods, key_of, trimmed

log = logging.getLogger(__name__)

PAGE = 250  # pods; reading one blocks the event loop for some 40 ms
LIST = 60.0  # seconds for a page


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds."""

    watch: float = 240.0  # that the server is asked to keep a watch, and up to half more: not all come back at once
    margin: float = 15.0  # after which a watch that the server should have ended counts as lost
    first_wait: float = 0.5  # after a failure; doubles with each
    longest_wait: float = 30.0
    steady: float = 5.0  # a watch that lasted this long is no failure, however it ended


class Informer:
    """Holds pods while run() runs. What it gives away is shared: look, do not change."""

    def __init__(
        self, client: Client, *, namespaces: Iterable[str] = (), selector: str = "", pace: Pace = Pace()
    ) -> None:
        self._pods = Pods()
        self._watches = [_Watch(client, self._pods, namespace, selector, pace) for namespace in namespaces or (None,)]

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run(), name=f"watch {watch.name}")

    @property
    def synced(self) -> bool:
        """All pods have been listed, if perhaps a while ago; watch_age tells."""
        return all(watch.listed.is_set() for watch in self._watches)

    async def wait_synced(self, timeout: float) -> bool:
        """False when it takes longer than *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout):
                for watch in self._watches:
                    await watch.listed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def watch_age(self) -> float | None:
        """Seconds since the API server last said something about pods: events and bookmarks, about one a minute."""
        heard = [watch.heard for watch in self._watches]
        now = asyncio.get_running_loop().time()
        return None if None in heard else max(now - at for at in heard if at is not None)

    @property
    def trouble(self) -> str | None:
        """Why pods are not watched at present."""
        return next((watch.trouble for watch in self._watches if watch.trouble), None)

    def pods(self) -> Iterable[Pod]:
        return iter(self._pods)

    def __len__(self) -> int:
        return len(self._pods)

    def get(self, namespace: str, name: str) -> Pod | None:
        return self._pods.get(namespace, name)

    def in_namespace(self, namespace: str) -> Iterable[Pod]:
        return self._pods.in_namespace(namespace)

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """*callback* is told of every change, at once, until the function that is returned is called."""
        return self._pods.subscribe(callback)


class _Watch:
    """One list and watch: of one namespace, or of all."""

    def __init__(self, client: Client, pods: Pods, namespace: str | None, selector: str, pace: Pace) -> None:
        self.name = client.name + (f"/{namespace}" if namespace else "")
        self.listed = asyncio.Event()
        self.heard: float | None = None  # the event loop's time
        self.trouble: str | None = None
        self._client = client
        self._pods = pods
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods" if namespace else "/api/v1/pods"
        self._selected = {"labelSelector": selector} if selector else {}
        self._pace = pace
        self._wait = pace.first_wait
        self._version: str | None = None  # where the next watch begins; None: list first

    async def run(self) -> None:
        while True:
            if not await self._once():
                await asyncio.sleep(self._wait * random.uniform(0.5, 1))  # noqa: S311 - not a secret
                self._wait = min(2 * self._wait, self._pace.longest_wait)

    async def _once(self) -> bool:
        """Whether it ended as watches do: when the server's time was over."""
        began = _now()
        try:
            if self._version is None:
                self._version = await self._list()
            await self._watch(self._version)
        except TooOld:
            log.info("%s: the watch is too old to go on; listing again", self.name)
            self._version = None
        except NoahError as e:
            self._in_trouble(e.sentence)
        except Exception:  # the task's outermost loop
            log.exception("%s: the watch failed", self.name)
            self._in_trouble("The watch failed; the gateway's log has the details.")
            self._version = None
        else:
            # A proxy that ends each watch at once must not make this a busy loop.
            if _now() - began > self._pace.steady:
                self._wait = self._pace.first_wait
                return True
        return False

    async def _list(self) -> str:
        listed: dict[tuple[str, str], Pod] = {}
        params = {"limit": str(PAGE), **self._selected}
        while True:
            page = await self._client.ask("GET", self._path, params=params, timeout=LIST)
            for pod in map(trimmed, page.get("items") or ()):
                listed[key_of(pod)] = pod
            if not (after := page["metadata"].get("continue")):
                break
            params["continue"] = after
        self._pods.replace(self._namespace, listed)
        self._heard()
        self.listed.set()
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> None:
        lasts = self._pace.watch * random.uniform(1, 1.5)  # noqa: S311 - not a secret
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(math.ceil(lasts)),
            **self._selected,
        }
        late = f'Cluster "{self._client.name}" does not answer: it neither feeds nor ends a watch.'
        async with self._client.stream(self._path, params) as stream, within(lasts + self._pace.margin, late):
            self._heard()
            began = _now()
            async for line in lines_of(stream):
                self._take(json.loads(line))
                self._heard()
                if _now() - began > self._pace.steady:
                    self._wait = self._pace.first_wait

    def _take(self, event: dict[str, Any]) -> None:
        told = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._pods.put(trimmed(told))
            case "DELETED":
                self._pods.remove(trimmed(told))
            case "ERROR":
                asked = Asked.by(self._client.name, "GET", self._path, {"watch": "true"})
                raise refused(asked, told.get("code") or 500, json.dumps(told).encode())
        self._version = told["metadata"]["resourceVersion"]

    def _heard(self) -> None:
        self.heard = _now()
        if self.trouble:
            log.info("%s: watching again", self.name)
        self.trouble = None

    def _in_trouble(self, sentence: str) -> None:
        if self.trouble is None:
            log.warning("%s: %s", self.name, sentence)
        self.trouble = sentence


def _now() -> float:
    return asyncio.get_running_loop().time()
