"""One list and watch of one collection: lists it in pages, watches from there, and begins again when the watch ends.

A watch may stop silently, may be too old to resume (410: list again), may be refused for an hour. Each costs time and
no change: after a list the taker gets all that there is, and finds the differences itself.
"""

import asyncio
import json
import logging
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from noah.backoff import Backoff
from noah.errors import NoahError, Unavailable
from noah.kube.bounded_json import TooLarge, parse
from noah.kube.client import Client, within
from noah.kube.errors import Asked, TooOld, refused
from noah.kube.lines import lines_of

log = logging.getLogger(__name__)

LIST_TIMEOUT_S = 60.0  # for one page
MOST_OBJECTS = 200_000  # of a list; Kubernetes supports 150,000 pods
_METADATA = re.compile(rb'"metadata":\s*({[^{}]{0,8192}})')  # of a list, which stands before its items
BREATH_S = 0.01  # of work, after which everybody else has a turn

Object = dict[str, Any]  # as JSON


@dataclass(frozen=True, slots=True)
class Listed:
    """All objects of the collection."""

    objects: list[Object]


@dataclass(frozen=True, slots=True)
class Updated:
    """An object was added or modified."""

    object: Object


@dataclass(frozen=True, slots=True)
class Removed:
    object: Object


Change = Listed | Updated | Removed
Take = Callable[[Change], Iterator[None] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds."""

    watch: float = 240.0  # that the server is asked to keep a watch, and up to half more: not all come back at once
    margin: float = 15.0  # after which a watch that the server should have ended counts as lost
    first_wait: float = 0.5  # after a failure; doubles with each
    longest_wait: float = 30.0
    steady: float = 5.0  # a watch that lasted this long is not a failure, however it ended


class Watch:
    def __init__(
        self,
        client: Client,
        path: str,
        *,
        name: str,
        page_size: int,
        selected: Mapping[str, str],
        pace: Pace,
        keep: Callable[[Object], Object] = lambda whole: whole,
        waits_for: type[NoahError] = NoahError,
    ) -> None:
        """*selected* holds the query's selectors; *keep* returns what is handed on of an object.

        run() waits until an error of type *waits_for* is over, and raises any other NoahError.
        """
        self.name = name
        self.heard_at: float | None = None  # by the event loop's clock: when the API server last sent something
        self.trouble: str | None = None  # why the collection is not watched at present
        self._client = client
        self._path = path
        self._page_size = page_size
        self._selected = dict(selected)
        self._pace = pace
        self._keep = keep
        self._waits_for = waits_for
        self._backoff = Backoff(first_s=pace.first_wait, longest_s=pace.longest_wait)
        self._version: str | None = None  # where the next watch begins; None: list first

    async def run(self, take: Take) -> None:
        """Call *take* with a Listed, then with each change, until cancelled; what it yields are places where others may
        have a turn. An exception in *take* is logged, and the collection is listed again."""
        while True:
            if not await self._once(take):
                await asyncio.sleep(self._backoff.next_s())

    async def _once(self, take: Take) -> bool:
        """Return whether it ended as watches do: when the server's time was over."""
        began = _now()
        try:
            if self._version is None:
                listed, version = await self._list()
                await _with_breaths(take(Listed(listed)) or ())
                self._version = version
                self._heard()
            await self._watch(self._version, take)
        except TooOld:
            log.info("%s: the watch is too old to resume; listing again", self.name)
            self._version = None
        except NoahError as e:
            if not isinstance(e, self._waits_for):
                raise
            self._in_trouble(e.sentence)
        except Exception:  # the task's outermost loop
            log.exception("%s: the watch failed", self.name)
            self._in_trouble("The watch failed; the gateway's log has the details.")
            self._version = None
        else:
            # A proxy that ends each watch at once must not make this a busy loop.
            if _now() - began > self._pace.steady:
                self._backoff.reset()
                return True
        return False

    async def _list(self) -> tuple[list[Object], str]:
        listed: list[Object] = []
        params = {**self._selected}
        while True:
            page = await self._page(params)
            items = page.get("items") or ()

            def keep_all(items: Iterable[Object] = items) -> Iterator[None]:
                for item in filter(None, items):
                    listed.append(self._keep(item))
                    yield

            await _with_breaths(keep_all())
            if not (after := page["metadata"].get("continue")):
                return listed, str(page["metadata"]["resourceVersion"])
            if not items or len(listed) > MOST_OBJECTS:
                raise Unavailable(f'Cluster "{self._client.name}" lists without end: {len(listed)} objects and more.')
            params["continue"] = after

    async def _page(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Return the next page; a smaller one, and smaller ones from now on, if it is too large."""
        while True:
            limited = {"limit": str(self._page_size), **params}
            try:
                return await self._client.ask("GET", self._path, params=limited, timeout=LIST_TIMEOUT_S)
            except TooLarge as e:
                if self._page_size == 1:
                    log.warning("%s: an object is left out: %s", self.name, e.sentence)
                    return _without_items(e)
                self._page_size = max(1, self._page_size // 4)

    async def _watch(self, version: str, take: Take) -> None:
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
            began = breath = _now()
            async for line in lines_of(stream):
                self._line(line, take)
                self._heard()
                if _now() - breath > BREATH_S:  # lines that have come already are read without a wait
                    await asyncio.sleep(0)
                    breath = _now()
                if _now() - began > self._pace.steady:
                    self._backoff.reset()

    def _line(self, line: bytes, take: Take) -> None:
        try:
            event = parse(line)
        except TooLarge as e:
            log.warning("%s: an object is left out: %s", self.name, e.sentence)
            return
        self._event(event, take)

    def _event(self, event: dict[str, Any], take: Take) -> None:
        subject = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                take(Updated(self._keep(subject)))
            case "DELETED":
                take(Removed(self._keep(subject)))
            case "ERROR":
                asked = Asked.by(self._client.name, "GET", self._path, {"watch": "true"})
                raise refused(asked, subject.get("code") or 500, json.dumps(subject).encode())
        self._version = str(subject["metadata"]["resourceVersion"])

    def _heard(self) -> None:
        self.heard_at = _now()
        if self.trouble:
            log.info("%s: watching again", self.name)
        self.trouble = None

    def _in_trouble(self, sentence: str) -> None:
        if self.trouble is None:
            log.warning("%s: %s", self.name, sentence)
        self.trouble = sentence


def _without_items(error: TooLarge) -> dict[str, Any]:
    """Return a page that was too large as one without objects, so that the list can be read on."""
    found = _METADATA.search(error.beginning)
    metadata = json.loads(found[1]) if found else {}
    if "resourceVersion" not in metadata:
        raise error
    return {"metadata": metadata, "items": [None] if metadata.get("continue") else []}


async def _with_breaths(work: Iterable[None]) -> None:
    began = _now()
    for _ in work:
        if _now() - began > BREATH_S:
            await asyncio.sleep(0)
            began = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
