"""What is known of a VM, as a story of packets that passed."""

import pytest

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
        self._id = 0

    def debugger(self, number: int, payload: bytes = b"") -> int:
        self._id += 1
        self.observer.from_debugger.feed(memoryview(ask(self._id, number, payload)))
        return self._id

    def jvm(self, packet: bytes) -> None:
        self.observer.from_jvm.feed(memoryview(packet))

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
