"""A label or an annotation of a cluster's namespaces, kept up to date by a watch of their metadata and nothing else.

For clusters whose settings name environments by it; elsewhere namespaces are not asked about.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import msgspec

from noah.core.environment import EnvironmentRule, Metadata
from noah.kube.client import Client
from noah.kube.watch import Change, Key, Listed, Pace, Removed, Updated, Watch

log = logging.getLogger(__name__)

PAGE = 500  # namespaces; half a KiB each
PACE = Pace()
# What is called with the name of each namespace whose value has changed; what it yields are places where others may
# have a turn: a namespace may have thousands of pods.
Callback = Callable[[str], Iterator[None]]
# An API server sends the metadata only; what knows no such answer sends the whole, which is read alike.
METADATA_ONLY = "application/json;as={kind};g=meta.k8s.io;v=v1,application/json"


class _Metadata(msgspec.Struct):
    name: str
    resource_version: str = msgspec.field(name="resourceVersion", default="")
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Namespace(msgspec.Struct):
    metadata: _Metadata


_DECODER = msgspec.json.Decoder(_Namespace)


class Namespaces:
    """Holds what the rule asks about while run() runs."""

    def __init__(
        self, client: Client, rule: EnvironmentRule | None, *, namespaces: Iterable[str] = (), pace: Pace = PACE
    ) -> None:
        """*namespaces*: the only ones; none: all of the cluster. Without a *rule* on namespaces nothing is watched."""
        self._part: Literal["labels", "annotations"] = rule.part if rule else "labels"
        self._key = rule.key if rule else ""
        self._values: dict[str, str] = {}
        self._callbacks: dict[object, Callback] = {}
        self._watches: dict[str | None, Watch] = {}
        for namespace in (tuple(namespaces) or (None,)) if rule and rule.whose == "namespace" else ():
            self._watches[namespace] = Watch(
                client,
                "/api/v1/namespaces",
                name=f"{client.name} namespaces" + (f" {namespace}" if namespace else ""),
                page_size=PAGE,
                selected={"fieldSelector": f"metadata.name={namespace}"} if namespace else {},
                pace=pace,
                read=self._read,
                held=partial(self._held, namespace),
                accept=METADATA_ONLY,
            )

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches.values():
                group.create_task(watch.run(self._take), name=f"watch {watch.name}")

    @property
    def trouble(self) -> str | None:
        """The reason why namespaces are not watched at present."""
        return next((watch.trouble for watch in self._watches.values() if watch.trouble), None)

    def metadata(self, namespace: str) -> Metadata:
        """Return what is known of a namespace: the value that the rule asks about, in its place."""
        value = self._values.get(namespace)
        return {} if value is None else {self._part: {self._key: value}}

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call *callback* with each change, until the function that is returned is called."""
        key = object()
        self._callbacks[key] = callback
        return lambda: self._callbacks.pop(key, None) and None

    def _read(self, text: bytes | msgspec.Raw) -> dict[str, Any]:
        """Return what is kept of a namespace. Raises ValueError if it is not one."""
        try:
            metadata = _DECODER.decode(text).metadata
        except msgspec.MsgspecError as e:
            raise ValueError(f"it cannot be read as a namespace: {e}") from None
        values: Mapping[str, str] = getattr(metadata, self._part) or {}
        kept = {"name": metadata.name, "resourceVersion": metadata.resource_version}
        return {"metadata": kept, "value": values.get(self._key)}

    def _held(self, only: str | None) -> Iterable[Key]:
        return [(None, name) for name in self._values if only in (None, name)]

    def _take(self, change: Change) -> Iterator[None] | None:
        match change:
            case Updated(namespace):
                return self._put(namespace["metadata"]["name"], namespace["value"])
            case Removed(namespace):
                return self._put(namespace["metadata"]["name"], None)
            case Listed(gone):
                return self._forget(gone)

    def _forget(self, gone: Collection[Key]) -> Iterator[None]:
        for _, name in gone:
            yield from self._put(name, None)
            yield

    def _put(self, name: str, value: str | None) -> Iterator[None]:
        if self._values.get(name) == value:
            return
        if value is None:
            del self._values[name]
        else:
            self._values[name] = value
        for callback in list(self._callbacks.values()):
            try:
                yield from callback(name)
            except Exception:  # one listener's bug must not end the watch that all live from
                log.exception("namespace %s: a listener failed", name)
