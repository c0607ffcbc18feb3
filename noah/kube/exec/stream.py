"""The channels of one exec, as they travel in a WebSocket to a container."""

from typing import Any

import aiohttp

from noah.errors import NoahError
from noah.kube.errors import ExecCut, ending
from noah.kube.exec.websocket import ChannelSocket

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"

STATUS_LIMIT = 64 * 1024  # bytes


class Sink:
    """The receiver of a stream."""

    def output(self, channel: int, piece: memoryview) -> None:
        """A piece of STDOUT or STDERR; valid only until this returns."""

    def done(self, how: int | NoahError) -> None:
        """The exit code, or why none is known. Called at most once, and not after the stream's owner closed it."""

    def lost(self) -> None:
        """The connection is closed. Called once, last."""

    def pause_writing(self) -> None:
        """Stop writing: enough is buffered towards the command."""

    def resume_writing(self) -> None:
        """Write again: the buffer has drained."""


class ChannelStream(ChannelSocket):
    """A WebSocket whose channels 0 and 1 are the two directions of something in a pod."""

    def __init__(self, answer: aiohttp.ClientResponse, sink: Sink, *, name: str, **rest: Any) -> None:
        self._sink = sink
        super().__init__(answer, name=name, **rest)

    @property
    def can_close_stdin(self) -> bool:
        return self.protocol == V5

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the command's stdin, or to the port."""
        if data:
            self.send_to(STDIN, data)

    def close_stdin(self) -> None:
        """End the command's stdin; over v4 this does nothing, and a command that reads to the end waits for ever."""
        if self.can_close_stdin:
            self.send_to(CLOSE, bytes((STDIN,)))

    def pause_writing(self) -> None:
        self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._sink.resume_writing()

    def _done(self, how: int | NoahError) -> None:
        self._ended = True
        self._sink.done(how)

    def _lost(self) -> None:
        self._sink.lost()


class ExecStream(ChannelStream):
    """The stream of one command. Without a status at its end, it is not known how the command ended."""

    def __init__(
        self, answer: aiohttp.ClientResponse, sink: Sink, *, container: str, program: str, **rest: Any
    ) -> None:
        self._container = container
        self._program = program
        self._status = bytearray()
        super().__init__(answer, sink, name=f"The exec stream to {container}", **rest)

    def _channel_piece(self, channel: int, piece: memoryview) -> None:
        if channel in (STDOUT, STDERR):
            self._sink.output(channel, piece)
        elif channel == STATUS:
            self._status += piece[: STATUS_LIMIT - len(self._status)]

    def _channel_message_is_over(self, channel: int) -> None:
        if channel == STATUS:
            self._done(ending(self._status, container=self._container, program=self._program))

    def _stopped(self, error: ExecCut | None) -> None:
        self._done(error or ExecCut(f"{self._name} was closed without a status."))
