"""One connection of a line: a WebSocket whose binary messages are the line's and whose texts are JSON.

What one read brought is given to the line by the function that read it, and what follows from all of it is written at
once: a command costs no task and no queue at either end. `connect` and `proxy` have an end each.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from noah.core.line.frame import LEAVES, BadMessage, Reader
from noah.core.line.line import Event, Line
from noah.core.line.stream import WINDOW_BYTES
from noah.websocket import Opcode, Upgraded, WebSocket

LONGEST_TEXT: Final = 1 << 20  # bytes; a gateway says what people see of a session
WRITTEN_AHEAD: Final = 512 * 1024  # bytes that the connection takes before the line is to wait

Said = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """Says how a connection ended, or why it ends now."""

    why: str
    leaves: bool = False  # the laptop does not come back
    is_broken: bool = False  # the other end broke the protocol


def broken(what: BadMessage) -> Ending:
    """Return how a connection ends whose other end broke the protocol."""
    why = f"What came is not the protocol of `noah connect` ({what}): are both of one version?"
    return Ending(why, leaves=True, is_broken=True)


class LineSocket(WebSocket):
    def __init__(
        self,
        upgraded: Upgraded,
        *,
        silent_after_s: float,
        said: Callable[[Said], None],
    ) -> None:
        """*said* takes each text. It may raise BadMessage."""
        super().__init__(upgraded, name="The line")
        self.over: asyncio.Future[Ending] = self._loop.create_future()  # nothing more goes to the line
        self.lost: asyncio.Future[None] = self._loop.create_future()  # the connection is closed
        self.heard_at_s = self._loop.time()
        self._said = said
        self._text = bytearray()
        self._is_text = False
        self._reader = Reader()
        self._line: Line | None = None
        self._take: Callable[[list[Event]], None]
        self._is_full = False  # the connection takes no more
        self._is_reading = False
        self._events: list[Event] = []  # of what is being read
        self._silent_after_s = silent_after_s
        self._silence = self._loop.call_later(silent_after_s, self._look_whether_silent)
        self.transport.set_write_buffer_limits(high=WRITTEN_AHEAD)
        self.resume_reading()

    def carry(self, line: Line, take: Callable[[list[Event]], None]) -> None:
        """Let *line* have the connection until it is over; *take* is given its events."""
        self._line, self._take = line, take
        # Bulk is held in blocks of 256 KiB. glibc gives such back to the kernel as soon as they are free, and every
        # page of the next ones faults: twice the time. A freed block of this size makes it keep as much.
        bytes(WINDOW_BYTES)
        self.pump()

    def pump(self) -> None:
        """Send what the line has to send, as far as the connection takes it."""
        if self._is_reading:
            return  # what follows from all that came goes together
        while self._line is not None and not self._is_full and (message := self._line.next_message()) is not None:
            self.send(Opcode.BINARY, *message)

    def say(self, said: Said) -> None:
        self.send(Opcode.TEXT, json.dumps(said, ensure_ascii=False).encode())

    def end(self, ending: Ending) -> None:
        """Give the line nothing more of this connection."""
        self._line = None
        self._silence.cancel()
        if not self.over.done():
            self.over.set_result(ending)

    # What the connection says

    def data_received(self, data: bytes | bytearray | memoryview) -> None:
        self.heard_at_s = self._loop.time()
        super().data_received(data)

    def _parse(self, view: memoryview) -> None:
        self._is_reading = True
        try:
            super()._parse(view)
        finally:
            self._is_reading = False
        events, self._events = self._events, []
        if events:
            self._guarded(self._take, events)
        self.pump()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self.pump()

    def _look_whether_silent(self) -> None:
        silent_s = self._loop.time() - self.heard_at_s
        if silent_s < self._silent_after_s:
            self._silence = self._loop.call_later(self._silent_after_s - silent_s, self._look_whether_silent)
        else:
            self.end(Ending("The line was silent."))

    # What the WebSocket says

    def _begins(self, opcode: int) -> None:
        self._is_text = opcode == Opcode.TEXT

    def _piece(self, piece: memoryview) -> None:
        if self._is_text:
            self._text += piece[: LONGEST_TEXT - len(self._text)]
        elif self._line is not None:
            self._guarded(self._receive, self._reader.take, piece)

    def _message_is_over(self) -> None:
        if self._is_text:
            text, self._text = bytes(self._text), bytearray()
            self._guarded(self._hear, text)
        elif self._line is not None:
            self._guarded(self._receive, self._reader.end)

    def _guarded(self, act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except BadMessage as e:
            self.end(broken(e))

    def _receive(self, read: Callable[..., Any], *piece: memoryview) -> None:
        frame = read(*piece)
        if frame is not None and self._line is not None:
            self._events += self._line.receive(frame, now_s=self.heard_at_s)

    def _hear(self, text: bytes) -> None:
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise BadMessage("a text that is not an object of JSON")
        self._said(said)

    def _closed(self, code: int, reason: str) -> None:
        leaves = code == LEAVES
        self.end(Ending("The laptop has closed the line." if leaves else "The line was lost.", leaves=leaves))

    def _cut(self, sentence: str) -> None:
        self.end(Ending("The line was lost."))

    def _lost(self) -> None:
        self.end(Ending("The line was lost."))
        if not self.lost.done():
            self.lost.set_result(None)
