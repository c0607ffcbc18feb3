"""The accelerator's two ends, joined without a line between them, before a JVM that is a table of answers."""

import random
import struct
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.jdwp import cache, wire
from noah.core.jdwp.cache import ROWS, Effect, Question, effect_of
from noah.core.jdwp.commands import INVOKES
from noah.core.jdwp.far import OWN_IDS, Far
from noah.core.jdwp.frames import LONGEST_FRAME, BrokenLine, FrameKind, Frames, Parts, frame
from noah.core.jdwp.near import Near
from noah.core.jdwp.wire import NAMES, REPLY, command, header
from tests import jdwp
from tests.jdwp import ALL, EVENT_THREAD, NONE, ask, integer, long, reply, stop, string

THREAD, OTHER, GROUP, TYPE, METHOD, FRAME, THING = 1, 2, 30, 7, 70, 900, 500
SIZES = integer(8, 8, 8, 8, 8)
FRAMES = integer(1) + long(FRAME) + jdwp.location(TYPE, METHOD, 4)
WATCH = b"\x09\x00" + integer(0)


def variables() -> bytes:
    one = long(0) + string("item") + string("LOrder;") + string("") + integer(90) + integer(1)
    return integer(0) + integer(1) + one


class Jvm:
    """Answers of a JVM with two threads that stand in one method. What is not in `answers` is refused."""

    def __init__(self) -> None:
        self.counts = {THREAD: 0, OTHER: 0}
        self.asked: list[Question] = []  # in order
        self.errors: dict[Question, int] = {}
        self.answers: dict[Question, bytes] = {
            (wire.VM_ID_SIZES, b""): SIZES,
            (wire.VM_VERSION, b""): jdwp.version(),
            (cache.CAPABILITIES_NEW, b""): bytes(32),
            (cache.CLASS_PATHS, b""): string("/") + integer(0, 0),
            (wire.VM_ALL_THREADS, b""): integer(2) + long(THREAD, OTHER),
            (cache.TOP_LEVEL_GROUPS, b""): integer(1) + long(GROUP),
            (cache.GROUP_NAME, long(GROUP)): string("main"),
            (wire.METHOD_LINES, long(TYPE, METHOD)): jdwp.lines({0: 11}),
            (cache.METHOD_VARIABLES_GENERIC, long(TYPE, METHOD)): variables(),
            (wire.TYPE_METHODS_GENERIC, long(TYPE)): integer(0),
            (cache.TYPE_SOURCE_FILE, long(TYPE)): string("Shop.java"),
            (cache.FRAME_VALUES, long(THREAD, FRAME) + integer(1, 1) + b"L"): integer(1) + b"s" + long(THING),
            (cache.FRAME_THIS, long(THREAD, FRAME)): b"L" + long(0),
            (cache.OBJECT_TYPE, long(THING)): b"\x01" + long(TYPE),
            (cache.STRING_VALUE, long(THING)): string("text"),
        }
        for thread in self.counts:
            self.answers |= {
                (wire.THREAD_NAME, long(thread)): string(f"thread-{thread}"),
                (wire.THREAD_STATUS, long(thread)): integer(1, 1),
                (cache.THREAD_GROUP, long(thread)): long(GROUP),
                (cache.THREAD_FRAME_COUNT, long(thread)): integer(1),
                (cache.IS_COLLECTED, long(thread)): b"\0",
                (wire.THREAD_FRAMES, cache.all_frames(long(thread))): FRAMES,
            }

    def take(self, data: bytes) -> bytes:
        """Return the replies to commands."""
        out = b""
        while data:
            length, packet_id, _, number = header(data)
            payload, data = data[11:length], data[length:]
            self.asked.append((number, payload))
            out += self._reply(packet_id, number, payload)
        return out

    def _reply(self, packet_id: int, number: int, payload: bytes) -> bytes:
        by = {wire.VM_SUSPEND: 1, wire.VM_RESUME: -1}.get(number)
        if by is not None:
            self.counts = {thread: max(0, count + by) for thread, count in self.counts.items()}
            return reply(packet_id)
        if number == wire.THREAD_SUSPEND_COUNT:
            return reply(packet_id, integer(self.counts[int.from_bytes(payload)]))
        if number == wire.REQUEST_SET:
            return reply(packet_id, integer(77))
        if (number, payload) in self.errors:
            return reply(packet_id, error=self.errors[number, payload])
        if (number, payload) in self.answers:
            return reply(packet_id, self.answers[number, payload])
        known = number not in ROWS
        return reply(packet_id) if known else reply(packet_id, error=cache.ABSENT_INFORMATION)

    def event(self, policy: int = ALL, *, thread: int = THREAD) -> bytes:
        for each in self.counts if policy == ALL else [thread]:
            self.counts[each] += policy != NONE
        return stop(policy, thread=thread)


class Joined:
    """Both ends and the JVM. Bytes on the line wait until `pass_up` and `pass_down`."""

    def __init__(self, *, shadow: bool = False) -> None:
        self.near, self.far, self.jvm = Near(shadow=shadow), Far(), Jvm()
        self.up = self.down = b""
        self.said = b""  # to the debugger
        self._id = 0
        self.now_s = 0.0

    def debugger(self, data: bytes) -> None:
        self._note_near(self.near.feed_debugger(data, now_s=self.now_s))

    def _note_near(self, out: tuple[Parts, Parts]) -> None:
        self.said += b"".join(out[0])
        self.up += b"".join(out[1])

    def pass_up(self) -> None:
        data, self.up = self.up, b""
        self._note_far(self.far.feed_line(data, now_s=self.now_s))

    def pass_down(self) -> None:
        data, self.down = self.down, b""
        self._note_near(self.near.feed_line(data, now_s=self.now_s))

    def from_jvm(self, data: bytes) -> None:
        self._note_far(self.far.feed_jvm(data, now_s=self.now_s))

    def _note_far(self, out: tuple[Parts, Parts]) -> None:
        self.down += b"".join(out[1])
        while out[0]:
            self.now_s += 0.0001
            out = self.far.feed_jvm(self.jvm.take(b"".join(out[0])), now_s=self.now_s)
            self.down += b"".join(out[1])

    def settle(self) -> None:
        while self.up or self.down:
            self.pass_up()
            self.pass_down()

    def send(self, number: int, payload: bytes = b"") -> int:
        self._id += 1
        self.debugger(ask(self._id, number, payload))
        return self._id

    def ask(self, number: int, payload: bytes = b"") -> bytes:
        """Return the reply's payload, and pass everything on until nothing moves."""
        packet_id = self.send(number, payload)
        self.settle()
        packets = self.packets()
        assert [one[1] for one in packets if one[2]] == [packet_id], "one reply"
        return packets[-1][3]

    def packets(self) -> list[tuple[int, int, bool, bytes]]:
        """Take what was said to the debugger: number or error, ID, whether it is a reply, payload."""
        found, data = [], self.said
        self.said = b""
        while data:
            length, packet_id, flags, number = header(data)
            found.append((number, packet_id, bool(flags & REPLY), data[11:length]))
            data = data[length:]
        return found

    def remembers(self, number: int, payload: bytes = b"") -> bool:
        """Whether the near end would answer; the question reaches nobody."""
        self.near._memory.now_s = self.now_s
        return self.near._memory.answer(number, payload) is not None


def begun(*, shadow: bool = False) -> Joined:
    """Attach, as debuggers do: sizes, classes that are unloaded, version."""
    joined = Joined(shadow=shadow)
    assert joined.ask(wire.VM_ID_SIZES) == SIZES
    joined.ask(wire.REQUEST_SET, WATCH)
    joined.ask(wire.VM_ALL_CLASSES)
    joined.ask(wire.REQUEST_SET, WATCH)
    return joined


def stopped(*, shadow: bool = False) -> Joined:
    joined = begun(shadow=shadow)
    joined.from_jvm(joined.jvm.event())
    joined.settle()
    joined.packets()
    joined.jvm.asked.clear()
    return joined


KNOWN_AT_A_STOP: list[Question] = [
    (wire.VM_ALL_THREADS, b""),
    (wire.THREAD_NAME, long(OTHER)),
    (wire.THREAD_STATUS, long(OTHER)),
    (cache.THREAD_GROUP, long(THREAD)),
    (wire.THREAD_FRAMES, cache.all_frames(long(OTHER))),
    (wire.THREAD_FRAMES, long(THREAD) + integer(0, 1)),
    (cache.THREAD_FRAME_COUNT, long(THREAD)),
    (cache.GROUP_NAME, long(GROUP)),
    (cache.FRAME_THIS, long(THREAD, FRAME)),
    (cache.FRAME_VALUES, long(THREAD, FRAME) + integer(1, 1) + b"L"),
    (cache.OBJECT_TYPE, long(THING)),
    (cache.STRING_VALUE, long(THING)),
    (wire.METHOD_LINES, long(TYPE, METHOD)),
    (cache.METHOD_VARIABLES_GENERIC, long(TYPE, METHOD)),
    (cache.TYPE_SOURCE_FILE, long(TYPE)),
]
OF_CLASSES = [question for question in KNOWN_AT_A_STOP if ROWS[question[0]].lifetime is cache.Lifetime.CLASS]
OF_THE_STOP = [question for question in KNOWN_AT_A_STOP if question not in OF_CLASSES]


@pytest.mark.parametrize("question", KNOWN_AT_A_STOP, ids=lambda q: NAMES[q[0]])
def test_what_a_stop_shows_is_answered_without_the_jvm(question: Question) -> None:
    joined = stopped()
    assert joined.ask(*question) == joined.jvm.answers.get(question, FRAMES)
    assert joined.jvm.asked == []
    assert joined.near.answered == 1


@pytest.mark.parametrize("number", [n for n in NAMES if effect_of(n, b"") and n != cache.REQUEST_CLEAR], ids=NAMES.get)
def test_an_effect_ends_what_it_may_change_before_the_jvm_confirms_it(number: int) -> None:
    joined = stopped()
    joined.send(number, long(THREAD))
    assert [question for question in OF_THE_STOP if joined.remembers(*question)] == []
    are_classes_known = Effect.CLASSES not in effect_of(number, b"")
    assert [joined.remembers(*question) for question in OF_CLASSES] == [are_classes_known] * len(OF_CLASSES)


def test_a_command_that_jdwp_does_not_have_ends_everything() -> None:
    joined = stopped()
    joined.send(command(77, 3), b"?")
    assert not any(joined.remembers(*question) for question in KNOWN_AT_A_STOP)


def test_an_event_ends_what_was_true_while_the_vm_stood_still() -> None:
    joined = stopped()
    joined.near.feed_line(frame(FrameKind.PASS, stop(NONE, thread=OTHER)), now_s=0.0)
    assert not any(joined.remembers(*question) for question in OF_THE_STOP)
    assert all(joined.remembers(*question) for question in OF_CLASSES)


def test_an_unloaded_class_ends_what_is_known_of_classes() -> None:
    joined = stopped()
    unloaded = bytes([NONE]) + integer(1) + b"\x09" + integer(77) + string("LShop;")
    joined.near.feed_line(frame(FrameKind.PASS, ask(901, jdwp.EVENTS, unloaded)), now_s=0.0)
    assert not any(joined.remembers(*question) for question in OF_CLASSES)


def test_classes_are_known_only_while_unloading_is_watched() -> None:
    joined = begun()
    joined.ask(wire.TYPE_METHODS_GENERIC, long(TYPE))
    assert joined.remembers(wire.TYPE_METHODS_GENERIC, long(TYPE))
    joined.ask(cache.REQUEST_CLEAR, b"\x09" + integer(77))
    joined.ask(wire.TYPE_METHODS_GENERIC, long(TYPE))
    assert not joined.remembers(wire.TYPE_METHODS_GENERIC, long(TYPE))


def test_what_came_ahead_before_an_effect_was_passed_is_not_used_after_it() -> None:
    joined = begun()
    joined.from_jvm(joined.jvm.event())
    late = joined.down  # the stop and all that was foreseen is on the line
    joined.down = b""
    joined.send(wire.VM_SUSPEND)
    joined.send(jdwp.SET_LOCALS, long(THREAD, FRAME) + integer(0))
    joined.down = late
    joined.pass_down()
    assert not any(joined.remembers(*question) for question in OF_THE_STOP)
    assert all(joined.remembers(*question) for question in OF_CLASSES)


def test_after_a_variable_is_set_the_stop_is_foreseen_again() -> None:
    joined = stopped()
    joined.ask(jdwp.SET_LOCALS, long(THREAD, FRAME) + integer(0))
    assert joined.remembers(wire.THREAD_FRAMES, cache.all_frames(long(THREAD)))


def test_after_a_method_was_invoked_the_vm_stands_still_again() -> None:
    joined = stopped()
    joined.send(jdwp.INVOKE, long(THING, THREAD, TYPE, METHOD) + integer(0, 0))
    joined.settle()
    assert joined.remembers(cache.FRAME_THIS, long(THREAD, FRAME))


def test_a_stop_that_a_resume_has_met_is_not_believed() -> None:
    joined = begun()
    event = joined.jvm.event()  # suspended, and the event is written a moment later
    joined.ask(wire.VM_RESUME)  # in between
    joined.from_jvm(event)
    joined.settle()
    assert joined.jvm.asked[-1] == (wire.THREAD_SUSPEND_COUNT, long(THREAD))
    assert not any(joined.remembers(*question) for question in OF_THE_STOP)


def test_nothing_is_foreseen_while_the_vm_runs() -> None:
    joined = stopped()
    joined.ask(wire.VM_RESUME)
    joined.jvm.asked.clear()
    for _ in range(3):
        joined.ask(wire.THREAD_SUSPEND_COUNT, long(THREAD))
    assert {number for number, _ in joined.jvm.asked} == {wire.THREAD_SUSPEND_COUNT}


def test_one_suspended_thread_shows_its_stack_and_no_other() -> None:
    joined = begun()
    joined.from_jvm(joined.jvm.event(EVENT_THREAD))
    joined.settle()
    assert joined.remembers(wire.THREAD_FRAMES, cache.all_frames(long(THREAD)))
    assert joined.remembers(cache.FRAME_VALUES, long(THREAD, FRAME) + integer(1, 1) + b"L")
    assert not joined.remembers(wire.THREAD_STATUS, long(THREAD)), "its sleep may end"
    assert not joined.remembers(wire.THREAD_NAME, long(OTHER))
    assert not joined.remembers(wire.THREAD_FRAMES, cache.all_frames(long(OTHER)))
    joined.from_jvm(stop(NONE, thread=OTHER))
    joined.settle()
    assert joined.remembers(wire.THREAD_FRAMES, cache.all_frames(long(THREAD))), "what others do is nothing to it"
    joined.send(wire.THREAD_RESUME, long(THREAD))
    assert not joined.remembers(wire.THREAD_FRAMES, cache.all_frames(long(THREAD)))


def held(*, shadow: bool = False) -> Joined:
    """One thread stands at a breakpoint, and the other one runs."""
    joined = begun(shadow=shadow)
    joined.from_jvm(joined.jvm.event(EVENT_THREAD))
    joined.settle()
    joined.packets()
    joined.jvm.asked.clear()
    return joined


NAME_OF_OTHER = (wire.THREAD_NAME, long(OTHER))


def test_after_a_list_of_threads_their_names_are_known_for_a_moment() -> None:
    joined = held()
    assert not joined.remembers(*NAME_OF_OTHER)
    joined.ask(wire.VM_ALL_THREADS)
    assert joined.remembers(*NAME_OF_OTHER)
    assert joined.remembers(cache.THREAD_GROUP, long(OTHER))
    assert not joined.remembers(wire.THREAD_STATUS, long(OTHER)), "it runs"
    joined.jvm.answers[NAME_OF_OTHER] = string("renamed")
    joined.now_s += 0.9
    assert joined.ask(*NAME_OF_OTHER) == string("thread-2"), "as any reply that was long on its way"
    joined.now_s += 0.2
    assert joined.ask(*NAME_OF_OTHER) == string("renamed")


def test_a_debugger_that_knows_its_threads_and_asks_for_one_name_is_sent_all() -> None:
    joined = held()
    joined.ask(*NAME_OF_OTHER)
    assert joined.remembers(cache.THREAD_GROUP, long(OTHER))
    given_back = integer(2) + long(THREAD) + integer(1) + long(OTHER) + integer(1)
    assert (cache.DISPOSE_OBJECTS, given_back) in joined.jvm.asked, "the list was not the debugger's"


def test_names_of_running_threads_are_asked_ahead_twice_a_second_at_most() -> None:
    joined = held()
    for _ in range(30):
        joined.ask(wire.VM_ALL_THREADS)
        joined.now_s += 0.1
    assert 4 <= joined.jvm.asked.count(NAME_OF_OTHER) <= 7


def test_whether_a_thread_is_collected_is_asked_ahead_once_the_debugger_has_asked_it() -> None:
    joined = held()
    joined.ask(wire.VM_ALL_THREADS)
    assert (cache.IS_COLLECTED, long(OTHER)) not in joined.jvm.asked
    assert joined.ask(cache.IS_COLLECTED, long(THREAD)) == b"\0"
    joined.now_s += 0.6
    joined.ask(wire.VM_ALL_THREADS)
    assert joined.remembers(cache.IS_COLLECTED, long(OTHER))


@pytest.mark.parametrize("number", [wire.THREAD_RESUME, wire.VM_RESUME, wire.OBJECT_INVOKE, cache.DISPOSE_OBJECTS])
def test_what_was_known_for_a_moment_ends_with_an_effect(number: int) -> None:
    joined = held()
    joined.ask(wire.VM_ALL_THREADS)
    assert joined.remembers(*NAME_OF_OTHER)
    joined.send(number, integer(0) if number == cache.DISPOSE_OBJECTS else long(THREAD))
    assert not joined.remembers(*NAME_OF_OTHER)


def test_a_thread_that_was_renamed_within_a_moment_is_not_a_difference() -> None:
    joined = held(shadow=True)
    joined.ask(wire.VM_ALL_THREADS)
    joined.jvm.answers[NAME_OF_OTHER] = string("renamed")
    assert joined.ask(*NAME_OF_OTHER) == string("thread-2")
    assert (joined.near.is_on, joined.near.notes, joined.near.checked) == (True, [], 0)


def test_what_an_object_is_for_life_is_known_while_one_thread_is_suspended() -> None:
    joined = held()
    for question in [(cache.OBJECT_TYPE, long(THING)), (cache.STRING_VALUE, long(THING))]:
        assert joined.remembers(*question)
    joined.from_jvm(stop(NONE, thread=OTHER))
    joined.settle()
    assert joined.remembers(cache.OBJECT_TYPE, long(THING)), "what others do is nothing to it"
    joined.send(wire.THREAD_RESUME, long(THREAD))
    assert not joined.remembers(cache.OBJECT_TYPE, long(THING)), "it may be collected"


def test_fields_of_an_object_are_not_known_while_other_threads_run() -> None:
    joined = held()
    fields = long(THING) + integer(1) + long(55)
    joined.jvm.answers[cache.OBJECT_VALUES, fields] = integer(1) + b"I" + integer(5)
    joined.ask(cache.OBJECT_VALUES, fields)
    joined.jvm.answers[cache.OBJECT_VALUES, fields] = integer(1) + b"I" + integer(6)
    assert joined.ask(cache.OBJECT_VALUES, fields) == integer(1) + b"I" + integer(6)


def test_an_object_that_was_collected_since_is_not_a_difference() -> None:
    joined = held(shadow=True)
    joined.jvm.errors[cache.OBJECT_TYPE, long(THING)] = cache.INVALID_OBJECT
    assert joined.ask(cache.OBJECT_TYPE, long(THING)) == b"\x01" + long(TYPE)
    assert joined.near.is_on
    joined.jvm.errors[cache.STRING_VALUE, long(THING)] = 13
    joined.ask(cache.STRING_VALUE, long(THING))
    assert not joined.near.is_on, "another error is one"


def test_what_a_field_or_an_element_refers_to_is_foreseen_once_the_debugger_looks_there() -> None:
    joined = held()
    for thing, number, question, answer in [
        (601, cache.OBJECT_VALUES, long(THING) + integer(1) + long(55), integer(1) + b"s" + long(601)),
        (602, cache.ARRAY_VALUES, long(700) + integer(0, 1), b"L" + integer(1) + b"s" + long(602)),
    ]:
        joined.jvm.answers |= {(number, question): answer, (cache.STRING_VALUE, long(thing)): string("inner")}
        joined.ask(number, question)
        assert joined.remembers(cache.STRING_VALUE, long(thing))


def test_what_an_invoked_method_returned_is_foreseen() -> None:
    joined = held()
    invocation = wire.OBJECT_INVOKE, long(THING, THREAD)
    joined.jvm.answers[invocation] = b"s" + long(603) + b"L" + long(0)
    joined.jvm.answers[cache.STRING_VALUE, long(603)] = string("Order 3")
    joined.ask(*invocation)
    assert joined.remembers(cache.STRING_VALUE, long(603))


def test_all_that_the_type_of_an_object_inherits_from_is_foreseen() -> None:
    joined = begun()
    parent, interface, above = 8, 9, 10
    joined.jvm.answers |= {
        (cache.SUPERCLASS, long(TYPE)): long(parent),
        (cache.SUPERCLASS, long(parent)): long(0),
        (cache.TYPE_INTERFACES, long(parent)): integer(1) + long(interface),
        (cache.TYPE_INTERFACES, long(interface)): integer(1) + long(above),
        (cache.TYPE_FIELDS_GENERIC, long(above)): integer(0),
    }
    joined.from_jvm(joined.jvm.event(EVENT_THREAD))
    joined.settle()
    assert joined.remembers(cache.TYPE_FIELDS_GENERIC, long(above))


def test_an_answer_from_memory_waits_for_the_replies_to_earlier_commands() -> None:
    joined = stopped()
    first = joined.send(wire.VM_ALL_CLASSES)
    second = joined.send(wire.THREAD_NAME, long(OTHER))
    assert joined.packets() == []
    joined.settle()
    assert [packet_id for _, packet_id, _, _ in joined.packets()] == [first, second]


def test_what_an_event_overtakes_is_asked_of_the_jvm() -> None:
    joined = stopped()
    first = joined.send(wire.VM_ALL_CLASSES)
    second = joined.send(wire.THREAD_NAME, long(OTHER))
    joined.from_jvm(stop(NONE, thread=OTHER))
    joined.pass_down()
    joined.settle()
    assert (wire.THREAD_NAME, long(OTHER)) in joined.jvm.asked
    packets = joined.packets()
    assert [packet_id for _, packet_id, is_reply, _ in packets if is_reply] == [first, second]
    assert packets[0][2] is False


def test_a_command_on_its_way_is_answered_by_what_comes_ahead_and_only_once() -> None:
    joined = begun()
    joined.from_jvm(joined.jvm.event())
    packet_id = joined.send(wire.THREAD_NAME, long(THREAD))
    joined.pass_down()  # the answer, which was on the line already
    assert [one[1] for one in joined.packets() if one[2]] == [packet_id]
    joined.settle()
    assert joined.packets() == [], "the JVM's own reply is left out"
    assert joined.near.checked == 1, "but was compared"


def test_of_a_long_reply_to_what_is_answered_already_nothing_reaches_the_debugger() -> None:
    joined = begun()
    joined.from_jvm(joined.jvm.event())
    packet_id = joined.send(wire.VM_ALL_THREADS)
    joined.pass_down()
    assert [one[1] for one in joined.packets() if one[2]] == [packet_id]
    joined.jvm.answers[wire.VM_ALL_THREADS, b""] = integer(9000) + bytes(72000)
    joined.settle()
    assert joined.packets() == []
    assert not joined.near.is_on, "it differs"
    assert joined.ask(wire.THREAD_STATUS, long(THREAD)) == integer(1, 1)


def test_a_shadow_that_differs_switches_the_memory_off_and_says_so() -> None:
    joined = stopped(shadow=True)
    joined.jvm.answers[wire.THREAD_NAME, long(OTHER)] = string("renamed")
    joined.ask(wire.THREAD_NAME, long(OTHER))
    assert not joined.near.is_on
    assert joined.near.notes == [
        "The accelerator is off for this connection: the JVM's answer to ThreadReference.Name is 00000007 72656e61, "
        "and not 00000008 74687265 as in memory."
    ]
    joined.jvm.asked.clear()
    assert joined.ask(wire.THREAD_NAME, long(OTHER)) == string("renamed")
    assert joined.jvm.asked == [(wire.THREAD_NAME, long(OTHER))]


def test_a_sleep_that_ended_is_not_a_difference() -> None:
    joined = begun(shadow=True)
    joined.jvm.answers[wire.THREAD_STATUS, long(OTHER)] = integer(2, 1)
    joined.from_jvm(joined.jvm.event())
    joined.settle()
    joined.packets()
    joined.jvm.answers[wire.THREAD_STATUS, long(OTHER)] = integer(1, 1)
    assert joined.ask(wire.THREAD_STATUS, long(OTHER)) == integer(2, 1)
    assert joined.near.is_on


def test_sizes_other_than_eight_leave_the_line_plain() -> None:
    joined = Joined()
    joined.jvm.answers[wire.VM_ID_SIZES, b""] = integer(4, 4, 8, 8, 8)
    for _ in range(5):
        joined.ask(wire.VM_ID_SIZES)
    joined.from_jvm(joined.jvm.event())
    joined.settle()
    assert joined.near.answered == 0
    assert joined.far.foreseen.total() == 0


# How often objects were handed out


def disposals(joined: Joined) -> dict[int, int]:
    """Return how often the JVM was asked to dispose of each object."""
    found: dict[int, int] = {}
    for number, payload in joined.jvm.asked:
        if number == cache.DISPOSE_OBJECTS:
            for i, count in struct.iter_unpack(">QI", payload[4:]):
                found[i] = found.get(i, 0) + count
    return found


def handed_out(joined: Joined, thing: int) -> int:
    """Return how often the JVM has handed an object out."""
    return sum(
        cache.mentions(number, joined.jvm.answers[number, payload])[0].count(thing)
        for number, payload in joined.jvm.asked
        if number in ROWS and (number, payload) in joined.jvm.answers
    )


def test_objects_that_came_ahead_and_nobody_asked_for_are_released() -> None:
    joined = begun()
    joined.jvm.asked.clear()
    joined.from_jvm(joined.jvm.event())
    joined.settle()
    shown = handed_out(joined, THING)
    joined.ask(wire.VM_RESUME)
    assert shown == 1
    assert disposals(joined)[THING] == shown


def test_objects_that_the_debugger_has_seen_are_kept() -> None:
    joined = stopped()
    joined.ask(cache.FRAME_VALUES, long(THREAD, FRAME) + integer(1, 1) + b"L")
    joined.ask(wire.VM_RESUME)
    assert THING not in disposals(joined)


@pytest.mark.parametrize(("seen", "disposed", "at_the_jvm"), [(1, 1, 1), (3, 3, 1), (3, 2, 0), (5, 5, 1)])
def test_a_disposal_by_the_debugger_ends_an_object_when_it_would_have_without_a_memory(
    seen: int, disposed: int, at_the_jvm: int
) -> None:
    joined = stopped()
    for _ in range(seen):
        joined.ask(cache.FRAME_VALUES, long(THREAD, FRAME) + integer(1, 1) + b"L")
    joined.send(cache.DISPOSE_OBJECTS, integer(1) + long(THING) + integer(disposed))
    joined.pass_up()
    first = next(payload for number, payload in joined.jvm.asked if number == cache.DISPOSE_OBJECTS)
    assert first == (integer(1) + long(THING) + integer(at_the_jvm) if at_the_jvm else integer(0))


def test_what_is_known_of_a_class_by_an_id_ends_with_the_id() -> None:
    joined = stopped()
    assert joined.remembers(wire.METHOD_LINES, long(TYPE, METHOD))
    joined.send(cache.DISPOSE_OBJECTS, integer(1) + long(TYPE) + integer(1))
    assert not joined.remembers(wire.METHOD_LINES, long(TYPE, METHOD))


# What passes


def pieces(data: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


COMMANDS = st.tuples(st.sampled_from([*NAMES, 0x7777]), st.binary(max_size=40))
REPLIES = st.tuples(st.integers(0, 600), st.binary(max_size=60))


@settings(max_examples=150, deadline=None)
@given(st.lists(COMMANDS, max_size=12), st.lists(REPLIES, max_size=12), st.randoms(use_true_random=False))
def test_bytes_pass_as_they_came_however_they_are_cut(
    commands: list[tuple[int, bytes]], replies: list[tuple[int, bytes]], chance: random.Random
) -> None:
    near, far = Near(), Far()
    up = b"".join(ask(i, number, payload) for i, (number, payload) in enumerate(commands))
    down = b"".join(reply(i, payload, error=error) for i, (error, payload) in enumerate(replies))
    at_jvm = at_debugger = b""
    for piece in pieces(up, chance):
        for part in pieces(b"".join(near.feed_debugger(piece, now_s=0.0)[1]), chance):
            at_jvm += b"".join(far.feed_line(part, now_s=0.0)[0])
    for piece in pieces(down, chance):
        for part in pieces(b"".join(far.feed_jvm(piece, now_s=0.0)[1]), chance):
            at_debugger += b"".join(near.feed_line(part, now_s=0.0)[0])
    if cache.DISPOSE_OBJECTS not in {number for number, _ in commands}:
        assert at_jvm == up
    assert at_debugger == down


def all_of(feed: Callable[..., tuple[Parts, Parts]], data: bytes, end: Near | Far) -> tuple[bytes, bytes]:
    """Feed *data*, and wake the end as often as it wants."""
    outward, to_line = feed(data, now_s=0.0)
    while end.wake_at_s is not None:
        more = end.wake(now_s=0.0)
        outward, to_line = outward + more[0], to_line + more[1]
    return b"".join(outward), b"".join(to_line)


@pytest.mark.parametrize("size", [64 << 10, 300 << 10, 3 << 20])
def test_long_packets_pass_in_both_directions(size: int) -> None:
    near, far = Near(), Far()
    bulk = random.Random(1).randbytes(size)
    up = all_of(near.feed_debugger, ask(9, wire.VM_REDEFINE_CLASSES, bulk), near)[1]
    assert all_of(far.feed_line, up, far)[0] == ask(9, wire.VM_REDEFINE_CLASSES, bulk)
    down = all_of(far.feed_jvm, reply(9, bulk), far)[1]
    assert all_of(near.feed_line, down, near)[0] == reply(9, bulk)


def test_what_is_not_jdwp_passes() -> None:
    joined = Joined()
    nonsense = b"\x00\x00\x00\x03" + random.Random(2).randbytes(5000)
    joined.debugger(nonsense)
    assert b"".join(joined.far.feed_line(joined.up, now_s=0.0)[0]) == nonsense
    joined.from_jvm(nonsense)
    joined.pass_down()
    assert joined.said == nonsense


def test_a_debugger_that_uses_the_far_ends_packet_ids_is_left_alone() -> None:
    joined = begun()
    joined.debugger(ask(OWN_IDS << 24 | 1, wire.VM_ALL_CLASSES))
    joined.settle()
    joined.jvm.asked.clear()
    joined.from_jvm(joined.jvm.event())
    joined.settle()
    assert joined.jvm.asked == []


@pytest.mark.parametrize("data", [frame(FrameKind.OFF, b"")[:1] + integer(LONGEST_FRAME + 1), b"\x63" + integer(0)])
def test_a_line_that_is_broken_is_said_to_be(data: bytes) -> None:
    with pytest.raises(BrokenLine):
        Near().feed_line(data, now_s=0.0)
    with pytest.raises(BrokenLine):
        Far().feed_line(data, now_s=0.0)


def test_the_table_has_a_source_for_every_row_and_no_command_with_an_effect() -> None:
    assert all(row.source for row in ROWS.values())
    assert not any(effect_of(number, b"") for number in ROWS)
    never = {
        wire.VM_SUSPEND, wire.VM_RESUME, command(1, 11), command(1, 15), wire.REQUEST_SET, cache.REQUEST_CLEAR,
        command(15, 3), wire.THREAD_SUSPEND_COUNT, *INVOKES,
    }  # fmt: skip
    assert not never & set(ROWS)


# Limits

LIMIT = 0.15  # seconds of the processor; a quiet machine takes 10 to 50 ms for the worst of these
READ = 256 << 10  # bytes


OF_EACH_KIND = [
    wire.VM_ALL_CLASSES, wire.VM_SUSPEND, wire.VM_RESUME, wire.THREAD_RESUME, wire.THREAD_SUSPEND, wire.THREAD_NAME,
    jdwp.INVOKE, jdwp.SET_LOCALS, wire.VM_REDEFINE_CLASSES, wire.REQUEST_SET, wire.METHOD_LINES, cache.OBJECT_VALUES,
]  # fmt: skip


def full(packet: Callable[[int], bytes]) -> bytes:
    return b"".join(packet(i) for i in range(READ // len(packet(0))))


def slowest_call(first: Callable[[], object], end: Near | Far) -> float:
    began = time.process_time()
    first()
    slowest = time.process_time() - began
    while end.wake_at_s is not None:
        began = time.process_time()
        end.wake(now_s=0.0)
        slowest = max(slowest, time.process_time() - began)
    return slowest


@pytest.mark.parametrize(
    "packet",
    [
        *(lambda i, number=number: ask(i + 100, number, long(THREAD, i)) for number in OF_EACH_KIND),
        lambda i: ask(i + 100, wire.THREAD_FRAMES, cache.all_frames(long(THREAD))),
        lambda i: ask(i + 100, wire.VM_SUSPEND if i % 2 else wire.VM_RESUME),
        lambda i: ask(100, wire.THREAD_NAME, long(OTHER)),
        lambda i: ask(i + 100, cache.DISPOSE_OBJECTS, integer(1) + long(i) + integer(1)),
    ],
)
def test_a_read_of_any_commands_is_worked_off_in_short_calls(packet: Callable[[int], bytes]) -> None:
    assert min(slowest_for_commands(full(packet)) for _ in range(2)) < LIMIT


def slowest_for_commands(data: bytes) -> float:
    joined = stopped()
    near = slowest_call(lambda: joined.debugger(data), joined.near)
    return max(near, slowest_call(lambda: joined.far.feed_line(joined.up, now_s=0.0), joined.far))


@pytest.mark.parametrize(
    "packet",
    [
        lambda i: stop(ALL, thread=i + 1),
        lambda i: stop(NONE, thread=i + 1),
        lambda i: reply(i, integer(7000) + bytes(60000)),
        reply,
        lambda i: ask(i, 0x4064, b"\x02" + bytes(60000)),
    ],
)
def test_a_read_of_anything_that_a_jvm_sends_is_worked_off_in_short_calls(packet: Callable[[int], bytes]) -> None:
    joined = stopped()
    for i in range(2000):
        joined.debugger(ask(i + 100, wire.VM_ALL_CLASSES))
    data = full(packet)
    slowest = slowest_call(lambda: joined.from_jvm(data), joined.far)
    assert max(slowest, slowest_call(joined.pass_down, joined.near)) < LIMIT


THOUSANDS = integer(7000) + b"".join(long(i + 5000) for i in range(7000))


def test_long_lists_of_threads_are_worked_off_in_short_calls_whatever_comes_between() -> None:
    joined = held()
    joined.jvm = Mute()
    for i in range(100):
        joined.debugger(ask(2 * i + 100, cache.DISPOSE_OBJECTS, integer(0)))
        joined.debugger(ask(2 * i + 101, wire.VM_ALL_THREADS))
    joined.pass_up()
    data = b"".join(reply(2 * i + 100) + reply(2 * i + 101, THOUSANDS) for i in range(100))
    assert slowest_call(lambda: joined.from_jvm(data), joined.far) < LIMIT


def test_a_type_that_inherits_from_thousands_is_worked_off_in_short_calls() -> None:
    joined = begun()
    for type_id in [TYPE, *range(5000, 12000)]:
        joined.jvm.answers[cache.TYPE_INTERFACES, long(type_id)] = THOUSANDS
    slowest = slowest_call(lambda: joined.from_jvm(joined.jvm.event(EVENT_THREAD)), joined.far)
    assert (cache.TYPE_INTERFACES, long(5001)) in joined.jvm.asked
    assert slowest < LIMIT


class Mute(Jvm):
    """A JVM that answers nothing any more."""

    def take(self, data: bytes) -> bytes:
        self.asked += [(0, b"")] * data.count(bytes([OWN_IDS, 0]))
        return b""


def test_the_jvm_never_owes_more_than_64_answers_to_questions_ahead() -> None:
    joined = begun()
    joined.jvm.answers[wire.VM_ALL_THREADS, b""] = integer(900) + b"".join(long(i) for i in range(1, 901))
    counts = joined.jvm.counts
    joined.far._cost_s = 1e-6  # the fastest of JVMs
    joined.from_jvm(joined.jvm.event())
    joined.jvm = Mute()
    joined.jvm.counts = counts
    for _ in range(20):
        joined.from_jvm(b"")
    assert joined.far._ahead <= 64


def test_no_more_than_256_kib_are_ahead_of_what_was_acknowledged() -> None:
    joined = begun()
    threads = range(1000, 1900)
    joined.jvm.answers[wire.VM_ALL_THREADS, b""] = integer(len(threads)) + long(*threads)
    for thread in threads:
        joined.jvm.answers[wire.THREAD_NAME, long(thread)] = string("x" * 3000)
    joined.from_jvm(joined.jvm.event())
    frames_ahead = Frames()
    frames_ahead.feed(joined.down)
    ahead = 0
    while (one := frames_ahead.next()) is not None:
        ahead += len(one[1]) if one[0] == FrameKind.AHEAD else 0
    assert 128 << 10 < ahead <= 256 << 10
    joined.settle()
    assert joined.remembers(wire.THREAD_NAME, long(threads[-1])), "acknowledged, and so the rest came"
