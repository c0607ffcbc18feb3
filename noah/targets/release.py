"""Follows one release: what its pods are, what they print, what the cluster says, and how it ends."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from noah.core.journal import Told, timestamp
from noah.core.pods import Pod, workload_of
from noah.core.release import PATHS, Progress, Release, Result, identity_of, is_observed, judge, pods_of_release
from noah.core.release_events import Lines, PodChanges, of_event
from noah.errors import NoahError, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.logs import Run

LOOK = 2.0  # seconds at most between two looks at the workload; a pod that changes is looked at at once
BREATH = 0.5  # seconds at least
OBSERVED = 5.0  # seconds for the controller to see what was asked for
QUIET, DRAIN = 0.5, 3.0  # seconds without a line before the end is told; and at most for all of them to come
TAIL = 20  # lines kept of each container, for the verdict
FIRST_ORDER, ORDER = 0.5, 0.1  # seconds: what comes in one of them is told in the order of its times
# Lines within that time: more of them are held up, and with nobody watching sooner. Nothing is lost by it.
AHEAD, AHEAD_UNWATCHED = 1000, 100

Json = Mapping[str, Any]


async def asked_for(cluster: Cluster, *, namespace: str, kind: str, name: str) -> Json:
    """The workload, once its controller has seen what was last asked for, or after OBSERVED seconds. NotFound."""
    path = _path(namespace, kind, name)
    until = asyncio.get_running_loop().time() + OBSERVED
    while True:
        workload = {"kind": kind, **await cluster.get(path)}
        if is_observed(workload) or asyncio.get_running_loop().time() > until:
            return workload
        await asyncio.sleep(BREATH)


class Follower:
    """*tell* gets each event; *replaces* each look's pods that the release is about to replace."""

    def __init__(
        self,
        cluster: Cluster,
        release: Release,
        *,
        tell: Callable[[Told], None],
        replaces: Callable[[Iterable[Pod]], None],
        watched: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._release = release
        self._workload = f"{release.kind}/{release.workload}"
        self._path = _path(release.namespace, release.kind, release.workload)
        self._tell = tell
        self._replaces = replaces
        self._watched = watched
        self._clock = clock
        self._pending: list[Told] = []
        self._told = asyncio.Event()  # set each time that what was pending has been told
        self._look_again = asyncio.Event()
        self._lines = Lines()
        self._changes = PodChanges()
        self._tails: dict[tuple[str, str], deque[str]] = defaultdict(lambda: deque(maxlen=TAIL))
        self._reading: set[Run] = set()
        self._read: set[Run] = set()  # to their end
        self._last: dict[Run, tuple[str, float]] = {}  # its last line's time, and when that came by the loop's clock
        self._followers: list[asyncio.Task[None]] = []
        self._progress = release.progress
        self.rolls = False  # it was seen to be under way

    async def run(self) -> Progress:
        """Until the release has ended. What it told is told by then."""
        unsubscribe = self._cluster.informer.subscribe(self._pod_changed)
        try:
            async with asyncio.TaskGroup() as self._group:
                beside = [self._start(self._tell_in_order(), "order"), self._start(self._events(), "events")]
                progress = await self._look_until_over()
                await self._drain()
                for task in (*beside, *self._followers):
                    task.cancel()
        finally:
            unsubscribe()
            self._flush()
        return progress

    # -- what it is made of

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._group.create_task(work, name=f"{self._release.id} {name}")

    def _pod_changed(self, pod: Pod, _: object) -> None:
        if pod["metadata"]["namespace"] == self._release.namespace and workload_of(pod) == self._workload:
            self._look_again.set()

    async def _look_until_over(self) -> Progress:
        while True:
            self._look_again.clear()
            try:
                workload = {"kind": self._release.kind, **await self._cluster.get(self._path)}
            except Unavailable:
                pass  # it is looked at when the API answers again
            except NotFound:
                return replace(self._progress, result=Result.FAILED, sentence="The workload was deleted.")
            except NoahError as e:  # a right that was taken away
                return replace(self._progress, result=Result.LOST, sentence=e.sentence)
            else:
                progress = self._look(workload)
                if progress.result is not Result.RUNNING:
                    return progress
            await asyncio.sleep(BREATH)
            await self._something(LOOK - BREATH)

    async def _something(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._look_again.wait()
        except TimeoutError:
            pass

    def _look(self, workload: Json) -> Progress:
        id, revision = identity_of(self._cluster.name, workload)
        if id != self._release.id and is_observed(workload):
            return replace(self._progress, result=Result.REPLACED, sentence=f"Revision {revision} has taken its place.")
        pods = [pod for pod in self._cluster.informer.in_namespace(self._release.namespace) if self._is_ours(pod)]
        ours = {pod["metadata"]["uid"] for pod in pods_of_release(pods)}
        self._tell_pods(pods, ours)
        self._replaces(pod for pod in pods if pod["metadata"]["uid"] not in ours)
        progress = judge(workload, pods, {key: list(tail) for key, tail in self._tails.items()})
        if (progress.online, progress.wanted) != (self._progress.online, self._progress.wanted):
            self._say("progress", f"{progress.online} of {progress.wanted} online", _counts(progress))
        self._progress = progress
        self.rolls |= progress.result is Result.RUNNING
        return progress

    def _is_ours(self, pod: Pod) -> bool:
        return workload_of(pod) == self._workload

    def _tell_pods(self, pods: Iterable[Pod], ours: set[str]) -> None:
        now = timestamp(self._clock())
        for pod in pods:
            if pod["metadata"]["uid"] not in ours:
                self._pending += self._changes.of_old(pod, now)
                continue
            self._pending += self._changes.told(pod, now)
            for run in runs_of(pod):
                if run not in self._reading:
                    self._reading.add(run)
                    self._followers.append(self._start(self._follow(run), f"log of {run.pod} {run.container}"))

    def _say(self, kind: str, text: str, more: Json) -> None:
        self._pending.append(Told(timestamp(self._clock()), kind, text, more))

    # -- what they print

    async def _follow(self, run: Run) -> None:
        try:
            async with aclosing(self._cluster.logs.follow(run)) as lines:
                async for line in lines:
                    self._tails[run.pod, run.container].append(line.text)
                    self._last[run] = line.at, asyncio.get_running_loop().time()
                    self._pending += self._lines.told(run.pod, run.container, run.restart, line.at, line.text)
                    while len(self._pending) >= (AHEAD if self._watched() else AHEAD_UNWATCHED):
                        await self._told.wait()
        except NoahError as e:
            self._say("log", f"noah: its log cannot be read: {e.sentence}", _place(run))
        self._read.add(run)
        self._look_again.set()

    async def _events(self) -> None:
        namespace, since = self._release.namespace, timestamp(self._release.started_at)

        def take(event: Json) -> None:
            told = of_event(event, timestamp(self._clock()))
            if self._concerns(event) and told.at[:19] >= since[:19]:
                self._pending.append(told)

        try:
            await self._cluster.event_log.follow(namespace, take)
        except NoahError as e:
            more = {"object": f"Namespace/{namespace}", "type": "Warning", "reason": "NotReadable"}
            self._say("event", f"Events cannot be read: {e.sentence}", more)

    def _concerns(self, event: Json) -> bool:
        about = event["involvedObject"]
        kind, name, ours = about.get("kind"), str(about.get("name")), self._release.workload
        if kind == "Pod":
            pod = self._cluster.informer.get(self._release.namespace, name)
            # One that is gone already: NAME-HASH-SUFFIX of a Deployment, else NAME-SUFFIX.
            rest = name.removeprefix(f"{ours}-").count("-") if name.startswith(f"{ours}-") else -1
            return self._is_ours(pod) if pod else rest == (1 if self._release.kind == "Deployment" else 0)
        if kind == "ReplicaSet":
            return name.rpartition("-")[0] == ours
        return bool(kind == self._release.kind and name == ours)

    # -- in which order it is told

    async def _tell_in_order(self) -> None:
        await asyncio.sleep(FIRST_ORDER)
        while True:
            self._flush()
            await asyncio.sleep(ORDER)

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for told in sorted(pending, key=lambda told: told.at.rstrip("Z")):
            self._tell(told)
        self._told.set()
        self._told = asyncio.Event()

    async def _drain(self) -> None:
        """The logs are read beside the looks, and may be behind them: what was printed comes before the end."""
        began, at = asyncio.get_running_loop().time(), timestamp(self._clock())
        try:
            async with asyncio.timeout(DRAIN):
                while not all(self._is_drained(run, began, at) for run in self._reading):  # noqa: ASYNC110 - that nothing comes is no event
                    await asyncio.sleep(QUIET / 5)
        except TimeoutError:
            pass  # a container that prints nothing

    def _is_drained(self, run: Run, began: float, at: str) -> bool:
        last, came = self._last.get(run, ("", None))
        if run in self._read or last >= at:
            return True
        return came is not None and asyncio.get_running_loop().time() - max(came, began) >= QUIET


def runs_of(pod: Pod) -> list[Run]:
    """The runs of its containers that have a log by now: the present one, and the one before a crash."""
    meta, status = pod["metadata"], pod["status"]
    found = []
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state, last, count = one.get("state") or {}, one.get("lastState") or {}, one.get("restartCount", 0)
        present = "running" in state or "terminated" in state
        restarts = [count] if present else []
        if "terminated" in last:
            restarts.insert(0, count - 1 if present else count)
        found += [Run(meta["namespace"], meta["name"], meta["uid"], one["name"], n) for n in restarts if n >= 0]
    return found


def _path(namespace: str, kind: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{quote(namespace, safe='')}/{PATHS[kind]}/{quote(name, safe='')}"


def _place(run: Run) -> Json:
    return {"pod": run.pod, "container": run.container, "restart": run.restart}


def _counts(progress: Progress) -> Json:
    return {"online": progress.online, "wanted": progress.wanted}
