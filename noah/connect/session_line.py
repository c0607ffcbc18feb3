"""The line of one session, kept up: connected, and again after each loss, for as long as the session lasts."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import aiohttp

from noah.backoff import Backoff
from noah.client.errors import Away, error_of
from noah.client.gateway_client import Json, session_path
from noah.connect.local_port import LocalDebugger, LocalPort
from noah.core.jdwp.frames import ACCELERATOR_VERSION
from noah.core.jdwp.near import Near
from noah.core.line.frame import LEAVES, LONGEST_MESSAGE, BadMessage
from noah.core.line.line import Came, Event, Finished, HasRoom, Line, LineState, Opened, WasReset
from noah.errors import NoahError

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
        self._wake = asyncio.Event()
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
        loop = asyncio.get_running_loop()
        error: Exception | None = None
        async with asyncio.timeout(CONNECT_WITHIN_S) as silence, await self._connect() as websocket:
            await self._greet(websocket)
            is_steady = loop.call_later(STEADY_AFTER_S, backoff.reset)
            self._take_over = False
            self._note(LineStatus.CONNECTED)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._send(websocket), name=f"{self.id}: messages to the gateway"),
                    group.create_task(self._beat(), name=f"{self.id}: pings"),
                ]
                try:
                    while self._receive(await websocket.receive()):
                        silence.reschedule(loop.time() + SILENT_AFTER_S)
                except (NoahError, BadMessage) as e:
                    error = e
                except asyncio.CancelledError:
                    if not silence.expired():
                        await websocket.close(code=LEAVES)
                    raise
                finally:
                    is_steady.cancel()
                    for task in tasks:
                        task.cancel()
        raise error or Away("The line was lost.", "cut")

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        url = f"{self._gateway.url}/api/v1{session_path(self.id, '/line')}"
        query = {"take_over": "true"} if self._take_over else {}
        headers = self._gateway.headers() | ({TOKEN: self._token} if self._token else {})
        try:
            return await self._gateway.http.ws_connect(
                url,
                params=query,
                headers=headers,
                proxy=self._gateway.proxy,
                max_msg_size=LONGEST_MESSAGE + 1,  # aiohttp refuses what is as long as this
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WITHIN_S),
            )
        except aiohttp.WSServerHandshakeError as e:
            # aiohttp does not keep what a refusal says: ask again, without an upgrade.
            async with self._gateway.http.get(
                url, params=query, headers=headers, proxy=self._gateway.proxy, allow_redirects=False
            ) as answer:
                raise _refusal(answer.status, answer.content_type, await answer.read()) from e

    async def _greet(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        ours = self._line.state()
        hello = {"version": 1, "port": self.port, "opened": ours.opened, "received": ours.received}
        await websocket.send_str(json.dumps(hello))
        said = _json(await websocket.receive())
        while "token" not in said:
            said = _json(await websocket.receive())
        self._is_understood = said.get("accelerator") == ACCELERATOR_VERSION
        state = LineState(int(said["opened"]), {int(number): int(at) for number, at in said["received"].items()})
        if said["token"] != self._token:
            self._token = str(said["token"])
            self._take(self._line.start_over())
            state = LineState()
        self._take(self._line.resume(state))
        self._wake.set()

    async def _send(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                self._wake.clear()
                while (message := self._line.next_message()) is not None:
                    await websocket.send_bytes(message)
                await self._wake.wait()
        except ConnectionError:
            pass  # the receiving side learns of it as well

    async def _beat(self) -> None:
        while True:
            self._line.ping(now_s=asyncio.get_running_loop().time())
            self._wake.set()
            await asyncio.sleep(BEAT_S)

    def _receive(self, message: aiohttp.WSMessage) -> bool:
        """Return whether the connection is still there."""
        if message.type is aiohttp.WSMsgType.BINARY:
            self._take(self._line.receive(message.data, now_s=asyncio.get_running_loop().time()))
            self._wake.set()
            return True
        if message.type is aiohttp.WSMsgType.TEXT:
            self.session = {**self.session, **_json(message).get("session", {})}
            return True
        return False

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

    # Debuggers

    def _connected(self) -> LocalDebugger:
        return LocalDebugger(self._line, opened=self._opened, changed=self._wake.set)

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
        self._wake.set()


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


def _json(message: aiohttp.WSMessage) -> dict[str, Any]:
    try:
        said = json.loads(message.data) if message.type is aiohttp.WSMsgType.TEXT else None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Away("The line was lost.", "cut")
    return said


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
        case OSError():
            return f"The gateway does not answer: {error.strerror or error}."
        case BadMessage():
            return f"The gateway speaks another protocol: {error}."
        case _:
            return f"The gateway does not answer: {error}."
