"""One end of a line: several byte streams over one connection after another.

Its carrier gives it each frame that came (`receive`) and sends what `next_message` returns while the connection takes
more. When a connection is lost nothing is: both ends say over the next one which streams they have and
how much of each they have received (`state`), and go on from there (`resume`).

Only the laptop's end opens streams. Their numbers grow, so that a number which the gateway does not know says whether
it is new or over.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from noah.core.line.frame import LONGEST_DATA, BadMessage, Data, Frame, LineFrameKind, Message
from noah.core.line.stream import WINDOW_BYTES, Receiving, Sending

# One has the JVM, another knocks and is refused or takes over. More would only be memory.
MOST_STREAMS: Final = 4
MOST_RESETS: Final = 64  # that wait to be sent; an end that causes more takes nothing


@dataclass(frozen=True, slots=True)
class Opened:
    stream: int
    accelerator: int  # the version at the other end, or 0


@dataclass(frozen=True, slots=True)
class Came:
    """Data. `pass_on` is to be called with its length."""

    stream: int
    data: Data


@dataclass(frozen=True, slots=True)
class Finished:
    stream: int


@dataclass(frozen=True, slots=True)
class WasReset:
    stream: int


@dataclass(frozen=True, slots=True)
class HasRoom:
    """Something of the stream was acknowledged."""

    stream: int


Event = Opened | Came | Finished | WasReset | HasRoom


@dataclass(frozen=True, slots=True)
class LineState:
    """The state of one end, which it says when a connection begins."""

    opened: int = 0  # the highest number of a stream that was ever open
    received: dict[int, int] = field(default_factory=dict)  # by stream, for those that are open


class _Stream:
    __slots__ = ("accelerator", "is_said", "receiving", "sending")

    def __init__(self, accelerator: int, *, is_said: bool) -> None:
        self.accelerator = accelerator
        self.is_said = is_said  # that it is open
        self.sending = Sending()
        self.receiving = Receiving()

    @property
    def is_over(self) -> bool:
        return self.sending.is_acknowledged and self.receiving.is_over


class Line:
    def __init__(self, *, opens: bool) -> None:
        """*opens*: this end opens streams, and the other does not."""
        self.round_trip_s: float | None = None  # of the last ping that was answered
        self._opens = opens
        self._streams: dict[int, _Stream] = {}
        self._opened = 0
        self._resets: deque[int] = deque()
        self._last_words: deque[Message] = deque(maxlen=MOST_STREAMS)  # acknowledgements of streams that are over
        self._ping = 0  # the number of the last one
        self._ping_at_s: float | None = None  # when it was made, until it is answered
        self._ping_is_due = False
        self._pong: int | None = None

    # What is asked of a stream. One that is over is not there any more: nothing happens then.

    @property
    def streams(self) -> list[int]:
        return list(self._streams)

    def open(self, *, accelerator: int = 0) -> int:
        self._opened += 1
        self._streams[self._opened] = _Stream(accelerator, is_said=False)
        return self._opened

    def write(self, stream: int, data: Data) -> None:
        if stream in self._streams:
            self._streams[stream].sending.write(data)

    def is_full(self, stream: int) -> bool:
        """True if what is written now should wait: as much is kept as the other end takes."""
        # Half of it, since what was read before the reading stopped has to find its place, too.
        return self.kept_bytes(stream) >= WINDOW_BYTES // 2

    def kept_bytes(self, stream: int) -> int:
        return self._streams[stream].sending.kept_bytes if stream in self._streams else 0

    def pass_on(self, stream: int, count: int) -> None:
        """Note that *count* bytes that came need no memory here any more."""
        if stream in self._streams:
            self._streams[stream].receiving.pass_on(count)
            self._forget_if_over(stream)

    def finish(self, stream: int) -> None:
        """Say that nothing more is written."""
        if stream in self._streams:
            self._streams[stream].sending.is_finished = True

    def reset(self, stream: int) -> None:
        """Give the stream up at both ends."""
        if (found := self._streams.pop(stream, None)) is not None and found.is_said:
            self._reset_other_end(stream)

    def ping(self, *, now_s: float) -> None:
        """Measure the round trip."""
        self._ping += 1
        self._ping_at_s, self._ping_is_due = now_s, True

    # What goes over the connection

    def next_message(self) -> Message | None:
        """Return what is to be sent next, if anything."""
        if self._pong is not None:
            number, self._pong = self._pong, None
            return Frame(LineFrameKind.PONG, offset=number).message
        if self._ping_is_due:
            self._ping_is_due = False
            return Frame(LineFrameKind.PING, offset=self._ping).message
        if self._resets:
            return Frame(LineFrameKind.RESET, self._resets.popleft()).message
        if self._last_words:
            return self._last_words.popleft()
        for number, stream in self._streams.items():
            if (message := _next_of(number, stream)) is not None:
                # The others get their turn before the next of this one.
                if len(self._streams) > 1:
                    self._streams[number] = self._streams.pop(number)
                return message
        return None

    def receive(self, frame: Frame, *, now_s: float) -> list[Event]:
        """Raises BadMessage, after which nothing of this line may be used any more."""
        match frame.kind:
            case LineFrameKind.PING:
                self._pong = frame.offset
                return []
            case LineFrameKind.PONG:
                if frame.offset == self._ping and self._ping_at_s is not None:
                    self.round_trip_s, self._ping_at_s = now_s - self._ping_at_s, None
                return []
            case LineFrameKind.OPEN:
                return list(self._open_other(frame))
        stream = self._streams.get(frame.stream)
        if stream is None:
            if frame.stream > self._opened:
                raise BadMessage(f"stream {frame.stream} was never opened")
            return []  # it is over here, and the other end did not know
        return self._receive(frame, stream)

    def _open_other(self, frame: Frame) -> Iterator[Event]:
        if self._opens or frame.stream <= self._opened or len(frame.data) != 1:
            raise BadMessage(f"stream {frame.stream} cannot be opened")
        self._opened = frame.stream
        if len(self._streams) >= MOST_STREAMS:
            self._reset_other_end(frame.stream)
            return
        self._streams[frame.stream] = _Stream(frame.data[0], is_said=True)
        yield Opened(frame.stream, frame.data[0])

    def _receive(self, frame: Frame, stream: _Stream) -> list[Event]:
        number = frame.stream
        if frame.kind is LineFrameKind.RESET:
            del self._streams[number]
            return [WasReset(number)]
        events: list[Event] = []
        kept = stream.sending.kept_bytes
        stream.sending.acknowledge(frame.acknowledged)
        if frame.kind is LineFrameKind.DATA and (data := stream.receiving.take(frame.offset, frame.data)):
            events.append(Came(number, data))
        elif frame.kind is LineFrameKind.FINISH and stream.receiving.finish(frame.offset):
            events.append(Finished(number))
        if stream.sending.kept_bytes < kept:
            events.append(HasRoom(number))
        self._forget_if_over(number)
        return events

    def _forget_if_over(self, number: int) -> None:
        stream = self._streams[number]
        if stream.is_over:
            del self._streams[number]
            if stream.receiving.is_acknowledgement_due:
                self._last_words.append(_acknowledge(number, stream))

    def _reset_other_end(self, number: int) -> None:
        if len(self._resets) >= MOST_RESETS:
            raise BadMessage("streams are opened and their end is not read")
        self._resets.append(number)

    # From one connection to the next

    def state(self) -> LineState:
        """Return what the other end has to know. The connection before must not be read any more."""
        self._resets.clear()  # what is not in the state is over
        self._last_words.clear()
        self._pong, self._ping_is_due, self._ping_at_s = None, False, None
        return LineState(
            self._opened, {number: s.receiving.received for number, s in self._streams.items() if s.is_said}
        )

    def start_over(self) -> list[Event]:
        """Give up every stream that was said to be open: the other end knows nothing of this line."""
        said = [number for number, stream in self._streams.items() if stream.is_said]
        for number in said:
            del self._streams[number]
        return [WasReset(number) for number in said]

    def resume(self, other: LineState) -> list[Event]:
        """Go on where the other end is. Raises BadMessage if its state and ours do not fit."""
        gone: list[Event] = []
        for number, stream in list(self._streams.items()):
            if (received := other.received.get(number)) is not None:
                stream.is_said = True
                stream.sending.send_again_from(received)
                stream.receiving.say_again()
            elif self._opens and number > other.opened:
                stream.is_said = False  # what said that it is open did not arrive
                stream.sending.send_again_from(0)
            else:
                del self._streams[number]
                # If both ends had finished, it is not there because it was over, and the last word was lost.
                if not (stream.sending.is_finished and stream.receiving.is_finished):
                    gone.append(WasReset(number))
        self._streams = dict(sorted(self._streams.items()))  # they are opened in the order of their numbers
        return gone


def _next_of(number: int, stream: _Stream) -> Message | None:
    if not stream.is_said:
        stream.is_said = True
        return Frame(LineFrameKind.OPEN, number, data=bytes((stream.accelerator,))).message
    if (found := stream.sending.take_next(LONGEST_DATA)) is not None:
        offset, parts = found
        return [Frame(LineFrameKind.DATA, number, offset, stream.receiving.acknowledgement()).head, *parts]
    if (end := stream.sending.take_finish()) is not None:
        return Frame(LineFrameKind.FINISH, number, end, stream.receiving.acknowledgement()).message
    return _acknowledge(number, stream) if stream.receiving.is_acknowledgement_due else None


def _acknowledge(number: int, stream: _Stream) -> Message:
    return Frame(LineFrameKind.ACKNOWLEDGE, number, acknowledged=stream.receiving.acknowledgement()).message
