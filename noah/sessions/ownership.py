"""Which gateway has which session: the tasks of this gateway's, and a view of all the others'.

Every live row has a gateway that runs its task. A row whose gateway is not there any more is taken over by another one,
which raises its fence: what the one before still writes is refused by the database. Each second this gateway reads the
heads of all live rows, and the rows that have changed. So it sees what it has lost or been given, a row whose writer
never learned that its commit had been done, what people asked of its sessions elsewhere, and what is true of the rest.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.backoff import Backoff
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.lease import Fence, fair_share
from noah.core.session.audit import left_behind
from noah.core.session.event_kind import EventKind
from noah.core.session.principal import Principal
from noah.core.session.target import Target
from noah.errors import Conflict, LostSession, NoahError, Unavailable
from noah.keep_running import attempted
from noah.peers.client import PeerClient
from noah.sessions.announce import about_session
from noah.sessions.audits import Audits
from noah.sessions.live_session import LiveSession, SessionElsewhere, Traffic
from noah.sessions.live_state import LiveState, Step, steps_of
from noah.sessions.passing import Passing
from noah.sessions.ports import Ports
from noah.sessions.task import SessionTask
from noah.settings import GatewaySettings
from noah.store.feed import Feed
from noah.store.hints import Channel, Hints, heard_within
from noah.store.lease import Lease
from noah.store.sessions import Head, SessionRow, SessionStore
from noah.store.wishes import Wish, WishKind, WishStore
from noah.targets.base import Kind
from noah.turns import turn

log = logging.getLogger(__name__)

REFRESH_EVERY_S = 1.0  # so old is what is shown of another gateway's session, and as long again until it is written
LOOK_ALONE_EACH = 10  # of these times, where no other gateway writes; the answer to a commit may still be lost
BREATH_S = 0.25  # between two refreshes, however much happens
LONGEST_PAUSE_S = 4.0  # while the database is away; sessions of a gateway that came back first must not wait long
SAVE_EVERY_S = 0.9  # what is true of a session is written so often at most
SAVED_AT_ONCE = 100  # states of sessions in one statement
SEEN_AT_ONCE = 20  # rows of sessions: to read them, and to begin their tasks, takes 5 ms
CATCH_UP_TAKES_S = 5.0  # at most, for a request that wants to see what is true now
CATCH_UP_STEP_S = 0.5  # by which that is counted
ASK_BACK_EVERY_S = 5.0  # for a session whose debugger this gateway still has
# A gateway that is to stop answers for so long at least: load balancers have not noticed before. HAProxy asks every
# 2 s, and believes the third answer.
NOTICED_WITHIN_S = 8.0
DRAIN_EVERY_S = 0.5  # a gateway that is to stop looks whether debuggers have gone
LAST_S = 2.0  # a gateway that stops does not wait longer for its database


class Ownership:
    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        kinds: Mapping[str, Kind],
        catalog: Catalog,
        holders: Holders,
        lease: Lease,
        peers: PeerClient,
        store: SessionStore,
        wishes: WishStore,
        audits: Audits,
        feed: Feed,
        gateway: GatewaySettings,
        clock: Callable[[], datetime],
        took: Callable[[Target, float], None],
        permissions: Permissions,
        trail: Trail,
    ) -> None:
        self._group = group
        self._coming: asyncio.Task[bool] | None = None  # a refresh that has not begun
        self._is_stopping = False
        self._kinds = kinds
        self._catalog = catalog
        self._holders = holders
        self._lease = lease
        self.passing = Passing(peers, lease=lease, live_of=self.live_of, task_of=self.task_of)
        self._ports = Ports(
            group, gateway=gateway, live_of=self.live_of, dial=self.passing.debugger, feed=feed, trail=trail
        )
        self._store = store
        self._wishes = wishes
        self._audits = audits
        self._feed = feed
        self._gateway = gateway
        self._clock = clock
        self._took = took
        self._permissions = permissions
        self._trail = trail
        self._tasks: dict[str, SessionTask] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._elsewhere: dict[str, SessionElsewhere] = {}
        self._versions: dict[str, int] = {}  # of the rows as they were last read
        self._asked_back_at: dict[str, float] = {}  # by the loop's clock
        self._past_traffic = Traffic()
        self._refreshing = asyncio.Lock()
        self._saved_at = 0.0  # by the loop's clock
        self._left: list[LiveSession] = []  # to the next gateway, when this one stops

    # -- what is there

    def live(self) -> list[LiveSession]:
        """Return the live sessions of all gateways."""
        return [*self.own(), *self._elsewhere.values()]

    def own(self) -> list[LiveSession]:
        return [task.live for task in self._tasks.values() if not task.is_lost]

    def live_of(self, session_id: str) -> LiveSession | None:
        task = self.task_of(session_id)
        return task.live if task else self._elsewhere.get(session_id)

    def task_of(self, session_id: str) -> SessionTask | None:
        """Return the task of a session that this gateway has."""
        task = self._tasks.get(session_id)
        return None if task is None or task.is_lost else task

    def traffic(self) -> Traffic:
        """Return what this gateway carried since its start: none of its figures ever falls."""
        return sum((task.live.traffic for task in self._tasks.values()), self._past_traffic)

    async def look_up(self, session_id: str) -> LiveSession | None:
        """Return the session as the database has it, if there is one; a live one is seen from now on."""
        rows = await self._store.rows([session_id])
        if not rows:
            return None
        await self._see(rows[0])
        return self.live_of(session_id) or LiveSession(rows[0].session, audit=rows[0].audit)

    # -- what this gateway has

    def start(self, live: LiveSession, *, is_taken_over: bool = False) -> SessionTask:
        """Give the session a task; one that has one keeps it."""
        session = live.session
        if session.id in self._tasks:
            return self._tasks[session.id]
        task = SessionTask(
            live,
            kinds=self._kinds,
            catalog=self._catalog,
            holders=self._holders,
            lease=self._lease,
            ports=self._ports,
            store=self._store,
            audits=self._audits,
            feed=self._feed,
            gateway=self._gateway,
            clock=self._clock,
            took=self._took,
            permissions=self._permissions,
            trail=self._trail,
            is_taken_over=is_taken_over,
        )
        self._tasks[session.id] = task
        self._pass_on(session.id, live)
        self._holders.put(session)
        self._audits.keep(live)
        running = self._group.create_task(task.run(), name=f"session {session.id} {session.target}")
        self._running[session.id] = running
        if self._is_stopping:  # what was being read before makes no task that would outlive the others
            running.cancel()
        running.add_done_callback(lambda _: self._running.pop(session.id))
        running.add_done_callback(lambda _: self._ended(session.id, task))
        return task

    def _pass_on(self, session_id: str, live: LiveSession) -> None:
        """Wake those who wait for a change of the session as it was seen before."""
        if before := self._elsewhere.pop(session_id, None):
            before.update(live.session, state=live.state, audit=live.audit, fence=live.fence)

    def _ended(self, session_id: str, task: SessionTask) -> None:
        if self._tasks.get(session_id) is not task:
            return
        self.forget(session_id)
        self._versions.pop(session_id, None)  # if it goes on at another gateway it is read again

    def forget(self, session_id: str) -> None:
        if task := self._tasks.pop(session_id, None):
            self._past_traffic += task.live.traffic
            if session_id not in self._elsewhere:
                self._holders.remove(session_id)

    def reconfigure(self, targets: Collection[Target]) -> None:
        for task in self._tasks.values():
            if task.live.session.target in targets:
                task.reconfigure()

    async def hand_over(self, session_id: str, to_gateway: str) -> None:
        """Make another gateway the session's, and leave the target as it is: its forwarder goes on.

        Raises Conflict while a debugger is attached, or if that gateway is not there; LostSession.
        """
        task = self.task_of(session_id)
        fence = task.live.fence if task else None
        if task is None or fence is None:
            raise LostSession(f"Session {session_id} is not this gateway's.")
        if task.live.attached is not None:
            raise Conflict(f"A debugger is attached through session {session_id}.")
        task.is_leaving = True  # no debugger attaches, and nothing is done, until it is decided
        self._ports.pass_on(session_id)  # which holds debuggers until then, wherever the session goes
        live = task.live
        try:
            kept = live.state.to_json()
            await self._store.hand_over(session_id, to=to_gateway, fence=fence, live=kept, audit=live.audit)
        except Unavailable:
            self._versions.pop(session_id, None)  # done or not: the next look at the row decides
            raise
        except Conflict:
            task.is_leaving = False
            raise
        log.info("%s %s is handed over to gateway %s", live.session.target, session_id, to_gateway)
        there = self._elsewhere[session_id] = SessionElsewhere(live.session)
        state = live.state
        self._lose(task)
        there.update(live.session, state=state, audit=live.audit, fence=Fence(to_gateway, fence.number + 1))

    async def drain(self) -> None:
        """Give all sessions to other gateways; return when nobody needs this one any more, or when there is no other.

        A session goes when no debugger is attached. Debuggers that are passed on from here are waited for as well, also
        while all leases end because the database is away.
        """
        loop = asyncio.get_running_loop()
        noticed_at = loop.time() + NOTICED_WITHIN_S
        if all(one.about.is_draining for id, one in self._lease.peers.items() if id != self._lease.gateway_id):
            return
        while self._has_debuggers or (self._others() and (self._tasks or loop.time() < noticed_at)):
            for task in list(self._tasks.values()):
                slot = task.live.slot
                if not (task.is_lost or task.is_leaving or (slot is not None and slot.is_serving)):
                    await self._give_away(task.live)
            await asyncio.sleep(DRAIN_EVERY_S)

    @property
    def _has_debuggers(self) -> bool:
        slots = [task.live.slot for task in self._tasks.values()]
        return self._ports.passing > 0 or any(slot is not None and slot.is_serving for slot in slots)

    async def _give_away(self, live: LiveSession) -> None:
        to = self.least_busy_other()
        if to is not None:
            try:
                await self.hand_over(live.session.id, to)
            except NoahError as e:
                log.info("%s stays for the moment: %s", live.session.id, e.sentence)

    def least_busy_other(self) -> str | None:
        """Return the other gateway with the fewest sessions, of those that take any."""
        has = Counter(live.fence.gateway for live in self._elsewhere.values() if live.fence is not None)
        return min(self._others(), key=lambda id: has[id], default=None)

    def _others(self) -> list[str]:
        """Return the other gateways that take sessions; none without the lease, when what was read of them is old."""
        if not self._lease.is_held:
            return []
        peers = self._lease.peers.values()
        usable = [one.id for one in peers if not (one.about.is_draining or one.has_expired)]
        return [id for id in usable if id != self._lease.gateway_id]

    def _lose(self, task: SessionTask) -> None:
        """Leave a session to the gateway that has it."""
        self._audits.forget(task.live)
        self._versions.pop(task.live.session.id, None)
        task.lose()

    # -- what all have

    async def catch_up(self) -> None:
        """Return once what any gateway has written before is seen here; all who ask meanwhile share one refresh.

        While the database is away it is what was seen last. A gateway that stood still is not without its database, but
        finds its deadlines over and its connections closed: the time does not count, and one failure is not believed.
        """
        if self._lease.is_alone or self._is_stopping:
            return
        coming, is_second = self._next_refresh(), False
        for _ in range(round(CATCH_UP_TAKES_S / CATCH_UP_STEP_S)):
            await asyncio.wait({coming}, timeout=CATCH_UP_STEP_S)
            if coming.done():
                if coming.cancelled() or coming.result() or is_second:
                    return
                coming, is_second = self._next_refresh(), True

    def _next_refresh(self) -> asyncio.Task[bool]:
        if self._coming is None:
            self._coming = self._group.create_task(self._catch_up(), name="catch up with the other gateways")
        return self._coming

    async def _catch_up(self) -> bool:
        """Refresh; return whether that was possible."""
        try:
            async with self._refreshing:
                self._coming = None  # who asks from now on is shown what comes later
                await self._refresh()
            return True
        except NoahError:
            pass  # refresh_for_ever() says so
        except Exception:  # the task's outermost block
            log.exception("catching up with the other gateways failed")
        return False

    async def refresh(self) -> None:
        """See what has changed, take what is free, and write what is true of this gateway's sessions."""
        async with self._refreshing:
            await self._refresh()

    async def refresh_for_ever(self, hints: Hints, *, every_s: float) -> None:
        """Refresh at hints, but not all the time, and at intervals."""
        backoff = Backoff(first_s=every_s, longest_s=LONGEST_PAUSE_S)
        name = "seeing the sessions of all gateways"
        loop, look_at = asyncio.get_running_loop(), 0.0
        async with hints.to(Channel.SESSIONS) as heard:
            while True:
                is_look = not self._lease.is_alone or loop.time() >= look_at
                if await attempted(self.refresh if is_look else self._save_alone, name, backoff):
                    if is_look:
                        look_at = loop.time() + LOOK_ALONE_EACH * every_s
                    await asyncio.sleep(min(BREATH_S, every_s))
                    await heard_within(heard, every_s)

    async def _save_alone(self) -> None:
        async with self._refreshing:
            await self._save_live()

    async def _refresh(self) -> None:
        await self._save_live()
        heads = {head.id: head for head in await self._store.heads()}
        changed = [id for id, head in heads.items() if self._versions.get(id) != head.version]
        # A session that ended at another gateway before this one knew that it had been added has a task, and no more.
        gone = [id for id in {*self._versions, *self._elsewhere, *self._tasks} if id not in heads]
        self._forget_missing(gone, await self._see_all([*changed, *gone]))
        await turn()  # each of these looks at all sessions, for some milliseconds if there are thousands
        await self._ports.refresh(self._elsewhere.values(), own=self._tasks)
        await turn()
        taken = await self._take_over(heads.values())
        await self._fulfil_wishes([*changed, *taken])
        await self._ask_back(heads)
        await self._pass_on_notes()

    async def _see_all(self, ids: Sequence[str]) -> Collection[str]:
        """Take over what is new in these rows; return the IDs of those that there are.

        A few are read at a time: a gateway that starts, or takes over from another one, has thousands to see, and
        debuggers are attached meanwhile.
        """
        found: set[str] = set()
        for first in range(0, len(ids), SEEN_AT_ONCE):
            rows = await self._store.rows(ids[first : first + SEEN_AT_ONCE])
            for row in rows:  # at once after they were read: what a task writes meanwhile is newer
                await self._see(row)
            found.update(row.head.id for row in rows)
            await turn()
        return found

    async def _see(self, row: SessionRow) -> None:
        """Take over what is new in the row."""
        id, head, session = row.head.id, row.head, row.session
        task = self._tasks.get(id)
        if session.ended_at is not None:
            self._see_end(row, task)
            return
        self._versions[id] = max(head.version, self._versions.get(id, 0))
        if task is not None and head.number >= task.number:
            if head.gateway == self._lease.gateway_id:
                await self._see_own(row, task)
                return
            if head.number > task.number:
                self._lose(task)
                self._versions[id] = head.version
        elif task is None and head.gateway == self._lease.gateway_id:
            self._adopt(row)
            return
        if task is None or task.is_lost:
            self._see_elsewhere(row)

    def _see_end(self, row: SessionRow, task: SessionTask | None) -> None:
        id = row.head.id
        self._versions.pop(id, None)
        if live := self._elsewhere.pop(id, None):
            live.update(row.session, state=None, audit=row.audit, fence=row.head.fence)
        if task is None:
            self._holders.remove(id)
            return
        if row.head.number > task.number:  # it went to another gateway while this one was away, and ended there
            self._lose(task)
        if task.is_lost:
            task.live.session = row.session
            task.wake()

    async def _see_own(self, row: SessionRow, task: SessionTask) -> None:
        id, session = row.head.id, row.session
        if task.is_lost or row.head.number > task.number:
            log.info("%s %s is this gateway's again", session.target, id)
            self._pass_on(id, task.live)
            self._audits.keep(task.live)
            task.live.is_unsaved = True  # the row has what the gateway between saw
        task.keep(row.head.fence)
        if session != task.live.session:
            # It is read again in its turn: this row may be older than what the task has written since.
            await task.write(lambda: self._store.known(id))

    def _adopt(self, row: SessionRow) -> None:
        audit = row.audit and left_behind(row.audit)
        live = LiveSession(row.session, audit=audit, fence=row.head.fence)
        live.steps.extend(steps_of(row.live))
        live.was_ready = row.live is not None and bool(row.live.get("was_ready"))
        self.start(live, is_taken_over=not self._lease.is_alone)

    def _see_elsewhere(self, row: SessionRow) -> None:
        id = row.head.id
        live = self._elsewhere.get(id)
        if live is None:
            live = self._elsewhere[id] = SessionElsewhere(row.session)
        self._holders.put(row.session)
        state = LiveState.from_json(row.live) if row.live else None
        live.update(row.session, state=state, audit=row.audit, fence=row.head.fence)

    def _forget_missing(self, gone: Iterable[str], found: Collection[str]) -> None:
        """Forget sessions whose rows have been deleted: an end that was not seen in all the time that it was kept."""
        for id in gone:
            if id not in found:
                self._versions.pop(id, None)
                if task := self._tasks.get(id):
                    self._lose(task)
                if self._elsewhere.pop(id, None) and id not in self._tasks:
                    self._holders.remove(id)

    async def _take_over(self, heads: Iterable[Head]) -> list[str]:
        lease = self._lease
        free = [head.id for head in heads if head.gateway is None or head.gateway not in lease.peers]
        if not free or not lease.is_held:
            return []
        had = [id for id in free if id in self._tasks]
        others = 0 if lease.about.is_draining else fair_share(len(free) - len(had), lease.takers)
        taken: list[str] = []
        if had:  # under an ID that was declared dead
            taken += await self._store.take_over(gateway=lease.gateway_id, most=len(had), ids=had)
        if others:
            taken += await self._store.take_over(gateway=lease.gateway_id, most=others)
        if taken:
            log.info("took over %d of %d sessions that had no gateway", len(taken), len(free))
            await self._see_all(taken)
        return taken

    async def _ask_back(self, heads: Mapping[str, Head]) -> None:
        """Ask for the sessions whose debuggers this gateway still has, of the gateways that took them over."""
        now = asyncio.get_running_loop().time()
        for id, task in list(self._tasks.items()):
            if not task.is_lost or task.live.attached is None:
                self._asked_back_at.pop(id, None)
                continue
            head = heads.get(id)
            is_due = now >= self._asked_back_at.get(id, 0.0) + ASK_BACK_EVERY_S
            if head and head.gateway in self._lease.peers and self._lease.is_held and is_due:
                self._asked_back_at[id] = now
                wish = Wish(session=id, kind=WishKind.HAND_OVER, text=self._lease.gateway_id)
                await self._wishes.put(wish)

    async def _pass_on_notes(self) -> None:
        for live in list(self._elsewhere.values()):
            while live.notes:
                await self._wishes.put(Wish(session=live.session.id, kind=WishKind.NOTE, text=live.notes[0]))
                live.notes.pop(0)

    # -- what is asked for at other gateways

    async def wish(self, wish: Wish) -> None:
        """Leave it to the gateway that has the session."""
        await self._wishes.put(wish)

    async def _fulfil_wishes(self, changed: Iterable[str]) -> None:
        if own := [id for id in changed if self.task_of(id)]:
            for wish in await self._wishes.take(own):
                try:
                    await self._fulfil(wish)
                except NoahError as e:
                    log.info("session %s: %s could not be done: %s", wish.session, wish.kind, e.sentence)

    async def _fulfil(self, wish: Wish) -> None:
        task = self.task_of(wish.session)
        if task is None:
            return
        slot = task.live.slot
        match wish:
            case Wish(kind=WishKind.RESUME, by=by) if slot is not None:
                await slot.detach(f"resumed by {by.name if by else 'another gateway'}")
            case Wish(kind=WishKind.TAKE_OVER) if slot is not None:
                await slot.take_over()
            case Wish(kind=WishKind.ASK, by=by, text=text) if by is not None:
                self.ask(task.live, by, text)
            case Wish(kind=WishKind.NOTE, text=text) if text:
                task.live.add_step(Step(self._clock(), text))
                task.live.changed()
            case Wish(kind=WishKind.HAND_OVER, text=gateway) if gateway:
                await self.hand_over(wish.session, gateway)

    def ask(self, live: LiveSession, by: Principal, text: str | None) -> None:
        """Let the owner of one of this gateway's sessions know that somebody waits."""
        live.add_step(Step(self._clock(), asked(by, text)))
        about = {**about_session(live.session), "by": by.name, "by_principal": by.public(), "text": text}
        self._feed.publish(EventKind.ASKED, str(live.session.target), about)
        live.changed()

    # -- what is written of this gateway's

    async def _save_live(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._saved_at + SAVE_EVERY_S:
            return
        self._saved_at = now
        await self._save_unsaved(self.own())

    async def _save_unsaved(self, lives: Iterable[LiveSession]) -> None:
        unsaved = [live for live in lives if live.is_unsaved and live.fence is not None]
        for first in range(0, len(unsaved), SAVED_AT_ONCE):
            await self._save(unsaved[first : first + SAVED_AT_ONCE])

    async def _save(self, lives: Iterable[LiveSession]) -> None:
        wanted = {}
        for live in lives:
            assert live.fence is not None
            live.is_unsaved = False
            wanted[live.session.id] = live, live.fence
        try:
            versions = await self._store.save_live(
                {id: (fence, live.state.to_json()) for id, (live, fence) in wanted.items()}
            )
        except BaseException:
            for live, _ in wanted.values():
                live.is_unsaved = True
            raise
        for id in wanted:
            known = self._versions.get(id)
            # By one more than what is known: nobody else has written the row since it was read.
            if known is not None and versions.get(id) == known + 1:
                self._versions[id] = known + 1

    async def save_last(self) -> None:
        """Write what is known of the sessions for the gateway that goes on with them."""
        try:
            async with asyncio.timeout(LAST_S):
                await self._save_unsaved(self._left)
        except (TimeoutError, NoahError):
            log.warning("what was true of the sessions last is not kept: the database does not answer")

    def stop(self) -> None:
        self._is_stopping = True
        if self._coming is not None:
            self._coming.cancel()
        self._left = [live for live in self.own() if live.session.ended_at is None]
        for running in self._running.values():
            running.cancel()


def asked(by: Principal, text: str | None) -> str:
    return f"{by.name} asks to resume{f': {text}' if text else '.'}"
