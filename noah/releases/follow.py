"""Follows one release: what its pods are, what they print, what the cluster says, and how it ends."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from noah.core.pods import Pod, has_ended, statuses_of, workload_of
from noah.core.release.events import Lines, PodChanges, of_event
from noah.core.release.release import Progress, Release, Result, Revision, is_observed, is_of, judge, mark_of
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind, timestamp
from noah.core.workload import WorkloadKind
from noah.errors import NoahError, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.logs import Run
from noah.releases.revision import YOUNG, newest_of, path_of

LOOK = 2.0  # seconds at most between two looks at the workload; a pod that changes is looked at at once
BREATH = 0.5  # seconds at least
STALLED = YOUNG.total_seconds()  # without progress, for what has no deadline of its own; a Deployment has as much
QUIET, DRAIN = 0.5, 3.0  # seconds without a line before the end is told; and at most for all of them to come
TAIL = 20  # lines kept of each container, for the verdict
FIRST_ORDER, ORDER = 0.5, 0.1  # seconds: what comes in one of them is told in the order of its times
AHEAD = 1000  # lines within that time, of all releases; more of them are held up, and nothing is lost by it

Json = Mapping[str, Any]


@dataclass(slots=True)
class Backlog:
    """What all releases together have read and not told yet."""

    lines: int = 0


class Follower:
    """*tell* gets each event, *replaces* each look's pods that the release is about to replace.

    *rolls* is called when a rollout is seen to be under way, and not only a workload that is there.
    """

    def __init__(
        self,
        cluster: Cluster,
        release: Release,
        revision: Revision,
        *,
        tell: Callable[[ReleaseEvent], None],
        rolls: Callable[[], None],
        replaces: Callable[[Iterable[Pod]], None],
        backlog: Backlog,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._release = release
        self._revision = revision
        self._workload = f"{release.kind}/{release.workload}"
        self._path = path_of(release.namespace, release.kind, release.workload)
        self._tell = tell
        self._rolls = rolls
        self._replaces = replaces
        self._backlog = backlog
        self._clock = clock
        self._is_young = revision.made_at is not None and release.started_at - revision.made_at < YOUNG
        self._pending: list[ReleaseEvent] = []
        self._is_pending = asyncio.Event()
        self._told = asyncio.Event()  # set each time that what was pending has been told
        self._look_again = asyncio.Event()
        self._lines = Lines()
        self._changes = PodChanges()
        self._tails: dict[tuple[str, str], tuple[int, deque[str]]] = {}  # (pod, container) -> its run and last lines
        self._reading: set[Run] = set()
        self._read: set[Run] = set()  # to their end
        self._last: dict[Run, tuple[str, float]] = {}  # its last line's time, and when that came by the loop's clock
        self._followers: list[asyncio.Task[None]] = []
        self._progress = release.progress
        self._shown = (0, 0, "")
        self._refused: str | None = None  # why the last pod that was to be made was not
        self._moved: tuple[object, float] = (None, 0.0)  # how far it is, and since when by the loop's clock

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
        if pod["metadata"]["namespace"] == self._release.namespace and self._is_ours(pod):
            self._look_again.set()

    async def _look_until_over(self) -> Progress:
        while True:
            self._look_again.clear()
            try:
                workload = {"kind": self._release.kind, **await self._cluster.get(self._path)}
                if is_observed(workload) and workload["metadata"].get("generation", 0) != self._revision.generation:
                    self._revision = await newest_of(self._cluster, workload)
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
        if self._revision.id != self._release.id:
            newer = int(self._revision.number) > int(self._release.revision)
            what = f"Revision {self._revision.number}" if newer else "A workload of the same name"
            sentence = f"{what} has taken its place."
            return replace(self._progress, result=Result.REPLACED, sentence=sentence)
        pods = [pod for pod in self._cluster.informer.in_namespace(self._release.namespace) if self._is_ours(pod)]
        old = [pod for pod in pods if mark_of(pod) != self._revision.mark and not has_ended(pod)]
        self._tell_pods(pods)
        tails = {key: list(tail) for key, (_, tail) in self._tails.items()}
        stalled = self._is_stalled(workload)
        progress = judge(workload, self._revision, pods, tails, refused=self._refused, stalled=stalled)
        counted = replace(progress, sentence=f"{progress.online} of {progress.wanted} online")
        shown = progress if progress.result is Result.RUNNING else counted
        if (shown.online, shown.wanted, shown.sentence) != self._shown:
            self._shown = shown.online, shown.wanted, shown.sentence
            self._say(ReleaseEventKind.PROGRESS, shown.sentence, {"online": shown.online, "wanted": shown.wanted})
        if progress.result is Result.RUNNING:
            self._replaces(old)
        self._progress = progress
        if progress.result is not Result.DONE and (self._is_young or old):
            self._rolls()
        return progress

    def _is_ours(self, pod: Pod) -> bool:
        return workload_of(pod) == self._workload

    def _is_stalled(self, workload: Json) -> bool:
        far, now = (self._progress.online, workload.get("status")), asyncio.get_running_loop().time()
        if far != self._moved[0]:
            self._moved = far, now
        return self._release.kind != WorkloadKind.DEPLOYMENT and now - self._moved[1] > STALLED

    def _tell_pods(self, pods: Iterable[Pod]) -> None:
        now = timestamp(self._clock())
        for pod in pods:
            if not is_of(self._revision, pod):
                self._queue(self._changes.of_old(pod, now))
                continue
            self._queue(self._changes.told(pod, now))
            for run in runs_of(pod):
                if run not in self._reading:
                    self._reading.add(run)
                    self._followers.append(self._start(self._follow(run), f"log of {run.pod} {run.container}"))

    def _say(self, kind: ReleaseEventKind, text: str, more: Json) -> None:
        self._queue([ReleaseEvent(timestamp(self._clock()), kind, text, more)])

    # -- what they print

    async def _follow(self, run: Run) -> None:
        try:
            async with aclosing(self._cluster.logs.follow(run)) as lines:
                async for line in lines:
                    at = line.at or timestamp(self._clock())
                    self._tail(run).append(line.text)
                    self._last[run] = at, asyncio.get_running_loop().time()
                    self._queue(self._lines.told(run.pod, run.container, run.restart, at, line.text))
                    while self._pending and self._backlog.lines >= AHEAD:
                        await self._told.wait()
        except NoahError as e:
            self._say(ReleaseEventKind.LOG, f"noah: its log cannot be read: {e.sentence}", _place(run))
        self._read.add(run)
        self._look_again.set()

    def _tail(self, run: Run) -> deque[str]:
        """Of its container's newest run; lines of an earlier one go nowhere."""
        newest, tail = self._tails.get((run.pod, run.container), (-1, deque[str]()))
        if run.restart > newest:
            self._tails[run.pod, run.container] = run.restart, (tail := deque(maxlen=TAIL))
        return tail if run.restart >= newest else deque(maxlen=0)

    async def _events(self) -> None:
        try:
            await self._cluster.event_log.follow(self._release.namespace, self._take)
        except NoahError as e:
            more = {"object": f"Namespace/{self._release.namespace}", "type": "Warning", "reason": "NotReadable"}
            self._say(ReleaseEventKind.EVENT, f"Events cannot be read: {e.sentence}", more)

    def _take(self, event: Json) -> None:
        about = event["involvedObject"]
        told = of_event(event, timestamp(self._clock()))
        if not self._concerns(about, told.at):
            return
        self._queue([told])
        makers = (self._workload, f"ReplicaSet/{self._release.workload}-{self._revision.mark}")
        if told.more["reason"] == "FailedCreate" and told.more["object"] in makers:
            self._refused = told.text
            self._look_again.set()

    def _concerns(self, about: Json, at: str) -> bool:
        kind, name, ours = about.get("kind"), str(about.get("name")), self._release.workload
        pod = self._cluster.informer.get(self._release.namespace, name) if kind == "Pod" else None
        if pod and pod["metadata"]["uid"] == about.get("uid") and self._is_ours(pod) and is_of(self._revision, pod):
            return True  # all that was ever said of it
        began = self._revision.made_at if self._is_young and self._revision.made_at else self._release.started_at
        if at[:19] < timestamp(began)[:19]:
            return False
        if kind == "Pod":
            # One that is gone already: NAME-HASH-SUFFIX of a Deployment, else NAME-SUFFIX.
            rest = name.removeprefix(f"{ours}-").count("-") if name.startswith(f"{ours}-") else -1
            return self._is_ours(pod) if pod else rest == (1 if self._release.kind == WorkloadKind.DEPLOYMENT else 0)
        if kind == WorkloadKind.REPLICA_SET:
            return name.rpartition("-")[0] == ours
        return bool(kind == self._release.kind and name == ours)

    # -- in which order it is told

    def _queue(self, told: Iterable[ReleaseEvent]) -> None:
        before = len(self._pending)
        self._pending += told
        self._backlog.lines += len(self._pending) - before
        if self._pending:
            self._is_pending.set()

    async def _tell_in_order(self) -> None:
        await asyncio.sleep(FIRST_ORDER)
        while True:
            await self._is_pending.wait()
            await asyncio.sleep(ORDER)
            self._flush()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self._is_pending.clear()
        self._backlog.lines -= len(pending)
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
    meta = pod["metadata"]
    found = []
    for one in statuses_of(pod):
        state, last, count = one.get("state") or {}, one.get("lastState") or {}, one.get("restartCount", 0)
        present = "running" in state or "terminated" in state
        restarts = [count] if present else []
        if "terminated" in last:
            restarts.insert(0, count - 1 if present else count)
        found += [Run(meta["namespace"], meta["name"], meta["uid"], one["name"], n) for n in restarts if n >= 0]
    return found


def _place(run: Run) -> Json:
    return {"pod": run.pod, "container": run.container, "restart": run.restart}
