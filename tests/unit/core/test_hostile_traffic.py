"""A read of nothing but tiny packets holds up nobody else: what is looked into of one read has a limit."""

import time
from collections.abc import Callable

import pytest

from noah.core.jdwp.commands import COMMAND_HEADS
from noah.core.jdwp.conversation import EFFORT, VmChanged
from noah.core.jdwp.observer import Observer
from noah.core.session.session import Vm
from noah.proxy.ends import READ_SIZE
from tests import jdwp
from tests.jdwp import ALL, EVENT_THREAD, NONE, ask, integer, location, long, reply, stop, string

# A quiet machine takes 20 to 30 ms for the worst of these [seen]; what they are about took 1 to 20 s.
LIMIT = 0.15  # seconds of the processor

Make = Callable[[int], bytes]


def full_read(packet: Make) -> bytes:
    return b"".join(packet(number) for number in range(READ_SIZE // len(packet(0))))[:READ_SIZE]


def seconds_for(data: bytes, *, of: str, prepared: list[tuple[str, bytes]]) -> float:
    best = LIMIT * 100
    for _ in range(3):
        observer = Observer(allow_exit=False)
        for side, before in prepared:
            getattr(observer, side).feed(memoryview(before))
        observer.conversation.take_events()
        began = time.process_time()
        passed = getattr(observer, of).feed(memoryview(data))
        best = min(best, time.process_time() - began)
        assert len(passed) == len(data) - len(getattr(observer, of).held)
    return best


HELD = [("from_debugger", b"".join(ask(t, jdwp.THREAD_SUSPEND, long(t)) for t in range(1, 1023)))]
COMMANDS: list[Make] = [
    *(lambda i, number=number: ask(i, number) for number in [*COMMAND_HEADS, jdwp.VALUES, 0x7777]),
    *(lambda i, number=number: ask(i, number, long(7, i)) for number in COMMAND_HEADS),
    lambda i: ask(i, jdwp.SUSPEND if i % 2 else jdwp.RESUME),
    lambda i: ask(i, jdwp.THREAD_SUSPEND if i % 3 else jdwp.THREAD_RESUME, long(i // 3)),
]


@pytest.mark.parametrize("packet", COMMANDS)
def test_a_read_of_any_command_is_over_soon_though_a_thousand_threads_are_held(packet: Make) -> None:
    assert seconds_for(full_read(packet), of="from_debugger", prepared=HELD) < LIMIT


@pytest.mark.parametrize(
    "packet",
    [
        lambda i: ask(i, jdwp.EVENTS),
        lambda i: ask(i, jdwp.EVENTS, bytes([NONE])),
        lambda i: ask(i, jdwp.EVENTS, bytes([ALL])),
        lambda i: stop(NONE, thread=i, at=location(i, i, i)),
        lambda i: stop(ALL, thread=i, at=location(i, i, i)),
        lambda i: stop(EVENT_THREAD, thread=i, at=location(i, i, i)),
        lambda i: ask(i, 0x7777),
        lambda i: reply(i % 256),
    ],
)
def test_a_read_of_any_event_is_over_soon(packet: Make) -> None:
    assert seconds_for(full_read(packet), of="from_jvm", prepared=HELD) < LIMIT


CLASSES = (b"\x01" + long(7) + string("[") + string("") + integer(1)) * 12_000


@pytest.mark.parametrize(
    ("number", "about", "answer"),
    [
        (jdwp.LINES, long(1, 2), jdwp.lines({index: index for index in range(500)})),
        (jdwp.METHODS, long(1), integer(1000) + (long(5) + string("") + string("") + integer(1)) * 1000),
        (jdwp.ALL_THREADS, b"", integer(2000) + long(*range(2000))),
        (jdwp.ALL_CLASSES, b"", integer(12_000) + CLASSES),
    ],
)
def test_a_read_of_any_table_is_over_soon(number: int, about: bytes, answer: bytes) -> None:
    asked = b"".join(ask(packet_id, number, about) for packet_id in range(250))
    prepared = [*HELD, ("from_jvm", stop(ALL)), ("from_debugger", asked)]
    assert seconds_for(full_read(lambda i: reply(i, answer)), of="from_jvm", prepared=prepared) < LIMIT


def test_what_is_skipped_leaves_the_state_unknown_and_not_wrong() -> None:
    observer = Observer(allow_exit=False)
    many = EFFORT // 100 + 1
    observer.from_debugger.feed(ask(1, jdwp.VERSION) * many + ask(1, jdwp.SUSPEND))
    assert observer.conversation.take_events() == [VmChanged(Vm.UNKNOWN)]
    observer.from_debugger.feed(ask(1, jdwp.SUSPEND))
    assert observer.conversation.take_events() == [VmChanged(Vm.SUSPENDED)]
    observer.from_jvm.feed(stop(NONE) * many)
    assert observer.conversation.take_events() == []
    observer.from_jvm.feed(stop(NONE) * many + stop(ALL))
    assert observer.conversation.take_events() == [VmChanged(Vm.UNKNOWN)]
    assert observer.conversation.counts() == {
        "VirtualMachine.Version": many,
        "VirtualMachine.Suspend": 2,
    }


def test_an_exit_does_not_pass_however_much_comes_with_it() -> None:
    observer = Observer(allow_exit=False)
    passed = observer.from_debugger.feed(ask(1, jdwp.VERSION) * (EFFORT // 100 + 1) + ask(1, jdwp.EXIT, integer(0)))
    assert ask(1, jdwp.EXIT, integer(0))[9:11] not in bytes(passed)[-6:]
