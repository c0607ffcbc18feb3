"""A direct-tcpip channel as an asyncio.Transport: it behaves as a TCP transport does towards its protocol."""

import asyncio
from typing import Any

import asyncssh

from noah.pushed_transport import PushedTransport


class ChannelTransport(PushedTransport, asyncssh.SSHTCPSession[bytes]):
    """The session of an asyncssh channel, and the transport of a protocol."""

    def __init__(self, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._channel: asyncssh.SSHTCPChannel[bytes]
        self._is_lost = False

    # -- called by the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._channel.is_closing():
            self._channel.write(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._channel.write_eof()

    def get_write_buffer_size(self) -> int:
        return self._channel.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._channel.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the channel knows; not the socket, which is shared: a debugger's options are not for it."""
        return default if name == "socket" else self._channel.get_extra_info(name, default)

    def close(self) -> None:
        """Close after all that waits has been written."""
        if not self._closing:
            self._closing = True
            self._channel.close()

    def abort(self) -> None:
        self._closing = True
        self._channel.abort()
        # At once, even if the host does not answer any more.
        self._loop.call_soon(self.connection_lost, None)

    # -- called by the channel

    def connection_made(self, chan: Any) -> None:
        self._channel = chan
        self._protocol.connection_made(self)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._deliver(memoryview(data))

    def eof_received(self) -> bool:
        self._deliver_eof()
        return True  # the protocol ends the other direction

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = self._closing = True
        self._protocol.connection_lost(_as_from_a_socket(exc))

    def _pause_stream(self) -> None:
        self._channel.pause_reading()

    def _resume_stream(self) -> None:
        self._channel.resume_reading()


def _as_from_a_socket(error: Exception | None) -> Exception | None:
    return None if error is None else ConnectionResetError(f"the SSH connection broke off: {error}")
