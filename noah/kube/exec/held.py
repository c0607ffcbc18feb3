"""A command that runs for hours: its stream tells when it ends, carries lines to it, and brings lines from it.

Closing the stream, or losing it, does not end the command; it ends the command's stdin.
"""

import asyncio
import contextlib
from collections.abc import Callable

from noah.errors import NoahError
from noah.kube.errors import ExecCut
from noah.kube.exec.stream import STDOUT, ExecStream, Sink
from noah.websocket import GOODBYE_S

KEPT_BYTES = 64 * 1024  # of stdout before the awaited line, and of stderr
LINE_BYTES = 4 * 1024  # of one line of stdout
LINES_AT_ONCE = 1000  # what is held answers a word with a line, and words are a second apart
# Bytes that may wait for the connection. Lines to a command are some 20 bytes each, so this many mean that it has taken
# none for minutes; what the kernel and TLS have buffered comes on top.
WAITING_BYTES = 16 * 1024

OnLine = Callable[[str], None]


class HeldExec(Sink):
    def __init__(
        self, container: str, until: str, *, on_end: Callable[[int | NoahError], None], on_line: OnLine | None
    ) -> None:
        self.lines: tuple[str, ...] = ()  # printed before the line *until*, or before the end
        self.has_come = False  # the line *until*
        self.how: int | NoahError | None = None  # the exit code, or why it is unknown; None while the stream lasts
        self.ended = asyncio.Event()
        self._container = container
        self._until = until
        self._on_end = on_end
        self._on_line = on_line
        self._failed: NoahError | None = None  # before the line *until* came
        self._closed = False
        self._begun = asyncio.Event()
        self._lost = asyncio.Event()
        self._first_lines: list[str] = []
        self._first_bytes = 0
        self._partial = bytearray()  # a line whose end has not come
        self._stderr = bytearray()

    async def begin(self, stream: ExecStream) -> None:
        """Return when it has printed *until*, or has ended before that with an exit code; raise any other end."""
        self._stream = stream
        stream.resume_reading()
        await self._begun.wait()
        if self._failed is not None:
            raise self._failed

    @property
    def stderr(self) -> str:
        return self._stderr.decode(errors="replace")

    def write(self, data: bytes) -> None:
        """Write to the command's stdin, which hold() must have been asked to keep open.

        Raises ExecCut when the stream has ended. A stream that takes no more ends here: on_end is called first.
        """
        if self._closed:
            raise ExecCut(f"The exec stream to {self._container} has been closed.")
        if self.how is None and self._stream.transport.get_write_buffer_size() > WAITING_BYTES:
            self._give_up(f"has not taken the last {WAITING_BYTES >> 10} KiB of its stdin")
        if self.how is not None:
            raise self.how if isinstance(self.how, ExecCut) else ExecCut(f"The command in {self._container} has ended.")
        self._stream.write(data)

    async def close(self) -> None:
        """Close the stream without calling on_end."""
        self._closed = True
        self._stream.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * GOODBYE_S):
                await self._lost.wait()

    def output(self, channel: int, piece: memoryview) -> None:
        if channel != STDOUT:
            self._stderr += piece[: KEPT_BYTES - len(self._stderr)]
            return
        if self._begun.is_set() and self._on_line is None:
            return
        *ended, rest = bytes(piece).split(b"\n")
        if len(ended) > LINES_AT_ONCE and self.how is None:
            self._give_up(f"printed more than {LINES_AT_ONCE} lines at once")
            return
        for end in ended:
            self._partial += end
            line = bytes(self._partial)
            self._partial.clear()
            if self.how is None and not self._is_too_long(line):
                self._line(line.decode(errors="replace"))
        self._partial += rest
        if self.how is None:
            self._is_too_long(self._partial)

    def _line(self, line: str) -> None:
        if self._begun.is_set():
            if self._on_line is not None:
                self._on_line(line)
        elif line == self._until:
            self.has_come = True
            self._begin()
        else:
            self._first_lines.append(line)
            self._first_bytes += len(line)
            if self._first_bytes > KEPT_BYTES:
                self._give_up(f"printed more than {KEPT_BYTES >> 10} KiB before the line {self._until!r}")

    def _is_too_long(self, line: bytes | bytearray) -> bool:
        if len(line) <= LINE_BYTES:
            return False
        self._give_up(f"printed a line of more than {LINE_BYTES >> 10} KiB")
        return True

    def _give_up(self, what: str) -> None:
        self._stream.abort()
        self.done(ExecCut(f"The exec stream to {self._container} was closed: its command {what}."))

    def _begin(self) -> None:
        self.lines = tuple(self._first_lines)
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
        if self._partial:
            self._first_lines.append(self._partial.decode(errors="replace"))
        self._begin()

    def lost(self) -> None:
        self._lost.set()
