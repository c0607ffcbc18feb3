"""What people ask of sessions: enable, end, extend, resume. Their tasks are in ownership.py.

A request is written into the store and wakes the session's task; the task alone touches the target.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.catalog.holders import Holders
from noah.catalog.target_info import TargetInfo
from noah.core.page import Page
from noah.core.session.event_kind import EventKind
from noah.core.session.principal import Principal
from noah.core.session.session import EndReason, Session, Share, Status
from noah.core.session.target import PodTarget, Target, Wanted
from noah.duration import format_duration
from noah.errors import AlreadyDebugged, BadInput, Conflict, NeedsRestart, NotFound
from noah.keep_running import repeat
from noah.kube.clusters import Cluster
from noah.sessions.announce import about_session
from noah.sessions.audits import keeping_audits
from noah.sessions.live_session import SETTLED, LiveSession, Step, Traffic
from noah.sessions.ownership import ADOPT_EVERY_S, Ownership
from noah.sessions.task import SessionTask
from noah.settings import Settings
from noah.store.feed import Feed
from noah.store.sessions import SessionStore
from noah.targets.base import Kind

ENDING_TAKES = 20.0  # seconds; how long an enable waits for the session before it to be cleared away


class Broker:
    def __init__(
        self,
        ownership: Ownership,
        *,
        kinds: Mapping[str, Kind],
        holders: Holders,
        store: SessionStore,
        feed: Feed,
        settings: Settings,
        clock: Callable[[], datetime],
        permissions: Permissions,
    ) -> None:
        self._ownership = ownership
        self._permissions = permissions
        self._kinds = kinds
        self._holders = holders
        self._store = store
        self._feed = feed
        self._settings = settings
        self._clock = clock

    # -- what is there

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        return await self._kinds[wanted.kind].resolve(wanted)

    def live(self) -> list[LiveSession]:
        return self._ownership.live()

    def reconfigure(self, targets: Collection[Target]) -> None:
        """Have the sessions on *targets*, whose configuration has changed, be reached by it, or end."""
        self._ownership.reconfigure(targets)

    async def follow(self, before: Cluster | None, now: Cluster | None) -> None:
        """Have the sessions in a cluster that was replaced be reached by the new one."""
        if before is not None and now is not None:
            there = [t for t in self._holders.targets if isinstance(t, PodTarget) and t.cluster == now.name]
            self._ownership.reconfigure(there)

    def traffic(self) -> Traffic:
        return self._ownership.traffic()

    def holder(self, target: Target) -> LiveSession | None:
        session_id = self._holders.session_on(target)
        task = self._ownership.task_of(session_id) if session_id is not None else None
        return task.live if task else None

    async def get(self, session_id: str) -> LiveSession:
        if task := self._ownership.task_of(session_id):
            return task.live
        session = await self._store.get(session_id)
        if session is None:
            raise no_such_session(session_id)
        if session.ended_at is None and (task := await self._ownership.adopt(session_id)):
            return task.live
        return (await self._with_audits([session]))[0]

    async def find(
        self,
        *,
        owner: str | None = None,
        owner_id: str | None = None,
        target: str | None = None,
        status: Status | None = None,
        end_reason: EndReason | None = None,
        state: str = "live",
        seen_by: tuple[str, Collection[str]] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[LiveSession]:
        """Return a page, newest first. The store knows the status ended only; others are looked up by ID.

        *seen_by*: an owner's ID and areas; only the sessions of that owner, or in one of those areas.
        """
        ids: list[str] | None = None
        if status is Status.ENDED:
            state = "ended"
        elif status is not None:
            ids = [live.session.id for live in self.live() if live.status is status]
        page = await self._store.find(
            owner=owner,
            owner_id=owner_id,
            target_prefix=target,
            state=state,
            end_reason=end_reason,
            ids=ids,
            seen_by=seen_by,
            limit=limit,
            after=after,
        )
        return Page(await self._with_audits(page.items), page.after, page.total, page.before)

    async def areas(self) -> Collection[str]:
        """Return every area that has sessions, ended ones included."""
        return await self._store.areas()

    async def _with_audits(self, sessions: Sequence[Session]) -> list[LiveSession]:
        """Return live ones as their tasks see them, ended ones with the audit that was kept."""
        task_of = self._ownership.task_of
        ended = [session.id for session in sessions if task_of(session.id) is None]
        audits = await self._store.audits(ended) if ended else {}
        return [
            task.live if (task := task_of(session.id)) else LiveSession(session, audit=audits.get(session.id))
            for session in sessions
        ]

    # -- what people ask for

    async def enable(
        self,
        info: TargetInfo,
        *,
        owner: Principal,
        length: timedelta | None = None,
        allow: tuple[str, ...],
        allow_exit: bool = False,
        pause_budget: timedelta | None = None,
        take_over: bool = False,
        confirm_restart: bool = False,
    ) -> tuple[LiveSession, bool]:
        """Return the session and whether it is new: the same person asking again gets the one that exists.

        *take_over*: end the debugger that is attached to it now, so that the next one gets the slot.
        *confirm_restart*: the app may be restarted for it; NeedsRestart if it has to be and may not.
        """
        length = self._checked(length or self._settings.sessions.default_length)
        self._refuse_too_many(owner, info.target)
        if info.needs_restart and not confirm_restart and self.holder(info.target) is None:
            raise NeedsRestart(info.needs_restart)
        while True:
            try:
                session = await self._store.add(
                    id=f"s-{secrets.token_hex(4)}",
                    target=info.target,
                    workload=info.workload,
                    app=info.app,
                    owner=owner,
                    length=length,
                    allow=allow,
                    allow_exit=allow_exit,
                    pause_budget=pause_budget,
                    may_restart=confirm_restart,
                    ports=self._settings.gateway.ports,
                )
            except AlreadyDebugged as e:
                task = await self._ownership.adopt(e.session_id)
                if task is None:
                    continue  # it ended just now
                if task.live.session.is_over:
                    await self._cleared(task.live)
                    continue
                if task.live.session.owner != owner:
                    raise
                if take_over and task.live.slot is not None:
                    await task.live.slot.take_over()
                return task.live, False
            return self._ownership.start(LiveSession(session)).live, True

    def _refuse_too_many(self, owner: Principal, target: Target) -> None:
        most = self._permissions.limits.sessions_per_person
        theirs = [task.live.session for task in self._tasks_of(owner)]
        if len(theirs) >= most and all(session.target != target for session in theirs):
            raise Conflict(f"You have {len(theirs)} sessions, and a person has at most {most}: end one of them first.")

    async def extend(self, session_id: str, *, by: Principal, length: timedelta) -> LiveSession:
        task = self._task(await self.get(session_id))
        checked = self._checked(length)
        longest = self._settings.sessions.longest_in_all
        if self._clock() + checked > task.live.session.created_at + longest:
            most = format_duration(longest)
            raise Conflict(f"A session lasts at most {most} in all: end this one, and enable debugging again.")
        await task.write(lambda: self._store.extend(session_id, until_from_now=checked))
        return task.live

    async def renew(self, person: Principal) -> None:
        """Note the groups that a person has now in their sessions: those may have gone with which they enabled them."""
        for task in self._tasks_of(person):
            if task.live.session.owner.groups != person.groups:
                await task.write(partial(self._store.give, task.live.session.id, owner=person))
                await task.check_right()

    async def share(self, session_id: str, *, with_: str, share: Share | None) -> LiveSession:
        """Let the principal with the ID *with_* do that with the session; None: nothing any more."""
        task = self._task(await self.get(session_id))
        await task.write(lambda: self._store.share(session_id, who=with_, share=share))
        return task.live

    async def join(self, session_id: str, *, network: str) -> LiveSession:
        """Let a debugger come from one network more."""
        task = self._task(await self.get(session_id))
        await task.write(lambda: self._store.allow(session_id, network=network))
        return task.live

    async def take(self, session_id: str, *, by: Principal) -> LiveSession:
        """Make *by* the owner."""
        task = self._task(await self.get(session_id))
        await task.write(lambda: self._store.give(session_id, owner=by))
        return task.live

    async def end(self, session_id: str, *, by: Principal) -> LiveSession:
        live = await self.get(session_id)
        if live.session.is_over:
            return live
        reason = EndReason.CLOSED if by == live.session.owner else EndReason.CANCELED
        task = self._task(live)
        await task.write(lambda: self._store.ask_end(session_id, reason=reason, detail=None, by=by))
        return live

    async def resume(self, session_id: str, *, by: Principal) -> LiveSession:
        """Close the debugger's connection, which resumes the whole VM."""
        task = self._task(await self.get(session_id))
        if task.live.slot is None or task.live.attached is None:
            raise Conflict(f"No debugger is attached through session {session_id}: there is nothing to resume.")
        await task.live.slot.detach(f"resumed by {by.name}")
        return task.live

    async def ask(self, session_id: str, *, by: Principal, text: str | None) -> LiveSession:
        """Let the session's owner know that somebody waits; what they do about it is their decision."""
        live = await self.get(session_id)
        if live.session.is_over:
            raise Conflict(f"Session {session_id} is over: its target is free.")
        said = f"{by.name} asks to resume{f': {text}' if text else '.'}"
        live.steps.append(Step(self._clock(), said))
        asked = {**about_session(live.session), "by": by.name, "by_principal": by.public(), "text": text}
        self._feed.publish(EventKind.ASKED, str(live.session.target), asked)
        live.changed()
        return live

    async def settled(self, session_id: str, *, within: float) -> LiveSession:
        """Return the session once it is ready, in use or ended; or as it is after *within* seconds."""
        return await self._until(session_id, lambda live: live.status in SETTLED, within=within)

    async def ended(self, session_id: str, *, within: float) -> LiveSession:
        return await self._until(session_id, lambda live: live.session.ended_at is not None, within=within)

    # -- inside

    async def _until(self, session_id: str, true: Callable[[LiveSession], bool], *, within: float) -> LiveSession:
        live = await self.get(session_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not true(live):
                    await live.change()
        return live

    def _tasks_of(self, owner: Principal) -> list[SessionTask]:
        """Return the tasks of the sessions that are *owner*'s and not over."""
        found = map(self._ownership.task_of, self._holders.sessions_of(owner))
        return [task for task in found if task is not None and not task.live.session.is_over]

    def _task(self, live: LiveSession) -> SessionTask:
        task = self._ownership.task_of(live.session.id)
        if task is None or live.session.is_over:
            raise Conflict(f"Session {live.session.id} is over: enable debugging again.")
        return task

    def _checked(self, length: timedelta) -> timedelta:
        longest = self._settings.sessions.longest
        if not timedelta(0) < length <= longest:
            raise BadInput(f"A session lasts at most {format_duration(longest)}; it can be extended while it runs.")
        return length

    async def _cleared(self, live: LiveSession) -> None:
        await self.ended(live.session.id, within=ENDING_TAKES)
        if live.session.ended_at is None:
            raise Conflict(
                f"Session {live.session.id} of {live.session.owner.name} is still being ended: try again soon."
            )
        # Its row frees the target before its task has ended.
        self._ownership.forget(live.session.id)


def no_such_session(session_id: str) -> NotFound:
    return NotFound(f"There is no session {session_id[:40]!r}: `noah sessions --all` lists them.")


@asynccontextmanager
async def open_broker(
    *,
    kinds: Mapping[str, Kind],
    holders: Holders,
    store: SessionStore,
    feed: Feed,
    settings: Settings,
    clock: Callable[[], datetime],
    took: Callable[[Target, float], None],
    permissions: Permissions,
    trail: Trail,
    adopt_every_s: float = ADOPT_EVERY_S,
) -> AsyncIterator[Broker]:
    """Sessions live as long as this context; leaving it closes ports and leaves the targets as they are."""
    async with keeping_audits(store) as audits, asyncio.TaskGroup() as group:
        ownership = Ownership(
            group,
            kinds=kinds,
            holders=holders,
            store=store,
            audits=audits,
            feed=feed,
            gateway=settings.gateway,
            clock=clock,
            took=took,
            permissions=permissions,
            trail=trail,
        )
        broker = Broker(
            ownership,
            kinds=kinds,
            holders=holders,
            store=store,
            feed=feed,
            settings=settings,
            clock=clock,
            permissions=permissions,
        )
        await ownership.adopt_all()
        adopting = group.create_task(
            repeat(ownership.adopt_all, name="adopt sessions", every_s=adopt_every_s), name="adopt sessions"
        )
        try:
            yield broker
        finally:
            adopting.cancel()
            ownership.stop()
