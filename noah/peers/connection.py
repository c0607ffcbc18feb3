"""One connection between two gateways that have recognized each other: frames, both ways, with back pressure."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from noah.core.line.frame import Data
from noah.errors import Unavailable
from noah.peers.frames import BadFrame, PeerFrame, PeerFrameKind, encoded, encoded_json, take_frames

log = logging.getLogger(__name__)

MOST_KEPT: Final = 256 * 1024  # bytes of frames that nobody has taken; then the other side waits


class PeerLost(Unavailable):
    """The connection to the session's gateway was lost."""


class FrameSink(Protocol):
    """The place to which frames are pushed, and changes of the connection reported."""

    def came(self, frame: PeerFrame) -> None: ...
    def lost(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class PeerConnection(asyncio.Protocol):
    """Frames are received one by one, or pushed to a sink from then on."""

    def __init__(self) -> None:
        self.is_lost = False
        self._transport: asyncio.Transport | None = None
        self._came = bytearray()
        self._frames: deque[PeerFrame] = deque()
        self._kept = 0  # bytes of them
        self._news = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._sink: FrameSink | None = None

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._came += data
        try:
            for frame in take_frames(self._came):
                self._take(frame)
        except BadFrame as e:
            self._break_off(e)

    def _break_off(self, error: BadFrame) -> None:
        log.warning("a connection from another gateway is closed: it sent %s", error)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._news.set()
        self._has_room.set()
        if self._sink is not None:
            self._sink.lost()

    def pause_writing(self) -> None:
        self._has_room.clear()
        if self._sink is not None:
            self._sink.pause_writing()

    def resume_writing(self) -> None:
        self._has_room.set()
        if self._sink is not None:
            self._sink.resume_writing()

    def _take(self, frame: PeerFrame) -> None:
        if self._sink is not None:
            self._sink.came(frame)
            return
        self._frames.append(frame)
        self._kept += len(frame.data)
        self._news.set()
        if self._kept > MOST_KEPT:
            self.pause_reading()

    # Called by who uses it

    async def receive(self) -> PeerFrame:
        """Return the next frame. Raises PeerLost when there is none, and will not be."""
        while not self._frames:
            if self.is_lost:
                raise PeerLost()
            self._news.clear()
            await self._news.wait()
        frame = self._frames.popleft()
        self._kept -= len(frame.data)
        if self._kept <= MOST_KEPT:
            self.resume_reading()
        return frame

    async def send(self, kind: PeerFrameKind, data: Data = b"") -> None:
        """Send a frame, and return when the connection takes more. Raises PeerLost."""
        self.write(kind, data)
        await self._has_room.wait()
        if self.is_lost:
            raise PeerLost()

    async def say(self, kind: PeerFrameKind, /, **said: Any) -> None:
        self.write_json(kind, said)
        await self._has_room.wait()
        if self.is_lost:
            raise PeerLost()

    def push_to(self, sink: FrameSink) -> None:
        """Push all frames to *sink* from now on, those first that came before."""
        self._sink = sink
        frames, self._frames, self._kept = self._frames, deque(), 0
        self.resume_reading()
        try:
            for frame in frames:
                sink.came(frame)
        except BadFrame as e:
            self._break_off(e)
        if self.is_lost:
            sink.lost()

    def write(self, kind: PeerFrameKind, data: Data = b"") -> None:
        if self._transport is not None and not self.is_lost:
            self._transport.write(encoded(kind, data))

    def write_json(self, kind: PeerFrameKind, said: Mapping[str, Any]) -> None:
        if self._transport is not None and not self.is_lost:
            self._transport.write(encoded_json(kind, said))

    @property
    def was_made(self) -> bool:
        return self._transport is not None

    async def closed(self, *, within_s: float) -> None:
        """Return when nothing of it is left, or after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._transport is not None and not self.is_lost:
                    self._frames.clear()
                    self._news.clear()
                    await self._news.wait()

    @property
    def backlog(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None and not self.is_lost else 0

    def pause_reading(self) -> None:
        if self._transport is not None and not self.is_lost and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.is_lost and not self._transport.is_reading():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close once what waits has been written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
