"""A stream as an asyncio.Transport: a command's stdin and stdout, or a port, are a connection's two directions.

It behaves as a TCP transport does towards its protocol: back-pressure both ways, one connection_lost(), and half a
close where the stream can.
"""

import asyncio
from typing import Any

from noah.errors import NoahError
from noah.kube.errors import ExecCut
from noah.kube.exec.stream import STDOUT, ChannelStream, Sink
from noah.pushed_transport import PushedTransport

STDERR_BYTES = 2048  # that are kept, for the reason of a failure


class Pipe(PushedTransport, Sink):
    def __init__(self) -> None:
        super().__init__()
        self._stderr = bytearray()
        self._eof_written = False
        self._error: Exception | None = None

    def begin(self, stream: ChannelStream, protocol: asyncio.BufferedProtocol) -> None:
        self._stream = stream
        self._protocol = protocol
        protocol.connection_made(self)
        if not self._paused:
            stream.resume_reading()

    # -- called by the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not self._closing:
            self._stream.write(data)

    def can_write_eof(self) -> bool:
        return self._stream.can_close_stdin

    def write_eof(self) -> None:
        if not self.can_write_eof():
            raise NotImplementedError("only v5.channel.k8s.io can close one direction")
        if not self._eof_written and not self._closing:
            self._eof_written = True
            self._stream.close_stdin()

    def get_write_buffer_size(self) -> int:
        return 0 if self._stream.is_gone else self._stream.transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._stream.transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self._stream.is_gone:
            # asyncio's TLS says "pause" about an empty buffer when high is 0.
            self._stream.transport.set_write_buffer_limits(1 if high == 0 else high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the API server's addresses; not its socket: options for a debugger's connection are not for that."""
        if name in ("peername", "sockname") and not self._stream.is_gone:
            return self._stream.transport.get_extra_info(name, default)
        return default

    def close(self) -> None:
        self._closing = True
        self._stream.close()

    def abort(self) -> None:
        self._closing = True
        self._stream.abort()

    # -- called by the stream

    def output(self, channel: int, piece: memoryview) -> None:
        if channel == STDOUT:
            self._deliver(piece)
        else:
            self._stderr += piece
            del self._stderr[:-STDERR_BYTES]

    def done(self, how: int | NoahError) -> None:
        if how == 0:
            self._deliver_eof()
        elif isinstance(how, NoahError):
            self._error = how
        else:
            said = self._stderr.decode(errors="replace").strip()
            self._error = ExecCut(f"The connection's command ended with exit code {how}: {said or 'it said nothing'}.")
        self.close()

    def lost(self) -> None:
        self._closing = True
        self._protocol.connection_lost(self._error)

    def _pause_stream(self) -> None:
        self._stream.pause_reading()

    def _resume_stream(self) -> None:
        self._stream.resume_reading()
