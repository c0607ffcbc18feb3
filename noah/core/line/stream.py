"""One byte stream of a line, as one end sees it: what it has sent and what it has received.

What was sent is kept until the other end has passed it on, so that it can be sent again over another connection. The
end of a direction counts as one byte, so that it is acknowledged and sent again like any other.
"""

from typing import Final

from noah.core.line.frame import BadMessage

Data = bytes | bytearray | memoryview

# Bytes that one direction of a stream keeps at most: 100 Mbit/s at a round trip of 300 ms.
WINDOW_BYTES: Final = 4 * 1024 * 1024
# Bytes that are passed on before an acknowledgement is sent without data. JDWP asks and answers, so most go with data.
ACKNOWLEDGE_EVERY: Final = 64 * 1024


class Sending:
    def __init__(self) -> None:
        self.is_finished = False
        self.is_acknowledged = False  # the end of this direction was passed on by the other end
        self._kept = bytearray()  # what is not acknowledged
        self._first = 0  # the offset of its first byte
        self._end = 0  # the offset behind the last byte that was written
        self._next = 0  # the offset of the next byte to send
        self._finish_is_sent = False

    @property
    def kept_bytes(self) -> int:
        return len(self._kept)

    def write(self, data: Data) -> None:
        self._kept += data
        self._end += len(data)

    def take_next(self, most: int) -> tuple[int, memoryview] | None:
        """Return the offset and the bytes of what is to be sent next. They are to be released at once."""
        if self._next == self._end:
            return None
        offset, begin = self._next, self._next - self._first
        data = memoryview(self._kept)[begin : begin + most]
        self._next += len(data)
        return offset, data

    def take_finish(self) -> int | None:
        """Return the offset of the end if that is to be sent next."""
        if not self.is_finished or self._finish_is_sent or self._next < self._end:
            return None
        self._finish_is_sent = True
        return self._end

    def acknowledge(self, offset: int) -> None:
        """Drop what is before *offset*. Raises BadMessage for what was not sent."""
        if offset > self._next + self._finish_is_sent:
            raise BadMessage(f"{offset} bytes acknowledged, of {self._next}")
        self.is_acknowledged = self.is_acknowledged or offset > self._end
        offset = min(offset, self._end)
        if offset > self._first:
            del self._kept[: offset - self._first]
            self._first = offset

    def send_again_from(self, offset: int) -> None:
        """Go on at what the other end has not received. Raises BadMessage for what is not kept, or was never there."""
        if not self._first <= offset <= self._end + self.is_finished:
            raise BadMessage(f"{offset} bytes received, of {self._end}; {self._first} were acknowledged")
        self._next = min(offset, self._end)
        self._finish_is_sent = offset > self._end


class Receiving:
    def __init__(self) -> None:
        self.is_finished = False
        self._received = 0
        self._passed_on = 0
        self._said = 0  # the last acknowledgement that was sent

    @property
    def received(self) -> int:
        """The offset of what is to come next; behind the end if that has come."""
        return self._received + self.is_finished

    @property
    def held_bytes(self) -> int:
        """The number of bytes that came and were not passed on."""
        return self._received - self._passed_on

    @property
    def is_over(self) -> bool:
        return self.is_finished and not self.held_bytes

    @property
    def is_acknowledgement_due(self) -> bool:
        return self._passed_on - self._said >= ACKNOWLEDGE_EVERY or (self.is_over and self._said <= self._passed_on)

    def take(self, offset: int, data: memoryview) -> memoryview:
        """Return what of *data* is new. Raises BadMessage for a gap, and for more than the window holds."""
        if offset > self._received:
            raise BadMessage(f"{offset - self._received} bytes are missing at {self._received}")
        data = data[self._received - offset :]
        if data and self.is_finished:
            raise BadMessage("data after the end")
        if self.held_bytes + len(data) > WINDOW_BYTES:
            raise BadMessage(f"more than {WINDOW_BYTES} bytes that were not acknowledged")
        self._received += len(data)
        return data

    def finish(self, offset: int) -> bool:
        """Return whether this is news. Raises BadMessage if something is missing before the end."""
        if offset != self._received:
            raise BadMessage(f"the end is at {offset}, and {self._received} bytes came")
        is_news, self.is_finished = not self.is_finished, True
        return is_news

    def pass_on(self, count: int) -> None:
        self._passed_on += count

    def acknowledgement(self) -> int:
        """Return the offset to acknowledge, which is sent now."""
        self._said = self._passed_on + self.is_over
        return self._said

    def say_again(self) -> None:
        """Send the acknowledgement again, since the last one may not have arrived."""
        self._said = 0
