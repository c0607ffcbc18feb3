"""One list and watch of one collection: lists it in pages, watches from there, and begins again when the watch ends.

A watch may stop silently, may be too old to resume (410: list again), may be refused for an hour. Each costs time and
no change: a list hands on all that there is, page by page, and in the end what it was, so that the rest can be removed.

An object is found, read and handed on in pieces of some 30 to 60 us, and everybody else has turns in between.
"""

import asyncio
import contextlib
import logging
import math
import random
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from noah.backoff import Backoff
from noah.errors import NoahError, Unavailable
from noah.kube.bounded_json import LONGEST_HEAD, TooLarge, parse
from noah.kube.client import Client, within
from noah.kube.errors import Asked, TooBusy, TooOld, refused
from noah.kube.lines import lines_of
from noah.turns import TURN_S, in_turns, turn

log = logging.getLogger(__name__)

LIST_TIMEOUT_S = 60.0  # for one page
MOST_OBJECTS = 200_000  # of a list; Kubernetes supports 150,000 pods
MOST_EMPTY_PAGES = 3  # one after another
_OBJECTS = b'"items":[{'  # as API servers write it
_BEGINS = re.compile(rb'{"[^"\\]*":(?:{?"[^"\\]*")?')  # an object: its first key, and the next one or a text
_METADATA = re.compile(rb'"metadata":\s*({[^{}]{0,8192}})')  # of a list, which stands before its items

Object = dict[str, Any]  # as JSON
Key = tuple[str | None, str]  # an object's namespace and name


@dataclass(frozen=True, slots=True)
class Updated:
    """An object was listed, added or modified."""

    object: Object


@dataclass(frozen=True, slots=True)
class Removed:
    object: Object


@dataclass(frozen=True, slots=True)
class Listed:
    """The list is complete: each object that there is has been handed on, and these were held and are gone."""

    gone: Collection[Key]


Change = Updated | Removed | Listed
Take = Callable[[Change], Iterator[None] | None]  # what it yields are places where others may have a turn


class _ListMetadata(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    after: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Page(NamedTuple):
    metadata: _ListMetadata
    objects: Iterable[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LIST = msgspec.json.Decoder(_List)
_RAW = msgspec.json.Decoder(msgspec.Raw)
_LIST_METADATA = msgspec.json.Decoder(_ListMetadata)
_EVENT = msgspec.json.Decoder(_Event)


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
        read: Callable[[bytes | msgspec.Raw], Object],
        held: Callable[[], Iterable[Key]],
        waits_for: type[NoahError] = NoahError,
        accept: str = "application/json",
    ) -> None:
        """*selected* holds the query's selectors; *read* returns what is handed on of an object in JSON, or raises
        ValueError. *held* returns the keys of what is held when a list begins: nothing, the first time, so that a list
        of very many need not remember what it has handed on.

        *accept*: the media types to ask for, with {kind} where metadata alone is asked for.

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
        self._read = read
        self._held = held
        self._waits_for = waits_for
        self._accept = accept
        self._backoff = Backoff(first_s=pace.first_wait, longest_s=pace.longest_wait)
        # A page that comes must not shorten the pause after a watch that fails at once.
        self._page_backoff = Backoff(first_s=pace.first_wait, longest_s=pace.longest_wait)
        self._asked_to_wait_s = 0.0  # by the server
        self._version: str | None = None  # where the next watch begins; None: list first

    async def run(self, take: Take) -> None:
        """Call *take* with a Listed, then with each change, until cancelled. An exception in *take* is logged, and the
        collection is listed again."""
        while True:
            if not await self._once(take):
                await self._wait(self._backoff)

    async def _once(self, take: Take) -> bool:
        """Return whether it ended as watches do: when the server's time was over."""
        began = _now()
        try:
            if self._version is None:
                self._version = await self._list(take)
            await self._watch(self._version, take)
        except TooOld:
            log.info("%s: the watch is too old to resume; listing again", self.name)
            self._version = None
        except NoahError as e:
            if not isinstance(e, self._waits_for):
                raise
            self._in_trouble(e)
        except Exception:  # the task's outermost loop
            log.exception("%s: the watch failed", self.name)
            self._in_trouble(Unavailable("The watch failed; the gateway's log has the details."))
            self._version = None
        else:
            # A proxy that ends each watch at once must not make this a busy loop.
            if _now() - began > self._pace.steady:
                self._backoff.reset()
                return True
        return False

    async def _list(self, take: Take) -> str:
        """Hand on all objects, and return the version from which they are to be watched."""
        gone = {key async for key in in_turns(self._held())}
        count, empty, params = 0, 0, {**self._selected}
        while True:
            page, before = await self._page(params), count
            self._heard()

            def take_all(objects: Iterable[msgspec.Raw] = page.objects) -> Iterator[None]:
                nonlocal count
                for one in objects:
                    count += 1
                    if (found := self._object(one)) is not None:
                        yield
                        gone.discard(key_of(found))
                        yield from take(Updated(found)) or ()
                    yield

            async for _ in in_turns(take_all()):
                pass
            empty = 0 if count > before else empty + 1
            if not page.metadata.after:
                async for _ in in_turns(take(Listed(gone)) or ()):
                    pass
                return page.metadata.resource_version
            if count > MOST_OBJECTS or empty == MOST_EMPTY_PAGES:
                raise Unavailable(f'Cluster "{self._client.name}" lists without end: {count} objects and more.')
            params["continue"] = page.metadata.after

    async def _page(self, params: Mapping[str, str]) -> _Page:
        """Return the next page; a smaller one, and smaller ones from now on, if it is too large.

        A server that is busy or away is asked for the same page again: what came before it need not be listed again.
        """
        while True:
            limited = {"limit": str(self._page_size), **params}
            try:
                accept = self._accept.format(kind="PartialObjectMetadataList")
                got = await self._client.read("GET", self._path, params=limited, accept=accept, timeout=LIST_TIMEOUT_S)
                await turn()
                page = self._read_page(got)
            except msgspec.MsgspecError:
                raise self._not_a_list() from None
            except TooLarge as e:
                if self._page_size == 1:
                    log.warning("%s: an object is left out: %s", self.name, e.sentence)
                    return _without_items(e)
                self._page_size = max(1, self._page_size // 4)
            except Unavailable as e:
                self._in_trouble(e)
                await self._wait(self._page_backoff)
            else:
                self._page_backoff.reset()
                return page

    def _read_page(self, text: bytearray) -> _Page:
        """Return a page whose objects are found one by one, since finding all of 250 takes 2 ms.

        That is where its metadata come first and nothing is indented; anywhere else all are found at once.
        """
        begins = text.find(_OBJECTS, 0, LONGEST_HEAD) + len(_OBJECTS) - 1
        if begins >= len(_OBJECTS):
            with contextlib.suppress(msgspec.MsgspecError):
                if (metadata := _LIST.decode(text[:begins] + b"]}").metadata).resource_version:
                    return _Page(metadata, self._objects(text, begins))
        return _Page((found := _LIST.decode(text)).metadata, found.items or ())

    def _objects(self, text: bytearray, begins: int) -> Iterator[msgspec.Raw]:
        """Yield the objects of a list, the first of which begins there.

        The next one begins like the first. What is found so is JSON, or all are found at once.
        """
        begins_like = _BEGINS.match(text, begins)
        following, view, count = b"}," + (begins_like[0] if begins_like else b"{"), memoryview(text), 0
        while begins:
            end = text.find(following, begins) + 1
            try:
                yield _RAW.decode(view[begins : end or text.rfind(b"]")])
            except msgspec.MsgspecError:
                break
            count += 1
            begins = end and end + 1
        if begins:
            try:
                yield from islice(_LIST.decode(text).items or (), count, None)
            except msgspec.MsgspecError:
                raise self._not_a_list() from None

    def _not_a_list(self) -> Unavailable:
        return Unavailable(f'Cluster "{self._client.name}" answers with something that is not a list.')

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
        streaming = self._client.stream(self._path, params, accept=self._accept.format(kind="PartialObjectMetadata"))
        async with streaming as stream, within(lasts + self._pace.margin, late):
            self._heard()
            began = breath = _now()
            async for line in lines_of(stream):
                if (rest := self._line(line, take)) is not None:
                    async for _ in in_turns(rest):
                        pass
                self._heard()
                if _now() - breath > TURN_S:  # lines that have come already are read without a wait
                    await turn()
                    breath = _now()
                if _now() - began > self._pace.steady:
                    self._backoff.reset()

    def _line(self, line: bytes, take: Take) -> Iterator[None] | None:
        """Hand on what a line says, and return what is left to do of that."""
        event, rest = _EVENT.decode(line), None
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                subject = self._object(event.object)
                if subject is None:
                    return None
                rest = take(Removed(subject) if event.type == "DELETED" else Updated(subject))
            case "ERROR":
                subject = parse(bytes(event.object))
                asked = Asked.by(self._client.name, "GET", self._path, {"watch": "true"})
                raise refused(asked, subject.get("code") or 500, bytes(event.object))
            case _:
                subject = parse(bytes(event.object))
        self._version = str(subject["metadata"]["resourceVersion"])
        return rest

    def _object(self, text: msgspec.Raw) -> Object | None:
        try:
            return self._read(text)
        except (ValueError, TooLarge) as e:
            log.warning("%s: an object is left out: %s", self.name, e)
            return None

    async def _wait(self, backoff: Backoff) -> None:
        """Wait longer after each failure, and at least as long as the server asks for."""
        asked_s, self._asked_to_wait_s = self._asked_to_wait_s, 0.0
        await asyncio.sleep(max(backoff.next_s(), asked_s))

    def _heard(self) -> None:
        self.heard_at = _now()
        if self.trouble:
            log.info("%s: watching again", self.name)
        self.trouble = None

    def _in_trouble(self, error: NoahError) -> None:
        if isinstance(error, TooBusy):
            self._asked_to_wait_s = error.retry_after_s
        if self.trouble is None:
            log.warning("%s: %s", self.name, error.sentence)
        self.trouble = error.sentence


def key_of(found: Mapping[str, Any]) -> Key:
    return found["metadata"].get("namespace"), found["metadata"]["name"]


def _without_items(error: TooLarge) -> _Page:
    """Return a page that was too large as one without objects, so that the list can be read on."""
    found = _METADATA.search(error.beginning)
    metadata = _LIST_METADATA.decode(found[1]) if found else None
    if metadata is None or not metadata.resource_version:
        raise error
    return _Page(metadata, ())


def _now() -> float:
    return asyncio.get_running_loop().time()
