"""A line of `noah connect` whose session is at another gateway: its messages are passed on.

The gateway to which the laptop came asks who it is and has its WebSocket (PassedLine); the session's has the line
itself (take_line).
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from noah.core.line.frame import BadMessage, Reader
from noah.core.line.line import Event, Line, LineState
from noah.line_socket import Ending, LineSocket, Said, broken
from noah.peers.connection import PeerConnection, PeerLost
from noah.peers.frames import LONGEST_DATA, BadFrame, PeerFrame, PeerFrameKind
from noah.proxy.tunnel import Tunnel
from noah.websocket import Opcode, Upgraded

LOST = Ending("The gateway of the session was lost.")


# At the session's gateway


async def take_line(connection: PeerConnection, tunnel: Tunnel, *, token: str | None, take_over: bool) -> None:
    """Serve a line that another gateway passes on. Raises Conflict if another `noah connect` has it."""
    tunnel.check(token, take_over=take_over)
    await connection.say(PeerFrameKind.ACCEPTED)
    frame = await connection.receive()
    if frame.kind is not PeerFrameKind.TEXT:
        raise BadFrame(f"{frame.kind.name} where a line's beginning was due")
    said = frame.json()
    state, address, port = _state_of(said), str(said.get("address")), _number(said.get("port"))
    why = await tunnel.serve(LineFromPeer(connection), token=token, state=state, address=address, port=port)
    with suppress(PeerLost):
        await connection.say(PeerFrameKind.CLOSE, why=why)


class LineFromPeer:
    """One connection of a line, as a LineSocket is, for a laptop that is at another gateway."""

    def __init__(self, connection: PeerConnection) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[Ending] = self._loop.create_future()
        self.heard_at_s = self._loop.time()
        self._connection = connection
        self._reader = Reader()
        self._line: Line | None = None
        self._take: Callable[[list[Event]], None]
        self._is_full = False
        connection.push_to(self)

    # Called by the tunnel

    def carry(self, line: Line, take: Callable[[list[Event]], None]) -> None:
        self._line, self._take = line, take
        self.pump()

    def pump(self) -> None:
        while self._line is not None and not self._is_full and (message := self._line.next_message()) is not None:
            self._connection.write(PeerFrameKind.DATA, b"".join(message))

    def say(self, said: Said) -> None:
        self._connection.write_json(PeerFrameKind.TEXT, said)

    def end(self, ending: Ending) -> None:
        self._line = None
        if not self.over.done():
            self.over.set_result(ending)

    # Called by the connection

    def came(self, frame: PeerFrame) -> None:
        self.heard_at_s = self._loop.time()
        try:
            match frame.kind:
                case PeerFrameKind.DATA:
                    self._receive(self._reader.take, memoryview(frame.data))
                case PeerFrameKind.END:
                    self._receive(self._reader.end)
                case PeerFrameKind.CLOSE:
                    said = frame.json()
                    self.end(Ending(str(said.get("why")), leaves=said.get("leaves") is True))
                case _:
                    raise BadMessage(frame.kind.name)
        except BadMessage as e:
            self.end(broken(e))
        self.pump()

    def _receive(self, read: Callable[..., Any], *piece: memoryview) -> None:
        frame = read(*piece)
        if frame is not None and self._line is not None:
            self._take(self._line.receive(frame, now_s=self.heard_at_s))

    def lost(self) -> None:
        self.end(Ending("The line was lost."))

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self.pump()


# At the gateway to which the laptop came


class PassedLine:
    """The line, as a Tunnel is; the session's gateway has accepted it."""

    def __init__(self, connection: PeerConnection) -> None:
        self._connection = connection
        self._socket: _SocketToPeer | None = None

    def socket(self, upgraded: Upgraded, *, silent_after_s: float, said: Callable[[Said], None]) -> LineSocket:
        """Return the connection to the laptop, for `serve`."""
        self._socket = _SocketToPeer(upgraded, self._connection, silent_after_s=silent_after_s, said=said)
        return self._socket

    async def serve(self, state: LineState, *, address: str, port: int) -> str:
        """Pass messages on until either end is lost; return why that ended, in one sentence."""
        socket = self._socket
        assert socket is not None
        about = {"opened": state.opened, "received": state.received, "address": address, "port": port}
        self._connection.write_json(PeerFrameKind.TEXT, about)
        self._connection.push_to(_ToLaptop(socket))
        try:
            return (await socket.over).why
        finally:
            socket.end(Ending("The line was lost."))
            self._connection.write_json(
                PeerFrameKind.CLOSE, {"why": socket.over.result().why, "leaves": socket.over.result().leaves}
            )
            self.close()

    def interrupt(self, why: str) -> None:
        if self._socket is not None:
            self._socket.end(Ending(why))

    def close(self) -> None:
        self._connection.close()


class _SocketToPeer(LineSocket):
    """The WebSocket to a laptop whose messages go to another gateway."""

    def __init__(self, upgraded: Upgraded, connection: PeerConnection, **more: Any) -> None:
        self._connection = connection
        super().__init__(upgraded, **more)

    # What the WebSocket says

    def _piece(self, piece: memoryview) -> None:
        if self._is_text:
            super()._piece(piece)
            return
        for at in range(0, len(piece), LONGEST_DATA):
            self._connection.write(PeerFrameKind.DATA, piece[at : at + LONGEST_DATA])

    def _message_is_over(self) -> None:
        if self._is_text:
            super()._message_is_over()
        else:
            self._connection.write(PeerFrameKind.END)

    # The laptop takes no more, or more again.

    def pause_writing(self) -> None:
        self._connection.pause_reading()

    def resume_writing(self) -> None:
        self._connection.resume_reading()


class _ToLaptop:
    """Takes what the session's gateway sends."""

    def __init__(self, socket: _SocketToPeer) -> None:
        self._socket = socket

    def came(self, frame: PeerFrame) -> None:
        match frame.kind:
            case PeerFrameKind.DATA:
                self._socket.send(Opcode.BINARY, frame.data)
            case PeerFrameKind.TEXT:
                self._socket.say(frame.json())
            case PeerFrameKind.CLOSE:
                self._socket.end(Ending(str(frame.json().get("why"))))
            case _:
                raise BadFrame(frame.kind.name)

    def lost(self) -> None:
        self._socket.end(LOST)

    def pause_writing(self) -> None:
        self._socket.pause_reading()

    def resume_writing(self) -> None:
        self._socket.resume_reading()


def _state_of(said: Mapping[str, Any]) -> LineState:
    received = said.get("received")
    if not isinstance(received, dict):
        raise BadFrame("a line's state without what was received")
    try:
        return LineState(_number(said.get("opened")), {int(number): _number(at) for number, at in received.items()})
    except ValueError:
        raise BadFrame("a line's state with the number of a stream that is not one") from None


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise BadFrame("something else where a number was due")
    return value
