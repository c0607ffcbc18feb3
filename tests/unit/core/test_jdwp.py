"""Whatever the wire carries and however it is cut: the same bytes pass, the same is understood, nothing grows."""

import random
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.jdwp.commands import COMMAND_HEADS
from noah.core.jdwp.conversation import Event, PacketRefused
from noah.core.jdwp.observer import LONGEST, Observer, OversizedPacket
from noah.core.session.session import Vm
from tests import jdwp
from tests.jdwp import ask, integer, long, reply, stop, string

Side = str
Packets = list[tuple[Side, bytes]]

ID = st.integers(1, 6)  # few, so that replies find their commands
HEADS = st.binary(max_size=40)
LOOKED_INTO = list(COMMAND_HEADS)
COMMANDS = st.sampled_from([*LOOKED_INTO, jdwp.VALUES, 0, 0xFFFF])
REPLIES = st.sampled_from(
    [
        b"",
        jdwp.version(),
        string("Lcom/shop/Shop;"),
        jdwp.methods({70: "total", 71: "open"}),
        jdwp.lines({0: 1, 4: 2}),
        integer(8, 8, 8, 8, 8),
        integer(4, 4, 4, 4, 4),
        integer(2) + b"\x01" + long(7) + string("LShop;") + string(""),
    ]
)
FROM_DEBUGGER = st.builds(
    ask, ID, COMMANDS, st.one_of(st.just(long(7, 70)), HEADS), flags=st.sampled_from([0, 0, 0, 1])
)
FROM_JVM = st.one_of(
    st.builds(reply, ID, st.one_of(REPLIES, HEADS), error=st.sampled_from([0, 0, 0, 13])),
    st.builds(stop, st.sampled_from([0, 1, 2, 3]), thread=st.integers(1, 3)),
    st.builds(ask, ID, st.just(jdwp.EVENTS), HEADS),
)
PACKETS = st.lists(
    st.one_of(st.tuples(st.just("debugger"), FROM_DEBUGGER), st.tuples(st.just("jvm"), FROM_JVM)), max_size=25
)


class Passed:
    """What an observer let through, and what it said."""

    def __init__(self, *, allow_exit: bool = True) -> None:
        self.observer = Observer(allow_exit=allow_exit)
        self.to_jvm = b""
        self.to_debugger = b""
        self.events: list[Event] = []

    def feed(self, side: Side, piece: bytes) -> None:
        # As the relay does: into a buffer that is used again.
        room = bytearray(piece)
        view = memoryview(room)
        if side == "debugger":
            self.to_jvm += self.observer.from_debugger.feed(view)
        else:
            self.to_debugger += self.observer.from_jvm.feed(view)
        room[:] = b"\xee" * len(room)
        self.events += self.observer.conversation.take_events()

    def all_of(self, pieces: Iterable[tuple[Side, bytes]]) -> "Passed":
        for side, piece in pieces:
            self.feed(side, piece)
        return self


def cut(packets: Packets, sizes: Iterable[int]) -> Packets:
    """The same bytes in other pieces; what one side sends in a row is one stream."""
    runs: Packets = []
    for side, packet in packets:
        if runs and runs[-1][0] == side:
            runs[-1] = side, runs[-1][1] + packet
        else:
            runs.append((side, packet))
    turn = iter(sizes)
    pieces: Packets = []
    for side, run in runs:
        at = 0
        while at < len(run):
            size = next(turn)
            pieces.append((side, run[at : at + size]))
            at += size
    return pieces


def sent_by(side: Side, packets: Packets) -> bytes:
    return b"".join(packet for sender, packet in packets if sender == side)


@settings(max_examples=300, deadline=None)
@given(packets=PACKETS, sizes=st.lists(st.integers(1, 60), min_size=1))
def test_any_chunking_passes_the_same_bytes_and_means_the_same(packets: Packets, sizes: list[int]) -> None:
    whole = Passed().all_of(packets)
    assert whole.to_jvm == sent_by("debugger", packets)
    assert whole.to_debugger == sent_by("jvm", packets)
    pieces = cut(packets, (sizes[i % len(sizes)] for i in range(10**9)))
    in_pieces = Passed().all_of(pieces)
    assert in_pieces.to_jvm == whole.to_jvm
    assert in_pieces.to_debugger == whole.to_debugger
    assert in_pieces.events == whole.events
    assert in_pieces.observer.conversation.counts() == whole.observer.conversation.counts()


@settings(max_examples=300, deadline=None)
@given(packets=PACKETS, sizes=st.lists(st.integers(1, 60), min_size=1))
def test_an_exit_never_passes_and_the_jvm_is_left_to_refuse_it(packets: Packets, sizes: list[int]) -> None:
    passed = Passed(allow_exit=False).all_of(cut(packets, (sizes[i % len(sizes)] for i in range(10**9))))
    assert passed.to_jvm == b"".join(
        packet[:9] + b"\x01\x7f" + packet[11:] if packet[9:11] == b"\x01\x0a" else packet
        for side, packet in packets
        if side == "debugger"
    )
    assert passed.to_debugger == sent_by("jvm", packets)


def test_a_handful_of_header_bytes_is_held_back_until_it_is_a_header() -> None:
    passed = Passed()
    packet = ask(1, jdwp.VALUES, long(1, 2))
    passed.feed("debugger", packet[:10])
    assert passed.to_jvm == b""
    passed.feed("debugger", packet[10:12])
    assert passed.to_jvm == packet[:12]
    passed.feed("debugger", packet[12:] + packet[:3])
    assert passed.to_jvm == packet
    assert passed.observer.from_debugger.held == packet[:3]


def test_an_oversized_packet_is_refused_before_any_of_it_passes() -> None:
    passed = Passed()
    passed.feed("debugger", integer(LONGEST + 1))
    with pytest.raises(OversizedPacket, match=str(LONGEST + 1)):
        passed.feed("debugger", ask(1, jdwp.REDEFINE)[4:])
    assert passed.to_jvm == b""
    assert passed.observer.conversation.take_events() == [PacketRefused(LONGEST + 1)]


def test_the_longest_packet_passes_without_being_kept() -> None:
    passed = Passed()
    passed.feed("debugger", integer(LONGEST) + ask(1, jdwp.REDEFINE)[4:])
    piece = memoryview(bytes(1 << 20))
    tracemalloc.start()
    try:
        for _ in range((LONGEST - 11) >> 20):
            assert passed.observer.from_debugger.feed(piece) is piece
        assert tracemalloc.get_traced_memory()[1] < 10_000  # bytes, at any time
    finally:
        tracemalloc.stop()


def test_a_reply_of_any_length_passes() -> None:
    passed = Passed()
    head = integer(0xFFFFFFFF) + reply(1)[4:]
    passed.feed("jvm", head)
    assert passed.observer.from_jvm.feed(memoryview(bytes(100))) == bytes(100)
    assert passed.to_debugger == head


@pytest.mark.parametrize("side", ["debugger", "jvm"])
def test_where_packets_end_is_unknown_everything_passes_and_the_state_is_unknown(side: Side) -> None:
    passed = Passed(allow_exit=False)
    nonsense = integer(10) + bytes(7) + b"whatever" * 100 + ask(1, jdwp.EXIT)
    passed.feed(side, nonsense)
    assert passed.to_jvm + passed.to_debugger == nonsense
    assert [event.vm for event in passed.events] == [Vm.UNKNOWN]  # type: ignore[union-attr]


def near_nonsense(chance: random.Random) -> tuple[Side, bytes]:
    """Right lengths and everything else at random, which gets deeper into an observer than what is wrong at once."""
    body = chance.randbytes(chance.choice([0, 8, 16, 40, 900, 5000]))
    packet_id = chance.randrange(400)
    if chance.random() < 0.5:
        return "jvm", reply(packet_id, body, error=chance.choice([0, 0, 0, 13]))
    if chance.random() < 0.2:
        return "jvm", ask(packet_id, jdwp.EVENTS, body)
    return "debugger", ask(packet_id, chance.choice([*LOOKED_INTO, chance.getrandbits(16)]), body)


@pytest.mark.parametrize("seed", range(2))
def test_ten_million_bytes_of_near_nonsense_raise_nothing_and_leave_nothing_behind(seed: int) -> None:
    chance = random.Random(seed)
    observer, fed, after_a_while = Observer(allow_exit=False), 0, 0
    tracemalloc.start()
    try:
        while fed < 10_000_000:
            side, packet = near_nonsense(chance)
            direction = observer.from_jvm if side == "jvm" else observer.from_debugger
            direction.feed(memoryview(packet))
            observer.conversation.take_events()
            fed += len(packet)
            if not after_a_while and fed > 3_000_000:
                after_a_while = tracemalloc.get_traced_memory()[0]
        assert tracemalloc.get_traced_memory()[0] < after_a_while + (1 << 20)
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["debugger", "jvm"]), st.binary(max_size=300)), max_size=20))
def test_garbage_raises_nothing_but_oversized(pieces: Packets) -> None:
    passed = Passed(allow_exit=False)
    for side, piece in pieces:
        try:
            passed.feed(side, piece)
        except OversizedPacket:
            break
