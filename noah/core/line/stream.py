"""One byte stream of a line, as one end sees it: what it has sent and what it has received.

What was sent is kept until the other end has passed it on, so that it can be sent again over another connection. The
end of a direction counts as one byte, so that it is acknowledged and sent again like any other.
"""

from collections import deque
from typing import Final

from noah.core.line.frame import BadMessage, Data

# Bytes that one direction of a stream keeps at most: 100 Mbit/s at a round trip of 300 ms.
WINDOW_BYTES: Final = 4 * 1024 * 1024
# Bytes that are passed on before an acknowledgement is sent without data. JDWP asks and answers, so most go with data,
# also those of replies of 256 KiB, which come with a header.
ACKNOWLEDGE_EVERY: Final = 512 * 1024
JOINED_BYTES: Final = 4096  # of what waits is kept together: a thousand commands are not a thousand objects


class Sending:
    def __init__(self) -> None:
        self.is_finished = False
        self.is_acknowledged = False  # the end of this direction was passed on by the other end
        self._kept: deque[Data] = deque()  # what is not acknowledged, and maybe a part of the first that is
        self._unsent: deque[Data] = deque()  # those of them that are still to be sent
        self._sent = 0  # bytes of the first of those
        self._begin = 0  # the offset of the first byte that is kept
        self._first = 0  # the offset of the first byte that is not acknowledged
        self._end = 0  # the offset behind the last byte that was written
        self._next = 0  # the offset of the next byte to send
        self._finish_is_sent = False

    @property
    def kept_bytes(self) -> int:
        return self._end - self._first

    def write(self, data: Data) -> None:
        """Keep *data*; of a long one no copy is made unless it may change."""
        if not data:
            return
        self._end += len(data)
        if self._unsent and len(self._unsent[-1]) + len(data) <= JOINED_BYTES:
            self._kept[-1] = self._unsent[-1] = b"".join((self._unsent[-1], data))
        else:
            if len(data) <= JOINED_BYTES or not memoryview(data).readonly:
                data = bytes(data)
            self._kept.append(data)
            self._unsent.append(data)

    def take_next(self, most: int) -> tuple[int, list[Data]] | None:
        """Return the offset and the bytes of what is to be sent next."""
        if not self._unsent:
            return None
        offset, parts = self._next, []
        while self._unsent and most:
            parts.append(self._take(most))
            most -= len(parts[-1])
            self._next += len(parts[-1])
        return offset, parts

    def _take(self, most: int) -> Data:
        first, begin = self._unsent[0], self._sent
        if len(first) - begin > most:
            self._sent += most
            return memoryview(first)[begin : self._sent]
        self._unsent.popleft()
        self._sent = 0
        return memoryview(first)[begin:] if begin else first

    def take_finish(self) -> int | None:
        """Return the offset of the end if that is to be sent next."""
        if not self.is_finished or self._finish_is_sent or self._unsent:
            return None
        self._finish_is_sent = True
        return self._end

    def acknowledge(self, offset: int) -> None:
        """Drop what is before *offset*. Raises BadMessage for what was not sent."""
        if offset > self._next + self._finish_is_sent:
            raise BadMessage(f"{offset} bytes acknowledged, of {self._next}")
        self.is_acknowledged = self.is_acknowledged or offset > self._end
        self._first = max(self._first, min(offset, self._end))
        while self._kept and self._begin + len(self._kept[0]) <= self._first:
            self._begin += len(self._kept.popleft())

    def send_again_from(self, offset: int) -> None:
        """Go on at what the other end has not received. Raises BadMessage for what is not kept, or was never there."""
        if not self._first <= offset <= self._end + self.is_finished:
            raise BadMessage(f"{offset} bytes received, of {self._end}; {self._first} were acknowledged")
        self._next = min(offset, self._end)
        self._finish_is_sent = offset > self._end
        self._unsent, self._sent = deque(self._kept), self._next - self._begin
        while self._unsent and self._sent >= len(self._unsent[0]):
            self._sent -= len(self._unsent.popleft())


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

    def take(self, offset: int, data: Data) -> Data:
        """Return what of *data* is new. Raises BadMessage for a gap, and for more than the window holds."""
        if offset > self._received:
            raise BadMessage(f"{offset - self._received} bytes are missing at {self._received}")
        if offset < self._received:
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
