"""The task of one session: look, decide, act, and again.

Nothing about the target is remembered over a failure: when an act fails, the next thing is a look. The task ends when
nothing of the session is left anywhere, or with the gateway; then the session goes on when the next one starts.
"""

import asyncio
import errno
import ipaddress
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from noah.catalog.holders import Holders
from noah.core.session.event_kind import EventKind
from noah.core.session.lifecycle import (
    STANDS_AFTER,
    Action,
    ClosePort,
    End,
    Finish,
    Follow,
    OpenPort,
    Report,
    ResumeVm,
    StartForwarder,
    StopForwarder,
    Wait,
    WarnOfResume,
    next_action,
    passes_by,
)
from noah.core.session.session import EndReason, Presence, Session
from noah.core.session.target import Target
from noah.errors import AlreadyDebugged, CannotDebug, NoahError, RolledBack, Unavailable
from noah.proxy.port import DebugPort
from noah.sessions.announce import Telling
from noah.sessions.audits import Audits
from noah.sessions.live_session import Live
from noah.settings import GatewaySettings
from noah.store.feed import Feed
from noah.store.sessions import SessionStore
from noah.targets.base import Kind, Line, Seen

log = logging.getLogger(__name__)

LOOK_WHILE_TAKEN = 2.0  # seconds
# Between two debuggers the agent has no socket at all; a look just then would find a JVM that cannot be debugged.
LISTENS_AGAIN_WITHIN = 1.0  # seconds
FAILS_WITHIN = 120.0  # seconds; a session that is older was ready once, before the gateway's last start if not since
TAKEN = "A debugger is attached to {} past the gateway: the session goes on when it detaches."
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds between attempts that fail


class SessionTask:
    def __init__(
        self,
        live: Live,
        *,
        kinds: Mapping[str, Kind],
        holders: Holders,
        store: SessionStore,
        audits: Audits,
        feed: Feed,
        gateway: GatewaySettings,
        clock: Callable[[], datetime],
        took: Callable[[float], None],
    ) -> None:
        self.live = live
        self._kinds = kinds
        self._holders = holders
        self._store = store
        self._audits = audits
        self._gateway = gateway
        self._clock = clock
        self._telling = Telling(live, feed=feed, clock=clock, took=took)
        self._line = self._new_line()
        self._awake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._acting: asyncio.Timeout | None = None
        self._look_at = 0.0  # of the loop's clock
        self._pause = FIRST_PAUSE

    def wake(self, *, look: bool = False) -> None:
        if look:
            self._look_at = 0.0
        self._awake.set()

    async def write(self, statement: Callable[[], Awaitable[Session]]) -> None:
        """Execute one statement at a time, so that the row that was written last is the one that is kept here.

        It is made when its turn has come: a caller that is cancelled while it waits leaves nothing behind.
        """
        async with self._writing:
            self.live.session = await statement()
            self._holders.put(self.live.session.id, self.live.session.target)
        self._awake.set()
        if self.live.session.is_over and self._acting is not None:
            self._acting.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        try:
            while self.live.session.ended_at is None:
                await self._once()
        finally:
            if self.live.port is not None:
                await self.live.port.close("the gateway is stopping")
            await self._line.close()

    async def _once(self) -> None:
        self._awake.clear()
        try:
            await self._look()
            action = next_action(self.live.session, self.live.facts, self._clock())
            self._telling.changes()
            if isinstance(action, Wait):
                await self._sleep_until(action.until)
            else:
                await self._act(action)
                self._pause = FIRST_PAUSE
                self.live.trouble = None
        except CannotDebug as e:
            await self._give_up(e)
        except NoahError as e:
            await self._recover(e.sentence)
        except Exception:  # the task's outermost loop: whatever it is, the session goes on after a pause
            log.exception("%s %s failed", self.live.session.target, self.live.session.id)
            await self._recover("Something went wrong inside the gateway; its log has the details.")
        finally:
            self._telling.changes()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if self.live.session.is_over or loop.time() < self._look_at:
            return
        # Whoever is attached past the gateway leaves without a word to us: ask often, and ask the target itself.
        taken = self.live.facts.taken
        self._look_at = loop.time() + (LOOK_WHILE_TAKEN if taken else self._line.look_again)
        try:
            await self._unless_it_ends(self._line.look(self.live.session, ask=taken))
        except Unavailable as e:
            # What was seen before still counts: a silent API server says nothing about the pod.
            self.live.trouble = e.sentence
            self._look_at = loop.time() + self._next_pause()

    async def _unless_it_ends(self, act: Awaitable[Seen]) -> None:
        """What *act* saw. It is given up when the session ends: the port must not wait for a cluster that is silent."""
        left = (self.live.session.expires_at - self._clock()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, left)) as self._acting:
                self._saw(await act)
        except TimeoutError:
            self._look_at = 0.0
        finally:
            self._acting = None

    def _saw(self, seen: Seen) -> None:
        before = self.live.seen
        if self.live.attached is not None:
            seen = replace(seen, taken=False)  # it is by our own debugger
        elif seen.taken:
            self._look_at = asyncio.get_running_loop().time() + LOOK_WHILE_TAKEN
            seen = replace(seen, reason=TAKEN.format(self.live.session.target))
        self.live.seen = seen
        self.live.trouble = None
        if seen.presence is not Presence.GONE:
            self.live.gone_since = None
        elif self.live.gone_since is None:
            self.live.gone_since = self._clock()
        if seen.reason and (before is None or before.reason != seen.reason):
            self._telling.step(seen.reason)

    async def _act(self, action: Action) -> None:
        live, session = self.live, self.live.session
        match action:
            case OpenPort():
                await self._open_port()
            case ClosePort():
                assert live.port is not None
                await live.port.close(self._why_over())
            case StartForwarder(vm):
                await self._unless_it_ends(self._line.start(session, vm=vm, now=self._clock()))
            case Report(vm):
                await self._unless_it_ends(self._line.report(session, vm=vm, now=self._clock()))
            case StopForwarder():
                # A target that takes no commands (no sh, no right to exec) is left to its forwarder's own deadline, if
                # it ever had one; waiting would not help.
                with suppress(CannotDebug):
                    await self._line.stop(session)
                live.forwarder_stopped = True
            case Follow(target):
                await self._follow(target)
            case WarnOfResume(at):
                assert live.facts.vm is not None
                live.warned_of = live.facts.vm.since
                text = "The pause budget ends soon: the VM will be resumed."
                self._telling.notice(EventKind.WARNING, {"text": text, "resumes_at": at.isoformat()})
            case ResumeVm():
                assert live.port is not None
                self._telling.notice(EventKind.WARNING, {"text": "The pause budget is used up: the VM is resumed."})
                await live.port.detach("the pause budget is used up")
            case End(reason, detail):
                await self.write(lambda: self._store.ask_end(session.id, reason=reason, detail=detail, by=None))
            case Finish():
                await self.write(lambda: self._store.finish(session.id, audit=live.audit))

    async def _open_port(self) -> None:
        session, gateway = self.live.session, self._gateway
        networks = [ipaddress.ip_network(one, strict=False) for one in session.allow]
        port = DebugPort(
            session_id=session.id,
            host=gateway.host,
            port=session.port,
            dial=self._dial,
            admits=lambda address: any(ipaddress.ip_address(address) in network for network in networks),
            allow_exit=session.allow_exit,
            clock=self._clock,
            changed=self._port_changed,
            noticed=self._noticed,
        )
        try:
            await port.open()
        except OSError as e:
            if e.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise Unavailable(f"Port {session.port} of the gateway cannot be opened: {e.strerror}.") from e
            self._telling.step(
                f"Port {session.port} is taken by another program of the gateway's machine; choosing another."
            )
            await self.write(lambda: self._store.move_port(session.id, ports=gateway.ports, avoid={session.port}))
        else:
            self.live.port = port

    def _port_changed(self) -> None:
        self.live.note_vm()
        if self.live.port is not None and self.live.port.attached is None:
            now = asyncio.get_running_loop().time()
            self._look_at = max(self._look_at, now + LISTENS_AGAIN_WITHIN)
        self.wake()

    def _noticed(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        self._telling.notice(kind, data)
        if kind in (EventKind.ATTACHED, EventKind.DETACHED):
            self._audits.save_soon(self.live.session.id)

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        if not self.live.facts.forwarder_alive:
            raise Unavailable(
                self.live.reason or f"{self.live.session.target} is not ready yet: try again in a moment."
            )
        return await self._line.dial(factory)

    async def _follow(self, target: Target) -> None:
        old = self.live.session.target
        try:
            await self.write(lambda: self._store.move(self.live.session.id, target=target))
        except AlreadyDebugged:
            self._look_at = 0.0  # somebody else was faster; there may be another successor
            raise
        await self._line.close()
        self._line = self._new_line()
        self.live.seen = None
        self._look_at = 0.0
        self._telling.step(f"{old} is gone: following to {target}.")

    async def _give_up(self, error: CannotDebug) -> None:
        if self.live.session.is_over:
            await self._recover(error.sentence)
            return
        if self.live.attached is not None:
            # Whatever a look said while it took the slot, a debugger that works is left alone.
            self._look_at = asyncio.get_running_loop().time() + self._next_pause()
            return
        age = (self._clock() - self.live.session.created_at).total_seconds()
        if (self._telling.was_ready or age > FAILS_WITHIN) and not isinstance(error, RolledBack):
            # It worked once: somebody is restarting or replacing it.
            self._saw(Seen(presence=Presence.NOT_READY, reason=error.sentence))
            self._look_at = asyncio.get_running_loop().time() + self._next_pause()
            return
        self._telling.step(error.sentence)
        try:
            id = self.live.session.id
            await self.write(lambda: self._store.ask_end(id, reason=EndReason.FAILED, detail=error.sentence, by=None))
        except Unavailable as e:
            await self._recover(e.sentence)

    async def _recover(self, sentence: str) -> None:
        if self.live.trouble != sentence:
            self._telling.step(sentence)
        self.live.trouble = sentence
        self._look_at = 0.0
        self._telling.changes()
        was_over = self.live.session.is_over
        until = asyncio.get_running_loop().time() + self._next_pause()
        # An end or an expiry does not wait for what failed before.
        while (left := until - asyncio.get_running_loop().time()) > 0 and self.live.session.is_over == was_over:
            if not was_over:
                left = min(left, max(0.0, (self.live.session.expires_at - self._clock()).total_seconds()))
            if left <= 0:
                break
            await self._wait(left)

    def _next_pause(self) -> float:
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return self._pause * random.uniform(0.5, 1.0)  # noqa: S311  spreads attempts, keeps no secret

    async def _sleep_until(self, until: datetime) -> None:
        vm = self.live.facts.vm
        if vm is not None and passes_by(vm, self._clock()):
            until = min(until, vm.since + STANDS_AFTER)  # then it is told
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

    def _new_line(self) -> Line:
        kind = self._kinds[self.live.session.target.kind]
        return kind.line(self.live.session, changed=lambda: self.wake(look=True), step=self._telling.step)

    def _why_over(self) -> str:
        session = self.live.session
        by = f" by {session.ended_by}" if session.ended_by and session.ended_by != session.owner else ""
        return f"the session was {str(session.end_reason).replace('_', ' ')}{by}"
