"""One session as it is now: what was asked for, and what is true. Read by anybody, changed by its task only.

A session of another gateway is seen as that one last wrote it (SessionElsewhere).
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from noah.core.lease import Fence
from noah.core.session.audit import Audit, added
from noah.core.session.lifecycle import STANDS_AFTER
from noah.core.session.principal import Principal
from noah.core.session.session import Attachment, Facts, Presence, Session, Status, VmState, Word, status_of
from noah.proxy.listener import Listener
from noah.proxy.slot import Slot
from noah.proxy.tunnel import LineInfo, Tunnel
from noah.sessions.live_state import LiveState, Step
from noah.targets.base import Observation

STEPS_KEPT = 100
SETTLED = frozenset({Status.READY, Status.ATTACHED, Status.SUSPENDED, Status.ENDED})


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts of what passed, and did not, between debuggers and a JVM: they only grow."""

    carried: Counter[str] = field(default_factory=Counter)  # bytes, by direction
    refused: Counter[str] = field(default_factory=Counter)  # connections, by reason
    stood_s: float = 0.0  # for how long the VM stood still
    lines_lost: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.carried + other.carried,
            self.refused + other.refused,
            self.stood_s + other.stood_s,
            self.lines_lost + other.lines_lost,
        )


class LiveSession:
    """*audit*: what earlier gateways saw of a session that goes on; of an ended one, what was kept."""

    def __init__(self, session: Session, *, audit: Audit | None = None, fence: Fence | None = None) -> None:
        self.session = session
        self.fence = fence  # by which a gateway runs it; None: none does
        self.seen: Observation | None = None
        self.is_held = False  # words get to the target
        self.word: Word | None = None  # the last one that was written there
        self.word_until: datetime | None = None  # and the session's end that was written with it
        self.is_debugged_elsewhere = False  # by a debugger that is attached through the gateway before this one
        self.gone_since: datetime | None = None
        self.forwarder_stopped = False
        self.warned_of: datetime | None = None  # since when the VM stands, of the stop whose budget's end was announced
        self.trouble: str | None = None  # why the last act failed
        self.silence: str | None = None  # why words do not get to the target, while a debugger is attached
        # Once they have been open; they stay here when they are closed.
        self.slot: Slot | None = None
        self.listener: Listener | None = None  # also None where the gateway has no plain ports
        self.new_tunnel: Callable[[], Tunnel] | None = None
        self.tunnels: dict[str, Tunnel] = {}  # of those who came by a line, by their IDs (Principal.id)
        self.is_open = False  # debuggers can come in
        self.steps: deque[Step] = deque(maxlen=STEPS_KEPT)
        self.was_ready = False  # or had a debugger: here, or at a gateway that had it before
        self.is_unsaved = True  # it may differ from what the database has of it
        self._earlier = audit
        self._vm: VmState | None = None
        self._stood_until: datetime | None = None
        self._bell = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{self.session.target} {self.session.id} {self.status} of {self.session.owner.name}>"

    @property
    def attached(self) -> Attachment | None:
        return self.slot.attached if self.slot else None

    def tunnel_of(self, who: Principal) -> Tunnel | None:
        """Return the way in for the line of *who*; None as long as the session takes no debuggers."""
        if self.new_tunnel is None or not self.is_open:
            return None
        if who.id not in self.tunnels:
            self.tunnels[who.id] = self.new_tunnel()
        return self.tunnels[who.id]

    def may_attach(self, who: str) -> bool:
        """Return whether the session is theirs, or is shared with them; by their ID."""
        return who == self.session.owner.id or who in self.session.shares

    def close_lines_of_others(self) -> None:
        """Free what those have who may not attach any more, the absent ones too."""
        for who, tunnel in self.tunnels.items():
            if not self.may_attach(who):
                tunnel.close(f"Session {self.session.id} is not shared with you any more.")

    def line_of(self, who: Principal | None) -> LineInfo | None:
        """Return the line that *who* sees: their own; the owner's if they may not attach."""
        if who is None or not self.may_attach(who.id):
            who = self.session.owner
        return self.lines.get(who.id)

    @property
    def lines(self) -> Mapping[str, LineInfo]:
        """Return the lines of those who came by one, by their IDs."""
        return {who: tunnel.info for who, tunnel in self.tunnels.items() if tunnel.info is not None}

    @property
    def facts(self) -> Facts:
        seen = self.seen or Observation(presence=Presence.NOT_READY)
        vm = self.slot.vm if self.slot else None
        return Facts(
            looked=self.seen is not None,
            presence=seen.presence,
            reason=seen.reason,
            successor=seen.successor,
            forwarder_alive=seen.forwarder_alive,
            forwarder_held=self.is_held,
            word=self.word,
            taken=seen.taken,
            taken_elsewhere=self.is_debugged_elsewhere,
            gone_since=self.gone_since,
            port_open=self.is_open,
            attached=self.attached,
            vm=vm,
            is_silent=self.slot is not None and self.slot.is_silent,
            stood_until=self._stood_until,
            forwarder_stopped=self.forwarder_stopped,
            warned=vm is not None and self.warned_of == vm.since,
        )

    @property
    def status(self) -> Status:
        return status_of(self.session, self.facts)

    @property
    def reason(self) -> str | None:
        """One sentence: why it is not ready, or why the gateway does not get to the JVM that is being debugged."""
        if self.attached is not None:
            return self.silence
        if self.status in SETTLED:
            return None
        return self.trouble or (self.seen.reason if self.seen else None) or None

    @property
    def audit(self) -> Audit | None:
        """Return what the debuggers of this session did."""
        return added(self._earlier, self.slot.audit()) if self.slot else self._earlier

    @property
    def state(self) -> LiveState:
        """Return what other gateways should see of it."""
        facts = self.facts
        return LiveState(
            status=self.status,
            reason=self.reason,
            attached=facts.attached,
            vm=facts.vm,
            lines=self.lines,
            is_open=self.is_open,
            was_ready=self.was_ready,
            steps=list(self.steps),
        )

    @property
    def traffic(self) -> Traffic:
        if self.slot is None:
            return Traffic()
        lines_lost = sum(tunnel.times_lost for tunnel in self.tunnels.values())
        return Traffic(self.slot.carried, self.slot.refused, self.slot.stood_s, lines_lost)

    def note_vm(self) -> None:
        """Note a change of what the VM does; the task never sees many of them."""
        before, self._vm = self._vm, self.slot.vm if self.slot else None
        if before is None or self._vm is None or not before.stands or self._vm.stands:
            return
        if self._vm.since - before.since >= STANDS_AFTER:
            self._stood_until = self._vm.since

    def add_step(self, step: Step) -> None:
        self.steps.append(step)
        self.is_unsaved = True

    def changed(self) -> None:
        self.is_unsaved = True
        self._bell.set()
        self._bell = asyncio.Event()

    async def change(self) -> None:
        """Wait for the next change that people can see."""
        await self._bell.wait()


class SessionElsewhere(LiveSession):
    """A session of another gateway, or of none for the moment, as the database has it."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.notes: list[str] = []  # steps that its gateway does not know of
        self._state: LiveState | None = None
        self._kept: Audit | None = None

    def update(self, session: Session, *, state: LiveState | None, audit: Audit | None, fence: Fence | None) -> None:
        self.session, self.fence = session, fence
        self._state, self._kept = state, audit
        self.is_open = state is not None and state.is_open
        self.steps.clear()
        self.steps.extend(state.steps if state else ())
        self.changed()

    @property
    def attached(self) -> Attachment | None:
        return self._state.attached if self._state else None

    def add_step(self, step: Step) -> None:
        super().add_step(step)
        self.notes.append(step.text)

    @property
    def lines(self) -> Mapping[str, LineInfo]:
        return self._state.lines if self._state else {}

    @property
    def facts(self) -> Facts:
        return Facts(
            presence=Presence.NOT_READY,
            port_open=self.is_open,
            attached=self.attached,
            vm=self._state.vm if self._state else None,
        )

    @property
    def status(self) -> Status:
        if self.session.ended_at is not None:
            return Status.ENDED
        if self.session.is_over:
            return Status.ENDING
        return self._state.status if self._state else Status.PENDING

    @property
    def reason(self) -> str | None:
        return self._state.reason if self._state else None

    @property
    def audit(self) -> Audit | None:
        return self._kept
