"""A transport for bytes that a stream pushes in messages: an exec stream's, an SSH channel's.

Such a stream may hand over the rest of a message after its reader has paused. A protocol must not get bytes then, so
they are held until it resumes. This stands at the bottom because its users, kube and targets, do not know each other.
"""

import asyncio
from abc import abstractmethod


class PushedTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self._protocol: asyncio.BufferedProtocol
        self._held = bytearray()  # came while the protocol had paused
        self._held_eof = False
        self._paused = False
        self._closing = False

    @abstractmethod
    def _pause_stream(self) -> None:
        """Ask the stream to push no more; it may do so all the same."""

    @abstractmethod
    def _resume_stream(self) -> None: ...

    def pause_reading(self) -> None:
        self._paused = True
        self._pause_stream()

    def resume_reading(self) -> None:
        if not self._paused or self._closing:
            return
        self._paused = False
        held, self._held = self._held, bytearray()
        self._deliver(memoryview(held))
        if self._paused:
            return
        self._resume_stream()
        if self._held_eof:
            self._held_eof = False
            self._protocol.eof_received()

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.BufferedProtocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _deliver(self, piece: memoryview) -> None:
        """Give *piece* to the protocol, as far as it reads; *piece* has to be valid only until this returns."""
        while piece and not self._closing:
            if self._paused:
                self._held += piece
                return
            buffer = memoryview(self._protocol.get_buffer(len(piece)))
            size = min(len(buffer), len(piece))
            buffer[:size] = piece[:size]
            piece = piece[size:]
            self._protocol.buffer_updated(size)

    def _deliver_eof(self) -> None:
        if self._held:
            self._held_eof = True
        else:
            self._protocol.eof_received()
