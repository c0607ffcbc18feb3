"""The accelerator's far end, beside the JVM: it foresees questions, and says how long answers stay true.

The debugger's commands go to the JVM at once, in their order; questions of its own go behind them, few enough that a
command waits for at most _AHEAD_S. While the VM runs, the JVM is asked only what takes no thread's time: tables of
classes that the debugger has just touched, and what the VM is. While some threads are suspended and others run, also
what all threads are called, whenever the debugger begins to ask for that.

It trusts neither side: what is not understood passes, and when it has passed too much of that, nothing is foreseen.
"""

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

from noah.core.jdwp import cache, frames, wire
from noah.core.jdwp.cache import CLASS_UNLOAD, DISPOSE_OBJECTS, MOMENT_S, ROWS, Effect, Lifetime, Otherwise, Question
from noah.core.jdwp.commands import INVOKES
from noah.core.jdwp.foresee import Habits, Walk
from noah.core.jdwp.frames import (
    Ahead,
    BrokenLine,
    Data,
    FrameKind,
    Frames,
    Out,
    Packets,
    Parts,
    PieceKind,
    Stamp,
    head_of,
)
from noah.core.jdwp.stillness import Stillness
from noah.core.jdwp.wire import HEADER_SIZE, REPLY, Malformed, header

OWN_IDS: Final = 0xEA  # the first byte of this end's packet IDs; the observer's own begin with 0xED
_WINDOW: Final = 256 << 10  # bytes ahead that the near end has not acknowledged
_ANSWER: Final = 4 << 10  # bytes that the window keeps free for each answer that is on its way
_MOST_AHEAD: Final = 64  # questions of its own that the JVM has not answered
_AHEAD_S: Final = 0.02  # seconds of work that the JVM may have before a command of the debugger
_MOST_OPEN: Final = 4096  # commands of the debugger that are followed; the near end gives up there too
_MOST_OWN: Final = 16_384  # its own questions that are not answered: the near end does not ask for as many checks
_MOST_KNOWN: Final = 50_000  # questions that the near end knows the answers to
_MOST_TABLES: Final = 8 << 20  # bytes of answers about classes, which questions are made of
_MOMENTS_APART_S: Final = 0.1  # from asking about all threads to asking again: it takes up to 15 ms for a thousand
_MANY: Final = 4  # questions about threads at one stop: more than one asks about the stop's own thread
# Commands of the debugger before the JVM is asked anything: the observer tells jdb by its first four.
_COMMANDS_FIRST: Final = 4
_SLICE: Final = 1000  # units of effort in one call: some 20 ms
_BYTES_PER_EFFORT: Final = 100  # reading so many bytes of IDs costs as much as a packet
_EVENTS_EFFORT: Final = 4  # of reading one composite

_IDS_OF_8: Final = struct.pack(">5I", 8, 8, 8, 8, 8)
_ABOUT_THE_VM: Final = (wire.VM_VERSION, cache.CLASS_PATHS, cache.CAPABILITIES_NEW)
_MAKES_QUESTIONS: Final = frozenset(
    {
        cache.METHOD_VARIABLES,
        cache.METHOD_VARIABLES_GENERIC,
        cache.TYPE_FIELDS,
        cache.TYPE_FIELDS_GENERIC,
        cache.SUPERCLASS,
        cache.TYPE_INTERFACES,
    }
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question on its way through the JVM, and what was true when it was asked."""

    number: int
    payload: bytes
    epoch: int
    effects: int
    class_effects: int
    unloads: int
    is_watched: bool


@dataclass(frozen=True, slots=True)
class _Own:
    asked: _Asked
    since_s: float
    check: int | None = None  # the near end's number of a check
    is_ahead: bool = False  # it may be the answer to a question that is still to come


class Far:
    def __init__(self) -> None:
        self.wake_at_s: float | None = None  # when to call wake(): at once, after more came than one call should take
        self.foreseen: Counter[int] = Counter()  # commands that the JVM was asked and the debugger did not ask
        self.heard: Counter[int] = Counter()  # commands of the debugger that were answered from memory
        self._line, self._commands, self._replies = Frames(), Packets(), Packets()
        self._to_jvm, self._to_line = Out(), Out()
        self._now_s = 0.0
        self._is_on = True
        self._serial = 0
        self._count = 0  # commands of the debugger
        self._has_ids_of_8 = False
        self._stillness = Stillness()
        self._unloads = 0
        self._watch: set[bytes] = set()  # request IDs that report every class that is unloaded
        self._open: dict[int, _Asked] = {}  # the debugger's commands
        self._own: dict[int, _Own] = {}
        self._ahead = 0  # questions in _own that were foreseen
        self._cost_s = 0.001  # of one question, lately
        self._last_reply_s = 0.0
        self._is_skipping = False  # the rest of a long reply to a question of its own
        self._unacknowledged = 0
        self._known: dict[Lifetime, set[Question]] = {lifetime: set() for lifetime in Lifetime}
        self._known_as_of = (0, 0)
        self._tables: dict[Question, bytes] = {}
        self._tables_size = 0
        self._habits = Habits()
        self._event: tuple[int, wire.Location | None] | None = None  # of the last stop
        self._walk: Walk | None = None
        self._walked = -1  # the epoch of the walk
        self._is_fresh = True  # the VM ran since the last walk
        self._touches = self._new_walk()
        self._others = self._new_walk()  # what may be asked about all threads, whatever they do
        self._moment = (-1, -1.0)  # the effects that had passed when that walk began, and when it was
        self._returned = b""  # by the last method that was invoked: a tagged value
        self._has_asked_about_vm = False

    def feed_line(self, data: Data, *, now_s: float) -> tuple[Parts, Parts]:
        """Take what the near end sent. Return what to send to the JVM and to the line."""
        self._line.feed(data)
        return self._work(now_s)

    def feed_jvm(self, data: Data, *, now_s: float) -> tuple[Parts, Parts]:
        self._replies.feed(data)
        return self._work(now_s)

    def wake(self, *, now_s: float) -> tuple[Parts, Parts]:
        return self._work(now_s)

    def _work(self, now_s: float) -> tuple[Parts, Parts]:
        self._now_s = now_s
        effort = _SLICE
        while effort > 0 and (one := self._line.next()) is not None:
            effort -= self._take_frame(*one)
        while effort > 0 and (piece := self._replies.next()) is not None:
            effort -= self._take_packet(*piece)
        if self._is_on and not self._commands.is_inside:
            self._ask()
        self.wake_at_s = now_s if effort <= 0 else None
        return self._to_jvm.take(), self._to_line.take()

    def _send(self, kind: FrameKind, body: Data) -> None:
        self._to_line.frame(kind, body)

    # From the near end

    def _take_frame(self, kind: int, body: Data) -> int:
        """Return the effort."""
        if kind == FrameKind.PASS:
            packets = 0
            self._commands.feed(body)
            while (piece := self._commands.next()) is not None:
                self._take_command(*piece)
                packets += piece[0] is not PieceKind.REST
            return packets
        body = bytes(body)
        match kind:
            case FrameKind.RECEIVED:
                self._unacknowledged = max(0, self._unacknowledged - int.from_bytes(body))
            case FrameKind.RELEASE:
                self._dispose(frames.read_disposals(body))
            case FrameKind.CHECK:
                serial, number, payload = frames.read_check(body)
                if number not in ROWS:
                    raise BrokenLine(f"a check of command {number}")
                self._question(number, payload, check=serial)
            case FrameKind.HEARD:
                counts = frames.read_heard(body)
                self.heard.update({number: count for number, count in counts.items() if number in ROWS})
                for number, count in counts.items():
                    self._habits.note(number)
                    if count > _MANY and number in ROWS and ROWS[number].subject is cache.Subject.THREAD:
                        self._habits.note_others()
            case FrameKind.OFF:
                self._is_on = False
            case _:
                raise BrokenLine(f"a frame of kind {kind}")
        return 1 + len(body) // _BYTES_PER_EFFORT

    def _take_command(self, kind: PieceKind, data: Data) -> None:
        self._to_jvm += data
        if kind is PieceKind.REST:
            return
        head = head_of(kind, data)
        _length, packet_id, flags, number = header(head)
        if flags or packet_id >> 24 == OWN_IDS or len(self._open) >= _MOST_OPEN:
            self._is_on = False
            return
        self._count += 1
        payload = head[HEADER_SIZE:]
        stillness = self._stillness
        effect = stillness.command(packet_id, number, payload)
        if Effect.RESUMES in effect:
            self._is_fresh = True
            self._event = None
        if Effect.CLASSES in effect:
            self._forget_classes()
        if number == cache.REQUEST_CLEAR and payload[:1] == bytes([CLASS_UNLOAD]):
            self._watch.discard(payload[1:5])
        self._habits.note(number)
        if self._walk is not None and number in ROWS and not effect:
            self._walk.touch(number, payload)
            if (
                ROWS[number].subject is cache.Subject.THREAD
                and self._event
                and payload[:8] != self._event[0].to_bytes(8)
            ):
                self._habits.note_others()
        if number in ROWS and ROWS[number].otherwise is Otherwise.MOMENT and self._begin_moment():
            self._question(wire.VM_ALL_THREADS, b"", is_ahead=True)
        # What is only known in part is not a question that has an answer.
        self._open[packet_id] = self._asked(number if kind is PieceKind.PACKET else 0, payload)

    def _asked(self, number: int, payload: bytes) -> _Asked:
        stillness = self._stillness
        return _Asked(
            number,
            payload,
            stillness.epoch,
            stillness.effects,
            stillness.class_effects,
            self._unloads,
            bool(self._watch),
        )

    # From the JVM

    def _take_packet(self, kind: PieceKind, data: Data) -> int:
        """Return the effort."""
        if kind is PieceKind.REST:
            if not self._is_skipping:
                self._send(FrameKind.PASS, data)
            return 0
        self._is_skipping = False
        head = head_of(kind, data)
        _length, packet_id, flags, error = header(head)
        is_whole = kind is PieceKind.PACKET
        payload = head[HEADER_SIZE:]
        if not flags & REPLY:
            self._take_events(payload)
            self._send(FrameKind.PASS, data)
            return _EVENTS_EFFORT
        if (own := self._own.pop(packet_id, None)) is not None:
            self._is_skipping = not is_whole
            self._take_own(own, error, payload if is_whole else None)
        elif (asked := self._open.pop(packet_id, None)) is not None:
            self._stillness.replied(packet_id, error)
            if is_whole:
                self._take_reply(asked, error, head)
            else:
                self._send(FrameKind.PASS, data)
        else:
            self._send(FrameKind.PASS, data)
            return 1
        return 1 + len(head) // _BYTES_PER_EFFORT

    def _take_events(self, payload: bytes) -> None:
        try:
            events = wire.read_events(payload, wire.IdSizes())
        except Malformed:
            events = wire.Events(payload[0] if payload[:1] in (b"\0", b"\1", b"\2") else wire.ALL)
        self._stillness.stopped(events.policy, events.thread)
        if events.policy != wire.NO_ONE and events.thread is not None:
            self._event = events.thread, events.location
        if len(payload) < 6 or events.kind == CLASS_UNLOAD:
            self._unloads += 1
            self._forget_classes()

    def _take_reply(self, asked: _Asked, error: int, packet: bytes) -> None:
        number, payload = asked.number, packet[HEADER_SIZE:]
        if number == wire.VM_ID_SIZES:
            self._has_ids_of_8 = payload == _IDS_OF_8
            self._is_on = self._is_on and self._has_ids_of_8
        stamp = self._stamp(asked) if number in ROWS else None
        if not error:
            if number == wire.REQUEST_SET and _is_watch(asked.payload):
                self._watch.add(payload)
            elif number in INVOKES:
                self._returned = payload[:9]
            elif number == wire.VM_ALL_THREADS and self._begin_moment():
                self._others.learn(number, b"", payload)
        if stamp is None:
            self._send(FrameKind.PASS, packet)
            if not error:
                self._go_on_from(asked, payload)
            return
        self._to_line += frames.keep(stamp, packet)
        self._follow(asked, stamp, error, payload)
        if not error and number in (wire.TYPE_METHODS, wire.TYPE_METHODS_GENERIC):
            self._touches.touch_class(number, asked.payload, payload)

    def _stamp(self, asked: _Asked) -> Stamp | None:
        """Return until when an answer that has just come lasts; None if nothing is sure."""
        if not self._has_ids_of_8 or not self._is_on:
            return None
        row, stillness = ROWS[asked.number], self._stillness
        lifetime: Lifetime | None = None
        if row.lifetime is Lifetime.VM:
            lifetime = Lifetime.VM
        elif row.lifetime is Lifetime.CLASS and asked.is_watched and self._watch:
            if asked.class_effects == stillness.class_effects and asked.unloads == self._unloads:
                lifetime = Lifetime.CLASS
        elif row.lifetime is not Lifetime.MOMENT and stillness.is_still and asked.epoch == stillness.epoch:
            lifetime = Lifetime.STILL
        elif asked.effects == stillness.effects:
            lifetime = self._otherwise(asked.number, asked.payload)
        return None if lifetime is None else Stamp(lifetime, stillness.effects, stillness.class_effects)

    def _otherwise(self, number: int, payload: bytes) -> Lifetime | None:
        """Return how long an answer lasts where some threads are suspended and others run."""
        match ROWS[number].otherwise:
            case Otherwise.OWN_THREAD if self._stillness.holds(_first_id(payload)):
                return Lifetime.THREAD
            case Otherwise.ANY_THREAD if self._stillness.holds_any:
                return Lifetime.THREAD
            case Otherwise.MOMENT if self._stillness.holds_any:
                return Lifetime.MOMENT
        return None

    def _take_own(self, own: _Own, error: int, payload: bytes | None) -> None:
        asked = own.asked
        if own.is_ahead:
            self._ahead -= 1
            took_s = self._now_s - max(own.since_s, self._last_reply_s)
            self._cost_s += (took_s - self._cost_s) / 8
        self._last_reply_s = self._now_s
        if own.check is not None:
            self._to_line += frames.check(FrameKind.CHECKED, own.check, error, payload or b"")
        elif asked.number == wire.THREAD_SUSPEND_COUNT:
            count = None if error or payload is None else int.from_bytes(payload)
            self._stillness.counted(int.from_bytes(asked.payload), count)
        elif own.is_ahead and payload is not None:
            self._send_ahead(asked, error, payload)

    def _send_ahead(self, asked: _Asked, error: int, payload: bytes) -> None:
        if error and error not in cache.LASTING_ERRORS:
            return
        stamp = self._stamp(asked)
        if asked.number == wire.VM_ALL_THREADS and not error:
            self._others.learn(asked.number, b"", payload)
        if stamp is None:
            self._give_back(asked.number, error, payload)
            return
        body = frames.ahead(Ahead(stamp, asked.number, asked.payload, error, payload))
        if self._unacknowledged + len(body) > _WINDOW:
            self._give_back(asked.number, error, payload)
            return
        self._unacknowledged += len(body)
        self._send(FrameKind.AHEAD, body)
        self._follow(asked, stamp, error, payload)

    def _give_back(self, number: int, error: int, payload: bytes) -> None:
        """Dispose of objects that the JVM handed out for nothing."""
        if not error:
            try:
                self._dispose([(i, 1) for i in cache.mentions(number, payload)[0]])
            except Malformed:
                self._is_on = False

    # What it asks

    def _ask(self) -> None:
        """Ask the JVM as much as it may have before it, of what is worth it."""
        stillness = self._stillness
        if not self._has_ids_of_8 or self._count < _COMMANDS_FIRST:
            return
        if not self._has_asked_about_vm:
            self._has_asked_about_vm = True
            for number in _ABOUT_THE_VM:
                self._question(number, b"", is_ahead=True)
        for thread in stillness.take_doubts():
            self._question(wire.THREAD_SUSPEND_COUNT, thread.to_bytes(8))
        if not stillness.is_settled:
            return
        most = max(1, min(_MOST_AHEAD, int(_AHEAD_S / self._cost_s)))
        walks = [self._others, *self._current_walk(), self._touches]
        while self._ahead < most and self._unacknowledged + _ANSWER * (self._ahead + 1) <= _WINDOW:
            question = next(filter(None, (walk.take() for walk in walks)), None)
            if question is None:
                break
            if self._is_sure(question):
                self._question(*question, is_ahead=True)

    def _is_sure(self, question: Question) -> bool:
        """True if an answer that came now would stay true for a while."""
        lifetime = ROWS[question[0]].lifetime
        if lifetime is Lifetime.CLASS and self._watch:
            return True
        if lifetime is not Lifetime.MOMENT and self._stillness.is_still:
            return True
        return self._otherwise(*question) is not None

    def _current_walk(self) -> list[Walk]:
        stillness = self._stillness
        thread = self._event[0] if self._event else None
        if not stillness.is_still and (thread is None or not stillness.holds(thread)):
            return []
        if self._walk is None or self._walked != stillness.epoch:
            self._walked = stillness.epoch
            self._walk = self._new_walk()
            if self._is_fresh:
                self._habits.begin_stop()
                self._touches = self._new_walk()
            if self._event is not None:
                self._walk.stop(*self._event)
            if stillness.is_still and (self._event is None or (self._is_fresh and self._habits.wants_others)):
                self._walk.all_threads()
            self._walk.look_into(self._returned)
            self._returned = b""
            self._is_fresh = False
        return [self._walk]

    def _begin_moment(self) -> bool:
        """Foresee again what threads are called; False if that is known for a while, or no thread is suspended."""
        effects, since_s = self._moment
        stillness = self._stillness
        lasts_s = MOMENT_S / 2 if effects == stillness.effects else _MOMENTS_APART_S
        if not self._is_on or not stillness.holds_any or self._now_s - since_s < lasts_s:
            return False
        self._known[Lifetime.MOMENT] = set()
        self._moment = stillness.effects, self._now_s
        self._others = self._new_walk()
        return True

    def _new_walk(self) -> Walk:
        return Walk(self._habits, is_known=self._is_known, recall=self._tables.get)

    def _question(self, number: int, payload: bytes, *, check: int | None = None, is_ahead: bool = False) -> None:
        if len(self._own) >= _MOST_OWN:
            raise BrokenLine(f"the JVM owes {_MOST_OWN} replies")
        self._serial += 1
        packet_id = OWN_IDS << 24 | self._serial & 0xFFFFFF
        self._own[packet_id] = _Own(self._asked(number, payload), self._now_s, check, is_ahead)
        self._ahead += is_ahead
        self.foreseen[number] += 1
        self._to_jvm += wire.packet(packet_id, number, payload)

    def _dispose(self, pairs: list[tuple[int, int]]) -> None:
        if pairs:
            self._question(DISPOSE_OBJECTS, struct.pack(">I", len(pairs)) + frames.disposals(pairs))

    # What the near end knows

    def _is_known(self, question: Question) -> bool:
        self._expire()
        return any(question in known for known in self._known.values())

    def _follow(self, asked: _Asked, stamp: Stamp, error: int, payload: bytes) -> None:
        """The near end has been given an answer: note it, and go on from there."""
        self._expire()
        question = asked.number, asked.payload
        known = self._known[stamp.lifetime]
        if len(known) < _MOST_KNOWN:
            known.add(question)
        if error:
            return
        if asked.number in _MAKES_QUESTIONS and self._tables_size + len(payload) <= _MOST_TABLES:
            self._tables_size += len(payload)
            self._tables[question] = payload
        self._go_on_from(asked, payload)

    def _go_on_from(self, asked: _Asked, payload: bytes) -> None:
        if self._walk is not None and self._walked == self._stillness.epoch:
            self._walk.learn(asked.number, asked.payload, payload)

    def _expire(self) -> None:
        as_of = self._stillness.epoch, self._stillness.effects
        if as_of[0] != self._known_as_of[0]:
            self._known[Lifetime.STILL] = set()
        if as_of[1] != self._known_as_of[1]:
            self._known[Lifetime.THREAD] = set()
            self._known[Lifetime.MOMENT] = set()
        self._known_as_of = as_of

    def _forget_classes(self) -> None:
        self._known[Lifetime.CLASS] = set()
        self._tables.clear()
        self._tables_size = 0


def _first_id(payload: bytes) -> int:
    return int.from_bytes(payload[:8])


def _is_watch(payload: bytes) -> bool:
    """True if an EventRequest.Set asks for every class that is unloaded."""
    return payload[:1] == bytes([CLASS_UNLOAD]) and payload[2:] == bytes(4)
