"""Follows one release: yields what its pods are, what they print and what the cluster says, in order, until it ends.

It reads the cluster and nothing else: who watches the release, what is kept of it and who debugs there is not its
business.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from noah.core.pods import Pod, statuses_of, workload_of
from noah.core.release.events import Lines, PodChanges, of_event
from noah.core.release.release import (
    Progress,
    Release,
    Result,
    Revision,
    is_observed,
    is_of,
    judge,
    replaced_by,
)
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind, timestamp
from noah.core.workload import WorkloadKind
from noah.errors import NoahError, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.kube.logs import Run
from noah.releases.revision import YOUNG, newest_of, path_of

LOOK_INTERVAL_S = 2.0  # between two looks at the workload; a pod that changes causes one at once
SHORTEST_LOOK_INTERVAL_S = 0.5  # however many pods change
STALLED_S = YOUNG.total_seconds()  # without progress, for what has no deadline of its own; a Deployment has as much
QUIET_S = 0.5  # at the end of a release: a container that prints nothing for so long has printed everything
LONGEST_DRAIN_S = 3.0  # at the end of a release, for all containers together
TAIL_LINES = 20  # kept of each container, for the verdict
# Events of one window are put in the order of their times. The first one is longer: it has what happened before.
FIRST_WINDOW_S, WINDOW_S = 0.5, 0.1
MOST_PENDING = 1000  # events of all releases in their windows; at more, lines wait in the sockets, and nothing is lost
RECOVERY_LOOK_S = 60.0  # between two looks whether a failed release has come online, if no pod changes
SHORTEST_RECOVERY_LOOK_S = 5.0  # if pods change

Json = Mapping[str, Any]


@dataclass(slots=True)
class Backlog:
    """The number of events that all releases together have read and not yielded yet."""

    events: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a workload. The last one of a release has its result."""

    progress: Progress
    replaced: tuple[Pod, ...]  # pods of earlier revisions that the release is about to delete
    is_rollout: bool  # a rollout was seen to be under way, and not only a workload that is there


class Follower:
    """Use it as a context manager, iterate over found(), and take rest() after it is left."""

    def __init__(
        self,
        cluster: Cluster,
        release: Release,
        revision: Revision,
        *,
        backlog: Backlog,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._release = release
        self._revision = revision
        self._path = path_of(release.namespace, release.kind, release.workload)
        self._backlog = backlog
        self._clock = clock
        self._is_young = revision.made_at is not None and release.started_at - revision.made_at < YOUNG
        self._pending: list[ReleaseEvent] = []
        self._look = Look(release.progress, (), is_rollout=False)
        self._looked = False  # since the last look was yielded
        self._over = asyncio.Event()
        self._has_news = asyncio.Event()
        self._has_room = asyncio.Event()  # replaced each time that the pending events were taken
        self._look_again = asyncio.Event()
        self._lines = Lines()
        self._changes = PodChanges()
        self._tails: dict[tuple[str, str], tuple[int, deque[str]]] = {}  # (pod, container) -> its run and last lines
        self._logs: dict[Run, _Log] = {}
        self._progress = release.progress
        self._shown = (0, 0, "")
        self._refused: str | None = None  # why the last pod that was to be made was not
        self._moved: tuple[object, float] = (None, 0.0)  # how far it is, and since when by the loop's clock
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._stack.callback(_on_change(self._cluster, self._release, self._look_again))
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._start(self._look_until_over(), "looks")
        self._start(self._events(), "events")
        return self

    async def __aexit__(self, *exc: Any) -> bool | None:
        for task in self._tasks:
            task.cancel()
        return await self._stack.__aexit__(*exc)

    async def found(self) -> AsyncGenerator[ReleaseEvent | Look, None]:
        """Yield events in the order of their times, and looks, until the release has ended.

        Of looks that follow each other quickly only the last one is yielded.
        """
        await _set_within(self._over, FIRST_WINDOW_S)
        while True:
            await self._has_news.wait()
            await _set_within(self._over, WINDOW_S)
            is_over, looked = self._over.is_set(), self._looked
            self._looked = False
            for event in self.rest():
                yield event
            if looked or is_over:
                yield self._look
            if is_over:
                return

    def rest(self) -> list[ReleaseEvent]:
        """Take the events that were read and not yielded, in the order of their times."""
        pending, self._pending = self._pending, []
        self._has_news.clear()
        self._backlog.events -= len(pending)
        self._has_room.set()
        self._has_room = asyncio.Event()
        return sorted(pending, key=lambda event: event.at.rstrip("Z"))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self._group.create_task(work, name=f"{self._release.id} {name}")
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    def _queue(self, events: Iterable[ReleaseEvent]) -> None:
        before = len(self._pending)
        self._pending += events
        self._backlog.events += len(self._pending) - before
        if self._pending:
            self._has_news.set()

    def _say(self, kind: ReleaseEventKind, text: str, more: Json) -> None:
        self._queue([ReleaseEvent(timestamp(self._clock()), kind, text, more)])

    # -- the workload and its pods

    async def _look_until_over(self) -> None:
        # What is published if anything unforeseen ends this task.
        last = replace(self._progress, result=Result.LOST, sentence="The gateway failed to follow it.")
        try:
            while (progress := await self._looked_at()).result is Result.RUNNING:
                await asyncio.sleep(SHORTEST_LOOK_INTERVAL_S)
                await _set_within(self._look_again, LOOK_INTERVAL_S - SHORTEST_LOOK_INTERVAL_S)
            await self._drain()
            last = progress
        finally:
            self._look = replace(self._look, progress=last, replaced=())
            self._over.set()
            self._has_news.set()

    async def _looked_at(self) -> Progress:
        self._look_again.clear()
        try:
            workload = {"kind": self._release.kind, **await self._cluster.get(self._path)}
            if is_observed(workload) and workload["metadata"].get("generation", 0) != self._revision.generation:
                self._revision = await newest_of(self._cluster, workload)
        except Unavailable:
            return self._progress  # it is looked at when the API answers again
        except NotFound:
            return replace(self._progress, result=Result.FAILED, sentence="The workload was deleted.")
        except NoahError as e:  # a right that was taken away
            return replace(self._progress, result=Result.LOST, sentence=e.sentence)
        return self._judged(workload)

    def _judged(self, workload: Json) -> Progress:
        if self._revision.id != self._release.id:
            newer = int(self._revision.number) > int(self._release.revision)
            what = f"Revision {self._revision.number}" if newer else "A workload of the same name"
            sentence = f"{what} has taken its place."
            return replace(self._progress, result=Result.REPLACED, sentence=sentence)
        pods = pods_of(self._cluster, self._release)
        self._look_at_pods(pods)
        replaced = tuple(replaced_by(workload, self._revision, pods))
        tails = {key: list(tail) for key, (_, tail) in self._tails.items()}
        stalled = self._is_stalled(workload)
        progress = judge(workload, self._revision, pods, tails, refused=self._refused, stalled=stalled)
        counted = replace(progress, sentence=f"{progress.online} of {progress.wanted} online")
        shown = progress if progress.result is Result.RUNNING else counted
        if (shown.online, shown.wanted, shown.sentence) != self._shown:
            self._shown = shown.online, shown.wanted, shown.sentence
            more = {"online": shown.online, "wanted": shown.wanted}
            self._say(ReleaseEventKind.PROGRESS, shown.sentence, more)
        self._progress = progress
        is_rollout = progress.result is not Result.DONE and (self._is_young or bool(replaced))
        self._look = replace(self._look, is_rollout=self._look.is_rollout or is_rollout)
        if progress.result is Result.RUNNING:
            self._look = replace(self._look, progress=progress, replaced=replaced)
            self._looked = True
            self._has_news.set()
        return progress

    def _is_stalled(self, workload: Json) -> bool:
        far, now = (self._progress.online, workload.get("status")), _now()
        if far != self._moved[0]:
            self._moved = far, now
        return self._release.kind != WorkloadKind.DEPLOYMENT and now - self._moved[1] > STALLED_S

    def _look_at_pods(self, pods: Iterable[Pod]) -> None:
        now, names = timestamp(self._clock()), set[str]()
        for pod in pods:
            names.add(pod["metadata"]["name"])
            if not is_of(self._revision, pod):
                self._queue(self._changes.of_old(pod, now))
                continue
            self._queue(self._changes.of_new(pod, now))
            for run in runs_of(pod):
                if run not in self._logs:
                    self._logs[run] = _Log()
                    self._start(self._read(run), f"log of {run.pod} {run.container}")
        self._forget_all_but(names)

    def _forget_all_but(self, pods: set[str]) -> None:
        """Forget pods that are gone and whose logs were read, so that a release that lasts for weeks stays small."""
        self._logs = {run: log for run, log in self._logs.items() if run.pod in pods or not log.is_read}
        known = pods | {run.pod for run in self._logs}
        self._tails = {key: tail for key, tail in self._tails.items() if key[0] in known}
        self._lines.forget_all_but(known)
        self._changes.forget_all_but(known)

    # -- what containers print

    async def _read(self, run: Run) -> None:
        log = self._logs[run]
        try:
            async with aclosing(self._cluster.logs.follow(run)) as lines:
                async for line in lines:
                    at = line.at or timestamp(self._clock())
                    self._tail(run).append(line.text)
                    log.last_at, log.came_at = at, _now()
                    self._queue(self._lines.events_of(run.pod, run.container, run.restart, at, line.text))
                    while self._pending and self._backlog.events >= MOST_PENDING:
                        await self._has_room.wait()
        except NoahError as e:
            more = {"pod": run.pod, "container": run.container, "restart": run.restart}
            self._say(ReleaseEventKind.LOG, f"noah: its log cannot be read: {e.sentence}", more)
        log.is_read = True
        self._look_again.set()

    def _tail(self, run: Run) -> deque[str]:
        """The last lines of the container's newest run; those of an earlier run are dropped."""
        newest, tail = self._tails.get((run.pod, run.container), (-1, deque[str]()))
        if run.restart > newest:
            self._tails[run.pod, run.container] = run.restart, (tail := deque(maxlen=TAIL_LINES))
        return tail if run.restart >= newest else deque(maxlen=0)

    async def _drain(self) -> None:
        """Wait for the logs, which are read beside the looks and may be behind: lines come before the end."""
        began, at = _now(), timestamp(self._clock())
        try:
            async with asyncio.timeout(LONGEST_DRAIN_S):
                while not all(log.is_drained(began, at) for log in self._logs.values()):  # noqa: ASYNC110 - that nothing comes is not an event
                    await asyncio.sleep(QUIET_S / 5)
        except TimeoutError:
            pass  # a container that prints nothing

    # -- what the cluster says

    async def _events(self) -> None:
        try:
            async with aclosing(self._cluster.event_log.follow(self._release.namespace)) as events:
                async for event in events:
                    self._take(event)
        except NoahError as e:
            more = {"object": f"Namespace/{self._release.namespace}", "type": "Warning", "reason": "NotReadable"}
            self._say(ReleaseEventKind.EVENT, f"Events cannot be read: {e.sentence}", more)

    def _take(self, event: Json) -> None:
        found = of_event(event, timestamp(self._clock()))
        if not self._concerns(event["involvedObject"], found.at):
            return
        self._queue([found])
        release = self._release
        makers = (_owner(release), f"{WorkloadKind.REPLICA_SET}/{release.workload}-{self._revision.mark}")
        if found.more["reason"] == "FailedCreate" and found.more["object"] in makers:
            self._refused = found.text
            self._look_again.set()

    def _concerns(self, about: Json, at: str) -> bool:
        kind, name, release = about.get("kind"), str(about.get("name")), self._release
        pod = self._cluster.informer.get(release.namespace, name) if kind == "Pod" else None
        is_ours = pod is not None and workload_of(pod) == _owner(release)
        if pod and is_ours and pod["metadata"]["uid"] == about.get("uid") and is_of(self._revision, pod):
            return True  # all that the cluster keeps about it
        began = self._revision.made_at if self._is_young and self._revision.made_at else release.started_at
        if at[:19] < timestamp(began)[:19]:
            return False
        if kind == "Pod":
            # One that is gone already: NAME-HASH-SUFFIX of a Deployment, else NAME-SUFFIX.
            prefix = f"{release.workload}-"
            dashes = name.removeprefix(prefix).count("-") if name.startswith(prefix) else -1
            return is_ours if pod else dashes == (1 if release.kind is WorkloadKind.DEPLOYMENT else 0)
        if kind == WorkloadKind.REPLICA_SET:
            return name.rpartition("-")[0] == release.workload
        return bool(kind == release.kind and name == release.workload)


@dataclass(slots=True)
class _Log:
    """The log of one run of a container, as far as it has been read."""

    is_read: bool = False  # to its end
    last_at: str = ""  # the last line's time
    came_at: float | None = None  # when it came, by the loop's clock

    def is_drained(self, began: float, at: str) -> bool:
        """True if what was printed until *at* has come, as far as can be known; *began* is the loop's time of *at*."""
        if self.is_read or self.last_at >= at:
            return True
        return self.came_at is not None and _now() - max(self.came_at, began) >= QUIET_S


async def recovery_of(cluster: Cluster, release: Release, revision: Revision) -> Progress | None:
    """Wait until a failed release is online after all, and return its progress.

    Return None if that cannot come any more: the workload was deleted, or a newer release took its place.
    """
    path, changed = path_of(release.namespace, release.kind, release.workload), asyncio.Event()
    unsubscribe = _on_change(cluster, release, changed)
    changed.set()  # perhaps before this began: the end of the release was kept first
    try:
        while True:
            await asyncio.sleep(SHORTEST_RECOVERY_LOOK_S)
            await _set_within(changed, RECOVERY_LOOK_S)
            changed.clear()
            try:
                workload = {"kind": release.kind, **await cluster.get(path)}
                newest = await newest_of(cluster, workload)
            except Unavailable:
                continue
            except NoahError:
                return None
            if newest.id != revision.id:
                return None
            progress = judge(workload, newest, pods_of(cluster, release), {}, refused=None, stalled=False)
            if progress.result is Result.DONE:
                return progress
    finally:
        unsubscribe()


def pods_of(cluster: Cluster, release: Release) -> list[Pod]:
    """The pods of the release's workload, of any revision."""
    return list(cluster.informer.in_namespace(release.namespace, _owner(release)))


def runs_of(pod: Pod) -> list[Run]:
    """List the runs of its containers that have a log by now: the present one, and the one before a crash."""
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


def _owner(release: Release) -> str:
    """The release's workload as workload_of(pod) names it."""
    return f"{release.kind}/{release.workload}"


def _on_change(cluster: Cluster, release: Release, changed: asyncio.Event) -> Callable[[], None]:
    """Set *changed* each time that a pod of the release's workload changes; call the result to end that."""
    owner = _owner(release)

    def look(pod: Pod, _: object) -> None:
        if pod["metadata"]["namespace"] == release.namespace and workload_of(pod) == owner:
            changed.set()

    return cluster.informer.subscribe(look)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _now() -> float:
    return asyncio.get_running_loop().time()
