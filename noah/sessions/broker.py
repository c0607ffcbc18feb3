"""What people ask of sessions: enable, end, extend, resume. Their tasks are in ownership.py.

A request is written into the store and wakes the session's task; the task alone touches the target. Any gateway takes
any request: if another one has the session, that one sees the row change, and does what only it can do (a wish).
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.catalog.target_info import TargetInfo
from noah.core.lease import Fence
from noah.core.page import Page
from noah.core.session.principal import Principal
from noah.core.session.session import EndReason, Session, Share, Status
from noah.core.session.target import PodTarget, Target, Wanted
from noah.duration import format_duration
from noah.errors import AlreadyDebugged, BadInput, Conflict, NeedsRestart, NotFound, Unavailable
from noah.keep_running import keep_running
from noah.kube.clusters import Cluster
from noah.peers.client import PeerClient
from noah.peers.identity import Identity
from noah.peers.line import PassedLine
from noah.peers.server import PeerServer
from noah.proxy.tunnel import Tunnel
from noah.sessions.audits import keeping_audits
from noah.sessions.live_session import SETTLED, LiveSession, Traffic
from noah.sessions.ownership import REFRESH_EVERY_S, Ownership, asked
from noah.sessions.passing import Passing
from noah.settings import Settings
from noah.store.feed import Feed
from noah.store.hints import Hints
from noah.store.lease import Lease
from noah.store.sessions import FIRST, SessionStore
from noah.store.store import Store
from noah.store.wishes import Wish, WishKind
from noah.targets.base import Kind

WISH_TAKES_S = 5.0  # until the session's gateway has seen a wish, and this one what came of it
ENDING_TAKES = 20.0  # seconds; how long an enable waits for the session before it to be cleared away


class Broker:
    def __init__(
        self,
        ownership: Ownership,
        *,
        lease: Lease,
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
        self._lease = lease
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
        """Return the live sessions of all gateways."""
        return self._ownership.live()

    def live_in(self, cluster: str, namespace: str) -> list[LiveSession]:
        """Return those on pods of a namespace."""
        found = map(self._ownership.live_of, self._holders.sessions_in(cluster, namespace))
        return [live for live in found if live is not None]

    def own(self) -> list[LiveSession]:
        """Return the live sessions of this gateway."""
        return self._ownership.own()

    def reconfigure(self, targets: Collection[Target]) -> None:
        """Have the sessions on *targets*, whose configuration has changed, be reached by it, or end."""
        self._ownership.reconfigure(targets)

    async def follow(self, before: Cluster | None, now: Cluster | None) -> None:
        """Have the sessions in a cluster that is new, or was replaced, be reached by that one."""
        if now is not None:
            there = [t for t in self._holders.targets if isinstance(t, PodTarget) and t.cluster == now.name]
            self._ownership.reconfigure(there)

    async def refresh(self) -> None:
        """See now what has changed of sessions."""
        await self._ownership.refresh()

    async def drain(self) -> None:
        """Give all sessions to other gateways, until nobody needs this one any more."""
        with suppress(Unavailable):
            await self._lease.publish(is_draining=True)
        await self._ownership.drain()

    def traffic(self) -> Traffic:
        return self._ownership.traffic()

    def holder(self, target: Target) -> LiveSession | None:
        session_id = self._holders.session_on(target)
        return self._ownership.live_of(session_id) if session_id is not None else None

    async def catch_up(self) -> None:
        """Return once what any gateway has done before is seen here."""
        await self._ownership.catch_up()

    async def get(self, session_id: str) -> LiveSession:
        await self.catch_up()
        live = self._ownership.live_of(session_id) or await self._ownership.look_up(session_id)
        if live is None:
            raise no_such_session(session_id)
        return live

    async def find(
        self,
        *,
        owner: str | None = None,
        owner_id: str | None = None,
        environment: str | None = None,
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
        await self.catch_up()
        ids: list[str] | None = None
        if status is Status.ENDED:
            state = "ended"
        elif status is not None:
            ids = [live.session.id for live in self.live() if live.status is status]
        page = await self._store.find(
            owner=owner,
            owner_id=owner_id,
            environment=environment,
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
        """Return live ones as their gateways see them, ended ones with the audit that was kept."""
        live_of = self._ownership.live_of
        ended = [session.id for session in sessions if live_of(session.id) is None]
        audits = await self._store.audits(ended) if ended else {}
        return [live_of(session.id) or LiveSession(session, audit=audits.get(session.id)) for session in sessions]

    async def line(
        self, live: LiveSession, who: Principal, *, token: str | None, take_over: bool
    ) -> Tunnel | PassedLine:
        """Return what serves a line of *who* to the session, here or at its gateway.

        Raises Conflict if another `noah connect` of theirs has it; *take_over* lets it go to the newcomer.
        """
        id = live.session.id
        task = self._ownership.task_of(id)
        if task is None:
            return await self._ownership.passing.line(id, who, token=token, take_over=take_over)
        tunnel = task.live.tunnel_of(who)
        if tunnel is None:
            raise Unavailable(f"Session {id} is still starting: try again in a moment.")
        tunnel.check(token, take_over=take_over)
        return tunnel

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
            self._lease.check()
            gateway = self._gateway_for_new()
            try:
                session = await self._store.add(
                    id=f"s-{secrets.token_hex(4)}",
                    target=info.target,
                    workload=info.workload,
                    app=info.app,
                    environment=info.environment,
                    owner=owner,
                    length=length,
                    allow=allow,
                    allow_exit=allow_exit,
                    pause_budget=pause_budget,
                    may_restart=confirm_restart,
                    ports=self._settings.gateway.ports,
                    gateway=gateway,
                )
            except AlreadyDebugged as e:
                live = await self.get(e.session_id)
                if live.session.ended_at is not None:
                    continue  # it ended just now
                if live.session.is_over:
                    await self._cleared(live)
                    continue
                if live.session.owner != owner:
                    raise
                if take_over:
                    await self._take_over(live)
                return live, False
            if gateway != self._lease.gateway_id:
                return await self.get(session.id), True
            live = LiveSession(session, fence=Fence(gateway, FIRST))
            return self._ownership.start(live).live, True

    def _gateway_for_new(self) -> str:
        """Return this gateway or, when it is to stop, another one."""
        other = self._ownership.least_busy_other() if self._lease.about.is_draining else None
        return other or self._lease.gateway_id

    async def _take_over(self, live: LiveSession) -> None:
        if live.slot is not None:
            await live.slot.take_over()
        elif self._ownership.task_of(live.session.id) is None:
            await self._ownership.wish(Wish(session=live.session.id, kind=WishKind.TAKE_OVER))

    def _refuse_too_many(self, owner: Principal, target: Target) -> None:
        most = self._permissions.limits.sessions_per_person
        theirs = [live.session for live in self._sessions_of(owner)]
        if len(theirs) >= most and all(session.target != target for session in theirs):
            raise Conflict(f"You have {len(theirs)} sessions, and a person has at most {most}: end one of them first.")

    async def extend(self, session_id: str, *, by: Principal, length: timedelta) -> LiveSession:
        live = self._not_over(await self.get(session_id))
        checked = self._checked(length)
        longest = self._settings.sessions.longest_in_all
        if self._clock() + checked > live.session.created_at + longest:
            most = format_duration(longest)
            raise Conflict(f"A session lasts at most {most} in all: end this one, and enable debugging again.")
        return await self._write(live, lambda: self._store.extend(session_id, until_from_now=checked))

    async def renew(self, person: Principal) -> None:
        """Note the groups that a person has now in their sessions: those may have gone with which they enabled them."""
        for live in self._sessions_of(person):
            if live.session.owner.groups != person.groups:
                await self._write(live, partial(self._store.give, live.session.id, owner=person))
                if task := self._ownership.task_of(live.session.id):
                    await task.check_right()

    async def share(self, session_id: str, *, with_: str, share: Share | None) -> LiveSession:
        """Let the principal with the ID *with_* do that with the session; None: nothing any more."""
        live = self._not_over(await self.get(session_id))
        return await self._write(live, lambda: self._store.share(session_id, who=with_, share=share))

    async def join(self, session_id: str, *, network: str) -> LiveSession:
        """Let a debugger come from one network more."""
        live = self._not_over(await self.get(session_id))
        return await self._write(live, lambda: self._store.allow(session_id, network=network))

    async def take(self, session_id: str, *, by: Principal) -> LiveSession:
        """Make *by* the owner."""
        live = self._not_over(await self.get(session_id))
        return await self._write(live, lambda: self._store.give(session_id, owner=by))

    async def end(self, session_id: str, *, by: Principal) -> LiveSession:
        live = await self.get(session_id)
        if live.session.is_over:
            return live
        reason = EndReason.CLOSED if by == live.session.owner else EndReason.CANCELED
        return await self._write(live, lambda: self._store.ask_end(session_id, reason=reason, detail=None, by=by))

    async def resume(self, session_id: str, *, by: Principal) -> LiveSession:
        """Close the debugger's connection, which resumes the whole VM."""
        live = self._not_over(await self.get(session_id))
        if live.attached is None:
            raise Conflict(f"No debugger is attached through session {session_id}: there is nothing to resume.")
        if live.slot is not None:
            await live.slot.detach(f"resumed by {by.name}")
            return live
        wish, since = Wish(session=session_id, kind=WishKind.RESUME, by=by), live.attached.since
        return await self._fulfilled(wish, lambda seen: seen.attached is None or seen.attached.since != since)

    async def ask(self, session_id: str, *, by: Principal, text: str | None) -> LiveSession:
        """Let the session's owner know that somebody waits; what they do about it is their decision."""
        live = await self.get(session_id)
        if live.session.is_over:
            raise Conflict(f"Session {session_id} is over: its target is free.")
        if self._ownership.task_of(session_id):
            self._ownership.ask(live, by, text)
            return live
        said = asked(by, text)
        before = {step.at for step in live.steps if step.text == said}  # by that gateway's clock, not by this one's
        wish = Wish(session=session_id, kind=WishKind.ASK, by=by, text=text)
        return await self._fulfilled(wish, lambda seen: any(s.text == said and s.at not in before for s in seen.steps))

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
                    live = self._ownership.live_of(session_id) or live  # it may have changed its gateway
        return live

    def _sessions_of(self, owner: Principal) -> list[LiveSession]:
        """Return the sessions that are *owner*'s and not over."""
        found = map(self._ownership.live_of, self._holders.sessions_of(owner))
        return [live for live in found if live is not None and not live.session.is_over]

    async def _write(self, live: LiveSession, statement: Callable[[], Awaitable[Session]]) -> LiveSession:
        if task := self._ownership.task_of(live.session.id):
            await task.write(statement)
            return task.live
        live.session = await statement()
        live.changed()
        return live

    async def _fulfilled(self, wish: Wish, true: Callable[[LiveSession], bool]) -> LiveSession:
        """Leave *wish* to the session's gateway, and wait until it is seen to be done."""
        await self._ownership.wish(wish)
        live = await self._until(wish.session, true, within=WISH_TAKES_S)
        if not true(live):
            raise Unavailable(f"The gateway that has session {wish.session} has not done it yet: look again soon.")
        return live

    def _not_over(self, live: LiveSession) -> LiveSession:
        if live.session.is_over:
            raise Conflict(f"Session {live.session.id} is over: enable debugging again.")
        return live

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


@dataclass(frozen=True, slots=True)
class PeerPort:
    """The port at which other gateways reach this one, and the certificate by which they recognize it."""

    identity: Identity
    listener: socket.socket | None  # that listens; None: there are no others


@asynccontextmanager
async def open_broker(
    *,
    kinds: Mapping[str, Kind],
    catalog: Catalog,
    holders: Holders,
    lease: Lease,
    store: Store,
    hints: Hints,
    feed: Feed,
    settings: Settings,
    clock: Callable[[], datetime],
    took: Callable[[Target, float], None],
    permissions: Permissions,
    trail: Trail,
    peers: PeerPort,
    refresh_every_s: float = REFRESH_EVERY_S,
) -> AsyncIterator[Broker]:
    """Sessions live as long as this context; leaving it closes ports and leaves the targets as they are.

    *peers*: where other gateways reach this one.
    """
    ownership: Ownership | None = None
    try:
        async with keeping_audits(store.sessions) as audits, asyncio.TaskGroup() as group:
            ownership = Ownership(
                group,
                kinds=kinds,
                catalog=catalog,
                holders=holders,
                lease=lease,
                peers=PeerClient(peers.identity),
                store=store.sessions,
                wishes=store.wishes,
                audits=audits,
                feed=feed,
                gateway=settings.gateway,
                clock=clock,
                took=took,
                permissions=permissions,
                trail=trail,
            )
            await ownership.refresh()
            feed.synchronize(ownership.catch_up)
            name, refresh = "see what has changed of sessions", ownership.refresh_for_ever
            refreshing = group.create_task(
                keep_running(lambda: refresh(hints, every_s=refresh_every_s), name), name=name
            )
            serving = group.create_task(_serve_peers(peers, ownership.passing), name="what other gateways pass on")
            try:
                yield Broker(
                    ownership,
                    lease=lease,
                    kinds=kinds,
                    holders=holders,
                    store=store.sessions,
                    feed=feed,
                    settings=settings,
                    clock=clock,
                    permissions=permissions,
                )
            finally:
                refreshing.cancel()
                serving.cancel()
                ownership.stop()
    finally:
        if ownership is not None:
            await ownership.save_last()


async def _serve_peers(port: PeerPort, passing: Passing) -> None:
    if (listener := port.listener) is not None:
        server = PeerServer(port.identity, peers=passing.peers, handle=passing.take)
        await keep_running(lambda: server.serve(listener), "what other gateways pass on")
