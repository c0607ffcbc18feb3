"""A JVM's single place for a debugger: who has it, who waits, who takes over, and what each did.

A slot outlives its connections, and its JVM: *dial* is looked up again for each connection. How a debugger's bytes come
in is a matter of the caller of admit(): a listener (listener.py), for one. A debugger that comes while the JVM cannot
be reached is held, its handshake unanswered, and then served, or refused with the reason.

Nothing is announced from within the byte path: *changed* and *noticed* are called a moment later, and what they raise
reaches no connection.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from noah.core.jdwp.conversation import ExitRefused, Identified, PacketRefused, VmChanged
from noah.core.session.audit import REMEMBERED
from noah.core.session.event_kind import EventKind
from noah.core.session.session import Attachment, Vm, VmState
from noah.proxy.connection import HELD_FOR, Connection, Unreachable
from noah.proxy.relay import Dial

log = logging.getLogger(__name__)

# Seconds that a second debugger is held before it is refused: the end of the one before may be read a moment later than
# its handshake.
SECOND_WAITS_S: Final = 1.0
MOST_AT_ONCE: Final = 32  # debuggers of one slot: one is attached, the others wait to be refused
# Twice the interval of the kernel's probes (keepalive.py), and a word in the pod is not believed for longer than 4 s.
SILENT_AFTER_S: Final = 2.2


class Slot:
    def __init__(
        self,
        *,
        session_id: str,
        dial: Dial,
        allow_exit: bool,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        noticed: Callable[[EventKind, Mapping[str, Any]], None],
        held_for_s: float = HELD_FOR,
    ) -> None:
        self.session_id = session_id
        self.dial = dial  # may be replaced at any time: the session followed its workload to another pod
        self.refused: Counter[str] = Counter()  # connections that were turned away, by reason
        self.attached: Attachment | None = None
        self.vm: VmState | None = None  # None: nobody is attached
        self._allow_exit = allow_exit
        self._clock = clock
        self._changed = changed
        self._noticed = noticed
        self._held_for_s = held_for_s
        # Hosts whose refusal was announced, and why; a scanner comes a thousand times.
        self._strangers: set[tuple[str, str]] = set()
        self._holder: Connection | None = None
        self._serving = 0  # debuggers that are attached, held, or about to be refused
        self._next_takes_over = False
        self._past: deque[Mapping[str, Any]] = deque(maxlen=REMEMBERED)
        self._commands: Counter[str] = Counter()  # of connections that are over
        self._foreseen: Counter[str] = Counter()  # for them
        self._carried: Counter[str] = Counter()  # by them
        self._stood_s = 0.0  # in stops that are over
        self._change_is_due = False
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def is_open(self) -> bool:
        return self._tasks is not None

    async def open(self) -> None:
        """Take debuggers from now on. Its tasks never fail (see _serve): any task may open it and any close it."""
        self._tasks = await asyncio.TaskGroup().__aenter__()

    async def close(self, why: str) -> None:
        """Take no more debuggers; when it returns the JVM is free."""
        tasks, self._tasks = self._tasks, None
        if tasks is not None:
            await self.detach(why)
            await tasks.__aexit__(None, None, None)

    def admit(self, transport: asyncio.Transport, address: str) -> None:
        """Take a debugger that has sent its handshake. *transport* is paused; it is the slot's from here on."""
        if self._tasks is None:
            transport.abort()
            return
        if self._serving >= MOST_AT_ONCE:
            # An IDE comes alone; each of these is held for a while, and descriptors are everybody's.
            self.refused["too_many"] += 1
            transport.abort()
            return
        self._serving += 1
        task = self._tasks.create_task(self._serve(transport, address), name=f"{self.session_id}: debugger {address}")
        # Also when it was cancelled before it began.
        task.add_done_callback(lambda _: self._served(transport))

    def _served(self, transport: asyncio.Transport) -> None:
        self._serving -= 1
        transport.abort()

    def turned_away(self, host: str, reason: str) -> None:
        """Announce, once for each host and reason, that a connection came from where none may come from."""
        if (host, reason) not in self._strangers and len(self._strangers) < REMEMBERED:
            self._strangers.add((host, reason))
            self._notice(EventKind.REFUSED, why_turned_away(host, reason), address=host, reason=reason)

    async def detach(self, why: str) -> None:
        """Close the debugger's way to the JVM, which resumes the VM as a whole; return when that is done."""
        if self._holder is not None:
            await self._holder.end(why)

    async def take_over(self) -> None:
        """Let the next debugger that is admitted end the one that is attached now, if that is still there."""
        self._next_takes_over = self._holder is not None

    def audit(self) -> Mapping[str, Any]:
        """The commands of all connections by kind, and the last connections; JSON."""
        holder = self._holder
        commands, foreseen, connections = self._commands, self._foreseen, [*self._past]
        if holder is not None:
            commands, foreseen = commands + holder.commands(), foreseen + holder.foreseen()
            connections.append(holder.summary())
        return {"commands": dict(commands), "foreseen": dict(foreseen), "connections": connections}

    @property
    def is_serving(self) -> bool:
        """Return whether there is a debugger: attached, or held."""
        return self._serving > 0

    @property
    def is_silent(self) -> bool:
        """Return whether the network of the attached JVM does not answer: what it does now is not known."""
        return self._holder is not None and self.attached is not None and self._holder.silence_s > SILENT_AFTER_S

    @property
    def carried(self) -> Counter[str]:
        """Bytes, in from debuggers and out to them, by all connections since the slot was opened."""
        return self._carried + (self._holder.carried() if self._holder else Counter())

    @property
    def stood_s(self) -> float:
        """Seconds that the VM has stood still in all, while debuggers were attached."""
        return self._stood_s + self._stands_for_s()

    def _stands_for_s(self) -> float:
        if self.vm is None or not self.vm.stands:
            return 0.0
        return max(0.0, (self._clock() - self.vm.since).total_seconds())

    # A connection's life

    async def _serve(self, transport: asyncio.Transport, address: str) -> None:
        try:
            if await self._gets_slot(address):
                await self._hold_slot(transport, address)
        except Exception:  # the task's outermost: one connection's failure is not the slot's
            log.exception("%s: the connection of %s failed", self.session_id, address)

    async def _gets_slot(self, address: str) -> bool:
        holder = self._holder
        if holder is not None and self._next_takes_over:
            self._next_takes_over = False
            await holder.end(f"taken over by {address}")
        elif holder is not None and holder.is_leaving:
            # Half closed, and this one is its successor: most often the same person, attaching again.
            await holder.end("another debugger came")
        with suppress(TimeoutError):
            async with asyncio.timeout(SECOND_WAITS_S):
                while self._holder is not None:
                    await self._holder.over.wait()
        if self._holder is not None:
            self._refuse_second(address, self._holder)
        return self._holder is None and self.is_open

    async def _hold_slot(self, transport: asyncio.Transport, address: str) -> None:
        self._holder = holder = Connection(address=address, since=self._clock())
        try:
            relay = await holder.reach(
                lambda: self.dial,
                transport,
                allow_exit=self._allow_exit,
                changed=self._take_events,
                waits=lambda why: self._waits(address, why),
                held_for_s=self._held_for_s,
            )
            self._attach(holder)
            await relay.over
            holder.ended = holder.ended or relay.why
        except Unreachable as e:
            holder.ended = e.sentence
            self._refuse("upstream_failed", address, e.sentence)
        finally:
            try:
                await holder.let_go()
            finally:
                self._detached(holder)

    # What is announced

    def _attach(self, holder: Connection) -> None:
        self.attached = Attachment(address=holder.address, since=holder.since)
        self.vm = VmState(vm=Vm.RUNNING, since=self._clock())
        self._change()
        self._notice(EventKind.ATTACHED, f"A debugger attached from {holder.address}.", address=holder.address)
        self._take_events()  # of what the JVM said before there was a debugger to say it to

    def _detached(self, holder: Connection) -> None:
        holder.until = self._clock()
        self._commands += holder.commands()
        self._foreseen += holder.foreseen()
        self._carried += holder.carried()
        self._past.append(holder.summary())
        self._holder = None
        self._next_takes_over = False
        if self.attached is not None:
            self._stood_s += self._stands_for_s()
            self.attached = self.vm = None
            self._change()
            self._notice(
                EventKind.DETACHED,
                f"The debugger of {holder.address} is gone: {holder.ended}.",
                **holder.summary(),
                commands=dict(holder.commands()),
            )
        holder.over.set()

    def _take_events(self) -> None:
        if self._holder is None or self.attached is None:
            return
        for event in self._holder.take_events():
            match event:
                case VmChanged():
                    self._vm_changed(event)
                case Identified(debugger, vm_name):
                    self._holder.debugger = debugger
                    self.attached = replace(self.attached, debugger=debugger, vm_name=vm_name)
                    self._change()
                case ExitRefused():
                    self._exit_refused(self._holder)
                case PacketRefused(length):
                    text = f"The debugger announced a packet of {length} bytes, which no JVM should allocate."
                    self._notice(EventKind.PACKET_REFUSED, text, address=self._holder.address, length=length)

    def _vm_changed(self, event: VmChanged) -> None:
        since = self._clock()
        if self.vm is not None and self.vm.vm is event.vm:
            since = self.vm.since
        else:
            self._stood_s += self._stands_for_s()
        self.vm = VmState(vm=event.vm, since=since, thread=event.thread, location=event.location)
        self._change()

    def _exit_refused(self, holder: Connection) -> None:
        holder.exits_refused += 1
        if holder.exits_refused == 1:  # a debugger that insists is announced once
            text = "The debugger asked the JVM to exit, which this session does not allow: it was refused."
            self._notice(EventKind.EXIT_REFUSED, text, address=holder.address)

    def _waits(self, address: str, why: str) -> None:
        """The JVM was not reached at once: somebody may find out why, while the debugger is held."""
        self._notice(EventKind.STEP, f"The debugger of {address} is held until the JVM can be reached: {why}")
        self._change()

    def _refuse_second(self, address: str, holder: Connection) -> None:
        since = f"{holder.since:%H:%M} UTC"
        text = f"A second debugger, from {address}, was refused: {holder.address} holds the JVM since {since}."
        self._refuse("slot_taken", address, text, holder=holder.address, since=holder.since.isoformat())

    def _refuse(self, reason: str, address: str, text: str, **more: Any) -> None:
        self.refused[reason] += 1
        self._notice(EventKind.REFUSED, text, address=address, reason=reason, **more)

    def _notice(self, kind: EventKind, text: str, **data: Any) -> None:
        """*data* is JSON."""
        log.info("%s %s: %s", self.session_id, kind, text)
        asyncio.get_running_loop().call_soon(self._noticed, kind, {"text": text, **data})

    def _change(self) -> None:
        if not self._change_is_due:
            self._change_is_due = True
            asyncio.get_running_loop().call_soon(self._tell_change)

    def _tell_change(self) -> None:
        self._change_is_due = False
        self._changed()


def why_turned_away(host: str, reason: str) -> str:
    why = "this session's port is not for that address"
    if reason == "other_user":
        why = "it is another user's of the gateway's machine, whom debug_port_users of [gateway] does not name"
    return f"A connection from {host} was refused: {why}."
