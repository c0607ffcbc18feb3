"""Understands a JDWP connection that passes by, and stops what must not reach a JVM.

Both directions are fed as they are read, in any pieces, and give back what to pass on: nearly always the very bytes
that came. The debugger's direction holds back an unfinished header, with the few bytes of payload that are looked into;
a JVM cannot use them yet, and they go on with the packet's next byte. The JVM's direction holds back nothing. Memory is
bounded whatever passes: of payloads only beginnings are kept, only of packets that matter, only until they were read.

What is not understood passes, and the VM's state becomes unknown until the next sure sign. Not known here: the time,
and what a JVM does that no packet tells (a VM that was suspended as a whole and whose every thread was resumed one by
one still counts as suspended; so does one that runs for as long as a method is invoked in it).
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from noah.core import jdwp
from noah.core.jdwp import HEADER_SIZE, REPLY, Events, IdSizes, Location, Malformed, Reader, header
from noah.core.places import MOST_CLASSES, Places
from noah.core.session import Vm
from noah.core.suspension import Suspension

# A JVM allocates what a header says before it reads on. The longest packet that is meant well is RedefineClasses: MiBs.
LONGEST: Final = 64 << 20
AWAITED: Final = 256  # replies that are waited for at once; beyond it the oldest is forgotten
ANSWERS: Final = 4096  # bytes of answers of our own that wait for a gap between the JVM's packets; more are left out
FOREVER: Final = 1 << 62  # the rest of a packet, where packets can no longer be told apart

# Commands that are looked into, and how many bytes of their payload that takes.
_COMMAND_HEADS: Final = {
    jdwp.VM_VERSION: 0,
    jdwp.VM_ALL_CLASSES: 0,
    jdwp.VM_DISPOSE: 0,
    jdwp.VM_ID_SIZES: 0,
    jdwp.VM_SUSPEND: 0,
    jdwp.VM_RESUME: 0,
    jdwp.VM_EXIT: 0,
    jdwp.VM_ALL_CLASSES_GENERIC: 0,
    jdwp.TYPE_SIGNATURE: 8,
    jdwp.TYPE_METHODS: 8,
    jdwp.TYPE_SIGNATURE_GENERIC: 8,
    jdwp.TYPE_METHODS_GENERIC: 8,
    jdwp.METHOD_LINES: 16,
    jdwp.THREAD_NAME: 8,
    jdwp.THREAD_SUSPEND: 8,
    jdwp.THREAD_RESUME: 8,
    jdwp.REQUEST_SET: 16,
}
# The same for replies. What is beyond is not missed: names of the 500th method, of the 5000th class.
_REPLY_HEADS: Final = {
    jdwp.VM_VERSION: 2048,
    jdwp.VM_ALL_CLASSES: 512 << 10,
    jdwp.VM_ID_SIZES: 20,
    jdwp.VM_SUSPEND: 0,
    jdwp.VM_ALL_CLASSES_GENERIC: 512 << 10,
    jdwp.TYPE_SIGNATURE: 1024,
    jdwp.TYPE_METHODS: 64 << 10,
    jdwp.TYPE_SIGNATURE_GENERIC: 1024,
    jdwp.TYPE_METHODS_GENERIC: 64 << 10,
    jdwp.METHOD_LINES: 8 << 10,
    jdwp.THREAD_NAME: 1024,
    jdwp.THREAD_SUSPEND: 0,
}
_EVENT_HEAD: Final = 1024
_MOST_METHODS: Final = 500
_MOST_LINES: Final = 500

# jdb's fourth command, [seen] with JDK 17: it looks out for java.lang.Throwable before anybody types anything.
_JDB_SET: Final = bytes([8, 2, 0, 0, 0, 2, 5, 0, 0, 0, 19]) + b"java."

_DOUBTFUL: Final = 3  # a suspend policy that there is not
_UNKNOWN: Final = 0  # in counts: commands that JDWP does not have
_BREAKPOINT: Final = -1  # in counts: requests for a breakpoint, apart from other requests
_KINDS: Final = jdwp.NAMES | {
    _UNKNOWN: "unknown",
    _BREAKPOINT: "breakpoints set",
    **dict.fromkeys((jdwp.command(s, c) for s, c in ((3, 3), (3, 4), (5, 1), (9, 6))), "methods invoked"),
    **dict.fromkeys((jdwp.command(s, c) for s, c in ((3, 2), (9, 3), (13, 3), (16, 2))), "values set"),
    jdwp.command(1, 18): "classes redefined",
}


class OversizedPacket(Exception):
    """The debugger announces a packet that no JVM should allocate."""

    def __init__(self, length: int) -> None:
        super().__init__(f"it announced a packet of {length} bytes; the most that is passed on is {LONGEST}")
        self.length = length


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


class Observer:
    """One connection after its handshakes. Feed what was read, pass on what comes back, take the events that it made."""

    def __init__(self, *, allow_exit: bool) -> None:
        self.events: list[Event] = []
        self.is_disposed = False  # the debugger said goodbye
        self._allow_exit = allow_exit
        self._counts: dict[int, int] = {}
        # From the debugger: what is still to come of a packet, whether it is left out, a head that is held back.
        self._command_rest = 0
        self._leaving_out = False
        self._held = b""
        # From the JVM: what is still to come of a packet, the head that is being gathered and its size.
        self._reply_rest = 0
        self._gathered = bytearray()
        self._goal = HEADER_SIZE
        self._answers = bytearray()
        # Packet ID -> command and the IDs that it was about.
        self._awaited: OrderedDict[int, tuple[int, int, int]] = OrderedDict()
        self._sizes = IdSizes()
        self._suspension = Suspension()
        self._places = Places()
        self._stop: tuple[int | None, Location | None] = (None, None)
        self._told = VmChanged(Vm.RUNNING)
        self._debugger: str | None = None
        self._vm_name: str | None = None

    def take_events(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    def counts(self) -> Mapping[str, int]:
        """How many commands of each kind the debugger sent; most kinds are JDWP's own names."""
        kinds: Counter[str] = Counter()
        for number, count in self._counts.items():
            kinds[_KINDS[number]] += count
        return kinds

    # From the debugger

    def from_debugger(self, data: memoryview) -> memoryview | bytes:
        """What to pass on to the JVM. OversizedPacket: close, before the JVM allocates it."""
        if self._held:
            data = memoryview(self._held + data)
            self._held = b""
        size, at, counts = len(data), self._command_rest, self._counts
        begin = min(at, size) if self._leaving_out else 0  # of what is passed on
        pieces: list[memoryview] = []
        while at + HEADER_SIZE <= size:
            length, packet_id, flags, number = header(data, at)
            if not HEADER_SIZE <= length <= LONGEST:
                length = self._hostile(length)
            if not flags & REPLY:
                if number in _COMMAND_HEADS:
                    head = at + min(length, HEADER_SIZE + _COMMAND_HEADS[number])
                    if head > size:
                        break
                    if number == jdwp.VM_EXIT and not self._allow_exit:
                        self._refuse_exit(packet_id)
                        pieces.append(data[begin:at])
                        begin = at + length
                    else:
                        number = self._command(number, packet_id, bytes(data[at + HEADER_SIZE : head]))
                elif number not in jdwp.NAMES:
                    number = _UNKNOWN
                counts[number] = counts.get(number, 0) + 1
            at += length
        self._leaving_out = begin > size
        if at < size:
            self._command_rest = 0
            self._held = bytes(data[at:])
        else:
            self._command_rest = at - size
            at = size
        if begin == 0 and at == size:
            return data
        return b"".join([*pieces, data[begin:at]]) if begin else data[:at]

    def take_held(self) -> bytes:
        """What is still held back when the debugger has ended: it goes to the JVM as it is."""
        held, self._held = self._held, b""
        return held

    def _hostile(self, length: int) -> int:
        if length > LONGEST:
            self.events.append(PacketRefused(length))
            raise OversizedPacket(length)
        # The JVM will hang up. Where the next packet begins nobody can say.
        self._doubt()
        return FOREVER

    def _refuse_exit(self, packet_id: int) -> None:
        if len(self._answers) < ANSWERS:
            self._answers += jdwp.error_reply(packet_id, jdwp.NOT_IMPLEMENTED)
        self.events.append(ExitRefused())

    def _command(self, number: int, packet_id: int, head: bytes) -> int:
        """Learns from a command, and says as what it is counted."""
        if number == jdwp.REQUEST_SET:
            self._recognize(head)
            return _BREAKPOINT if head[:1] == bytes([jdwp.BREAKPOINT]) else number
        try:
            self._await_reply(number, packet_id, head)
        except Malformed:
            self._doubt()
        return number

    def _await_reply(self, number: int, packet_id: int, head: bytes) -> None:
        reader, suspension = Reader(head, self._sizes), self._suspension
        first = second = 0
        match number:
            case jdwp.VM_DISPOSE:
                self.is_disposed = True
                suspension.release()
            case jdwp.VM_SUSPEND:
                suspension.suspend_all()
            case jdwp.VM_RESUME:
                suspension.resume_all()
            case jdwp.THREAD_SUSPEND:
                suspension.suspend(first := reader.thread_id())
            case jdwp.THREAD_RESUME:
                suspension.resume(reader.thread_id())
            case jdwp.THREAD_NAME:
                first = reader.thread_id()
            case jdwp.METHOD_LINES:
                first, second = reader.type_id(), reader.method_id()
            case jdwp.TYPE_SIGNATURE | jdwp.TYPE_SIGNATURE_GENERIC | jdwp.TYPE_METHODS | jdwp.TYPE_METHODS_GENERIC:
                first = reader.type_id()
        self._tell_vm()
        if number in _REPLY_HEADS:
            self._awaited[packet_id] = number, first, second
            if len(self._awaited) > AWAITED:
                self._awaited.popitem(last=False)

    def _recognize(self, head: bytes) -> None:
        if head == _JDB_SET and self._counts == {jdwp.VM_ID_SIZES: 1, jdwp.REQUEST_SET: 2}:
            self._debugger = "jdb"
            self.events.append(Identified(self._debugger, self._vm_name))

    # From the JVM

    def from_jvm(self, data: memoryview) -> memoryview | bytes:
        """What to pass on to the debugger: *data*, and answers of our own where they fit between two packets."""
        size, at = len(data), self._reply_rest
        gap = at if self._answers and not self._gathered else FOREVER
        if self._gathered:
            at = self._gather(data, at)
        while at + HEADER_SIZE <= size:
            length, packet_id, flags, _ = header(data, at)
            if flags & REPLY and packet_id not in self._awaited and length >= HEADER_SIZE:
                at += length
            else:
                at = self._gather(data, at)
        if at < size:
            self._gathered += data[at:]
            at = size
        self._reply_rest = at - size
        return data if gap > size else bytes(data[:gap]) + self._take_answers() + data[gap:]

    def answer(self) -> bytes:
        """Answers of our own that can go to the debugger now, after all that was passed on."""
        in_gap = not (self._gathered or self._reply_rest)
        return self._take_answers() if self._answers and in_gap else b""

    def _take_answers(self) -> bytes:
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def _gather(self, data: memoryview, at: int) -> int:
        """Gathers a head from *at* on. Where the next packet begins, once it is complete; else the end of *data*."""
        while True:
            missing = self._goal - len(self._gathered)
            self._gathered += data[at : at + missing]
            at += missing
            if at > len(data):
                return len(data)
            beyond = self._understand()
            if beyond is not None:
                self._gathered.clear()
                self._goal = HEADER_SIZE
                return at + beyond

    def _understand(self) -> int | None:
        """How much of its packet is beyond the gathered head; None: the head has to be longer."""
        head = self._gathered
        length, packet_id, flags, number = header(head)
        if length < HEADER_SIZE:
            self._doubt()
            return FOREVER
        if len(head) == HEADER_SIZE:
            self._goal = min(length, HEADER_SIZE + self._looked_into(packet_id, flags, number))
            if self._goal > HEADER_SIZE:
                return None
        payload = bytes(head[HEADER_SIZE:])
        if flags & REPLY:
            self._reply(packet_id, error=number, payload=payload)
        elif number == jdwp.EVENTS:
            self._events(payload)
        return int(length) - len(head)

    def _looked_into(self, packet_id: int, flags: int, number: int) -> int:
        if flags & REPLY:
            return _REPLY_HEADS[self._awaited[packet_id][0]] if packet_id in self._awaited else 0
        return _EVENT_HEAD if number == jdwp.EVENTS else 0

    def _events(self, payload: bytes) -> None:
        try:
            events = jdwp.read_events(payload, self._sizes)
        except Malformed:
            # The policy comes first, and to stand still is a sure sign whatever follows.
            events = Events(policy=payload[0] if payload[:1] == bytes([jdwp.ALL]) else _DOUBTFUL)
        if events.prepared:
            self._places.learn_class(*events.prepared)
        match events.policy:
            case jdwp.ALL:
                self._suspension.suspend_all()
            case jdwp.EVENT_THREAD if events.thread is not None:
                self._suspension.suspend(events.thread)
            case jdwp.NO_ONE:
                return
            case _:
                self._suspension.doubt()
        self._stop = events.thread, events.location
        self._tell_vm()

    def _reply(self, packet_id: int, *, error: int, payload: bytes) -> None:
        number, first, second = self._awaited.pop(packet_id, (_UNKNOWN, 0, 0))
        if error:
            self._undo(number, first)
            return
        try:
            self._learn(number, first, second, payload)
        except Malformed:
            if number == jdwp.VM_ID_SIZES:
                self._doubt()
        self._tell_vm()

    def _undo(self, number: int, thread: int) -> None:
        """A command that was taken to suspend did not."""
        if number == jdwp.VM_SUSPEND:
            self._suspension.resume_all()
        elif number == jdwp.THREAD_SUSPEND:
            self._suspension.resume(thread)
        self._tell_vm()

    def _learn(self, number: int, first: int, second: int, payload: bytes) -> None:
        places, sizes = self._places, self._sizes
        match number:
            case jdwp.VM_VERSION:
                self._vm_name = jdwp.read_version(payload)
                self.events.append(Identified(self._debugger, self._vm_name))
            case jdwp.VM_ID_SIZES:
                self._sizes = jdwp.read_id_sizes(payload)
            case jdwp.VM_ALL_CLASSES | jdwp.VM_ALL_CLASSES_GENERIC:
                generic = number == jdwp.VM_ALL_CLASSES_GENERIC
                for type_id, name in islice(jdwp.read_classes(payload, sizes, generic=generic), MOST_CLASSES):
                    places.learn_class(type_id, name)
            case jdwp.TYPE_SIGNATURE | jdwp.TYPE_SIGNATURE_GENERIC:
                places.learn_class(first, jdwp.class_name(Reader(payload, sizes).text()))
            case jdwp.TYPE_METHODS | jdwp.TYPE_METHODS_GENERIC:
                generic = number == jdwp.TYPE_METHODS_GENERIC
                places.learn_methods(first, jdwp.read_methods(payload, sizes, generic=generic, most=_MOST_METHODS))
            case jdwp.METHOD_LINES:
                places.learn_lines(first, second, jdwp.read_lines(payload, most=_MOST_LINES))
            case jdwp.THREAD_NAME:
                places.learn_thread(first, Reader(payload, sizes).text())

    # What is told

    def _doubt(self) -> None:
        self._suspension.doubt()
        self._tell_vm()

    def _tell_vm(self) -> None:
        vm = self._suspension.vm
        if self._stop[0] is not None and not self._suspension.holds(self._stop[0]):
            self._stop = None, None
        state = VmChanged(vm) if vm in (Vm.RUNNING, Vm.UNKNOWN) else VmChanged(vm, *self._named_stop())
        if state != self._told:
            self._told = state
            self.events.append(state)

    def _named_stop(self) -> tuple[str | None, str | None]:
        thread, location = self._stop
        if thread is None:
            return None, None
        return self._places.thread(thread), self._places.describe(location) if location else None
