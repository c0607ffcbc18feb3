"""What a debugger and its JVM have said to each other, and what follows: is the VM suspended, where, by whom.

Replies do not say what they answer, so what was asked is remembered by packet ID. All memory here is bounded, and so is
the work that one read can cause; what is forgotten or skipped costs a name, or makes the state unknown, but never makes
it wrong. What cannot be understood makes the state unknown until the next sure sign.

Not known here: what a JVM does that no packet says, like a thread's end or a thread's start.
"""

from collections import Counter, OrderedDict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from noah.core.jdwp import wire
from noah.core.jdwp.commands import (
    ABOUT_THREADS,
    BREAKPOINT_SET,
    INVOKES,
    KINDS,
    LONGEST_INVOKE,
    MOST_LOADERS,
    REPLY_HEADS,
    SUSPENDING,
    UNKNOWN,
)
from noah.core.jdwp.questions import Questions
from noah.core.jdwp.stops import Stops
from noah.core.jdwp.symbols import MOST_CLASSES, SymbolTable
from noah.core.jdwp.wire import Events, IdSizes, Malformed, Reader
from noah.core.session.session import Vm

AWAITED: Final = 256  # replies that are waited for at once; beyond it the oldest is forgotten
_MOST_METHODS: Final = 1000  # of a class
_MOST_LINES: Final = 500  # of a method

# What is looked into of one read, in bytes of payload; each packet counts for _PACKET_EFFORT more. A full read of
# the relay's 256 KiB can be 23,000 packets, and to understand one takes 3 to 8 µs [seen]: it would hold up everybody
# else's debugger. Replies need no such limit beside that of AWAITED.
EFFORT: Final = 128 << 10
_PACKET_EFFORT: Final = 100

# jdb's fourth command, [seen] with JDK 17: it looks out for java.lang.Throwable before anybody types anything.
_JDB_SET: Final = bytes([8, 2, 0, 0, 0, 2, 5, 0, 0, 0, 19]) + b"java."

_DOUBTFUL: Final = 3  # a suspend policy that does not exist
_SURE_POLICIES: Final = {wire.NO_ONE: bytes([wire.NO_ONE]), wire.ALL: bytes([wire.ALL])}


@dataclass(frozen=True, slots=True)
class VmChanged:
    """The VM's state; also when only more became known of where it stopped."""

    vm: Vm
    thread: str | None = None
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Identified:
    """The debugger's name, and the JVM's own name and version."""

    debugger: str | None
    vm_name: str | None


@dataclass(frozen=True, slots=True)
class ExitRefused:
    """The debugger asked the JVM to exit, and the JVM was not asked."""


@dataclass(frozen=True, slots=True)
class PacketRefused:
    """The debugger announced a packet that is not passed on; nothing of it was."""

    length: int


Event = VmChanged | Identified | ExitRefused | PacketRefused


class QuestionArose:
    """The state is the same, but the JVM knows more of it than what passed: a reason to look, not an event."""


class _Asked(NamedTuple):
    """A command whose reply is looked into, the IDs that it was about, and the step at which it passed."""

    number: int
    first: int = 0
    second: int = 0
    step: int = 0
    name: str = ""


class Conversation:
    __slots__ = (
        "_asked", "_debugger", "_looked_into", "_published", "_questions", "_sizes", "_stops", "_symbols", "_vm_name",
        "effort", "events", "is_disposed", "own", "passed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.events: list[Event | QuestionArose] = []  # always the same list; the one who feeds takes them
        self.is_disposed = False  # the debugger said goodbye
        self.effort = EFFORT  # left for the read that is being fed
        self._questions = Questions()
        self.own = self._questions.unanswered  # the packet IDs of our own questions
        # Commands by number: those that only pass, and those that are looked into.
        self.passed: dict[int, int] = {}
        self._looked_into: Counter[int] = Counter()
        self._asked: OrderedDict[int, _Asked] = OrderedDict()
        self._sizes = IdSizes()
        self._stops = Stops()
        self._symbols = SymbolTable()
        self._published: tuple[Vm, str | None, str | None] = (Vm.RUNNING, None, None)
        self._debugger: str | None = None
        self._vm_name: str | None = None

    def take_events(self) -> list[Event]:
        taken = [event for event in self.events if not isinstance(event, QuestionArose)]
        self.events.clear()
        return taken

    def counts(self) -> Mapping[str, int]:
        """Return how many commands of each kind the debugger sent; most kinds have JDWP's own names."""
        kinds: Counter[str] = Counter()
        for number, count in [*self.passed.items(), *self._looked_into.items()]:
            kinds[KINDS[number]] += count
        return kinds

    def begin_read(self) -> None:
        self.effort = EFFORT

    # What the debugger says

    def command(self, number: int, packet_id: int, head: bytes) -> None:
        """Look into a command of COMMAND_HEADS; *head* is as much of its payload as is said there."""
        self.effort -= _PACKET_EFFORT + len(head)
        if number == wire.REQUEST_SET:
            self._recognize(head)
            number = BREAKPOINT_SET if head[:1] == bytes([wire.BREAKPOINT]) else number
        else:
            try:
                self._apply(number, packet_id, head)
            except Malformed:
                if number in SUSPENDING:
                    self.doubt()
        self._looked_into[number] += 1

    def skip_command(self, number: int) -> None:
        """Count a command of COMMAND_HEADS without looking into it: too much came with it."""
        self._looked_into[number] += 1
        if number in SUSPENDING and self._published[0] is not Vm.UNKNOWN:
            self.doubt()

    def skip_composite(self, policy: bytes) -> None:
        """Believe only that it suspends nothing, if that is its *policy*: too much came with it."""
        if policy != _SURE_POLICIES[wire.NO_ONE] and self._published[0] is not Vm.UNKNOWN:
            self.doubt()

    def refuse_exit(self) -> None:
        self.effort -= _PACKET_EFFORT
        if self.effort > 0:  # many of them are said once
            self.events.append(ExitRefused())

    def saw_own_id(self) -> None:
        """The debugger uses our packet IDs: from now on they are all its own."""
        self._questions.stop()

    def _recognize(self, head: bytes) -> None:
        if head == _JDB_SET and not self.passed and self._looked_into == {wire.VM_ID_SIZES: 1, wire.REQUEST_SET: 2}:
            self._debugger = "jdb"
            self.events.append(Identified(self._debugger, self._vm_name))

    def _apply(self, number: int, packet_id: int, head: bytes) -> None:
        asked = self._subject(number, Reader(head, self._sizes))
        if number in SUSPENDING:
            # At once, not when it is confirmed: what the JVM does next may overtake its reply.
            self._suspend_or_resume(number, packet_id, asked.first, head)
            self._publish()
            if not self.events and self._stops.is_partly_resumed:
                self.events.append(QuestionArose())
        if number in REPLY_HEADS:
            self._await(packet_id, asked)

    def _subject(self, number: int, reader: Reader) -> _Asked:
        """Return what a command is about."""
        first = second = 0
        name = ""
        match number:
            case wire.VM_CLASSES_BY_SIGNATURE:
                name = wire.class_name(reader.text())
            case wire.THREAD_FRAMES:
                first, second = reader.thread_id(), reader.uint()
            case wire.THREAD_NAME | wire.THREAD_SUSPEND | wire.THREAD_RESUME | wire.THREAD_STATUS:
                first = reader.thread_id()
            case wire.THREAD_SUSPEND_COUNT | wire.FRAME_POP:
                first = reader.thread_id()
            case wire.METHOD_LINES:
                first, second = reader.type_id(), reader.method_id()
            case wire.TYPE_SIGNATURE | wire.TYPE_SIGNATURE_GENERIC | wire.TYPE_METHODS | wire.TYPE_METHODS_GENERIC:
                first = reader.type_id()
            case wire.CLASS_INVOKE | wire.CLASS_NEW_INSTANCE | wire.INTERFACE_INVOKE:
                reader.type_id()
                first = reader.thread_id()
            case wire.OBJECT_INVOKE:
                reader.thread_id()  # the object, whose ID is as long
                first = reader.thread_id()
        return _Asked(number, first, second, self._stops.step, name)

    def _suspend_or_resume(self, number: int, packet_id: int, thread: int, head: bytes) -> None:
        stops = self._stops
        match number:
            case wire.VM_DISPOSE:
                self.is_disposed = True
                stops.release()
            case wire.VM_SUSPEND:
                stops.suspend_all()
            case wire.VM_RESUME:
                stops.resume_all()
            case wire.THREAD_SUSPEND:
                stops.suspend(thread)
            case wire.THREAD_RESUME:
                stops.resume(thread)
            case _:
                if len(head) == LONGEST_INVOKE:
                    raise Malformed  # its options may be missing
                options = int.from_bytes(head[-4:])
                stops.invoke(packet_id, thread, is_single_threaded=bool(options & wire.SINGLE_THREADED))

    def _await(self, packet_id: int, asked: _Asked) -> None:
        self._asked[packet_id] = asked
        while len(self._asked) > AWAITED:
            oldest, forgotten = self._asked.popitem(last=False)
            if oldest in self.own:
                self._asked[oldest] = forgotten  # its reply must not reach the debugger
            elif forgotten.number in INVOKES:
                self._stops.invoked(oldest, is_refused=True)
                self.doubt()

    # What the JVM says

    @property
    def asked(self) -> Container[int]:
        """The packet IDs of replies that are looked into."""
        return self._asked

    def reply_head(self, packet_id: int) -> int:
        """Return how many bytes of that reply's payload are looked into."""
        asked = self._asked.get(packet_id)
        return 0 if asked is None else REPLY_HEADS[asked.number]

    def reply(self, packet_id: int, *, error: int, payload: bytes) -> None:
        self.own.discard(packet_id)
        asked = self._asked.pop(packet_id, _Asked(UNKNOWN))
        self.effort -= _PACKET_EFFORT + len(payload)
        try:
            self._fail(asked, packet_id) if error else self._learn(asked, packet_id, payload)
        except Malformed:
            if asked.number == wire.VM_ID_SIZES:
                self._stops.doubt()
        self._publish()

    def _fail(self, asked: _Asked, packet_id: int) -> None:
        """Take back what was believed when the command passed."""
        match asked.number:
            case wire.VM_SUSPEND:
                self._stops.resume_all()
            case wire.THREAD_SUSPEND:
                self._stops.resume(asked.first)
            case wire.THREAD_STATUS | wire.THREAD_SUSPEND_COUNT:
                self._stops.ended(asked.first)  # there is no such thread any more
            case wire.TYPE_METHODS | wire.TYPE_METHODS_GENERIC:
                self._symbols.learn_methods(asked.first, {})
            case wire.METHOD_LINES:
                self._symbols.learn_lines(asked.first, asked.second, [])
            case number if number in INVOKES:
                self._stops.invoked(packet_id, is_refused=True)

    def _learn(self, asked: _Asked, packet_id: int, payload: bytes) -> None:
        number = asked.number
        if number in INVOKES:
            self._stops.invoked(packet_id, is_refused=False)
        elif number in ABOUT_THREADS:
            self._learn_threads(asked, payload)
        elif number == wire.VM_VERSION:
            self._vm_name = wire.read_version(payload)
            self.events.append(Identified(self._debugger, self._vm_name))
        elif number == wire.VM_ID_SIZES:
            self._resize(wire.read_id_sizes(payload))
        else:
            self._learn_names(asked, payload)

    def _learn_threads(self, asked: _Asked, payload: bytes) -> None:
        stops, thread, is_still_so = self._stops, asked.first, asked.step == self._stops.step
        match asked.number:
            case wire.VM_ALL_THREADS:
                threads = wire.read_threads(payload, self._sizes)
                if threads is not None and is_still_so:
                    stops.list_threads(threads)
            case wire.THREAD_FRAMES if asked.second == 0:
                location = wire.read_top_frame(payload, self._sizes)
                if location is not None and is_still_so:
                    stops.moved(thread, location)
            case wire.THREAD_STATUS:
                if Reader(payload, self._sizes).uint() == wire.ZOMBIE:
                    stops.ended(thread)
                stops.unchecked.pop(thread, None)
            case wire.THREAD_SUSPEND_COUNT:
                # Only a zero is believed: a suspend may overtake the reply.
                if not Reader(payload, self._sizes).uint() and is_still_so:
                    stops.found_running(thread)
            case wire.FRAME_POP:
                stops.moved(thread, None)

    def _learn_names(self, asked: _Asked, payload: bytes) -> None:
        symbols, sizes, number, first = self._symbols, self._sizes, asked.number, asked.first
        match number:
            case wire.VM_CLASSES_BY_SIGNATURE:
                for type_id in wire.read_types(payload, sizes, most=MOST_LOADERS):
                    symbols.learn_class(type_id, asked.name)
            case wire.VM_ALL_CLASSES | wire.VM_ALL_CLASSES_GENERIC:
                generic = number == wire.VM_ALL_CLASSES_GENERIC
                for type_id, name in islice(wire.read_classes(payload, sizes, generic=generic), MOST_CLASSES):
                    symbols.learn_class(type_id, name)
            case wire.VM_REDEFINE_CLASSES:
                symbols.forget_code()
            case wire.TYPE_SIGNATURE | wire.TYPE_SIGNATURE_GENERIC:
                symbols.learn_class(first, wire.class_name(Reader(payload, sizes).text()))
            case wire.TYPE_METHODS | wire.TYPE_METHODS_GENERIC:
                generic = number == wire.TYPE_METHODS_GENERIC
                symbols.learn_methods(first, wire.read_methods(payload, sizes, generic=generic, most=_MOST_METHODS))
            case wire.METHOD_LINES:
                symbols.learn_lines(first, asked.second, wire.read_lines(payload, most=_MOST_LINES))
            case wire.THREAD_NAME:
                symbols.learn_thread(first, Reader(payload, sizes).text())

    def _resize(self, sizes: IdSizes) -> None:
        if sizes != self._sizes:
            self._sizes = sizes
            self._symbols = SymbolTable()  # what was learned by IDs of other sizes
            self._stops.forget_places()

    def composite(self, payload: bytes) -> None:
        """Look into the JVM's events, up to EVENT_HEAD bytes of them."""
        self.effort -= _PACKET_EFFORT + len(payload)
        try:
            events = wire.read_events(payload, self._sizes)
        except Malformed:
            # The policy comes first, and a suspended VM is a sure sign whatever follows.
            events = Events(payload[0] if payload[:1] in _SURE_POLICIES.values() else _DOUBTFUL)
        if events.prepared:
            self._symbols.learn_class(*events.prepared)
        if events.policy != wire.NO_ONE:
            self._stops.stopped(events.policy, events.thread, events.location)
            self._publish()
        elif events.kind == wire.THREAD_DEATH and events.thread is not None:
            self._stops.ended(events.thread)
            self._publish()

    # What follows

    def doubt(self) -> None:
        """Something passed that nobody can understand."""
        self._stops.doubt()
        self._publish()

    def _publish(self) -> None:
        vm = self._stops.vm
        thread = location = None
        if vm in (Vm.SUSPENDED, Vm.THREAD) and (current := self._stops.current()):
            thread = self._symbols.thread(current[0])
            location = self._symbols.describe(current[1]) if current[1] else None
        state = vm, thread, location
        if state != self._published:
            self._published = state
            self.events.append(VmChanged(*state))

    # What the gateway asks the JVM itself

    @property
    def has_questions(self) -> bool:
        return not self.is_disposed and self._questions.are_open(self._stops, self._symbols, self._sizes)

    def take_questions(self) -> bytes:
        """Return packets to send to the JVM now, while it is suspended; their replies are not for the debugger."""
        if self.is_disposed:
            return b""
        packets = bytearray()
        for packet_id, question in self._questions.take(self._stops, self._symbols, self._sizes):
            self._await(packet_id, _Asked(question.number, question.first, question.second, self._stops.step))
            packets += wire.packet(packet_id, question.number, question.payload)
        return bytes(packets)
