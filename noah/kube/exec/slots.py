"""How many commands may run at a time, per cluster and per node, and how long one waits for its turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from noah.kube.client import within

PER_CLUSTER = 32
PER_NODE = 8  # a kubelet starts each by forking runc, some 50 ms of a core
WAIT_S = 10.0


class ExecSlots:
    def __init__(self, cluster: str) -> None:
        self._name = cluster
        self._cluster = asyncio.Semaphore(PER_CLUSTER)
        # A node's semaphore lives as long as somebody holds it or waits for it.
        self._nodes: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, node: str | None, timeout: float) -> AsyncIterator[None]:
        """Hold a slot; raise Unavailable when none gets free within *timeout*, and WAIT_S, seconds."""
        wait = min(timeout, WAIT_S)
        if node is None:
            async with self._taken(self._cluster, f'cluster "{self._name}"', PER_CLUSTER, wait):
                yield
            return
        # The node's first: a command that waits for a busy node must not keep the cluster's slots from other nodes.
        slots = self._nodes.setdefault(node, asyncio.Semaphore(PER_NODE))
        async with (
            self._taken(slots, f'node "{node}" of cluster "{self._name}"', PER_NODE, wait),
            self.one(None, wait),
        ):
            yield

    @asynccontextmanager
    async def _taken(self, slots: asyncio.Semaphore, where: str, many: int, wait: float) -> AsyncIterator[None]:
        late = f"The gateway has {many} commands running on {where}, and none ended within {wait:g} s: try again."
        async with within(wait, late):
            await slots.acquire()
        try:
            yield
        finally:
            slots.release()
