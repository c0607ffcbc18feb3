"""A command that goes on for hours, and the stream that tells when it ends.

The stream is only how the gateway hears of the command: closing it, or losing it, does not end the command.
"""

import asyncio
import contextlib
from collections.abc import Callable

from noah.errors import NoahError
from noah.kube.exec.stream import STDOUT, ExecStream, Sink
from noah.kube.exec.websocket import GOODBYE

KEPT = 64 * 1024  # bytes of stdout before the line that is waited for, and of stderr


class HeldExec(Sink):
    def __init__(self, until: str, on_end: Callable[[int | NoahError], None]) -> None:
        self.lines: tuple[str, ...] = ()  # what it printed before the line *until*, or before it ended
        self.has_come = False  # that line
        self.how: int | NoahError | None = None  # the exit code, or why none is known; None: it goes on
        self.ended = asyncio.Event()
        self._until = until.encode()
        self._on_end = on_end
        self._failed: NoahError | None = None  # before the line *until* came
        self._begun = asyncio.Event()
        self._lost = asyncio.Event()
        self._printed = bytearray()
        self._said = bytearray()

    async def begin(self, stream: ExecStream) -> None:
        """Returns when it has printed *until*, or has ended before that with an exit code; raises any other end."""
        self._stream = stream
        stream.resume_reading()
        await self._begun.wait()
        if self._failed is not None:
            raise self._failed

    @property
    def stderr(self) -> str:
        return self._said.decode(errors="replace")

    async def close(self) -> None:
        """Lets go of the stream; on_end is not called."""
        self._stream.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * GOODBYE):
                await self._lost.wait()

    def output(self, channel: int, piece: memoryview) -> None:
        into = self._printed if channel == STDOUT else self._said
        if not (channel == STDOUT and self._begun.is_set()):
            into += piece[: KEPT - len(into)]
        if channel == STDOUT and not self._begun.is_set():
            self._look_for_the_line()

    def _look_for_the_line(self) -> None:
        *lines, _ = bytes(self._printed).split(b"\n")
        if self._until in lines:
            self.has_come = True
            self._first(lines[: lines.index(self._until)])

    def _first(self, lines: list[bytes]) -> None:
        self.lines = tuple(line.decode(errors="replace") for line in lines)
        self._printed.clear()
        self._begun.set()

    def done(self, how: int | NoahError) -> None:
        self.how = how
        self.ended.set()
        self._stream.close()
        if self._begun.is_set():
            self._on_end(how)
            return
        if isinstance(how, NoahError):
            self._failed = how
        self._first(bytes(self._printed).splitlines())

    def lost(self) -> None:
        self._lost.set()
