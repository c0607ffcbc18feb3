"""Two ends of a line and the connections between them, of which each may lose what is on its way at any moment."""

import random
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.line.frame import LONGEST_DATA, BadMessage, Frame, LineFrameKind, Reader
from noah.core.line.line import (
    MOST_RESETS,
    MOST_STREAMS,
    Came,
    Event,
    Finished,
    HasRoom,
    Line,
    LineState,
    Opened,
    WasReset,
)
from noah.core.line.stream import ACKNOWLEDGE_EVERY, WINDOW_BYTES


class End:
    """One end, and what its user has got from each stream."""

    def __init__(self, *, opens: bool) -> None:
        self.line = Line(opens=opens)
        self.reader = Reader()  # of the present connection
        self.came: dict[int, bytearray] = {}
        self.finished: list[int] = []
        self.was_reset: list[int] = []
        self.is_slow = False  # it passes nothing on
        self.held: dict[int, int] = {}

    def take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Opened(stream, _):
                    assert stream not in self.came
                    self.came[stream] = bytearray()
                case Came(stream, data):
                    assert stream not in self.finished
                    self.came.setdefault(stream, bytearray()).extend(data)
                    if self.is_slow:
                        self.held[stream] = self.held.get(stream, 0) + len(data)
                    else:
                        self.line.pass_on(stream, len(data))
                case Finished(stream):
                    assert stream not in self.finished
                    self.finished.append(stream)
                case WasReset(stream):
                    self.was_reset.append(stream)
                case HasRoom():
                    pass

    def receive(self, message: bytes) -> None:
        """Take a message, or the part of one that came before a cut."""
        for piece in (message[:10], message[10:40], message[40:]):
            if piece and (frame := self.reader.take(memoryview(piece))) is not None:
                self.take(self.line.receive(frame, now_s=0))

    def message_is_over(self) -> None:
        if (frame := self.reader.end()) is not None:
            self.take(self.line.receive(frame, now_s=0))

    def pass_on_what_is_held(self) -> None:
        self.is_slow = False
        for stream, count in self.held.items():
            self.line.pass_on(stream, count)
        self.held.clear()


class Wire:
    """Messages on their way; a cut loses them."""

    def __init__(self) -> None:
        self.laptop, self.gateway = End(opens=True), End(opens=False)
        self.up: deque[bytes] = deque()
        self.down: deque[bytes] = deque()
        self.is_connected = True

    def send(self, *, most: int = 1_000_000) -> None:
        """Put up to *most* messages of each end on their way."""
        for end, way in ((self.laptop, self.up), (self.gateway, self.down)):
            for _ in range(most if self.is_connected else 0):
                if (message := end.line.next_message()) is None:
                    break
                way.append(b"".join(message))

    def deliver(self, *, up: int = 1_000_000, down: int = 1_000_000) -> None:
        for end, way, most in ((self.gateway, self.up, up), (self.laptop, self.down, down)):
            for _ in range(min(most, len(way))):
                end.receive(way.popleft())
                end.message_is_over()

    def cut(self) -> None:
        """Lose what is on its way, but for the first half of a message in each direction."""
        for end, way in ((self.gateway, self.up), (self.laptop, self.down)):
            if way:
                end.receive(way[0][: len(way[0]) // 2])
            way.clear()
            end.reader = Reader()
        self.is_connected = False

    def connect(self) -> None:
        mine = self.laptop.line.state()
        theirs = self.gateway.line.state()
        self.gateway.take(self.gateway.line.resume(mine))
        self.laptop.take(self.laptop.line.resume(theirs))
        self.is_connected = True

    def settle(self) -> None:
        for _ in range(10_000):
            self.send()
            if not self.up and not self.down:
                return
            self.deliver()
        raise AssertionError("the two ends never stop talking")


def story(wire: Wire, steps: int) -> int:
    """Let *steps* moments pass of: a debugger attaches, asks, gets a bulk reply, leaves. Return how many there are."""
    laptop, gateway = wire.laptop.line, wire.gateway.line
    moments: list[Callable[[], object]] = [
        laptop.open,
        lambda: laptop.write(1, b"a question"),
        lambda: wire.send(most=1),
        lambda: wire.deliver(up=1),
        lambda: wire.send(most=1),
        lambda: wire.deliver(up=1),
        lambda: gateway.write(1, b"an answer"),
        lambda: wire.send(most=1),
        lambda: wire.deliver(down=1),
        lambda: gateway.write(1, bytes(200_000)),
        *([lambda: wire.send(most=1), lambda: wire.deliver(up=1), lambda: wire.deliver(down=1)] * 5),
        lambda: laptop.finish(1),
        *([lambda: wire.send(most=1), lambda: wire.deliver(up=1)] * 2),
        lambda: gateway.finish(1),
        *([lambda: wire.send(most=1), lambda: wire.deliver(up=1), lambda: wire.deliver(down=1)] * 3),
    ]
    for act in moments[:steps]:
        act()
    return len(moments)


MOMENTS = story(Wire(), 0)


@pytest.mark.parametrize("at", range(MOMENTS + 1))
@pytest.mark.parametrize("cuts", [1, 3])
def test_a_stream_is_whole_whenever_its_connection_is_cut(at: int, cuts: int) -> None:
    wire = Wire()
    story(wire, at)
    for _ in range(cuts):
        wire.cut()
        wire.connect()
        wire.send(most=1)
        wire.deliver(up=1)
    laptop, gateway = wire.laptop.line, wire.gateway.line
    # What the story had not come to.
    if at < 1:
        laptop.open()
    if at < 2:
        laptop.write(1, b"a question")
    wire.settle()
    if at < 7:
        gateway.write(1, b"an answer")
    if at < 10:
        gateway.write(1, bytes(200_000))
    laptop.finish(1)
    gateway.finish(1)
    wire.settle()
    assert wire.gateway.came == {1: b"a question"}
    assert wire.laptop.came == {1: b"an answer" + bytes(200_000)}
    assert wire.laptop.finished == wire.gateway.finished == [1]
    assert not wire.laptop.was_reset
    assert not wire.gateway.was_reset
    assert not laptop.streams
    assert not gateway.streams


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_random_traffic_over_random_cuts_loses_and_doubles_nothing(seed: int) -> None:
    choose = random.Random(seed)
    wire = Wire()
    sent: dict[str, dict[int, bytearray]] = {"up": {}, "down": {}}
    finished: dict[str, set[int]] = {"up": set(), "down": set()}
    for _ in range(choose.randrange(200)):
        match choose.randrange(10):
            case 0 if len(wire.laptop.line.streams) < MOST_STREAMS - 1:
                sent["up"][wire.laptop.line.open()] = bytearray()
            case 1 | 2 | 3:
                way = choose.choice(["up", "down"])
                end = wire.laptop if way == "up" else wire.gateway
                for stream in end.line.streams:
                    if stream not in finished[way]:
                        data = choose.randbytes(choose.choice([1, 11, 300, 70_000]))
                        sent[way].setdefault(stream, bytearray()).extend(data)
                        end.line.write(stream, data)
            case 4:
                way = choose.choice(["up", "down"])
                end = wire.laptop if way == "up" else wire.gateway
                for stream in end.line.streams[:1]:
                    finished[way].add(stream)
                    end.line.finish(stream)
            case 5:
                wire.cut()
            case 6:
                wire.cut()
                wire.connect()
            case 7 | 8:
                wire.send(most=choose.randrange(4))
            case _:
                wire.deliver(up=choose.randrange(4), down=choose.randrange(4))
    wire.cut()
    wire.connect()
    wire.settle()
    # A stream that was opened and not said before its reset would be missing; there are no resets here.
    assert not wire.laptop.was_reset
    assert not wire.gateway.was_reset
    assert {n: bytes(b) for n, b in wire.gateway.came.items()} == {n: bytes(b) for n, b in sent["up"].items()}
    for stream, wanted in sent["down"].items():
        assert bytes(wire.laptop.came.get(stream, b"")) == bytes(wanted)
    assert set(wire.gateway.finished) == finished["up"]
    assert set(wire.laptop.finished) == finished["down"]


def attached() -> Wire:
    wire = Wire()
    wire.laptop.line.open()
    wire.settle()
    return wire


def test_a_stream_that_the_gateway_gave_up_while_the_line_was_lost_is_reset() -> None:
    wire = attached()
    wire.cut()
    wire.gateway.line.reset(1)
    wire.connect()
    wire.settle()
    assert wire.laptop.was_reset == [1]
    assert not wire.laptop.line.streams


def test_a_stream_that_the_laptop_gave_up_while_the_line_was_lost_is_reset() -> None:
    wire = attached()
    wire.cut()
    wire.laptop.line.reset(1)
    wire.connect()
    assert wire.gateway.was_reset == [1]


def test_a_gateway_that_started_again_takes_what_it_was_never_told_of() -> None:
    wire = attached()
    wire.laptop.line.write(1, b"lost")
    wire.cut()
    wire.gateway = End(opens=False)
    waits = wire.laptop.line.open()
    wire.laptop.line.write(waits, b"waits")
    wire.laptop.take(wire.laptop.line.start_over())
    wire.connect()
    wire.settle()
    assert wire.laptop.was_reset == [1]
    assert wire.gateway.came == {waits: b"waits"}


def test_a_reset_ends_a_stream_at_both_ends_and_nothing_else() -> None:
    wire = attached()
    second = wire.laptop.line.open()
    wire.gateway.line.write(1, bytes(100_000))
    wire.gateway.line.reset(1)
    wire.laptop.line.write(1, b"crossing")
    wire.laptop.line.write(second, b"stays")
    wire.settle()
    assert wire.laptop.was_reset == [1]
    assert wire.gateway.came[second] == b"stays"
    assert wire.laptop.line.streams == wire.gateway.line.streams == [second]


def test_what_is_not_passed_on_is_not_acknowledged_and_fills_the_stream() -> None:
    wire = attached()
    wire.gateway.is_slow = True
    while not wire.laptop.line.is_full(1):
        wire.laptop.line.write(1, bytes(100_000))
    wire.settle()
    assert wire.laptop.line.is_full(1)
    assert wire.laptop.line.kept_bytes(1) <= WINDOW_BYTES
    wire.gateway.pass_on_what_is_held()
    wire.settle()
    assert not wire.laptop.line.is_full(1)
    assert wire.laptop.line.kept_bytes(1) < ACKNOWLEDGE_EVERY


def test_an_end_that_sends_more_than_the_window_is_refused() -> None:
    gateway = End(opens=False)
    gateway.is_slow = True
    gateway.take(gateway.line.receive(Frame(LineFrameKind.OPEN, 1, data=b"\0"), now_s=0))
    pieces = [Frame(LineFrameKind.DATA, 1, at, data=bytes(65536)) for at in range(0, WINDOW_BYTES + 1, 65536)]
    for piece in pieces[:-1]:
        gateway.take(gateway.line.receive(piece, now_s=0))
    with pytest.raises(BadMessage, match="not acknowledged"):
        gateway.line.receive(pieces[-1], now_s=0)


def test_streams_beyond_the_most_are_reset_and_an_end_that_insists_is_refused() -> None:
    gateway = Line(opens=False)
    for number in range(1, MOST_STREAMS + 2):
        gateway.receive(Frame(LineFrameKind.OPEN, number, data=b"\0"), now_s=0)
    assert gateway.streams == list(range(1, MOST_STREAMS + 1))
    assert sent_by(gateway) == Frame(LineFrameKind.RESET, MOST_STREAMS + 1)
    for number in range(MOST_STREAMS + 2, MOST_STREAMS + 2 + MOST_RESETS):
        gateway.receive(Frame(LineFrameKind.OPEN, number, data=b"\0"), now_s=0)
    with pytest.raises(BadMessage, match="not read"):
        gateway.receive(Frame(LineFrameKind.OPEN, 1000, data=b"\0"), now_s=0)


def test_a_thousand_pings_are_answered_once() -> None:
    gateway = Line(opens=False)
    for number in range(1000):
        gateway.receive(Frame(LineFrameKind.PING, offset=number), now_s=0)
    assert sent_by(gateway) == Frame(LineFrameKind.PONG, offset=999)
    assert gateway.next_message() is None


def sent_by(line: Line) -> Frame:
    frame = read(b"".join(line.next_message() or ()))
    assert frame is not None
    return frame


def read(message: bytes) -> Frame | None:
    reader = Reader()
    for at in range(0, len(message), 100_000):
        reader.take(memoryview(message)[at : at + 100_000])
    return reader.end()


def test_a_ping_measures_the_round_trip() -> None:
    laptop, gateway = Line(opens=True), Line(opens=False)
    laptop.ping(now_s=10.0)
    gateway.receive(sent_by(laptop), now_s=500)
    laptop.receive(sent_by(gateway), now_s=10.1)
    assert laptop.round_trip_s == pytest.approx(0.1)


@pytest.mark.parametrize("message", [b"", bytes(20), bytes(21), b"\x02" + bytes(20 + LONGEST_DATA + 1)])
def test_what_is_not_a_message_is_refused(message: bytes) -> None:
    with pytest.raises(BadMessage):
        read(message)


@given(st.lists(st.sampled_from([0, 1, 21, 500]), min_size=1, max_size=5), st.integers(1, 40))
def test_data_is_handed_on_piece_by_piece_with_its_place(sizes: list[int], step: int) -> None:
    reader, got, at = Reader(), bytearray(), 0
    for size in sizes:
        message = Frame(LineFrameKind.DATA, 7, at, 3).head + bytes(n % 256 for n in range(at, at + size))
        for begin in range(0, len(message), step):
            if (frame := reader.take(memoryview(message)[begin : begin + step])) is not None:
                assert (frame.kind, frame.stream, frame.offset, frame.acknowledged) == (
                    LineFrameKind.DATA,
                    7,
                    len(got),
                    3,
                )
                got += frame.data
        assert reader.end() is None
        at += size
    assert got == bytes(n % 256 for n in range(at))


@pytest.mark.parametrize(
    "frame",
    [
        Frame(LineFrameKind.OPEN, 1, data=b"\0"),  # it is open
        Frame(LineFrameKind.OPEN, 2, data=b""),
        Frame(LineFrameKind.DATA, 2, data=b"x"),  # it is not
        Frame(LineFrameKind.DATA, 1, 2**63, data=b"x"),
        Frame(LineFrameKind.DATA, 1, 0, 1, data=b"x"),
        Frame(LineFrameKind.ACKNOWLEDGE, 1, acknowledged=7),
        Frame(LineFrameKind.FINISH, 1, 5),
    ],
)
def test_what_breaks_the_protocol_is_refused(frame: Frame) -> None:
    gateway = Line(opens=False)
    gateway.receive(Frame(LineFrameKind.OPEN, 1, data=b"\0"), now_s=0)
    with pytest.raises(BadMessage):
        gateway.receive(frame, now_s=0)


def test_data_after_the_end_is_refused() -> None:
    gateway = Line(opens=False)
    gateway.receive(Frame(LineFrameKind.OPEN, 1, data=b"\0"), now_s=0)
    gateway.receive(Frame(LineFrameKind.FINISH, 1, 0), now_s=0)
    with pytest.raises(BadMessage, match="after the end"):
        gateway.receive(Frame(LineFrameKind.DATA, 1, 0, data=b"x"), now_s=0)


@pytest.mark.parametrize("received", [5, 2**64 - 1])
def test_a_state_that_does_not_fit_is_refused(received: int) -> None:
    gateway = Line(opens=False)
    gateway.receive(Frame(LineFrameKind.OPEN, 1, data=b"\0"), now_s=0)
    gateway.state()
    with pytest.raises(BadMessage):
        gateway.resume(LineState(1, {1: received}))
