"""The line of one session, kept up: connected, and again after each loss, for as long as the session lasts."""

import asyncio
import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from noah.backoff import Backoff
from noah.client.errors import Away, error_of
from noah.client.gateway_client import Json, session_path
from noah.connect.local_port import LocalDebugger, LocalPort
from noah.core.jdwp.frames import ACCELERATOR_VERSION
from noah.core.jdwp.near import Near
from noah.core.line.frame import LEAVES, BadMessage
from noah.core.line.line import Came, Event, Finished, HasRoom, Line, LineState, Opened, WasReset
from noah.errors import NoahError
from noah.line_socket import LineSocket, Said
from noah.websocket import Upgraded, asking, new_key, proof_of, upgraded_by

BEAT_S: Final = 5.0  # between pings; load balancers cut what is silent for a minute
SILENT_AFTER_S: Final = 12.0  # without an answer to two of them the line is lost
CONNECT_WITHIN_S: Final = 15.0
CLOSE_WITHIN_S: Final = 0.5  # for a gateway that may be gone; then the connection is dropped
STEADY_AFTER_S: Final = 5.0  # that a connection lasts until losing it counts as the first loss again
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # between attempts to connect again
TOKEN: Final = "Noah-Line"  # noqa: S105 - a header's name


class LineStatus(StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    OVER = "over"  # it does not come again; the sentence says why


class Refused(Exception):
    """The gateway has said that this line is not to be."""

    def __init__(self, error: NoahError) -> None:
        super().__init__(error.sentence)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The way to the gateway, and the word on who asks."""

    http: aiohttp.ClientSession
    url: str
    headers: Callable[[], dict[str, str]]  # that say who asks; asked each time, since a login may be renewed
    proxy: str | None


class SessionLine:
    def __init__(self, session: Json, gateway: Gateway, *, take_over: bool, accelerate: bool) -> None:
        self.session = session  # as the gateway said last
        self.status = LineStatus.CONNECTING
        self.since_s = asyncio.get_running_loop().time()  # of the status
        self.sentence: str | None = None  # why it is lost or over
        self.refusal: NoahError | None = None
        self.was_connected = False
        self._gateway = gateway
        self._take_over = take_over
        self._accelerate = accelerate
        self._is_understood = False  # the gateway has the same accelerator
        self._answered = 0  # from memory, to debuggers that are gone
        self.note: str | None = None  # what became of the accelerator
        self._token: str | None = None
        self._line = Line(opens=True)
        self._debuggers: dict[int, LocalDebugger] = {}
        self._bytes_in = self._bytes_out = 0  # of debuggers that are gone
        self._socket: LineSocket
        self._greeted: asyncio.Future[None]  # the present connection carries the line
        self._port = LocalPort(int(session["port"]), self._connected)

    @property
    def id(self) -> str:
        return str(self.session["id"])

    @property
    def port(self) -> int:
        return self._port.port

    @property
    def round_trip_s(self) -> float | None:
        return self._line.round_trip_s if self.status is LineStatus.CONNECTED else None

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes from debuggers, and to them."""
        debuggers = self._debuggers.values()
        return (
            self._bytes_in + sum(one.bytes_in for one in debuggers),
            self._bytes_out + sum(one.bytes_out for one in debuggers),
        )

    @property
    def answered(self) -> int | None:
        """The number of commands that were answered from memory; None where nothing is accelerated."""
        nears = [one.near for one in self._debuggers.values() if one.near is not None]
        for near in nears:
            self.note = next(iter(near.notes), self.note)
        count = self._answered + sum(near.answered for near in nears)
        return count if nears or count else None

    async def open(self) -> None:
        """Open the local port. Raises Unavailable."""
        await self._port.open()

    async def run(self) -> None:
        """Keep the line until it is over."""
        backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        try:
            while self.status is not LineStatus.OVER:
                try:
                    await self._carry(backoff)
                except Refused as e:
                    self.refusal = e.error
                    self._note(LineStatus.OVER, e.error.sentence)
                except (NoahError, aiohttp.ClientError, OSError, TimeoutError, BadMessage) as e:
                    if isinstance(e, BadMessage):
                        self._token = None
                        self._take(self._line.start_over())
                    self._note(LineStatus.LOST, _sentence(e))
                    await asyncio.sleep(backoff.next_s())
        finally:
            self._port.close()
            for debugger in self._debuggers.values():
                debugger.close()

    def _note(self, status: LineStatus, sentence: str | None = None) -> None:
        if status is not self.status:
            self.status, self.since_s = status, asyncio.get_running_loop().time()
        self.sentence = sentence
        self.was_connected = self.was_connected or status is LineStatus.CONNECTED

    # One connection

    async def _carry(self, backoff: Backoff) -> None:
        async with asyncio.timeout(CONNECT_WITHIN_S) as limit:
            upgraded = await self._connect()
            self._greeted = asyncio.get_running_loop().create_future()
            self._socket = socket = LineSocket(upgraded, silent_after_s=SILENT_AFTER_S, said=self._hear)
            try:
                self._greet(socket)
                await asyncio.wait((self._greeted, socket.over), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                if not limit.expired():  # the gateway may have greeted it already, and would hold the line
                    await _leave(socket)
                socket.abort()
                raise
        is_steady = asyncio.get_running_loop().call_later(STEADY_AFTER_S, backoff.reset)
        try:
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(self._beat(socket), name=f"{self.id}: pings")
                ending = await socket.over
                beat.cancel()
        except asyncio.CancelledError:
            await _leave(socket)
            raise
        finally:
            is_steady.cancel()
            socket.abort()
        raise BadMessage(ending.why) if ending.is_broken else Away("The line was lost.", "cut")

    async def _connect(self) -> Upgraded:
        url = f"{self._gateway.url}/api/v1{session_path(self.id, '/line')}"
        key = new_key()
        answer = await self._gateway.http.get(
            url,
            params={"take_over": "true"} if self._take_over else {},
            headers=self._gateway.headers() | ({TOKEN: self._token} if self._token else {}) | asking(key),
            proxy=self._gateway.proxy,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(),  # the line has its own
        )
        if answer.status != 101:
            async with answer:
                raise _refusal(answer.status, answer.content_type, await answer.read())
        upgraded = upgraded_by(answer) if answer.headers.get("Sec-WebSocket-Accept") == proof_of(key) else None
        if upgraded is None:
            answer.close()
            raise Away("Something before the gateway answers instead of opening a line.", "HTTP 101")
        return upgraded

    def _greet(self, socket: LineSocket) -> None:
        ours = self._line.state()
        socket.say({"version": 1, "port": self.port, "opened": ours.opened, "received": ours.received})

    def _hear(self, said: Said) -> None:
        """Take what the gateway says: first what it has of the line, then whatever changes of the session."""
        if self._greeted.done() or "token" not in said:
            self.session = {**self.session, **said.get("session", {})}
            return
        self._is_understood = said.get("accelerator") == ACCELERATOR_VERSION
        try:
            state = LineState(int(said["opened"]), {int(number): int(at) for number, at in said["received"].items()})
        except (KeyError, ValueError, TypeError, AttributeError):
            raise BadMessage("not what a gateway says first") from None
        if said["token"] != self._token:
            self._token = str(said["token"])
            self._take(self._line.start_over())
            state = LineState()
        self._take(self._line.resume(state))
        self._take_over = False
        self._greeted.set_result(None)
        self._note(LineStatus.CONNECTED)
        self._socket.carry(self._line, self._take)

    async def _beat(self, socket: LineSocket) -> None:
        while True:
            self._line.ping(now_s=asyncio.get_running_loop().time())
            socket.pump()
            await asyncio.sleep(BEAT_S)

    def _pump(self) -> None:
        if self.status is LineStatus.CONNECTED:
            self._socket.pump()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Came(stream, data):
                    self._debuggers[stream].came(data)
                case HasRoom(stream):
                    self._debuggers[stream].has_room()
                case Finished(stream):
                    self._debuggers[stream].came_to_its_end()
                case WasReset(stream):
                    self._debuggers[stream].close()
                case Opened():
                    pass  # only this end opens streams
        for debugger in self._debuggers.values():
            debugger.flush()

    # Debuggers

    def _connected(self) -> LocalDebugger:
        return LocalDebugger(self._line, opened=self._opened, changed=self._pump)

    def _opened(self, debugger: LocalDebugger) -> None:
        for stream in self._debuggers.keys() - set(self._line.streams):
            gone = self._debuggers.pop(stream)
            self._bytes_in += gone.bytes_in
            self._bytes_out += gone.bytes_out
            self._answered += gone.near.answered if gone.near is not None else 0
            if gone.failure is not None:
                self._accelerate = False
                self.note = f"The accelerator is off: it failed with {gone.failure!r}."
        is_accelerated = self._accelerate and self._is_understood
        debugger.stream = self._line.open(accelerator=ACCELERATOR_VERSION if is_accelerated else 0)
        debugger.near = Near() if is_accelerated else None
        self._debuggers[debugger.stream] = debugger
        self._pump()


async def _leave(socket: LineSocket) -> None:
    """End the line at the gateway as well, which frees the JVM at once."""
    socket.close(LEAVES)
    await asyncio.wait((socket.lost,), timeout=CLOSE_WITHIN_S)


def _refusal(status: int, content_type: str, body: bytes) -> Exception:
    """Return what a gateway's problem says (RFC 9457). Anything else comes from a proxy, and may pass."""
    try:
        sentence = str(json.loads(body)["detail"])
    except (ValueError, TypeError, KeyError):
        sentence = None
    if content_type != "application/problem+json" or sentence is None:
        return Away(f"Something before the gateway answers HTTP {status} instead of opening a line.", f"HTTP {status}")
    if status in (400, 403, 404, 409, 422):
        return Refused(error_of(status, sentence))
    return error_of(status, sentence)


def _sentence(error: Exception) -> str:
    match error:
        case NoahError():
            return error.sentence
        case TimeoutError():
            return "The gateway does not answer."
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return f"The proxy does not let the line pass: {error}."
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"No TLS with the gateway: {error}. SSL_CERT_FILE names the authorities to trust."
        case OSError(errno=errno.ECONNREFUSED):  # asyncio's text of it names an address as Python writes it
            return "The gateway does not answer: connection refused."
        case OSError():
            return f"The gateway does not answer: {error.strerror or error}."
        case BadMessage():
            return f"The gateway speaks another protocol: {error}."
        case _:
            return f"The gateway does not answer: {error}."
