"""A direct-tcpip channel as an asyncio.Transport: it behaves as a TCP transport does towards its protocol."""

import asyncio
from typing import Any

import asyncssh


class ChannelTransport(asyncio.Transport, asyncssh.SSHTCPSession[bytes]):
    """asyncssh tells it what comes, as the channel's session; the protocol tells it what goes, as its transport."""

    def __init__(self, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._channel: asyncssh.SSHTCPChannel[bytes]
        self._held = b""  # came before the protocol said that it wants no more
        self._held_eof = False
        self._paused = False
        self._closing = False
        self._is_lost = False

    # -- what the protocol asks for

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._channel.is_closing():
            self._channel.write(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._channel.write_eof()

    def pause_reading(self) -> None:
        self._paused = True
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused or self._closing:
            return
        self._paused = False
        held, self._held = self._held, b""
        self._deliver(memoryview(held))
        if not self._paused:
            self._channel.resume_reading()
            if self._held_eof:
                self._held_eof = False
                self._protocol.eof_received()

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def get_write_buffer_size(self) -> int:
        return self._channel.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._channel.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.BufferedProtocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Not the connection's socket: it is shared, and options meant for a debugger's connection are not for it."""
        return default if name == "socket" else self._channel.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Once what waits has been written."""
        if not self._closing:
            self._closing = True
            self._channel.close()

    def abort(self) -> None:
        self._closing = True
        self._channel.abort()
        # Whether the host still answers or not.
        self._loop.call_soon(self.connection_lost, None)

    # -- what the channel tells

    def connection_made(self, chan: Any) -> None:
        self._channel = chan
        self._protocol.connection_made(self)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._deliver(memoryview(data))

    def eof_received(self) -> bool:
        if self._held:
            self._held_eof = True
        else:
            self._protocol.eof_received()
        return True  # the other direction is the protocol's to end

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._closing = True
        self._protocol.connection_lost(_as_from_a_socket(exc))

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _deliver(self, piece: memoryview) -> None:
        while piece and not self._closing:
            if self._paused:
                self._held += piece
                return
            buffer = memoryview(self._protocol.get_buffer(len(piece)))
            size = min(len(buffer), len(piece))
            buffer[:size] = piece[:size]
            piece = piece[size:]
            self._protocol.buffer_updated(size)


def _as_from_a_socket(error: Exception | None) -> Exception | None:
    return None if error is None else ConnectionResetError(f"the SSH connection broke off: {error}")
