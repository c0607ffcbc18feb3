"""How many commands may run at a time, per cluster and per node, and how long one waits for its turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from noah.kube.client import within

PER_CLUSTER = 32
PER_NODE = 8  # a kubelet starts each by forking runc, some 50 ms of a core
WAIT = 10.0  # seconds


class Places:
    def __init__(self, cluster: str) -> None:
        self._name = cluster
        self._cluster = asyncio.Semaphore(PER_CLUSTER)
        # A node's semaphore lives as long as somebody holds it or waits for it.
        self._nodes: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, node: str | None, timeout: float) -> AsyncIterator[None]:
        """Unavailable when none gets free within *timeout*, and WAIT, seconds."""
        wait = min(timeout, WAIT)
        if node is None:
            async with self._taken(self._cluster, f'cluster "{self._name}"', PER_CLUSTER, wait):
                yield
            return
        # The node's first: whoever waits for a busy node must not keep the cluster's places from other nodes.
        places = self._nodes.setdefault(node, asyncio.Semaphore(PER_NODE))
        async with (
            self._taken(places, f'node "{node}" of cluster "{self._name}"', PER_NODE, wait),
            self.one(None, wait),
        ):
            yield

    @asynccontextmanager
    async def _taken(self, places: asyncio.Semaphore, where: str, many: int, wait: float) -> AsyncIterator[None]:
        late = f"The gateway has {many} commands running on {where}, and none ended within {wait:g} s: try again."
        async with within(wait, late):
            await places.acquire()
        try:
            yield
        finally:
            places.release()
