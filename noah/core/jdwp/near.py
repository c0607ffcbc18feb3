"""The accelerator's near end, beside the debugger: it answers from memory, and passes everything else on.

Replies leave in the order of their commands, as from a JVM, which works off one command after the other (methods that
are invoked apart): an answer from memory waits for the replies to earlier commands. What an event overtook while it
waited is asked of the JVM, unless a later command has been.

The memory is filled by the far end only, which vouches for what it says as of so many effects: commands that change
something. Both ends count these as they pass, so what arrives after this end has passed one more is out of date.

One answer in some, in the shadow mode every one, is also asked of the JVM and compared.
"""

import struct
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from noah.core.jdwp import frames, wire
from noah.core.jdwp.cache import (
    CLASS_UNLOAD,
    DISPOSE_OBJECTS,
    ROWS,
    Effect,
    Lifetime,
    Mentions,
    effect_of,
    is_collected_since,
    is_same,
    mentions,
)
from noah.core.jdwp.commands import INVOKES
from noah.core.jdwp.frames import BrokenLine, Data, FrameKind, Frames, Out, Packets, Parts, PieceKind, Stamp, head_of
from noah.core.jdwp.memory import NO_MENTIONS, Found, JvmReply, Memory
from noah.core.jdwp.wire import HEADER_SIZE, REPLY, Malformed, header

CHECK_ONE_IN: Final = 64  # answers from memory; a check costs the line some 60 bytes and the JVM one question
_MOST_WAITING: Final = 4096  # commands that are not answered yet
_MOST_WAITING_BYTES: Final = 4 << 20  # of answers from memory that wait for the replies to earlier commands
_MOST_CHECKS: Final = 4096  # that are under way
_LONGEST_COMMAND: Final = 256 << 10  # bytes that are gathered; longer ones only redefine classes
_ACKNOWLEDGED: Final = 16 << 10  # bytes of AHEAD frames that are acknowledged together
_OF_A_STOP: Final = (Lifetime.THREAD, Lifetime.STILL, Lifetime.MOMENT)  # what every effect ends
_MOST_SHOWN: Final = 8  # bytes of an answer, which may be of secrets; a status of a thread has as many
_SLICE: Final = 1000  # units of effort in one call: some 20 ms
_BYTES_PER_EFFORT: Final = 100  # reading so many bytes of IDs costs as much as a packet


@dataclass(slots=True)
class _Waiting:
    """A command whose reply has not been passed on to the debugger."""

    packet: bytes
    packet_id: int
    number: int
    payload: bytes
    effects: int  # that had passed when it came
    class_effects: int
    answer: JvmReply | None = None  # from memory
    mentions: Mentions = NO_MENTIONS
    is_done: bool = False  # answered by the JVM or from memory
    has_passed: bool = False  # the JVM is asked, so the far end knows of it

    @property
    def subject(self) -> tuple[int, bytes]:
        return self.number, self.payload[:8]


@dataclass(slots=True)
class _Check:
    number: int
    found: Found
    events: int  # how many had come when the answer was given


class Near:
    def __init__(self, *, shadow: bool = False) -> None:
        self.is_on = True
        self.answered = 0  # commands that were answered from memory
        self.passed = 0  # commands that the JVM answered
        self.checked = 0  # answers from memory to which the JVM said the same
        self.notes: list[str] = []  # sentences for people; the one who reads takes them
        self.wake_at_s: float | None = None  # when to call wake(): at once, after more came than one call should take
        self._check_one_in = 1 if shadow else CHECK_ONE_IN
        self._serial = 0  # of checks
        self._commands, self._line, self._replies = Packets(whole=_LONGEST_COMMAND), Frames(), Packets()
        self._to_debugger, self._to_line = Out(), Out()
        self._memory = Memory()
        self._effects = self._class_effects = self._events = 0
        self._held_as_of = -1  # the effects that had passed when an answer from memory last had to wait
        self._waiting_bytes = 0  # of answers from memory that wait
        self._waiting: deque[_Waiting] = deque()
        self._open: dict[int, _Waiting] = {}  # those that the JVM was asked, by packet ID
        self._open_by_subject: dict[tuple[int, bytes], dict[int, _Waiting]] = {}
        self._is_skipping = False  # the rest of a long reply that is superfluous
        self._superfluous: dict[int, _Check] = {}  # by packet ID: what was answered while the JVM was being asked
        self._checks: dict[int, _Check] = {}
        self._heard: Counter[int] = Counter()  # commands that were answered from memory since the last resume
        self._disposals: dict[int, list[int]] = {}  # IDs, by the packet ID of the command that is not confirmed yet
        self._disposed: Counter[int] = Counter()  # the same IDs
        self._unwanted: Counter[int] = Counter()  # objects that the JVM handed out for nothing
        self._received = 0  # bytes of AHEAD frames that are not acknowledged

    def feed_debugger(self, data: Data, *, now_s: float) -> tuple[Parts, Parts]:
        """Take what the debugger sent. Return what to send to the debugger and to the line."""
        self._commands.feed(data)
        return self._work(now_s)

    def feed_line(self, data: Data, *, now_s: float) -> tuple[Parts, Parts]:
        self._line.feed(data)
        return self._work(now_s)

    def wake(self, *, now_s: float) -> tuple[Parts, Parts]:
        return self._work(now_s)

    def _work(self, now_s: float) -> tuple[Parts, Parts]:
        self._memory.now_s = now_s
        effort = _SLICE
        while effort > 0 and (one := self._line.next()) is not None:
            effort -= self._take_frame(*one)
        while effort > 0 and (piece := self._commands.next()) is not None:
            effort -= self._take_command(*piece)
        self._release(self._memory.release(self._unwanted))
        self._unwanted.clear()
        if self._received >= _ACKNOWLEDGED:
            self._send(FrameKind.RECEIVED, struct.pack(">I", self._received))
            self._received = 0
        self.wake_at_s = now_s if effort <= 0 else None
        return self._to_debugger.take(), self._to_line.take()

    def _send(self, kind: FrameKind, body: Data) -> None:
        self._to_line.frame(kind, body)

    def _release(self, pairs: list[tuple[int, int]]) -> None:
        if pairs:
            self._send(FrameKind.RELEASE, frames.disposals(pairs))

    def _switch_off(self, why: str) -> None:
        if self.is_on:
            self.is_on = False
            self.notes.append(f"The accelerator is off for this connection: {why}.")
            self._send(FrameKind.OFF, b"")
            self._release(self._memory.forget(*Lifetime))

    # From the debugger

    def _take_command(self, kind: PieceKind, data: Data) -> int:
        """Return the effort."""
        if kind is PieceKind.REST:
            self._send(FrameKind.PASS, data)
            return 0
        head = head_of(kind, data)
        _length, packet_id, flags, number = header(head)
        effort = 1 + len(head) // _BYTES_PER_EFFORT
        if flags:
            self._switch_off("the debugger sent a packet that is not a command")
            self._send(FrameKind.PASS, data)
            return effort
        payload = head[HEADER_SIZE:]
        one = _Waiting(head, packet_id, number, payload, self._effects, self._class_effects)
        if kind is PieceKind.PACKET and self.is_on and number in ROWS:
            found = self._memory.answer(number, payload)
            if found is not None:
                self._answer(one, found)
                return effort + len(found.answer.payload) // _BYTES_PER_EFFORT
        self.passed += 1
        one.has_passed = True
        effect = effect_of(number, payload)
        if number == DISPOSE_OBJECTS:
            data = self._dispose(kind, head, packet_id)
        if effect:
            self._pass_effect(effect, data)
        else:
            self._send(FrameKind.PASS, data)
        if number not in INVOKES:
            self._await(one)
        return effort

    def _answer(self, one: _Waiting, found: Found) -> None:
        """Answer from memory, at once or after earlier commands."""
        one.answer, one.mentions = found.answer, found.mentions
        one.is_done = True
        self._serial += 1
        if self._serial % self._check_one_in == 0 and len(self._checks) < _MOST_CHECKS:
            self._checks[self._serial] = _Check(one.number, found, self._events)
            self._to_line += frames.check(FrameKind.CHECK, self._serial, one.number, one.payload)
        if self._waiting or self._replies.is_inside:
            self._held_as_of = self._effects
        self._waiting.append(one)
        self._waiting_bytes += len(found.answer.payload)
        if len(self._waiting) > _MOST_WAITING or self._waiting_bytes > _MOST_WAITING_BYTES:
            self._switch_off("too many commands wait for replies")
        self._flush()

    def _pass_effect(self, effect: Effect, data: Data) -> None:
        """Pass a command on that has an effect, and forget what it may change."""
        self._effects += 1
        lifetimes = [*_OF_A_STOP]
        if Effect.CLASSES in effect:
            self._class_effects += 1
            lifetimes.append(Lifetime.CLASS)
        if Effect.RESUMES in effect and self._heard:
            self._to_line += frames.heard(self._heard)
            self._heard.clear()
        self._send(FrameKind.PASS, data)
        self._release(self._memory.forget(*lifetimes))

    def _dispose(self, kind: PieceKind, data: bytes, packet_id: int) -> bytes:
        """Return a DisposeObjects with the counts that the JVM needs."""
        pairs = data[HEADER_SIZE + 4 :]
        if kind is not PieceKind.PACKET:
            raise BrokenLine("too many objects are disposed of at once")  # their counts cannot be corrected
        if len(pairs) % 12 or len(pairs) < 4 or int.from_bytes(data[HEADER_SIZE : HEADER_SIZE + 4]) != len(pairs) // 12:
            return data  # the JVM refuses it
        disposals = frames.read_disposals(pairs)
        ids = [i for i, _ in disposals]
        self._memory.forget_ids(ids)
        self._disposals[packet_id] = ids
        self._disposed.update(ids)
        corrected = self._memory.dispose(disposals)
        payload = struct.pack(">I", len(corrected)) + frames.disposals(corrected)
        return wire.packet(packet_id, DISPOSE_OBJECTS, payload)

    def _await(self, one: _Waiting) -> None:
        if one.packet_id in self._open or len(self._waiting) >= _MOST_WAITING:
            self._switch_off("the debugger uses a packet's ID twice, or does not wait for replies")
            return
        self._waiting.append(one)
        self._open[one.packet_id] = one
        if one.number in ROWS:
            self._open_by_subject.setdefault(one.subject, {})[one.packet_id] = one

    def _close(self, packet_id: int) -> _Waiting | None:
        one = self._open.pop(packet_id, None)
        if one is not None and (same := self._open_by_subject.get(one.subject)) is not None:
            same.pop(packet_id, None)
            if not same:
                del self._open_by_subject[one.subject]
        return one

    def _flush(self) -> None:
        """Give answers from memory to the debugger, as far as all earlier commands are answered."""
        if self._replies.is_inside:
            return
        while self._waiting and self._waiting[0].is_done:
            one = self._waiting.popleft()
            if one.answer is not None:
                self.answered += 1
                if not one.has_passed:
                    self._heard[one.number] += 1
                self._memory.given(one.mentions)
                length = HEADER_SIZE + len(one.answer.payload)
                self._to_debugger += struct.pack(">IIBH", length, one.packet_id, REPLY, one.answer.error)
                self._to_debugger += one.answer.payload
                self._waiting_bytes -= len(one.answer.payload)

    # From the line

    def _take_frame(self, kind: int, body: Data) -> int:
        """Return the effort."""
        if kind == FrameKind.PASS:
            packets = 0
            self._replies.feed(body)
            while (piece := self._replies.next()) is not None:
                self._take_packet(*piece, stamp=None)
                packets += piece[0] is not PieceKind.REST
            return packets
        body = bytes(body)
        match kind:
            case FrameKind.KEEP:
                stamp, packet = frames.read_keep(body)
                self._take_packet(PieceKind.PACKET, packet, stamp=stamp)
            case FrameKind.AHEAD:
                self._received += len(body)
                self._take_ahead(body)
            case FrameKind.CHECKED:
                serial, error, payload = frames.read_check(body)
                check = self._checks.pop(serial, None)
                if check is not None:
                    self._compare(check, JvmReply(error, payload))
            case _:
                raise BrokenLine(f"a frame of kind {kind}")
        return 1 + len(body) // _BYTES_PER_EFFORT

    def _take_packet(self, kind: PieceKind, data: Data, *, stamp: Stamp | None) -> None:
        if kind is PieceKind.REST:
            if not self._is_skipping:
                self._to_debugger += data
        else:
            self._is_skipping = False
            head = head_of(kind, data)
            _length, packet_id, flags, error = header(head)
            if not flags & REPLY:
                self._overtake(head[HEADER_SIZE:])
                self._to_debugger += data
            elif (check := self._superfluous.pop(packet_id, None)) is not None:
                self._is_skipping = kind is PieceKind.HEAD
                self._compare(check, JvmReply(error, head[HEADER_SIZE:]))
            else:
                self._to_debugger += data
                self._reply(packet_id, JvmReply(error, head[HEADER_SIZE:]), stamp)
        self._flush()

    def _overtake(self, events: bytes) -> None:
        """The JVM sent events: what was true while it stood still is over, and so are answers that still wait."""
        self._events += 1
        is_unload = len(events) < 6 or events[5] == CLASS_UNLOAD
        self._release(self._memory.forget(Lifetime.STILL, *([Lifetime.CLASS] if is_unload else [])))
        if self._held_as_of == self._effects:
            self._held_as_of = -1
            self._ask_instead()

    def _ask_instead(self) -> None:
        """Let the JVM answer what waits with an answer from memory, where it can still do so in the right order."""
        may_ask = True  # nothing that came later has been asked
        asked: list[_Waiting] = []
        for one in reversed(self._waiting):
            is_asked = one.answer is None or one.packet_id in self._superfluous
            if one.answer is not None and one.effects == self._effects and (is_asked or may_ask):
                self._waiting_bytes -= len(one.answer.payload)
                one.answer, one.mentions, one.is_done = None, NO_MENTIONS, False
                self._open[one.packet_id] = one
                if self._superfluous.pop(one.packet_id, None) is None:
                    one.has_passed = True
                    asked.append(one)
            may_ask = may_ask and not is_asked
        for one in reversed(asked):
            self._send(FrameKind.PASS, one.packet)

    def _reply(self, packet_id: int, answer: JvmReply, stamp: Stamp | None) -> None:
        for i in self._disposals.pop(packet_id, ()):
            self._disposed[i] -= 1
            if not self._disposed[i]:
                del self._disposed[i]
        one = self._close(packet_id)
        if one is None:
            return
        one.is_done = True
        if stamp is not None and self._is_current(stamp):
            handed_out = self._mentions(one.number, answer)
            if not self._is_disposed(one.payload, handed_out):
                self._memory.learn(one.number, one.payload, answer, handed_out, stamp.lifetime)

    def _take_ahead(self, body: bytes) -> None:
        one = frames.read_ahead(body)
        answer = JvmReply(one.error, one.answer)
        handed_out = self._mentions(one.number, answer)
        self._memory.came_ahead(handed_out)
        if not self._is_current(one.stamp) or self._is_disposed(one.question, handed_out):
            self._unwanted.update(handed_out[0])
            return
        self._unwanted += self._memory.learn(one.number, one.question, answer, handed_out, one.stamp.lifetime)
        for waiting in [*self._open_by_subject.get((one.number, one.question[:8]), {}).values()]:
            if waiting.effects == self._effects:
                self._answer_early(waiting)

    def _answer_early(self, one: _Waiting) -> None:
        """Answer a command from memory while the JVM is being asked; its reply will be superfluous."""
        found = self._memory.answer(one.number, one.payload)
        if found is None or one.packet_id in self._superfluous:
            return
        self._close(one.packet_id)
        one.answer, one.mentions = found.answer, found.mentions
        one.is_done = True
        self._waiting_bytes += len(one.answer.payload)
        self._superfluous[one.packet_id] = _Check(one.number, found, self._events)
        self._held_as_of = self._effects
        self._flush()

    def _is_current(self, stamp: Stamp) -> bool:
        if not self.is_on:
            return False
        if stamp.lifetime in _OF_A_STOP:
            return stamp.effects == self._effects
        return stamp.class_effects == self._class_effects

    def _is_disposed(self, question: bytes, handed_out: Mentions) -> bool:
        """True if the question or the answer has an ID that the debugger has disposed of in the meantime."""
        if not self._disposed:
            return False
        ids = (int.from_bytes(question[:8]), *handed_out[0], *handed_out[1])
        return any(i in self._disposed for i in ids)

    def _mentions(self, number: int, answer: JvmReply) -> Mentions:
        if answer.error or number not in ROWS:
            return NO_MENTIONS
        try:
            return mentions(number, answer.payload)
        except Malformed:
            self._switch_off(f"the JVM's answer to {wire.NAMES[number]} is not understood")
            return NO_MENTIONS

    def _compare(self, check: _Check, truth: JvmReply) -> None:
        """Compare an answer that was given with the JVM's, unless an event came in between."""
        handed_out = self._mentions(check.number, truth)
        self._memory.came_ahead(handed_out)
        self._unwanted.update(handed_out[0])
        if check.events != self._events:
            return
        said = check.found.answer
        if said.error == truth.error and is_same(check.number, said.payload, truth.payload):
            self.checked += 1
        elif not check.found.is_brief and not is_collected_since(check.number, truth.error):
            answers = f"{_shown(truth)}, and not {_shown(said)} as in memory"
            self._switch_off(f"the JVM's answer to {wire.NAMES[check.number]} is {answers}")


def _shown(answer: JvmReply) -> str:
    """Return an answer for a sentence: its error, or how it begins."""
    return f"error {answer.error}" if answer.error else bytes(answer.payload[:_MOST_SHOWN]).hex(" ", 4) or "empty"
