"""The pods of one cluster, held in memory and kept up to date by one watch per namespace, or by one for all.

What changed while a watch was away is published as if it had been seen.
"""

import asyncio
import gc
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from urllib.parse import quote

from noah.kube.client import Client
from noah.kube.pods import Callback, Pod, PodIndex, read_pod
from noah.kube.watch import Change, Key, Listed, Pace, Removed, Take, Updated, Watch

PAGE = 250  # pods
PACE = Pace()
SPARED_EVERY = 250  # pods of a first list: a full collection after 90,000 took 47 ms; a young one now takes 0.2 ms


class Informer:
    """Holds pods while run() runs. The pods that subscribers get are shared: read them, never change them."""

    def __init__(
        self,
        client: Client,
        *,
        namespaces: Iterable[str] = (),
        selector: str = "",
        annotation: str | None = None,
        pace: Pace = PACE,
    ) -> None:
        """*annotation*: the key of one that is kept of each pod, beside those that pods are always read for."""
        self._pods = PodIndex()
        self._watches: dict[str | None, Watch] = {}
        self._listed: dict[str | None, asyncio.Event] = {}
        for namespace in tuple(namespaces) or (None,):
            self._listed[namespace] = asyncio.Event()
            self._watches[namespace] = Watch(
                client,
                f"/api/v1/namespaces/{quote(namespace, safe='')}/pods" if namespace else "/api/v1/pods",
                name=client.name + (f"/{namespace}" if namespace else ""),
                page_size=PAGE,
                selected={"labelSelector": selector} if selector else {},
                pace=pace,
                read=partial(read_pod, annotation=annotation),
                held=partial(self._pods.keys, namespace),
            )

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for namespace, watch in self._watches.items():
                group.create_task(watch.run(self._taker(namespace)), name=f"watch {watch.name}")

    @property
    def synced(self) -> bool:
        """True if all pods have been listed, if perhaps a while ago: see watch_age."""
        return all(listed.is_set() for listed in self._listed.values())

    async def wait_synced(self, timeout: float) -> bool:
        """Return False when it takes longer than *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout):
                for listed in self._listed.values():
                    await listed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def watch_age(self) -> float | None:
        """Seconds since the API server last sent something about pods: events and bookmarks, about one a minute."""
        heard = [watch.heard_at for watch in self._watches.values()]
        now = asyncio.get_running_loop().time()
        return None if None in heard else max(now - at for at in heard if at is not None)

    @property
    def trouble(self) -> str | None:
        """The reason why pods are not watched at present."""
        return next((watch.trouble for watch in self._watches.values() if watch.trouble), None)

    def pods(self) -> Iterable[Pod]:
        return iter(self._pods)

    def __len__(self) -> int:
        return len(self._pods)

    def get(self, namespace: str, name: str) -> Pod | None:
        return self._pods.get(namespace, name)

    def in_namespace(self, namespace: str, workload: str | None = None) -> Iterator[Pod]:
        """Yield the pods of a namespace, or those of one workload in it ("Deployment/shop")."""
        return self._pods.in_namespace(namespace, workload)

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call *callback* with every change, at once, until the function that is returned is called."""
        return self._pods.subscribe(callback)

    def _taker(self, namespace: str | None) -> Take:
        def complete(gone: Collection[Key]) -> Iterator[None]:
            for place, name in gone:
                if (pod := self._pods.get(place or "", name)) is not None:
                    self._pods.remove(pod)
                yield
            if not self._listed[namespace].is_set():
                _spare_the_collector()
            self._listed[namespace].set()

        def put(pod: Pod) -> Iterator[None]:
            yield from self._pods.put(pod)
            if not self._listed[namespace].is_set() and len(self._pods) % SPARED_EVERY == 0:
                yield
                _spare_the_collector()

        def take(change: Change) -> Iterator[None] | None:
            match change:
                case Updated(pod):
                    return put(pod)
                case Listed(gone):
                    return complete(gone)
                case Removed(pod):
                    self._pods.remove(pod)
            return None

        return take


def _spare_the_collector() -> None:
    """Have full collections not look through what is held now, which lives for long."""
    gc.collect(1)  # what has become garbage just now is not kept with it
    gc.freeze()
