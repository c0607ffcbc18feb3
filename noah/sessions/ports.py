"""The TCP ports of all live sessions, whichever gateway has them: each gateway opens all of them.

At the port of a session that another gateway has, debuggers are admitted here and passed on. A session that changes
its gateway keeps its listener: only what that admits debuggers to is another.
"""

import asyncio
import functools
import ipaddress
import logging
import os
import pwd
from collections.abc import Awaitable, Callable, Collection, Iterable

from noah.access.trail import Trail
from noah.core.session.audit import REMEMBERED
from noah.core.session.event_kind import EventKind
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.trail import Outcome, TrailCode
from noah.peers.connection import PeerConnection
from noah.peers.debugger import PassingSlot
from noah.proxy.listener import Listener
from noah.proxy.local_peer import NOBODY
from noah.proxy.slot import Slot, why_turned_away
from noah.sessions.announce import about_session
from noah.sessions.live_session import LiveSession
from noah.settings import GatewaySettings
from noah.store.feed import Feed

log = logging.getLogger(__name__)

OPEN_AGAIN_AFTER_S = 10.0  # a port that another program of this machine has, for a session of another gateway


class Ports:
    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        gateway: GatewaySettings,
        live_of: Callable[[str], LiveSession | None],
        dial: Callable[[str, str], Awaitable[PeerConnection]],
        feed: Feed,
        trail: Trail,
    ) -> None:
        """*dial* connects to the gateway of the session with that ID, for a debugger of that address."""
        self._tasks = tasks
        self._gateway = gateway
        self._live_of = live_of
        self._dial = dial
        self._feed = feed
        self._trail = trail
        self._listeners: dict[str, Listener] = {}  # by session ID
        self._slots: dict[str, PassingSlot] = {}
        self._strangers: set[tuple[str, str, str]] = set()  # whose refusal was announced
        self._open_again_at: dict[str, float] = {}  # by the loop's clock

    @property
    def passing(self) -> int:
        """Return how many debuggers this gateway passes on to others."""
        return sum(slot.passing for slot in self._slots.values())

    # -- of sessions that this gateway has

    async def open(self, live: LiveSession, slot: Slot) -> Listener | None:
        """Admit debuggers to *slot* from now on; None if the gateway has no plain ports. Raises OSError."""
        if not self._gateway.plain_ports:
            return None
        listener = self._listeners.get(live.session.id)
        if listener is not None and listener.port == live.session.port:
            listener.admit_to(slot)
            return listener
        self.close(live.session.id)
        return await self._open(live, slot)

    def pass_on(self, session_id: str) -> None:
        """Pass debuggers that come from now on to the session's gateway, as soon as it is another one."""
        if listener := self._listeners.get(session_id):
            listener.admit_to(self._passing_slot(session_id))

    def close(self, session_id: str) -> None:
        if listener := self._listeners.pop(session_id, None):
            listener.close()

    # -- of all others

    async def refresh(self, elsewhere: Iterable[LiveSession], *, own: Collection[str]) -> None:
        """Have the ports of the sessions *elsewhere* open, and those of no others but this gateway's *own*."""
        if not self._gateway.plain_ports:
            return
        wanted = {live.session.id: live for live in elsewhere if not live.session.is_over}
        for id in self._listeners.keys() - wanted.keys() - set(own):
            self.close(id)
        for id in self._slots.keys() - wanted.keys() - set(own):
            if not self._slots[id].passing:
                del self._slots[id]
        for id, live in wanted.items():
            if (listener := self._listeners.get(id)) is not None and listener.port != live.session.port:
                self.close(id)
        if missing := wanted.keys() - self._listeners.keys() - set(own):
            # Of sessions that are ending here: the next look finds them free.
            busy = {listener.port for listener in self._listeners.values()}
            for id in missing:
                if id not in own and wanted[id].session.port not in busy:
                    await self._try_open(wanted[id])

    async def _try_open(self, live: LiveSession) -> None:
        id, now = live.session.id, asyncio.get_running_loop().time()
        if now < self._open_again_at.get(id, 0.0):
            return
        try:
            await self._open(live, self._passing_slot(id))
            self._open_again_at.pop(id, None)
        except OSError as e:
            self._open_again_at[id] = now + OPEN_AGAIN_AFTER_S
            log.warning("%s: port %d cannot be opened here: %s", id, live.session.port, e.strerror or e)

    async def _open(self, live: LiveSession, slot: Slot | PassingSlot) -> Listener:
        id = live.session.id
        listener = Listener(
            slot,
            host=self._gateway.debug_host,
            port=live.session.port,
            admits=lambda address: self._admits(id, address),
            admits_user=lambda uid: self._admits_user(id, uid),
        )
        await listener.open()
        self._listeners[id] = listener
        return listener

    def _passing_slot(self, session_id: str) -> PassingSlot:
        if session_id not in self._slots:
            self._slots[session_id] = PassingSlot(
                session_id,
                dial=lambda address: self._dial(session_id, address),
                tasks=self._tasks,
                turned_away=lambda host, reason: self._turned_away(session_id, host, reason),
            )
        return self._slots[session_id]

    # -- who may come

    def _admits(self, session_id: str, address: str) -> bool:
        """Ask the session each time: who joins it brings an address."""
        live = self._live_of(session_id)
        networks = (ipaddress.ip_network(one, strict=False) for one in (live.session.allow if live else ()))
        return any(ipaddress.ip_address(address) in network for network in networks)

    def _admits_user(self, session_id: str, uid: int) -> bool:
        live = self._live_of(session_id)
        return live is not None and _may_attach(uid, live.session.owner, self._gateway.debug_port_users)

    def _turned_away(self, session_id: str, host: str, reason: str) -> None:
        """Announce, once for each host and reason, who came to the port of another gateway's session."""
        live, about = self._live_of(session_id), (session_id, host, reason)
        if live is None or about in self._strangers or len(self._strangers) >= REMEMBERED:
            return
        self._strangers.add(about)
        session, text = live.session, why_turned_away(host, reason)
        log.info("%s %s: %s", session_id, EventKind.REFUSED, text)
        said = {**about_session(session), "text": text, "address": host, "reason": reason}
        self._feed.publish(EventKind.REFUSED, str(session.target), said)
        self._trail.record(
            TrailCode.REFUSED,
            who=session.owner,
            via="debug port",
            target=str(session.target),
            session=session_id,
            outcome=Outcome.DENIED,
            address=host,
            sentence=text,
            more={"reason": reason},
        )


@functools.cache  # the machine's list of users may be a server's
def _may_attach(uid: int, owner: Principal, users: tuple[str, ...]) -> bool:
    """True if that user of the gateway's machine may debug in a session of *owner*."""
    if uid in (0, os.getuid()) or ("*" in users and uid != NOBODY):
        return True
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return False
    return name in users or (owner.kind is PrincipalKind.LOCAL and owner.subject == name)
