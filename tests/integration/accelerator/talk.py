"""A debugger that does anything: random commands about whatever the JVM has shown it, several at a time.

It counts how often each object's ID was shown to it and never disposes of more: HotSpot ends the process when somebody
does.
"""

import random
import struct
import time
from collections import Counter
from typing import Final

from noah.core.jdwp import cache, wire
from noah.core.jdwp.cache import ROWS, Subject
from noah.core.jdwp.commands import INVOKES
from noah.core.jdwp.wire import HEADER_SIZE, REPLY, Malformed, command
from tests import jdwp
from tests.jdwp import Debugger, integer, long

_MOST: Final = 400  # IDs of one kind that are remembered
_ALL_FRAMES: Final = bytes(4) + b"\xff" * 4


class Talker:
    """One connection. `commands` and `errors` say what came of it."""

    def __init__(self, port: int, chance: random.Random) -> None:
        self._chance = chance
        self._debugger = Debugger(port)
        self._next_id = 0
        self.commands = 0
        self.errors: Counter[int] = Counter()
        self._shown: Counter[int] = Counter()
        self._pools: dict[Subject, list[bytes]] = {subject: [] for subject in Subject}
        self._fields: dict[bytes, list[bytes]] = {}  # of types
        self._statics: dict[bytes, list[bytes]] = {}
        self._type_of: dict[bytes, bytes] = {}
        self._slots: dict[bytes, list[bytes]] = {}  # of methods
        self._frames: dict[bytes, bytes] = {}  # frames' methods
        self._breakpoints: list[bytes] = []

    def __enter__(self) -> "Talker":
        return self

    def __exit__(self, *_: object) -> None:
        self._debugger.socket.close()

    def begin(self) -> None:
        """Do what every debugger does first, and stop at a line of a worker."""
        self.exchange([(wire.VM_ID_SIZES, b"")])
        self.exchange([(wire.REQUEST_SET, b"\x09\x00" + integer(0)), (wire.VM_VERSION, b"")])
        for name in ("LTarget$Order;", "LTarget$Worker;", "Ljava/lang/Thread;"):
            self.exchange([(wire.VM_CLASSES_BY_SIGNATURE, jdwp.string(name))])
        for type_id in list(self._pools[Subject.TYPE])[:3]:
            self.exchange([(wire.TYPE_METHODS_GENERIC, type_id), (cache.TYPE_FIELDS_GENERIC, type_id)])

    def stop(self) -> None:
        """Set a breakpoint in a method, wait for it, and clear it."""
        order = self._pools[Subject.METHOD]
        for code in self._chance.sample(order, min(3, len(order))):
            place = b"\x01" + code + long(0)
            policy = self._chance.choice([jdwp.EVENT_THREAD, jdwp.ALL]).to_bytes()
            (reply,) = self.exchange([(wire.REQUEST_SET, b"\x02" + policy + integer(1) + b"\x07" + place)])
            if reply is not None:
                self._breakpoints.append(reply)
        self.exchange([(wire.VM_RESUME, b"")])
        self.wait_for_events(0.1)
        for request in self._breakpoints:
            self.exchange([(cache.REQUEST_CLEAR, b"\x02" + request)])
        self._breakpoints.clear()
        self.wait_for_events(0.02)

    def exchange(self, commands: list[tuple[int, bytes]]) -> list[bytes | None]:
        """Send commands in one piece or several, and return the replies' payloads; None for errors.

        Replies have to come in the order of their commands, but for those of methods that are invoked.
        """
        ids = {}
        data = b""
        for number, payload in commands:
            self._next_id += 1
            ids[self._next_id] = number, payload
            data += jdwp.ask(self._next_id, number, payload)
        self.commands += len(commands)
        cut = self._chance.randrange(len(data))
        for piece in (data[:cut], data[cut:]):
            if piece:
                self._debugger.socket.sendall(piece)
        in_order = [i for i, (number, _) in ids.items() if number not in INVOKES]
        answers: dict[int, bytes | None] = {}
        while len(answers) < len(ids):
            packet_id, flags, error, body = self._packet()
            if not flags & REPLY:
                self._note_events(body)
                continue
            number, payload = ids[packet_id]
            assert packet_id not in answers, "two replies to one command"
            if number not in INVOKES:
                assert packet_id == in_order.pop(0), "a reply overtook another"
            answers[packet_id] = None if error else body
            self.errors[error] += 1
            if not error:
                self._learn(number, payload, body)
        return [answers[i] for i in ids]

    def wait_for_events(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._debugger.socket.settimeout(left)
            try:
                first = self._debugger.socket.recv(1)
            except TimeoutError:
                break
            finally:
                self._debugger.socket.settimeout(20)
            rest = self._debugger.read(HEADER_SIZE - 1)
            length, _, flags, _ = struct.unpack(">IIBH", first + rest)
            assert not flags & REPLY, "a reply to nothing"
            self._note_events(self._debugger.read(length - HEADER_SIZE))
            break

    def _packet(self) -> tuple[int, int, int, bytes]:
        length, packet_id, flags, what = struct.unpack(">IIBH", self._debugger.read(HEADER_SIZE))
        return packet_id, flags, what, self._debugger.read(length - HEADER_SIZE)

    # What it was shown

    def _note_events(self, body: bytes) -> None:
        events = wire.read_events(body, wire.IdSizes())
        if events.thread:
            self._show(events.thread)
            self._add(Subject.THREAD, events.thread.to_bytes(8))

    def _show(self, i: int) -> None:
        self._shown[i] += 1

    def _add(self, subject: Subject, thing: bytes) -> None:
        pool = self._pools[subject]
        if any(thing) and thing not in pool:
            pool.append(thing)
            if len(pool) > _MOST:
                del pool[0]

    def _learn(self, number: int, payload: bytes, body: bytes) -> None:
        if number in ROWS:
            try:
                things, types = cache.mentions(number, body)
            except Malformed:
                things, types = (), ()
            for i in (*things, *types):
                self._show(i)
            for i in types:
                self._add(Subject.TYPE, i.to_bytes(8))
        match number:
            case wire.VM_CLASSES_BY_SIGNATURE:
                for at in range(5, len(body) - 8, 13):
                    self._show(int.from_bytes(body[at : at + 8]))
                    self._add(Subject.TYPE, body[at : at + 8])
            case wire.VM_ALL_THREADS:
                for i in things:
                    self._add(Subject.THREAD, i.to_bytes(8))
            case cache.TOP_LEVEL_GROUPS | cache.THREAD_GROUP | cache.GROUP_PARENT:
                for i in things:
                    self._add(Subject.GROUP, i.to_bytes(8))
            case wire.THREAD_FRAMES:
                for at in range(4, len(body) - 32, 33):
                    frame = payload[:8] + body[at : at + 8]
                    self._add(Subject.FRAME, frame)
                    self._add(Subject.METHOD, body[at + 9 : at + 25])
                    self._frames[frame] = body[at + 9 : at + 25]
            case cache.METHOD_VARIABLES_GENERIC:
                self._slots[payload] = [struct.pack(">I", slot) + signature[:1] for signature, slot in _variables(body)]
            case wire.TYPE_METHODS_GENERIC:
                for method in wire.read_methods(body, wire.IdSizes(), generic=True, most=20):
                    self._add(Subject.METHOD, payload + method.to_bytes(8))
            case cache.TYPE_FIELDS_GENERIC:
                self._fields[payload], self._statics[payload] = _fields(body)
            case cache.OBJECT_TYPE:
                self._type_of[payload] = body[1:9]
            case cache.FRAME_VALUES | cache.OBJECT_VALUES | cache.TYPE_VALUES:
                for value in cache.split_values(body):
                    self._add_value(value)
            case cache.FRAME_THIS:
                self._add_value(body)
        if number in INVOKES:
            value, exception = body[: len(body) - 9], body[-8:]
            for i in (cache.object_in(value), int.from_bytes(exception)):
                if i:
                    self._show(i)

    def _add_value(self, value: bytes) -> None:
        if cache.object_in(value):
            kind = {ord("s"): Subject.STRING, ord("["): Subject.ARRAY}.get(value[0])
            self._add(Subject.OBJECT, value[1:9])
            if kind is not None:
                self._add(kind, value[1:9])

    # What it does

    def _any(self, subject: Subject) -> bytes:
        pool = self._pools[subject]
        return self._chance.choice(pool) if pool else b""

    def look(self) -> tuple[int, bytes]:
        """Return a random question, sometimes one that the JVM refuses."""
        chance = self._chance
        number = chance.choice(_QUESTIONS)
        row = ROWS.get(number)
        subject = row.subject if row is not None else Subject.THREAD
        if subject is Subject.VM:
            return number, b""
        if not self._pools[subject]:
            return wire.VM_ALL_THREADS, b""  # HotSpot dies of null, and of methods that it never showed
        if number == wire.THREAD_FRAMES:
            ranges = [_ALL_FRAMES, _ALL_FRAMES, integer(0, 1), integer(1, 2), integer(0, 5), integer(3, 900)]
            return number, self._any(Subject.THREAD) + chance.choice(ranges)
        if number == cache.FRAME_VALUES:
            frame = self._any(Subject.FRAME)
            slots = self._slots.get(self._frames.get(frame, b""), [])
            return number, _parts(frame, slots, chance)
        if number in (cache.OBJECT_VALUES, cache.TYPE_VALUES):
            thing = self._any(subject)
            # HotSpot dies of an instance's field that is asked of its class, and the other way round.
            if number == cache.TYPE_VALUES:
                return number, _parts(thing, self._statics.get(thing, []), chance)
            return number, _parts(thing, self._fields.get(self._type_of.get(thing, b""), []), chance)
        if number == command(13, 2):
            return number, self._any(subject) + integer(0, chance.randrange(3))
        return number, self._any(subject)

    def change(self) -> list[tuple[int, bytes]]:
        """Return commands that have an effect."""
        chance = self._chance
        if not self._pools[Subject.THREAD]:
            return [(wire.VM_ALL_THREADS, b"")]
        thread = self._any(Subject.THREAD)
        match chance.randrange(9):
            case 0:
                return [(wire.VM_SUSPEND, b"")]
            case 1:
                return [(wire.VM_RESUME, b"")]
            case 2:
                return [(wire.THREAD_SUSPEND, thread)]
            case 3:
                return [(wire.THREAD_RESUME, thread)]
            case 4 if self._shown:
                return [self._dispose()]
            case 5:
                frame = self._any(Subject.FRAME)
                slots = [slot for slot in self._slots.get(self._frames.get(frame, b""), []) if slot[4:] == b"I"]
                if not slots:
                    return [(wire.VM_SUSPEND, b"")]
                return [(command(16, 2), frame + integer(1) + slots[0][:4] + b"I" + integer(chance.randrange(9)))]
            case 6:
                return [(wire.VM_SUSPEND, b""), self.look(), (wire.VM_RESUME, b""), self.look()]
            case 7:
                return [(command(1, 11), jdwp.string("made by a test"))]
            case _:
                return [(wire.VM_ALL_THREADS, b""), (wire.VM_SUSPEND, b"")]

    def _dispose(self) -> tuple[int, bytes]:
        ids = self._chance.sample(sorted(self._shown), min(3, len(self._shown)))
        counts = [(i, self._chance.randint(1, self._shown[i])) for i in ids]
        for i, count in counts:
            self._shown[i] -= count
            if not self._shown[i]:
                del self._shown[i]
                gone = i.to_bytes(8)
                for pool in self._pools.values():
                    pool[:] = [thing for thing in pool if thing != gone]
        return cache.DISPOSE_OBJECTS, integer(len(counts)) + b"".join(long(i) + integer(n) for i, n in counts)


# HotSpot waits for a group's monitor to tell its children: for ever, if a suspended thread has it.
_QUESTIONS: Final = [
    *(number for number in ROWS if number != cache.GROUP_CHILDREN),
    *[wire.VM_ALL_THREADS, wire.THREAD_FRAMES, cache.FRAME_VALUES, cache.OBJECT_VALUES] * 3,
    wire.THREAD_SUSPEND_COUNT,
]


def _parts(subject: bytes, parts: list[bytes], chance: random.Random) -> bytes:
    chosen = chance.sample(parts, chance.randint(1, len(parts))) if parts else []
    return subject + integer(len(chosen)) + b"".join(chosen)


def _variables(body: bytes) -> list[tuple[bytes, int]]:
    found, at = [], 8
    for _ in range(int.from_bytes(body[4:8])):
        at += 8
        texts = []
        for _ in range(3):
            length = int.from_bytes(body[at : at + 4])
            texts.append(body[at + 4 : at + 4 + length])
            at += 4 + length
        found.append((texts[1], int.from_bytes(body[at + 4 : at + 8])))
        at += 8
    return found


def _fields(body: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the IDs of an instance's fields, and of static ones."""
    found: tuple[list[bytes], list[bytes]] = [], []
    at = 4
    for _ in range(int.from_bytes(body[:4])):
        field = body[at : at + 8]
        at += 8
        for _ in range(3):
            at += 4 + int.from_bytes(body[at : at + 4])
        found[bool(int.from_bytes(body[at : at + 4]) & 8)].append(field)
        at += 4
    return found


def converse(port: int, seed: int, *, rounds: int) -> Talker:
    """Have a random conversation with the JVM behind *port*."""
    chance = random.Random(seed)
    with Talker(port, chance) as talker:
        talker.begin()
        for _ in range(rounds):
            match chance.randrange(6):
                case 0:
                    talker.stop()
                    talker.exchange([(wire.VM_ALL_THREADS, b"")])
                case 1:
                    talker.exchange(talker.change())
                    if chance.random() < 0.3:
                        talker.wait_for_events(0.01)
                case _:
                    talker.exchange([talker.look() for _ in range(chance.randint(1, 12))])
        talker.exchange([(wire.VM_DISPOSE, b"")])
    return talker
