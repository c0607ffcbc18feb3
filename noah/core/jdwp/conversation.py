"""What a debugger and its JVM have said to each other, and what follows: is the VM suspended, where, by whom.

Replies do not say what they answer, so what was asked is remembered by packet ID. All memory here is bounded; what is
forgotten costs a name, never the state. What is not understood makes the state unknown until the next sure sign.

Not known here: what a JVM does that no packet tells. A VM that was suspended as a whole and whose threads were then
resumed one by one still counts as suspended; so does one that runs for as long as a method is invoked in it.
"""

from collections import Counter, OrderedDict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from noah.core.jdwp import wire
from noah.core.jdwp.suspension import Suspension
from noah.core.jdwp.symbols import MOST_CLASSES, Places
from noah.core.jdwp.wire import Events, IdSizes, Location, Malformed, Reader
from noah.core.session.session import Vm

AWAITED: Final = 256  # replies that are waited for at once; beyond it the oldest is forgotten
_MOST_METHODS: Final = 500  # of a class
_MOST_LINES: Final = 500  # of a method

# Commands that are looked into, and how many bytes of their payload that takes. The others are only counted.
COMMAND_HEADS: Final = {
    wire.VM_VERSION: 0,
    wire.VM_ALL_CLASSES: 0,
    wire.VM_DISPOSE: 0,
    wire.VM_ID_SIZES: 0,
    wire.VM_SUSPEND: 0,
    wire.VM_RESUME: 0,
    wire.VM_EXIT: 0,
    wire.VM_ALL_CLASSES_GENERIC: 0,
    wire.TYPE_SIGNATURE: 8,
    wire.TYPE_METHODS: 8,
    wire.TYPE_SIGNATURE_GENERIC: 8,
    wire.TYPE_METHODS_GENERIC: 8,
    wire.METHOD_LINES: 16,
    wire.THREAD_NAME: 8,
    wire.THREAD_SUSPEND: 8,
    wire.THREAD_RESUME: 8,
    wire.REQUEST_SET: 16,
}
# The same for replies, by what they answer. Nobody misses the name of a class's 501st method.
_REPLY_HEADS: Final = {
    wire.VM_VERSION: 2048,
    wire.VM_ALL_CLASSES: 512 << 10,
    wire.VM_ID_SIZES: 20,
    wire.VM_SUSPEND: 0,
    wire.VM_ALL_CLASSES_GENERIC: 512 << 10,
    wire.TYPE_SIGNATURE: 1024,
    wire.TYPE_METHODS: 64 << 10,
    wire.TYPE_SIGNATURE_GENERIC: 1024,
    wire.TYPE_METHODS_GENERIC: 64 << 10,
    wire.METHOD_LINES: 8 << 10,
    wire.THREAD_NAME: 1024,
    wire.THREAD_SUSPEND: 0,
}
EVENT_HEAD: Final = 1024

# jdb's fourth command, [seen] with JDK 17: it looks out for java.lang.Throwable before anybody types anything.
_JDB_SET: Final = bytes([8, 2, 0, 0, 0, 2, 5, 0, 0, 0, 19]) + b"java."

_DOUBTFUL: Final = 3  # a suspend policy that there is not
UNKNOWN: Final = 0  # in counts: commands that JDWP does not have
_BREAKPOINT: Final = -1  # in counts: requests for a breakpoint, apart from requests for other events
_KINDS: Final = wire.NAMES | {
    UNKNOWN: "unknown",
    _BREAKPOINT: "breakpoints set",
    **dict.fromkeys((wire.command(s, c) for s, c in ((3, 3), (3, 4), (5, 1), (9, 6))), "methods invoked"),
    **dict.fromkeys((wire.command(s, c) for s, c in ((3, 2), (9, 3), (13, 3), (16, 2))), "values set"),
    wire.command(1, 18): "classes redefined",
}


@dataclass(frozen=True, slots=True)
class VmChanged:
    """The VM's state; also when only more became known of where it stopped."""

    vm: Vm
    thread: str | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Identified:
    """What the debugger is, or what the JVM says that it is."""

    debugger: str | None
    vm_name: str | None


@dataclass(frozen=True, slots=True)
class ExitRefused:
    """The debugger asked the JVM to exit and was told that it cannot."""


@dataclass(frozen=True, slots=True)
class PacketRefused:
    """The debugger announced a packet that is not passed on; nothing of it was."""

    length: int


Event = VmChanged | Identified | ExitRefused | PacketRefused


class Conversation:
    __slots__ = (
        "_asked", "_debugger", "_looked_into", "_places", "_sizes", "_stop", "_suspension", "_told", "_vm_name",
        "events", "is_disposed", "passed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.events: list[Event] = []  # always the same list; whoever feeds takes them
        self.is_disposed = False  # the debugger said goodbye
        # Commands by number: those that only pass, and those that are looked into.
        self.passed: dict[int, int] = {}
        self._looked_into: Counter[int] = Counter()
        # Packet ID -> the command and the IDs that it was about.
        self._asked: OrderedDict[int, tuple[int, int, int]] = OrderedDict()
        self._sizes = IdSizes()
        self._suspension = Suspension()
        self._places = Places()
        self._stop: tuple[int | None, Location | None] = (None, None)
        self._told = VmChanged(Vm.RUNNING)
        self._debugger: str | None = None
        self._vm_name: str | None = None

    def take_events(self) -> list[Event]:
        taken = list(self.events)
        self.events.clear()
        return taken

    def counts(self) -> Mapping[str, int]:
        """How many commands of each kind the debugger sent; most kinds have JDWP's own names."""
        kinds: Counter[str] = Counter()
        for number, count in [*self.passed.items(), *self._looked_into.items()]:
            kinds[_KINDS[number]] += count
        return kinds

    # What the debugger says

    def command(self, number: int, packet_id: int, head: bytes) -> None:
        """A command of COMMAND_HEADS, with so much of its payload."""
        if number == wire.REQUEST_SET:
            self._recognize(head)
            number = _BREAKPOINT if head[:1] == bytes([wire.BREAKPOINT]) else number
        else:
            self._apply(number, packet_id, head)
        self._looked_into[number] += 1

    def _recognize(self, head: bytes) -> None:
        if head == _JDB_SET and not self.passed and self._looked_into == {wire.VM_ID_SIZES: 1, wire.REQUEST_SET: 2}:
            self._debugger = "jdb"
            self.events.append(Identified(self._debugger, self._vm_name))

    def _apply(self, number: int, packet_id: int, head: bytes) -> None:
        try:
            ids = self._subject(number, Reader(head, self._sizes))
        except Malformed:
            self.doubt()
            return
        # At once, not when it is confirmed: what the JVM does next may overtake its reply.
        match number:
            case wire.VM_DISPOSE:
                self.is_disposed = True
                self._suspension.release()
            case wire.VM_SUSPEND:
                self._suspension.suspend_all()
            case wire.VM_RESUME:
                self._suspension.resume_all()
            case wire.THREAD_SUSPEND:
                self._suspension.suspend(ids[0])
            case wire.THREAD_RESUME:
                self._suspension.resume(ids[0])
        self._tell_vm()
        if number in _REPLY_HEADS:
            self._asked[packet_id] = number, *ids
            if len(self._asked) > AWAITED:
                self._asked.popitem(last=False)

    @staticmethod
    def _subject(number: int, reader: Reader) -> tuple[int, int]:
        """The IDs that a command is about; 0 where it has none."""
        match number:
            case wire.THREAD_NAME | wire.THREAD_SUSPEND | wire.THREAD_RESUME:
                return reader.thread_id(), 0
            case wire.METHOD_LINES:
                return reader.type_id(), reader.method_id()
            case wire.TYPE_SIGNATURE | wire.TYPE_SIGNATURE_GENERIC | wire.TYPE_METHODS | wire.TYPE_METHODS_GENERIC:
                return reader.type_id(), 0
            case _:
                return 0, 0

    # What the JVM says

    @property
    def asked(self) -> Container[int]:
        """The packet IDs of replies that are looked into."""
        return self._asked

    def reply_head(self, packet_id: int) -> int:
        """How many bytes of that reply's payload are looked into."""
        asked = self._asked.get(packet_id)
        return 0 if asked is None else _REPLY_HEADS[asked[0]]

    def reply(self, packet_id: int, *, error: int, payload: bytes) -> None:
        number, *ids = self._asked.pop(packet_id, (UNKNOWN, 0, 0))
        if error:
            self._undo(number, ids[0])
        else:
            try:
                self._learn(number, ids[0], ids[1], payload)
            except Malformed:
                if number == wire.VM_ID_SIZES:
                    self._suspension.doubt()
        self._tell_vm()

    def _undo(self, number: int, thread: int) -> None:
        """What was taken for a suspend was none."""
        if number == wire.VM_SUSPEND:
            self._suspension.resume_all()
        elif number == wire.THREAD_SUSPEND:
            self._suspension.resume(thread)

    def _learn(self, number: int, first: int, second: int, payload: bytes) -> None:
        places, sizes = self._places, self._sizes
        match number:
            case wire.VM_VERSION:
                self._vm_name = wire.read_version(payload)
                self.events.append(Identified(self._debugger, self._vm_name))
            case wire.VM_ID_SIZES:
                self._sizes = wire.read_id_sizes(payload)
            case wire.VM_ALL_CLASSES | wire.VM_ALL_CLASSES_GENERIC:
                generic = number == wire.VM_ALL_CLASSES_GENERIC
                for type_id, name in islice(wire.read_classes(payload, sizes, generic=generic), MOST_CLASSES):
                    places.learn_class(type_id, name)
            case wire.TYPE_SIGNATURE | wire.TYPE_SIGNATURE_GENERIC:
                places.learn_class(first, wire.class_name(Reader(payload, sizes).text()))
            case wire.TYPE_METHODS | wire.TYPE_METHODS_GENERIC:
                generic = number == wire.TYPE_METHODS_GENERIC
                places.learn_methods(first, wire.read_methods(payload, sizes, generic=generic, most=_MOST_METHODS))
            case wire.METHOD_LINES:
                places.learn_lines(first, second, wire.read_lines(payload, most=_MOST_LINES))
            case wire.THREAD_NAME:
                places.learn_thread(first, Reader(payload, sizes).text())

    def composite(self, payload: bytes) -> None:
        """The JVM's events; up to EVENT_HEAD bytes of them."""
        try:
            events = wire.read_events(payload, self._sizes)
        except Malformed:
            # The policy comes first, and to stand still is a sure sign whatever follows.
            events = Events(payload[0] if payload[:1] == bytes([wire.ALL]) else _DOUBTFUL)
        if events.prepared:
            self._places.learn_class(*events.prepared)
        match events.policy:
            case wire.NO_ONE:
                return
            case wire.ALL:
                self._suspension.suspend_all()
            case wire.EVENT_THREAD if events.thread is not None:
                self._suspension.suspend(events.thread)
            case _:
                self._suspension.doubt()
        self._stop = events.thread, events.location
        self._tell_vm()

    # What follows

    def doubt(self) -> None:
        """Something passed that nobody can understand."""
        self._suspension.doubt()
        self._tell_vm()

    def _tell_vm(self) -> None:
        thread, location = self._stop
        if thread is not None and not self._suspension.holds(thread):
            self._stop = thread, location = None, None
        vm = self._suspension.vm
        if thread is None or vm in (Vm.RUNNING, Vm.UNKNOWN):
            state = VmChanged(vm)
        else:
            state = VmChanged(vm, self._places.thread(thread), self._places.describe(location) if location else None)
        if state != self._told:
            self._told = state
            self.events.append(state)
