"""One command over SSH: what it says while it runs, and what is known when it has ended."""

import asyncio
from collections.abc import Callable

import asyncssh

from noah.targets.host.ran import Ran

OUTPUT_LIMIT = 256 * 1024  # bytes


class Running(asyncssh.SSHClientSession[bytes]):
    """A command that runs: its output, bounded, and when it has exited, which may be before its output ends."""

    _channel: asyncssh.SSHClientChannel[bytes] | None = None

    def __init__(self, line: Callable[[str], None] | None) -> None:
        self.output: dict[int | None, bytearray] = {None: bytearray(), asyncssh.EXTENDED_DATA_STDERR: bytearray()}
        self.code: int | None = None
        self.has_status = False
        self.lost = False
        self.exited, self.over = asyncio.Event(), asyncio.Event()
        self._line = line
        self._rest = b""

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def say(self, stdin: bytes) -> None:
        """Write all of stdin and end it."""
        assert self._channel is not None
        self._channel.write(stdin)
        self._channel.write_eof()

    def abort(self) -> None:
        if self._channel is not None:
            self._channel.abort()

    @property
    def ran(self) -> Ran:
        return Ran(self.code, bytes(self.output[None]), bytes(self.output[asyncssh.EXTENDED_DATA_STDERR]))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        kept = self.output[datatype]
        kept += data[: OUTPUT_LIMIT - len(kept)]
        if self._line is not None:
            *lines, self._rest = (self._rest + data)[-OUTPUT_LIMIT:].split(b"\n")
            for text in lines:
                self._line(text.decode("utf-8", "replace"))

    def exit_status_received(self, status: int) -> None:
        self.code, self.has_status = status, True
        self.exited.set()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.has_status = True
        self.exited.set()

    def eof_received(self) -> bool:
        if self._rest and self._line is not None:
            self._line(self._rest.decode("utf-8", "replace"))
            self._rest = b""
        self.over.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc is not None and not self.has_status
        self.over.set()
        self.exited.set()
