"""Follows one release: what its pods are, what they print, and how it ends, as one stream of events."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, Self
from urllib.parse import quote

from noah.core.pods import Pod, phase_of, workload_of
from noah.core.release import PATHS, Progress, judge, pods_of_release
from noah.errors import NotFound, Unavailable
from noah.kube.clusters import Cluster

LOOK = 1.0  # seconds between two looks at the workload
QUIET, DRAIN = 0.5, 5.0  # seconds without a line before the end is told; and at most for all of them to come
TAIL = 20  # lines kept of each container, for the verdict
AHEAD = 1000  # events; a watcher that is slower than the logs holds them up, and nothing is lost

Event = Mapping[str, Any]
_Key = tuple[str, str, int]  # pod, container, restarts


class Follower:
    """Follows while it is entered."""

    def __init__(self, cluster: Cluster, *, namespace: str, kind: str, name: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._workload = f"{kind}/{name}"
        self._path = f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}/{PATHS[kind]}/{quote(name, safe='')}"
        self._events: asyncio.Queue[Event] = asyncio.Queue(AHEAD)
        self._tails: dict[tuple[str, str], deque[str]] = defaultdict(lambda: deque(maxlen=TAIL))
        self._read: set[_Key] = set()
        self._told: dict[str, str] = {}
        self._line_at = 0.0  # when the last line came, by the loop's clock
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """NotFound when there is no such workload."""
        await self._cluster.get(self._path)
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._start(self._look(), f"follow {self._namespace}/{self._workload}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def next(self) -> Event:
        """The last one's kind is "end"."""
        return await self._events.get()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._stack.callback(self._group.create_task(work, name=name).cancel)

    async def _look(self) -> None:
        while True:
            try:
                workload = {"kind": self._workload.partition("/")[0], **await self._cluster.get(self._path)}
            except Unavailable:
                pass  # the pods are still looked at when it answers again
            except NotFound:
                await self._events.put({"kind": "end", "result": "failed", "text": "The workload was deleted."})
                return
            else:
                pods = self._pods()
                await self._tell_pods(pods)
                progress = judge(workload, pods, {key: list(tail) for key, tail in self._tails.items()})
                if await self._tell(progress):
                    return
            await asyncio.sleep(LOOK)

    def _pods(self) -> list[Pod]:
        pods = self._cluster.informer.in_namespace(self._namespace)
        return [pod for pod in pods if workload_of(pod) == self._workload]

    async def _tell_pods(self, pods: list[Pod]) -> None:
        for pod in pods_of_release(pods):
            name = pod["metadata"]["name"]
            if self._told.get(name) != (phase := phase_of(pod)):
                self._told[name] = phase
                await self._events.put({"kind": "pod", "pod": name, "text": phase})
            for key in _started(pod):
                if key not in self._read:
                    self._read.add(key)
                    self._start(self._follow(key), f"logs of {key}")

    async def _follow(self, key: _Key) -> None:
        pod, container, _ = key

        def runs() -> bool:
            now = self._cluster.informer.get(self._namespace, pod)
            return now is not None and key in _started(now, running=True)

        async with aclosing(self._cluster.logs.follow(self._namespace, pod, container, runs=runs)) as lines:
            async for line in lines:
                self._tails[pod, container].append(line.text)
                self._line_at = asyncio.get_running_loop().time()
                event = {"kind": "log", "pod": pod, "container": container, "at": line.at, "text": line.text}
                await self._events.put(event)

    async def _drain(self) -> None:
        """The logs are read beside the looks, and may be behind them: what was printed comes before the end."""
        try:
            async with asyncio.timeout(DRAIN):
                while any((pod, container) not in self._tails for pod, container, _ in self._read) or self._fresh():  # noqa: ASYNC110 - that nothing comes is no event
                    await asyncio.sleep(QUIET / 5)
        except TimeoutError:
            pass  # a container that prints nothing

    def _fresh(self) -> bool:
        return asyncio.get_running_loop().time() - self._line_at < QUIET

    async def _tell(self, progress: Progress) -> bool:
        """Whether it is over."""
        if self._told.get("") != progress.sentence:
            self._told[""] = progress.sentence
            told = {"kind": "progress", "online": progress.online, "wanted": progress.wanted}
            await self._events.put({**told, "text": f"{progress.online} of {progress.wanted} online"})
        if progress.phase == "running":
            return False
        await self._drain()
        await self._events.put({"kind": "end", "result": progress.phase, "text": progress.sentence})
        return True


def _started(pod: Pod, *, running: bool = False) -> list[_Key]:
    """The containers whose log has begun; or only those that run now."""
    status = pod["status"]
    found = []
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = one.get("state") or {}
        if "running" in state or ("terminated" in state and not running):
            found.append((pod["metadata"]["name"], one["name"], one.get("restartCount", 0)))
    return found
