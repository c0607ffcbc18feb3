"""The task of one session: look, decide, act, and again.

Nothing about the target is remembered over a failure: when an act fails, the next thing is a look, after a pause. The
task ends when nothing of the session is left anywhere, or with the gateway; the next gateway then continues it.

It acts only while its gateway holds the lease and the database has its fence in the session's row. Without that it
leaves the target alone, and goes on with two things: the bytes of a debugger that is attached, and its words.
"""

import asyncio
import errno
import functools
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.backoff import Backoff
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.lease import Fence
from noah.core.session.event_kind import EventKind
from noah.core.session.lifecycle import (
    STANDS_AFTER,
    Action,
    ClosePort,
    EndSession,
    Finish,
    Follow,
    OpenPort,
    ResumeVm,
    StartForwarder,
    StopForwarder,
    Wait,
    WarnOfResume,
    next_action,
    passes_by,
    word_on,
)
from noah.core.session.rights import Allowed, Denied, Right, Verdict, area_of
from noah.core.session.session import EndReason, Presence, Session
from noah.core.session.target import Target
from noah.core.session.trail import Outcome, TrailCode
from noah.errors import AlreadyDebugged, CannotDebug, Forbidden, LostSession, NoahError, RolledBack, Unavailable
from noah.keep_running import repeat
from noah.proxy.local_peer import user_that_listens
from noah.proxy.slot import Slot
from noah.proxy.tunnel import Tunnel
from noah.sessions.announce import Announcer
from noah.sessions.audits import Audits
from noah.sessions.live_session import LiveSession
from noah.sessions.ports import Ports
from noah.sessions.reporter import Reporter
from noah.settings import GatewaySettings
from noah.store.feed import Feed
from noah.store.lease import Lease
from noah.store.sessions import SessionStore
from noah.targets.base import Kind, Link, Observation
from noah.traces import span

log = logging.getLogger(__name__)

LOOK_WHILE_TAKEN = 2.0  # seconds; a debugger that is attached past the gateway leaves unseen
# Between two debuggers the agent has no socket at all; a look just then would find a JVM that cannot be debugged.
LISTENS_AGAIN_WITHIN = 1.0  # seconds
STEADY_AFTER = 20.0  # seconds that a held forwarder lasts until losing it counts as the first loss again
FAILS_WITHIN = 120.0  # seconds; a session that is older was ready once, before the gateway's last start if not since
TAKEN = "A debugger is attached to {} past the gateway: the session goes on when it detaches."
TAKEN_ELSEWHERE = "A debugger is attached to {} through another gateway: the session goes on here when it detaches."
LEASE_AGAIN_S = 1.0  # when a gateway without its lease looks whether it has it again
# What touches the target, or the port; the rest a gateway may do with what it has.
NEED_LEASE = OpenPort | StartForwarder | StopForwarder | Follow | EndSession | Finish
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between attempts that fail
# A cluster's answer is remembered for half a minute: so a right that is taken away ends a session within a minute.
CHECK_RIGHT_EVERY_S = 20.0
LOOK_WHERE_EVERY_S = 10.0  # in which environment the target is; people see it in lists
# What of a session's port is kept in the trail.
RECORDED = {
    EventKind.ATTACHED: (TrailCode.ATTACHED, Outcome.DONE),
    EventKind.DETACHED: (TrailCode.DETACHED, Outcome.DONE),
    EventKind.REFUSED: (TrailCode.REFUSED, Outcome.DENIED),
}


class SessionTask:
    def __init__(
        self,
        live: LiveSession,
        *,
        kinds: Mapping[str, Kind],
        catalog: Catalog,
        holders: Holders,
        lease: Lease,
        ports: Ports,
        store: SessionStore,
        audits: Audits,
        feed: Feed,
        gateway: GatewaySettings,
        clock: Callable[[], datetime],
        took: Callable[[Target, float], None],
        permissions: Permissions,
        trail: Trail,
        is_taken_over: bool = False,
        check_right_every_s: float = CHECK_RIGHT_EVERY_S,
        look_where_every_s: float = LOOK_WHERE_EVERY_S,
    ) -> None:
        """*is_taken_over*: the gateway before may still live, with a debugger attached."""
        self.live = live
        self.number = live.fence.number if live.fence else 0  # of the last fence
        self.is_lost = False  # another gateway has the session
        self.is_leaving = False  # it is being handed over
        self._lease = lease
        self._ports = ports
        self._is_taken_over = is_taken_over
        self._kinds = kinds
        self._catalog = catalog
        self._holders = holders
        self._store = store
        self._audits = audits
        self._gateway = gateway
        self._clock = clock
        self._permissions = permissions
        self._trail = trail
        self._check_right_every_s = check_right_every_s
        self._look_where_every_s = look_where_every_s
        self._announcer = Announcer(live, feed=feed, clock=clock, took=took)
        self._link = self._new_link()
        self._reporter = Reporter(
            live, link=lambda: self._link, clock=clock, changed=self._announcer.changes, may_act=lambda: self.may_act
        )
        self._awake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._acting: asyncio.Timeout | None = None
        self._is_reconfigured = False
        self._look_at = 0.0  # of the loop's clock
        self._backoff = Backoff(first_s=2 * FIRST_PAUSE, longest_s=LONGEST_PAUSE)
        self._failing_because: str | None = None  # since the last act that succeeded
        self._holding = Backoff(first_s=FIRST_PAUSE, longest_s=LONGEST_PAUSE)
        self._held_at = self._hold_at = 0.0  # when it was held last, and may be again; of the loop's clock

    @property
    def may_act(self) -> bool:
        return not (self.is_lost or self.is_leaving) and self._lease.owns(self.live.fence)

    @property
    def _fence(self) -> Fence:
        if self.is_lost or self.live.fence is None:
            raise LostSession(f"Session {self.live.session.id} is another gateway's by now.")
        return self.live.fence

    def lose(self) -> None:
        """Leave the target and the row alone: another gateway has the session. A debugger that is attached stays."""
        if not self.is_lost:
            self.is_lost, self.live.fence = True, None
            self.wake()

    def keep(self, fence: Fence | None) -> None:
        """Go on by that fence."""
        if fence is not None:
            self.live.fence, self.number = fence, fence.number
            self.is_lost = self.is_leaving = False
            self.wake(look=True)

    def wake(self, *, look: bool = False) -> None:
        if look:
            self._look_at = 0.0
        self._awake.set()
        self._reporter.wake()

    def reconfigure(self) -> None:
        """Reach the target as the configuration says now, which may not have it any more."""
        self._is_reconfigured = True
        self.wake(look=True)

    async def write(self, statement: Callable[[], Awaitable[Session]]) -> None:
        """Execute one statement at a time, so that the row that was written last is the one that is kept here.

        It is made when its turn has come: a caller that is cancelled while it waits leaves nothing behind.
        """
        async with self._writing:
            self.live.session = await statement()
            self._holders.put(self.live.session)
        self.live.close_lines_of_others()
        self.wake()
        if self.live.session.is_over and self._acting is not None:
            self._acting.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                session_id = self.live.session.id
                beside = [
                    group.create_task(self._reporter.run(), name=f"word on {session_id}"),
                    group.create_task(
                        repeat(self.check_right, name=f"the right to {session_id}", every_s=self._check_right_every_s),
                        name=f"right to {session_id}",
                    ),
                    group.create_task(
                        repeat(self._look_where, name=f"where {session_id} is", every_s=self._look_where_every_s),
                        name=f"environment of {session_id}",
                    ),
                ]
                while self.live.session.ended_at is None and not self._is_done_with:
                    await self._once()
                for task in beside:
                    task.cancel()
        finally:
            await self._close("another gateway has the session" if self.is_lost else "the gateway is stopping")
            await self._link.close()

    @property
    def _is_done_with(self) -> bool:
        return self.is_lost and self.live.attached is None

    async def _close(self, why: str) -> None:
        self.live.is_open = False
        if self.is_lost and not self.live.session.is_over:
            self._ports.pass_on(self.live.session.id)
        else:
            self._ports.close(self.live.session.id)
        for tunnel in self.live.tunnels.values():
            tunnel.close(f"Session {self.live.session.id} takes no debuggers any more: {why}.")
        if self.live.slot is not None:
            await self.live.slot.close(why)

    async def check_right(self) -> None:
        """End the session if its owner may not debug the target any more. A cluster's silence ends nothing."""
        if not self.may_act:
            return
        verdict = await self._verdict()
        if isinstance(verdict, Allowed) or not verdict.is_certain or self.live.session.is_over:
            return
        sentence = f"The right to debug was taken away. {verdict.sentence}"
        self._announcer.step(sentence)
        self._record(TrailCode.RIGHT_LOST, outcome=Outcome.DENIED, sentence=verdict.sentence)
        reason = EndReason.RIGHT_LOST
        await self.write(lambda: self._end(reason, sentence))

    async def _look_where(self) -> None:
        """Keep the session in the environment of its target, which a label may change. One that is gone has none."""
        session, found = self.live.session, self._catalog.get(self.live.session.target)
        if found is None or found.environment == session.environment or session.is_over or not self.may_act:
            return
        await self.write(lambda: self._store.place(session.id, environment=found.environment, fence=self._fence))
        self._announcer.step(f"{session.target} is in environment {found.environment} now.")

    async def _verdict(self) -> Verdict:
        session = self.live.session
        return await self._permissions.decide(Right.DEBUG, area_of(session.target), session.owner)

    async def _once(self) -> None:
        self._awake.clear()
        try:
            if self._is_reconfigured:
                self._is_reconfigured = False
                await self._relink()
            await self._look()
            self.live.is_held = self._link.is_held
            action = next_action(self.live.session, self.live.facts, self._clock())
            self._announcer.changes()
            if isinstance(action, Wait):
                await self._sleep_until(action.until)
            elif isinstance(action, NEED_LEASE) and not self.may_act:
                await self._wait(LEASE_AGAIN_S)
            else:
                session = self.live.session
                with span(type(action).__name__, session=session.id, target=str(session.target)):
                    await self._act(action)
                self._backoff.reset()
                self.live.trouble = self._failing_because = None
        except CannotDebug as e:
            await self._give_up(e)
        except LostSession:
            self.lose()
        except NoahError as e:
            await self._recover(e.sentence)
        except Exception:  # the task's outermost loop: whatever it is, the session goes on after a pause
            log.exception("%s %s failed", self.live.session.target, self.live.session.id)
            await self._recover("Something went wrong inside the gateway; its log has the details.")
        finally:
            self._announcer.changes()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self.live.session.is_over or loop.time() < self._look_at:
            return
        if not self.may_act:
            self._look_at = loop.time() + LEASE_AGAIN_S
            return
        self._look_at = loop.time() + self._link.look_again
        try:
            await self._unless_it_ends(self._observe())
        except Unavailable as e:
            # What was seen before still counts: a silent API server says nothing about the pod.
            self.live.trouble = e.sentence
            self._look_at = loop.time() + self._backoff.next_s()

    async def _observe(self) -> Observation:
        """Look; after a takeover, see first whether the gateway before still has a debugger attached."""
        live = self.live
        seen = await self._link.look(live.session)
        if self._is_taken_over and seen.presence is Presence.READY and live.attached is None:
            live.is_debugged_elsewhere = await self._link.is_taken(live.session)
            self._is_taken_over = live.is_debugged_elsewhere
            if live.is_debugged_elsewhere:
                self._look_at = asyncio.get_running_loop().time() + LOOK_WHILE_TAKEN
                return replace(seen, taken=True)
        live.is_debugged_elsewhere = False
        return seen

    async def _unless_it_ends(self, act: Awaitable[Observation]) -> None:
        """Take what *act* observed, unless the session ends before: the port must not wait for a silent cluster."""
        left = (self.live.session.expires_at - self._clock()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, left)) as self._acting, self._lease.acting():
                self._observed(await act)
        except TimeoutError:
            self._look_at = 0.0
        finally:
            self._acting = None

    def _observed(self, seen: Observation) -> None:
        before = self.live.seen
        if self.live.attached is not None:
            seen = replace(seen, taken=False)  # it is by our own debugger
        elif seen.taken:
            if not self._link.is_held:
                self._look_at = asyncio.get_running_loop().time() + LOOK_WHILE_TAKEN
            why = TAKEN_ELSEWHERE if self.live.is_debugged_elsewhere else TAKEN
            seen = replace(seen, reason=why.format(self.live.session.target))
        self.live.seen = seen
        self.live.trouble = None
        if seen.presence is not Presence.GONE:
            self.live.gone_since = None
        elif self.live.gone_since is None:
            self.live.gone_since = self._clock()
        if seen.reason and (before is None or before.reason != seen.reason):
            self._announcer.step(seen.reason)

    async def _act(self, action: Action) -> None:
        live, session = self.live, self.live.session
        match action:
            case OpenPort():
                await self._open_port()
            case ClosePort():
                await self._close(self._why_over())
            case StartForwarder():
                await self._start_forwarder()
            case StopForwarder():
                # A target that takes no commands (no sh, no right to exec) is left to its forwarder's own deadline, if
                # it ever had one; waiting would not help.
                with suppress(CannotDebug):
                    async with self._lease.acting():
                        await self._link.stop(session)
                live.forwarder_stopped = True
            case Follow(target):
                await self._follow(target)
            case WarnOfResume(at):
                assert live.facts.vm is not None
                live.warned_of = live.facts.vm.since
                text = "The pause budget ends soon: the VM will be resumed."
                self._announcer.notice(EventKind.WARNING, {"text": text, "resumes_at": at.isoformat()})
            case ResumeVm():
                assert live.slot is not None
                self._announcer.notice(EventKind.WARNING, {"text": "The pause budget is used up: the VM is resumed."})
                await live.slot.detach("the pause budget is used up")
            case EndSession(reason, detail):
                await self.write(lambda: self._end(reason, detail))
            case Finish():
                await self.write(lambda: self._store.finish(session.id, audit=live.audit, fence=self._fence))

    def _end(self, reason: EndReason, detail: str | None) -> Awaitable[Session]:
        id = self.live.session.id
        return self._store.ask_end(id, reason=reason, detail=detail, by=None, fence=self._fence)

    async def _start_forwarder(self) -> None:
        """Start it or hold it. One that is lost again and again is not held again without a pause."""
        loop = asyncio.get_running_loop()
        if (pause_s := self._hold_at - loop.time()) > 0:
            await self._wait(pause_s)
            return
        if loop.time() - self._held_at > STEADY_AFTER:
            self._holding.reset()
        word = word_on(self.live.facts, self._clock())
        await self._unless_it_ends(self._link.start(self.live.session, word=word, now=self._clock()))
        if self._link.is_held:
            self._held_at, self._hold_at = loop.time(), loop.time() + self._holding.next_s()
            self.live.word, self.live.word_until = word, self.live.session.expires_at
            self._reporter.wake()

    async def _open_port(self) -> None:
        session, gateway = self.live.session, self._gateway
        slot = self.live.slot
        if slot is None:
            slot = self.live.slot = Slot(
                session_id=session.id,
                dial=self._dial,
                allow_exit=session.allow_exit,
                clock=self._clock,
                changed=self._slot_changed,
                noticed=self._noticed,
            )
            await slot.open()
            self.live.new_tunnel = functools.partial(
                Tunnel,
                session_id=session.id,
                admit=slot.admit,
                stands=lambda: slot.vm is not None and slot.vm.stands,
                clock=self._clock,
                changed=self._announcer.changes,
                held_running=gateway.line_held,
                held_suspended=gateway.line_held_suspended,
            )
        try:
            self.live.listener = await self._ports.open(self.live, slot)
        except OSError as e:
            if e.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise Unavailable(f"Port {session.port} of the gateway cannot be opened: {e.strerror}.") from e
            uid = await asyncio.to_thread(user_that_listens, session.port)
            whose = "" if uid in (None, os.getuid()) else f", of the user with the number {uid}"
            self._announcer.step(
                f"Port {session.port} is taken by another program of the gateway's machine{whose}; choosing another. "
                "An IDE that still has this one would talk to that program."
            )
            await self.write(
                lambda: self._store.move_port(session.id, ports=gateway.ports, avoid={session.port}, fence=self._fence)
            )
        else:
            self.live.is_open = True

    def _slot_changed(self) -> None:
        self.live.note_vm()
        if self.live.attached is None:
            now = asyncio.get_running_loop().time()
            self._look_at = max(self._look_at, now + LISTENS_AGAIN_WITHIN)
        self.wake()

    def _noticed(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        if kind is EventKind.STEP:  # a debugger is held
            self._announcer.step(data["text"])
            self._reporter.repeat()
            return
        self._announcer.notice(kind, data)
        if kind in RECORDED:
            code, outcome = RECORDED[kind]
            kept = ("commands", "bytes_in", "bytes_out", "debugger", "reason")
            more = {name: data[name] for name in kept if name in data}
            self._record(code, outcome=outcome, address=data["address"], sentence=data["text"], more=more)
        if kind in (EventKind.ATTACHED, EventKind.DETACHED):
            self._audits.save_soon(self.live.session.id)

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        if not self.may_act:
            raise Unavailable(
                f"This gateway does not have session {self.live.session.id} at this moment: try again soon."
            )
        verdict = await self._verdict()
        if isinstance(verdict, Denied):
            raise Forbidden(verdict.sentence) if verdict.is_certain else Unavailable(verdict.sentence)
        if not self.live.facts.forwarder_alive:
            raise Unavailable(
                self.live.reason or f"{self.live.session.target} is not ready yet: try again in a moment."
            )
        return await self._link.dial(factory)

    async def _follow(self, target: Target) -> None:
        old = self.live.session.target
        try:
            id = self.live.session.id
            await self.write(lambda: self._store.move(id, target=target, fence=self._fence))
        except AlreadyDebugged:
            self._look_at = 0.0  # somebody else was faster; there may be another successor
            raise
        await self._relink()
        self._announcer.step(f"{old} is gone: following to {target}.")

    async def _give_up(self, error: CannotDebug) -> None:
        if self.live.session.is_over or self.live.attached is not None:
            # Whatever could not be done beside it, a debugger that works is left alone.
            await self._recover(error.sentence)
            return
        age = (self._clock() - self.live.session.created_at).total_seconds()
        if (self.live.was_ready or age > FAILS_WITHIN) and not isinstance(error, RolledBack):
            # It worked once: somebody is restarting or replacing it.
            self._observed(Observation(presence=Presence.NOT_READY, reason=error.sentence))
            self._look_at = asyncio.get_running_loop().time() + self._backoff.next_s()
            return
        self._announcer.step(error.sentence)
        try:
            await self.write(lambda: self._end(EndReason.FAILED, error.sentence))
        except Unavailable as e:
            await self._recover(e.sentence)

    async def _recover(self, sentence: str) -> None:
        if self._failing_because != sentence:
            self._announcer.step(sentence)
        self.live.trouble = self._failing_because = sentence
        self._look_at = 0.0
        self._announcer.changes()
        was_over = self.live.session.is_over
        until = asyncio.get_running_loop().time() + self._backoff.next_s()
        # An end or an expiry does not wait for what failed before.
        while (left := until - asyncio.get_running_loop().time()) > 0 and self.live.session.is_over == was_over:
            if not was_over:
                left = min(left, max(0.0, (self.live.session.expires_at - self._clock()).total_seconds()))
            if left <= 0:
                break
            await self._wait(left)

    async def _sleep_until(self, until: datetime) -> None:
        vm = self.live.facts.vm
        if vm is not None and passes_by(vm, self._clock()):
            until = min(until, vm.since + STANDS_AFTER)  # then it is published
        seconds = (until - self._clock()).total_seconds()
        if not self.live.session.is_over:
            seconds = min(seconds, self._look_at - asyncio.get_running_loop().time())
        if seconds > 0:
            await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            pass
        self._awake.clear()

    async def _relink(self) -> None:
        await self._link.close()
        self._link = self._new_link()
        self.live.word = None
        self.live.seen = None
        self._look_at = 0.0

    def _new_link(self) -> Link:
        kind = self._kinds[self.live.session.target.kind]
        return kind.link(self.live.session, changed=lambda: self.wake(look=True), step=self._announcer.step)

    def _record(self, code: TrailCode, **more: Any) -> None:
        """Add a row of the trail; *more* is what Entry has."""
        session = self.live.session
        target = str(session.target)
        self._trail.record(code, who=session.owner, via="debug port", target=target, session=session.id, **more)

    def _why_over(self) -> str:
        session = self.live.session
        by = f" by {session.ended_by.name}" if session.ended_by and session.ended_by != session.owner else ""
        return f"the session was {str(session.end_reason).replace('_', ' ')}{by}"
