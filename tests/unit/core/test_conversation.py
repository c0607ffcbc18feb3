"""What is known of a VM, as a story of packets that passed."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.jdwp.conversation import ExitRefused, Identified, VmChanged
from noah.core.jdwp.observer import Observer
from noah.core.session.session import Vm
from tests import jdwp
from tests.jdwp import ALL, EVENT_THREAD, NONE, ask, integer, long, reply, stop, string

RUNNING, UNKNOWN = VmChanged(Vm.RUNNING), VmChanged(Vm.UNKNOWN)


class Wire:
    """Packets in the order in which they passed the gateway."""

    def __init__(self, *, allow_exit: bool = False) -> None:
        self.observer = Observer(allow_exit=allow_exit)
        self.to_debugger: list[bytes] = []
        self._id = 0

    def debugger(self, number: int, payload: bytes = b"") -> int:
        self._id += 1
        self.observer.from_debugger.feed(memoryview(ask(self._id, number, payload)))
        return self._id

    def jvm(self, packet: bytes) -> None:
        self.to_debugger.append(bytes(self.observer.from_jvm.feed(memoryview(packet))))

    def questions(self) -> list[tuple[int, int, bytes]]:
        """What the gateway asks the JVM: packet IDs, commands, payloads."""
        packets, found = self.observer.take_questions(), []
        while packets:
            length, packet_id, _, number = struct.unpack(">IIBH", packets[:11])
            found.append((packet_id, number, packets[11:length]))
            packets = packets[length:]
        return found

    def asks(self, number: int, payload: bytes = b"", *, gets: bytes = b"", error: int = 0) -> None:
        self.jvm(reply(self.debugger(number, payload), gets, error=error))

    def said(self) -> list[object]:
        return list(self.observer.conversation.take_events())

    @property
    def vm(self) -> Vm:
        last = [event for event in self.said() if isinstance(event, VmChanged)][-1]
        return last.vm


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_a_stop_is_named_as_far_as_replies_told(wire: Wire) -> None:
    wire.asks(jdwp.SIGNATURE, long(7), gets=string("Lcom/shop/OrderService$Line;"))
    wire.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 9)))
    assert wire.said() == [VmChanged(Vm.SUSPENDED, None, "OrderService$Line")]
    wire.asks(jdwp.THREAD_NAME, long(1), gets=string("http-1"))
    assert wire.said() == [VmChanged(Vm.SUSPENDED, "http-1", "OrderService$Line")]
    wire.asks(jdwp.METHODS, long(7), gets=jdwp.methods({60: "open", 70: "total"}))
    assert wire.said() == [VmChanged(Vm.SUSPENDED, "http-1", "OrderService$Line.total")]
    wire.asks(jdwp.LINES, long(7, 70), gets=jdwp.lines({0: 14, 8: 15, 20: 16}))
    assert wire.said() == [VmChanged(Vm.SUSPENDED, "http-1", "OrderService$Line.total:15")]


def test_the_next_stop_is_named_from_memory(wire: Wire) -> None:
    wire.asks(jdwp.SIGNATURE, long(7), gets=string("LShop;"))
    wire.asks(jdwp.METHODS, long(7), gets=jdwp.methods({70: "main"}))
    wire.asks(jdwp.LINES, long(7, 70), gets=jdwp.lines({0: 14, 8: 15}))
    wire.jvm(stop(ALL, at=jdwp.location(7, 70, 0)))
    wire.debugger(jdwp.RESUME)
    wire.jvm(stop(ALL, at=jdwp.location(7, 70, 8), kind=jdwp.STEP))
    assert wire.said() == [
        VmChanged(Vm.SUSPENDED, None, "Shop.main:14"),
        RUNNING,
        VmChanged(Vm.SUSPENDED, None, "Shop.main:15"),
    ]


def test_a_class_is_known_from_the_list_of_all_classes_or_from_its_preparation(wire: Wire) -> None:
    def entry(type_id: int, signature: str) -> bytes:
        return b"\x01" + long(type_id) + string(signature) + string("") + integer(7)

    wire.asks(jdwp.ALL_CLASSES, gets=integer(2) + entry(3, "Ljava/lang/String;") + entry(7, "Lcom/shop/Shop;"))
    prepared = integer(1) + b"\x08" + integer(5) + long(1) + b"\x01" + long(8) + string("Lcom/shop/Late;") + integer(7)
    wire.jvm(ask(900, jdwp.EVENTS, bytes([NONE]) + prepared))
    wire.jvm(stop(ALL, at=jdwp.location(7, 70, 0)))
    wire.jvm(stop(ALL, at=jdwp.location(8, 70, 0)))
    assert [event.location for event in wire.said() if isinstance(event, VmChanged)] == ["Shop", "Late"]


def test_an_event_that_suspends_nothing_changes_nothing(wire: Wire) -> None:
    wire.jvm(stop(NONE))
    assert wire.said() == []


def test_a_resume_that_overtakes_nothing_is_believed_at_once(wire: Wire) -> None:
    """A JVM's next stop may come before its reply to the resume."""
    wire.jvm(stop(ALL))
    resume = wire.debugger(jdwp.RESUME)
    wire.jvm(stop(ALL))
    wire.jvm(reply(resume))
    assert wire.vm is Vm.SUSPENDED


def test_suspends_nest(wire: Wire) -> None:
    wire.jvm(stop(ALL))
    wire.asks(jdwp.SUSPEND)
    wire.asks(jdwp.RESUME)
    assert wire.vm is Vm.SUSPENDED
    wire.asks(jdwp.RESUME)
    assert wire.said() == [RUNNING]


def test_one_thread_that_is_resumed_leaves_the_others_suspended(wire: Wire) -> None:
    wire.jvm(stop(ALL, thread=1))
    wire.asks(jdwp.THREAD_RESUME, long(1))
    assert wire.vm is Vm.SUSPENDED
    wire.asks(jdwp.RESUME)
    assert wire.said() == [RUNNING]


def test_a_stop_of_its_thread_alone_is_one(wire: Wire) -> None:
    wire.jvm(stop(EVENT_THREAD, thread=4))
    assert wire.vm is Vm.THREAD
    wire.asks(jdwp.THREAD_RESUME, long(5))
    assert wire.said() == []
    wire.asks(jdwp.THREAD_RESUME, long(4))
    assert wire.said() == [RUNNING]


@pytest.mark.parametrize(
    ("number", "payload", "meanwhile"), [(jdwp.SUSPEND, b"", Vm.SUSPENDED), (jdwp.THREAD_SUSPEND, long(4), Vm.THREAD)]
)
def test_a_suspend_that_failed_is_none(wire: Wire, number: int, payload: bytes, meanwhile: Vm) -> None:
    wire.asks(number, payload, error=112)
    assert wire.said() == [VmChanged(meanwhile), RUNNING]


def test_a_goodbye_lets_go_of_everything(wire: Wire) -> None:
    wire.jvm(stop(ALL))
    wire.jvm(stop(EVENT_THREAD))
    wire.debugger(jdwp.DISPOSE)
    assert wire.vm is Vm.RUNNING


def test_ids_have_the_sizes_that_the_jvm_says(wire: Wire) -> None:
    wire.asks(jdwp.ID_SIZES, gets=integer(4, 4, 4, 4, 4))
    wire.asks(jdwp.SIGNATURE, integer(7), gets=string("LShop;"))
    wire.asks(jdwp.THREAD_NAME, integer(1), gets=string("main"))
    at = integer(1) + b"\x01" + integer(7, 70) + long(0)
    wire.jvm(ask(900, jdwp.EVENTS, bytes([EVENT_THREAD]) + integer(1) + b"\x02" + integer(5) + at))
    assert wire.said() == [VmChanged(Vm.THREAD, "main", "Shop")]


def test_sizes_that_cannot_be_leave_the_state_unknown(wire: Wire) -> None:
    wire.asks(jdwp.ID_SIZES, gets=integer(8, 8, 8, 8, 80))
    assert wire.said() == [UNKNOWN]


@pytest.mark.parametrize("payload", [b"", bytes([9]), bytes([EVENT_THREAD]), stop(EVENT_THREAD)[11:-20]])
def test_an_event_that_cannot_be_read_leaves_the_state_unknown_until_a_sure_sign(wire: Wire, payload: bytes) -> None:
    wire.jvm(ask(900, jdwp.EVENTS, payload))
    assert wire.said() == [UNKNOWN]
    wire.asks(jdwp.RESUME)
    assert wire.said() == [RUNNING]


def test_a_suspend_policy_is_believed_though_the_rest_cannot_be_read(wire: Wire) -> None:
    wire.jvm(ask(900, jdwp.EVENTS, bytes([ALL]) + b"\xff" * 9))
    assert wire.vm is Vm.SUSPENDED


def test_jdb_is_known_by_what_it_begins_with(wire: Wire) -> None:
    wire.debugger(jdwp.ID_SIZES)
    wire.debugger(jdwp.SET, bytes([jdwp.CLASS_PREPARE, 0]) + integer(0))
    wire.debugger(jdwp.SET, bytes([9, 0]) + integer(0))
    throwable = b"\x05" + string("java.lang.Throwable") + b"\x01" + integer(1)
    wire.debugger(jdwp.SET, bytes([jdwp.CLASS_PREPARE, ALL]) + integer(2) + throwable)
    wire.asks(jdwp.VERSION, gets=jdwp.version())
    assert wire.said() == [Identified("jdb", None), Identified("jdb", "OpenJDK 64-Bit Server VM 17.0.15")]


def test_an_exit_that_is_refused_is_an_event(wire: Wire) -> None:
    wire.debugger(jdwp.EXIT, integer(3))
    assert wire.said() == [ExitRefused()]


def test_commands_are_counted_by_what_people_ask_about(wire: Wire) -> None:
    wire.debugger(jdwp.SET, bytes([jdwp.BREAKPOINT, ALL]) + integer(0))
    wire.debugger(jdwp.SET, bytes([jdwp.STEP, ALL]) + integer(0))
    for number in (jdwp.INVOKE, jdwp.NEW_INSTANCE, jdwp.SET_LOCALS, jdwp.REDEFINE, jdwp.VERSION, 0x7777, 0x7778):
        wire.debugger(number, long(1, 2, 3))
    assert wire.observer.conversation.counts() == {
        "breakpoints set": 1,
        "EventRequest.Set": 1,
        "methods invoked": 2,
        "values set": 1,
        "classes redefined": 1,
        "VirtualMachine.Version": 1,
        "unknown": 2,
    }


def said_at_last(wire: Wire) -> VmChanged:
    return [event for event in wire.said() if isinstance(event, VmChanged)][-1]


@pytest.fixture
def shop(wire: Wire) -> Wire:
    """A wire on which the names of Shop.main:14 and :15 and of three threads have passed."""
    wire.asks(jdwp.CLASSES_BY_SIGNATURE, string("Lcom/shop/Shop;"), gets=integer(1) + b"\x01" + long(7) + integer(7))
    wire.asks(jdwp.METHODS, long(7), gets=jdwp.methods({70: "main"}))
    wire.asks(jdwp.LINES, long(7, 70), gets=jdwp.lines({0: 14, 8: 15}))
    for thread in (1, 2, 3):
        wire.asks(jdwp.THREAD_NAME, long(thread), gets=string(f"t{thread}"))
    return wire


def test_of_two_threads_that_are_held_the_one_that_is_left_is_described(shop: Wire) -> None:
    shop.jvm(stop(EVENT_THREAD, thread=1, at=jdwp.location(7, 70, 0)))
    shop.jvm(stop(EVENT_THREAD, thread=2, at=jdwp.location(7, 70, 8)))
    shop.asks(jdwp.THREAD_RESUME, long(2))
    assert shop.said() == [
        VmChanged(Vm.THREAD, "t1", "Shop.main:14"),
        VmChanged(Vm.THREAD, "t2", "Shop.main:15"),
        VmChanged(Vm.THREAD, "t1", "Shop.main:14"),
    ]


def test_a_stop_is_over_when_its_thread_ran_though_it_is_held_again(shop: Wire) -> None:
    shop.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 0)))
    shop.asks(jdwp.RESUME)
    shop.asks(jdwp.SUSPEND)
    assert said_at_last(shop) == VmChanged(Vm.SUSPENDED)


# The invoke commands, with what stands before their arguments: of the thread 1, without any argument.
INVOKES = [
    (jdwp.CLASS_INVOKE, long(7, 1, 70)),
    (jdwp.NEW_INSTANCE, long(7, 1, 70)),
    (jdwp.INTERFACE_INVOKE, long(7, 1, 70)),
    (jdwp.INVOKE, long(9, 1, 7, 70)),
]
ANY_POLICY = pytest.mark.parametrize("policy", [ALL, EVENT_THREAD])


@ANY_POLICY
@pytest.mark.parametrize("options", [0, 1])
@pytest.mark.parametrize(("number", "about"), INVOKES)
def test_a_stop_within_an_invoked_method_returns_to_the_outer_one(
    shop: Wire, number: int, about: bytes, options: int, policy: int
) -> None:
    shop.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 0)))
    invoke = shop.debugger(number, about + integer(0, options))
    shop.jvm(stop(policy, thread=1, at=jdwp.location(7, 70, 8)))
    outer, inner = shop.said()
    assert (outer, inner) == (
        VmChanged(Vm.SUSPENDED, "t1", "Shop.main:14"),
        VmChanged(Vm.THREAD if (policy, options) == (EVENT_THREAD, 0) else Vm.SUSPENDED, "t1", "Shop.main:15"),
    )
    if policy == ALL:
        shop.asks(jdwp.RESUME)
    else:
        shop.asks(jdwp.THREAD_RESUME, long(1))
    shop.jvm(reply(invoke))
    assert said_at_last(shop) == outer
    shop.asks(jdwp.RESUME)
    assert said_at_last(shop) == RUNNING


def test_an_invoked_method_that_ends_at_once_changes_nothing(shop: Wire) -> None:
    shop.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 0)))
    shop.said()
    shop.asks(jdwp.CLASS_INVOKE, long(7, 1, 70) + integer(0, 1))
    shop.asks(jdwp.CLASS_INVOKE, long(7, 1, 70) + integer(0, 0))
    shop.asks(jdwp.CLASS_INVOKE, long(7, 1, 70) + integer(0, 0), error=10)
    assert shop.said() == []


def test_a_method_for_which_all_threads_run_leaves_the_whole_vm_suspended(shop: Wire) -> None:
    shop.jvm(stop(EVENT_THREAD, thread=2, at=jdwp.location(7, 70, 8)))
    shop.jvm(stop(EVENT_THREAD, thread=1, at=jdwp.location(7, 70, 0)))
    shop.asks(jdwp.CLASS_INVOKE, long(7, 1, 70) + integer(0, 0))
    assert said_at_last(shop) == VmChanged(Vm.SUSPENDED, "t1", "Shop.main:14")
    shop.asks(jdwp.THREAD_RESUME, long(1))
    assert said_at_last(shop) == VmChanged(Vm.SUSPENDED)  # where the other thread is now is not known


def test_popped_frames_leave_a_place_that_is_asked_for(shop: Wire) -> None:
    shop.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 8)))
    shop.asks(jdwp.POP, long(1, 5))
    assert said_at_last(shop) == VmChanged(Vm.SUSPENDED, "t1")
    [(packet_id, number, payload)] = shop.questions()
    assert (number, payload) == (jdwp.FRAMES, long(1) + integer(0, 1))
    shop.jvm(reply(packet_id, integer(1) + long(4) + jdwp.location(7, 70, 0)))
    assert said_at_last(shop) == VmChanged(Vm.SUSPENDED, "t1", "Shop.main:14")
    assert shop.to_debugger[-1] == b""


def test_an_ended_thread_that_is_suspended_with_success_is_not_held_for_ever(wire: Wire) -> None:
    wire.asks(jdwp.THREAD_SUSPEND, long(4))
    [(packet_id, number, payload)] = wire.questions()
    assert (number, payload) == (jdwp.THREAD_STATUS, long(4))
    wire.jvm(reply(packet_id, integer(0, 1)))  # a zombie, suspended
    assert wire.said() == [VmChanged(Vm.THREAD), RUNNING]


def test_all_threads_that_are_resumed_one_by_one_are_a_running_vm(wire: Wire) -> None:
    wire.asks(jdwp.SUSPEND)
    for thread in (1, 2):
        wire.asks(jdwp.THREAD_RESUME, long(thread))
    [(packet_id, number, _)] = wire.questions()
    assert number == jdwp.ALL_THREADS
    wire.jvm(reply(packet_id, integer(2) + long(1, 2)))
    assert wire.said() == [VmChanged(Vm.SUSPENDED), RUNNING]


def test_what_did_not_pass_is_asked_for_once(wire: Wire) -> None:
    wire.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 8)))
    questions = wire.questions()
    assert [number for _, number, _ in questions] == [jdwp.THREAD_NAME, jdwp.SIGNATURE, jdwp.METHODS, jdwp.LINES]
    assert wire.questions() == []
    gets = [string("main"), string("LShop;"), jdwp.methods({70: "main"}), jdwp.lines({0: 14, 8: 15})]
    for (packet_id, _, _), payload in zip(questions, gets, strict=True):
        wire.jvm(reply(packet_id, payload))
    assert said_at_last(wire) == VmChanged(Vm.SUSPENDED, "main", "Shop.main:15")
    assert wire.to_debugger[1:] == [b""] * 4
    assert wire.questions() == []


def test_a_question_without_an_answer_is_not_asked_again_at_that_stop(wire: Wire) -> None:
    wire.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 8)))
    for packet_id, _, _ in wire.questions():
        wire.jvm(reply(packet_id, error=112))
    assert wire.questions() == []


@pytest.mark.parametrize("running", [jdwp.RESUME, jdwp.DISPOSE])
def test_nothing_is_asked_while_the_vm_runs(wire: Wire, running: int) -> None:
    assert wire.questions() == []
    wire.jvm(stop(ALL))
    wire.asks(running)
    assert wire.questions() == []


def test_nothing_is_asked_in_the_middle_of_a_command_or_of_an_invoked_method(wire: Wire) -> None:
    wire.jvm(stop(ALL))
    wire.observer.from_debugger.feed(ask(90, jdwp.REDEFINE, bytes(50))[:30])
    assert wire.questions() == []
    wire.observer.from_debugger.feed(ask(90, jdwp.REDEFINE, bytes(50))[30:])
    invoke = wire.debugger(jdwp.CLASS_INVOKE, long(7, 1, 70) + integer(0, 0))
    assert wire.questions() == []
    wire.jvm(reply(invoke))
    assert wire.questions() != []


def test_a_debugger_that_uses_our_packet_ids_gets_its_replies(wire: Wire) -> None:
    wire.jvm(stop(ALL))
    ours = [packet_id for packet_id, _, _ in wire.questions()]
    packet = ask(ours[0], jdwp.VALUES, long(1))
    wire.observer.from_debugger.feed(packet * 2)  # also on the fast path
    wire.jvm(reply(ours[0], string("main")))  # a JVM answers in order
    assert wire.to_debugger[-1] == b""
    wire.jvm(reply(ours[0], long(5)))
    assert wire.to_debugger[-1] == reply(ours[0], long(5))
    wire.debugger(jdwp.RESUME)
    wire.jvm(stop(ALL))
    assert wire.questions() == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1))
def test_replies_to_our_questions_are_left_out_however_they_are_cut(sizes: list[int]) -> None:
    wire = Wire()
    wire.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 8)))
    theirs = [reply(1, b"theirs"), stop(NONE), reply(2)]
    ours = [reply(packet_id, bytes(nth * 30)) for nth, (packet_id, _, _) in enumerate(wire.questions())]
    mixed = b"".join(a + b for a, b in zip(theirs, ours, strict=False)) + b"".join(ours[3:]) + reply(3, b"last")
    at = nth = 0
    while at < len(mixed):
        size = sizes[nth % len(sizes)]
        wire.jvm(mixed[at : at + size])
        at, nth = at + size, nth + 1
    assert b"".join(wire.to_debugger[1:]) == b"".join(theirs) + reply(3, b"last")


def test_line_tables_that_are_used_stay_though_all_methods_of_large_classes_are_asked_for(shop: Wire) -> None:
    for round_ in range(40):
        for method in range(100):
            shop.asks(jdwp.LINES, long(8, 1000 * round_ + method), gets=jdwp.lines({i: i for i in range(20)}))
        shop.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 8)))
        assert said_at_last(shop) == VmChanged(Vm.SUSPENDED, "t1", "Shop.main:15")
        shop.asks(jdwp.RESUME)


def test_a_class_that_is_redefined_has_other_lines(shop: Wire) -> None:
    shop.jvm(stop(ALL, thread=1, at=jdwp.location(7, 70, 8)))
    shop.asks(jdwp.REDEFINE, bytes(40))
    assert said_at_last(shop) == VmChanged(Vm.SUSPENDED, "t1", "Shop")
    assert [number for _, number, _ in shop.questions()] == [jdwp.METHODS, jdwp.LINES]


def test_a_thread_that_ends_is_forgotten(wire: Wire) -> None:
    wire.jvm(stop(EVENT_THREAD, thread=4))
    wire.jvm(ask(900, jdwp.EVENTS, bytes([NONE]) + integer(1) + b"\x07" + integer(5) + long(4)))
    assert wire.vm is Vm.RUNNING


def test_a_stop_at_a_monitor_has_a_place(shop: Wire) -> None:
    waits = b"\x2d" + integer(5) + long(1) + b"L" + long(99) + jdwp.location(7, 70, 8) + long(0)
    shop.jvm(ask(900, jdwp.EVENTS, bytes([ALL]) + integer(1) + waits))
    assert shop.said() == [VmChanged(Vm.SUSPENDED, "t1", "Shop.main:15")]
