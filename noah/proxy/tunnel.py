"""The way in for the debuggers of `noah connect`: one line to a session's owner, over one connection after another.

A debugger that comes by the line is admitted to the slot like one that comes through the listener. While the line is
lost its connections stay, and with them the JVM, as it is: nothing of it is closed until the laptop has been absent for
too long.

Nobody is asked who they are here.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from noah.core.jdwp.far import Far
from noah.core.jdwp.frames import ACCELERATOR_VERSION, Parts
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.line.frame import BadMessage, Data
from noah.core.line.line import Came, Event, Finished, HasRoom, Line, LineState, Opened, WasReset
from noah.errors import Conflict
from noah.line_socket import Ending, Said
from noah.pushed_transport import PushedTransport

log = logging.getLogger(__name__)

LOOK_AT_ABSENT_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineInfo:
    """The line of a session, as people see it."""

    address: str  # of the laptop
    port: int  # that its debuggers are pointed at, on the laptop
    since: datetime  # when it was connected, or lost
    is_lost: bool


class LineConnection(Protocol):
    """One connection to the laptop: a LineSocket, or what stands for one that is at another gateway."""

    over: asyncio.Future[Ending]
    heard_at_s: float

    def carry(self, line: Line, take: Callable[[list[Event]], None]) -> None: ...
    def pump(self) -> None: ...
    def say(self, said: Said) -> None: ...
    def end(self, ending: Ending) -> None: ...


class Tunnel:
    def __init__(
        self,
        *,
        session_id: str,
        admit: Callable[[asyncio.Transport, str], None],
        stands: Callable[[], bool],
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        held_running: timedelta,
        held_suspended: timedelta,
    ) -> None:
        """*admit* takes a paused transport that has sent its handshake, and an address. *stands*: the VM does now.

        *held_running*, *held_suspended*: for how long a JVM is held for a laptop that is away.
        """
        self.info: LineInfo | None = None
        self.session_id = session_id
        self.times_lost = 0
        self._admit = admit
        self._stands = stands
        self._clock = clock
        self._changed = changed
        self._held_running = held_running
        self._held_suspended = held_suspended
        self._token: str | None = None
        self._line = Line(opens=False)
        self._ends: dict[int, LineTransport] = {}
        self._socket: LineConnection | None = None  # that carries the line now
        self._absent: asyncio.TimerHandle | None = None

    def check(self, token: str | None, *, take_over: bool) -> None:
        """Raise Conflict if another `noah connect` has the line; *take_over* lets it go to the newcomer."""
        if self.info is None or self.info.is_lost or take_over or self._knows(token):
            return
        raise Conflict(
            f"Session {self.session_id} is connected from {self.info.address} since {self.info.since:%H:%M} UTC: stop "
            "`noah connect` there by `noah connect stop`, or take it over with --take-over."
        )

    async def serve(
        self, socket: LineConnection, *, token: str | None, state: LineState, address: str, port: int
    ) -> str:
        """Let *socket* have the line from now on; return why that ended, in one sentence.

        An unknown token begins a new line, and frees what there was of another.
        """
        try:
            self._begin(socket, token, state, LineInfo(address=address, port=port, since=self._clock(), is_lost=False))
            return (await socket.over).why
        except BadMessage as e:
            socket.end(Ending(f"What came is not the protocol of `noah connect` ({e}).", leaves=True))
            return socket.over.result().why
        finally:
            socket.end(Ending("The line was lost."))
            self._ended(socket, socket.over.result())

    def interrupt(self, why: str) -> None:
        """End the connection that carries the line now; the line goes on over the next one."""
        if self._socket is not None:
            self._socket.end(Ending(why))

    def close(self, why: str) -> None:
        """End the line. The laptop may begin another."""
        self.interrupt(why)
        self._free()

    # One connection

    def _begin(self, socket: LineConnection, token: str | None, state: LineState, info: LineInfo) -> None:
        self.interrupt("The line goes on over another connection.")
        self._socket = socket
        if not self._knows(token):
            self._free()
            self._token, self._line = secrets.token_urlsafe(24), Line(opens=False)
            state = LineState()
        ours = self._line.state()
        self._take(self._line.resume(state))
        self._note(info)
        socket.say(
            {
                "version": 1,
                "accelerator": ACCELERATOR_VERSION,
                "token": self._token,
                "opened": ours.opened,
                "received": ours.received,
            }
        )
        socket.carry(self._line, self._take)

    def _knows(self, token: str | None) -> bool:
        return self._token is not None and hmac.compare_digest((token or "").encode(), self._token.encode())

    def _take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Came(stream, data):
                    self._ends[stream].came(data)
                case HasRoom(stream):
                    self._ends[stream].has_room()
                case Opened(stream, accelerator):
                    far = Far() if accelerator == ACCELERATOR_VERSION else None
                    self._ends[stream] = LineTransport(self, self._line, stream, far)
                    self._admit(self._ends[stream], self.info.address if self.info else "")
                case Finished(stream):
                    self._ends[stream].came_to_its_end()
                case WasReset(stream):
                    self._ends.pop(stream).lost(ConnectionResetError())
        if len(self._ends) > len(open_streams := self._line.streams):
            self._ends = {number: end for number, end in self._ends.items() if number in open_streams}

    def _ended(self, socket: LineConnection, ending: Ending) -> None:
        if self._socket is not socket:
            return  # another connection carries the line on
        self._socket = None
        if ending.leaves:
            self._free()
        elif self.info is not None:
            self.times_lost += 1
            log.info("%s: line lost: %s", self.session_id, ending.why)
            # It was lost when it was heard last, and not when that was found out.
            silence = timedelta(seconds=asyncio.get_running_loop().time() - socket.heard_at_s)
            self._note(replace(self.info, since=self._clock() - silence, is_lost=True))
            self._look_whether_absent()

    # The laptop is away

    def _look_whether_absent(self) -> None:
        if self.info is None or not self.info.is_lost:
            return
        held = self._held_suspended if self._stands() else self._held_running
        if self._clock() - self.info.since >= held:
            log.info("%s: the laptop did not come back within %s", self.session_id, held)
            self._free(TimeoutError())
        else:
            loop = asyncio.get_running_loop()
            self._absent = loop.call_later(LOOK_AT_ABSENT_EVERY_S, self._look_whether_absent)

    def _free(self, error: Exception | None = None) -> None:
        """Free every JVM that the line's debuggers have, and end the line. *error*: what became of them."""
        ends, self._ends, self._token = self._ends, {}, None
        for end in ends.values():
            end.lost(error)
        self._note(None)

    def _note(self, info: LineInfo | None) -> None:
        if self._absent is not None:
            self._absent.cancel()
        if info != self.info:
            self.info = info
            self._changed()

    # What ends do

    def has_written(self) -> None:
        if self._socket is not None:
            self._socket.pump()


class LineTransport(PushedTransport):
    """A stream of the line as the connection of a debugger."""

    def __init__(self, tunnel: Tunnel, line: Line, stream: int, far: Far | None) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._far = far  # where the line is accelerated
        self._answer = len(HANDSHAKE)  # bytes of the JVM's handshake that were not written yet
        self._to_jvm = bytearray()  # from the far end, not delivered yet
        self._tunnel = tunnel
        self._line = line
        self._stream = stream
        self._came = self._passed_on = 0  # bytes
        self._eof_written = False
        self._is_lost = False
        self._has_paused = False  # the protocol's writing
        self._has_protocol = False
        self._paused = True

    # Called by the tunnel

    def came(self, data: Data) -> None:
        self._came += len(data)
        if not self._closing:
            if self._far is None:
                self._deliver(memoryview(data))
            else:
                self._accelerate(self._far.feed_line, data)
                self._deliver_to_jvm()
        self._pass_on()

    def _accelerate(self, feed: Callable[..., tuple[Parts, Parts]], *data: Data) -> None:
        """Let the far end take *data*, and send what it has for both sides."""
        try:
            to_jvm, to_line = feed(*data, now_s=self._loop.time())
        except Exception:
            # Whatever it is, the debugger has to attach again; `--no-accelerator` is the plain line.
            log.exception("%s: the accelerator failed", self._tunnel.session_id)
            self.abort()
            return
        for part in to_jvm:
            self._to_jvm += part
        for part in to_line:
            self._line.write(self._stream, part)
        if to_line:
            self._tunnel.has_written()
        if self._far is not None and self._far.wake_at_s is not None:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._closing:
            return
        self._deliver_to_jvm()
        if self._far is not None and self._far.wake_at_s is not None:
            self._accelerate(self._far.wake)

    def _deliver_to_jvm(self) -> None:
        if not self._to_jvm:
            return
        data, self._to_jvm = self._to_jvm, bytearray()
        self._deliver(memoryview(data))

    def _finish_far(self) -> None:
        """Pass on all that the far end has taken: nothing more comes."""
        while self._far is not None and self._far.wake_at_s is not None and not self._closing:
            self._accelerate(self._far.wake)

    def came_to_its_end(self) -> None:
        self._finish_far()
        if not self._closing:
            self._deliver_to_jvm()
        if self._paused:
            self._held_eof = True
        elif not self._closing:
            self._deliver_eof()

    def has_room(self) -> None:
        if self._has_paused and not self._is_lost and not self._line.is_full(self._stream):
            self._has_paused = False
            self.resume_writing()

    def lost(self, error: Exception | None) -> None:
        self._closing = True
        if not self._is_lost:
            self._is_lost = True
            self._held.clear()
            if self._has_protocol:
                self._loop.call_soon(self._protocol.connection_lost, error)

    # Called by the protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        super().set_protocol(protocol)
        self._has_protocol = True

    def resume_reading(self) -> None:
        super().resume_reading()
        self._pass_on()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing:
            return
        plain = len(data)
        if self._far is not None:
            plain = min(plain, self._answer)
            self._answer -= plain
        if plain:
            self._line.write(self._stream, data[:plain])
            self._tunnel.has_written()
        if self._far is not None and plain < len(data):
            self._accelerate(self._far.feed_jvm, data[plain:])
            if self._to_jvm:
                # Not now: the protocol may be in the middle of what it read into a buffer that it shares.
                self._loop.call_soon(self._go_on)
        if not self._has_paused and self._line.is_full(self._stream):
            self._has_paused = True
            self.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_written and not self._closing:
            self._finish_far()
            self._eof_written = True
            self._line.finish(self._stream)
            self._tunnel.has_written()

    def get_write_buffer_size(self) -> int:
        return self._line.kept_bytes(self._stream)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The line has limits of its own: it keeps what the laptop has not acknowledged."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._far if name == "far end" else default

    def close(self) -> None:
        """End the connection. What was written gets to the laptop all the same, whenever that comes back."""
        self.write_eof()
        self._give_up(None)

    def abort(self) -> None:
        self._line.reset(self._stream)
        self._tunnel.has_written()
        self._give_up(None)

    def _give_up(self, error: Exception | None) -> None:
        self.lost(error)
        self._pass_on()

    def _pause_stream(self) -> None: ...

    def _resume_stream(self) -> None: ...

    def _pass_on(self) -> None:
        """Let the line acknowledge what the protocol has taken, and what nobody wants any more."""
        # What the far end makes of it has another length: it counts as taken once all of that is.
        passed_on = self._came - len(self._held) if self._far is None else self._passed_on if self._held else self._came
        count, self._passed_on = passed_on - self._passed_on, passed_on
        if count:
            self._line.pass_on(self._stream, count)
            self._tunnel.has_written()
