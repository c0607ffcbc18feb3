"""An observer that fails at any moment, in any way, costs what is known of the VM and not one byte."""

import asyncio
import logging
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.jdwp.conversation import Event, VmChanged
from noah.core.jdwp.observer import Data, FromDebugger, FromJvm, Observer
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.session.session import Vm
from noah.proxy.relay import Relay
from tests import jdwp
from tests.jdwp import ALL, ask, long, reply, stop
from tests.unit.core.test_jdwp import FROM_DEBUGGER, FROM_JVM, Packets, cut, sent_by


class Fault(RuntimeError):
    """A defect in an observer."""


class Faulty:
    """One direction of an observer that works for some calls, then fails in the next one: before or after its work."""

    def __init__(self, direction: FromDebugger | FromJvm, *, calls: int, after: bool) -> None:
        self._direction = direction
        self._calls = calls
        self._after = after

    @property
    def held(self) -> bytes:
        return self._direction.held

    @property
    def ours(self) -> int:
        return self._direction.ours

    def feed(self, data: Data) -> Data:
        self._calls -= 1
        if self._calls < 0 and not self._after:
            raise Fault
        passed = self._direction.feed(data)
        if self._calls < 0:
            raise Fault
        return passed


class FaultyObserver(Observer):
    __slots__ = ()

    def __init__(self, *, side: str, calls: int, after: bool) -> None:
        super().__init__(allow_exit=True)
        setattr(self, f"from_{side}", Faulty(getattr(self, f"from_{side}"), calls=calls, after=after))


class Pipe(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Joined:
    """A relay whose ends have greeted, without sockets."""

    def __init__(self, observer: Observer) -> None:
        self.to_debugger, self.to_jvm = Pipe(), Pipe()
        self.events: list[Event] = []
        self.relay = Relay(transport=self.to_debugger, observer=observer, changed=self._changed)
        self.relay.jvm.connection_made(self.to_jvm)
        self.relay.jvm.data_received(HANDSHAKE)
        self.to_debugger.written = self.to_jvm.written = b""

    def _changed(self) -> None:
        self.events += self.relay.take_events()

    def feed(self, packets: Packets) -> None:
        for side, piece in packets:
            end = self.relay.debugger if side == "debugger" else self.relay.jvm
            end.data_received(memoryview(bytearray(piece)))
        self.relay.debugger.eof_received()
        self.relay.jvm.eof_received()


def run(story: Callable[[], None]) -> None:
    async def within_a_loop() -> None:
        story()

    asyncio.run(within_a_loop())


SIDED = st.one_of(st.tuples(st.just("debugger"), FROM_DEBUGGER), st.tuples(st.just("jvm"), FROM_JVM))
# Begins with a length that cannot be: where packets end is unknown from here on.
GARBAGE = st.tuples(st.sampled_from(["debugger", "jvm"]), st.binary(max_size=40).map(lambda b: bytes([0, 0, 0, 5]) + b))


@settings(max_examples=300, deadline=None)
@given(
    packets=st.lists(st.one_of(SIDED, SIDED, SIDED, GARBAGE), max_size=25),
    sizes=st.lists(st.integers(1, 60), min_size=1),
    side=st.sampled_from(["debugger", "jvm"]),
    calls=st.integers(0, 30),
    after=st.booleans(),
)
def test_no_byte_is_lost_or_doubled_wherever_the_observer_fails(
    packets: Packets, sizes: list[int], side: str, calls: int, after: bool
) -> None:
    pieces = cut(packets, (sizes[i % len(sizes)] for i in range(10**9)))

    def story() -> None:
        joined = Joined(FaultyObserver(side=side, calls=calls, after=after))
        joined.feed(pieces)
        assert joined.to_jvm.written == sent_by("debugger", packets)
        assert joined.to_debugger.written == sent_by("jvm", packets)

    logging.disable(logging.ERROR)
    try:
        run(story)
    finally:
        logging.disable(logging.NOTSET)


async def test_a_reply_to_a_question_of_our_own_that_has_begun_is_left_out_to_its_end() -> None:
    observer = FaultyObserver(side="jvm", calls=3, after=False)
    joined = Joined(observer)
    joined.relay.jvm.data_received(stop(ALL))
    question = observer.take_questions()
    ours, theirs = reply(int.from_bytes(question[4:8]), b"main" * 10), reply(1, b"theirs")
    joined.relay.jvm.data_received(ours[:20])
    joined.relay.jvm.data_received(ours[20:] + theirs)
    joined.relay.jvm.data_received(theirs)
    assert joined.to_debugger.written == stop(ALL) + theirs + theirs


async def test_a_failed_observer_is_logged_once_and_the_state_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    joined = Joined(FaultyObserver(side="debugger", calls=1, after=True))
    joined.relay.debugger.data_received(ask(1, jdwp.SUSPEND))
    for _ in range(5):
        joined.relay.debugger.data_received(ask(2, jdwp.RESUME))
        joined.relay.jvm.data_received(stop(ALL))
    assert joined.events == [VmChanged(Vm.SUSPENDED), VmChanged(Vm.UNKNOWN)]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Fault]


async def test_an_observer_whose_events_cannot_be_taken_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    observer = Observer(allow_exit=True)
    joined = Joined(observer)
    del observer.conversation.events  # what take_events() needs
    joined.relay.debugger.data_received(ask(1, jdwp.SUSPEND))
    joined.relay.debugger.data_received(ask(2, jdwp.VALUES, long(1)))
    assert joined.to_jvm.written == ask(1, jdwp.SUSPEND) + ask(2, jdwp.VALUES, long(1))
    assert joined.events == [VmChanged(Vm.UNKNOWN)]
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_garbage_from_both_sides_passes_without_a_fault(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(seed)
    joined = Joined(Observer(allow_exit=True))
    said: Packets = [
        (chance.choice(["debugger", "jvm"]), bytes([0, 0, 0, 5]) + chance.randbytes(chance.randrange(300)))
        for _ in range(500)
    ]
    joined.feed(said)
    assert joined.to_jvm.written == sent_by("debugger", said)
    assert joined.to_debugger.written == sent_by("jvm", said)
    assert not caplog.records
