"""The line of `noah connect`: a WebSocket that carries a session's debuggers between a laptop and the gateway.

The first message of each side is text, JSON: what it has of the line. All others are binary (noah/core/line).
"""

import asyncio
import json
from typing import Annotated, Literal

from aiohttp import WSMsgType, web
from pydantic import Field, ValidationError

from noah.core.jdwp.frames import ACCELERATOR_VERSION
from noah.core.line.frame import LEAVES, LONGEST_MESSAGE
from noah.core.line.line import MOST_STREAMS, LineState
from noah.core.session.rights import Right, area_of
from noah.errors import BadInput, Conflict, Forbidden, NotFound, Unauthenticated, Unavailable
from noah.proxy.tunnel import CarrierLeft, CarrierLost
from noah.sessions.live_session import LiveSession
from noah.web.api.route import Call, Routes
from noah.web.api.sessions import json_of, visible_session
from noah.web.forwarded import remote_for_log
from noah.web.identity import authenticate, principal_of
from noah.web.permission import demand
from noah.web.until_shutdown import UNTIL_SHUTDOWN
from noah.web.wire import Model, Nothing

ROUTES = Routes()
TOKEN = "Noah-Line"  # noqa: S105 - a header's name; its value is the token of a line that goes on
HELLO_WITHIN_S = 10.0
CHECK_LOGIN_EVERY_S = 30.0  # a line may last for hours, and its login not
# Of a session's JSON: what the table of `noah connect` shows.
REPORTED = frozenset({"target", "status", "reason", "attached", "vm", "expires_at", "end_reason", "end_detail"})
LONGEST_REASON = 123  # bytes of a Close frame (RFC 6455, section 5.5)

Offset = Annotated[int, Field(ge=0, lt=2**63)]
StreamNumber = Annotated[int, Field(ge=1, lt=2**32)]


class LineQuery(Model):
    take_over: bool = Field(False, description="end the line of another `noah connect`")


class Hello(Model):
    version: Literal[1]
    port: int = Field(ge=1, le=65535)  # of the laptop, that debuggers are pointed at
    opened: Annotated[int, Field(ge=0, lt=2**32)]
    received: dict[StreamNumber, Offset] = Field(max_length=MOST_STREAMS)

    @property
    def state(self) -> LineState:
        return LineState(self.opened, dict(self.received))


class WebSocketCarrier:
    def __init__(self, websocket: web.WebSocketResponse) -> None:
        self._websocket = websocket

    async def greet(self, token: str, state: LineState) -> None:
        greeting = {
            "version": 1,
            "accelerator": ACCELERATOR_VERSION,
            "token": token,
            "opened": state.opened,
            "received": state.received,
        }
        try:
            await self._websocket.send_str(json.dumps(greeting))
        except ConnectionError as e:
            raise CarrierLost from e

    async def send(self, message: bytes) -> None:
        try:
            await self._websocket.send_bytes(message)
        except ConnectionError as e:
            raise CarrierLost from e

    async def receive(self) -> bytes:
        came = await self._websocket.receive()
        if came.type is WSMsgType.BINARY:
            data: bytes = came.data
            return data
        if came.type is WSMsgType.CLOSE and came.data == LEAVES:
            raise CarrierLeft
        raise CarrierLost


@ROUTES.raw(
    "/api/v1/sessions/{id}/line",
    right=Right.DEBUG,
    summary="A WebSocket of `noah connect`, which carries the debuggers of the session's owner.",
    content_types=(),
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def line(call: Call[LineQuery, Nothing]) -> web.StreamResponse:
    request, query = call.request, call.query
    if "Origin" in request.headers:  # a browser's page; it may have the cookie of somebody
        raise Forbidden("A line is for `noah connect`: pages may not open one.")
    live = await visible_session(request)
    session = live.session
    if principal_of(request) != session.owner:
        raise Forbidden(f"Session {session.id} belongs to {session.owner.name}: only they can connect to it.")
    await demand(request, Right.DEBUG, area_of(session.target))
    if session.is_over:
        raise Conflict(f"Session {session.id} is over: enable debugging again.")
    tunnel = live.tunnel
    if tunnel is None or not live.is_open:
        raise Unavailable(f"Session {session.id} is still starting: try again in a moment.")
    token = request.headers.get(TOKEN)
    tunnel.check(token, take_over=query.take_over)
    websocket = web.WebSocketResponse(
        max_msg_size=LONGEST_MESSAGE + 1,  # aiohttp refuses what is as long as this
        compress=False,
        timeout=1.0,
    )
    if not websocket.can_prepare(request).ok:
        raise BadInput("A line is a WebSocket, and the request does not ask for one: does a proxy leave out `Upgrade`?")
    await websocket.prepare(request)

    async def serve() -> str:
        try:
            hello = Hello.model_validate_json(await websocket.receive_str(timeout=HELLO_WITHIN_S))
        except (TypeError, TimeoutError, ValidationError):
            return "What came is not the protocol of `noah connect`: are both of one version?"
        carrier, address = WebSocketCarrier(websocket), remote_for_log(request)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(_report(websocket, request, live), name=f"{session.id}: status to the laptop"),
                group.create_task(_check_login(request, live), name=f"{session.id}: login of the laptop"),
            ]
            why = await tunnel.serve(carrier, token=token, state=hello.state, address=address, port=hello.port)
            for task in beside:
                task.cancel()
        return why

    why = await request.app[UNTIL_SHUTDOWN].result_of(serve) or "The gateway is stopping."
    await websocket.close(code=1001, message=why.encode()[:LONGEST_REASON])
    return websocket


async def _report(websocket: web.WebSocketResponse, request: web.Request, live: LiveSession) -> None:
    """Send what people see of the session, now and whenever it changes."""
    try:
        while True:
            shown = json_of(request, live)
            said = {key: value for key, value in shown.items() if key in REPORTED}
            await websocket.send_str(json.dumps({"session": said}, ensure_ascii=False))
            await live.change()
    except ConnectionError:
        pass  # the tunnel learns of it as well


async def _check_login(request: web.Request, live: LiveSession) -> None:
    """End the connection once its login is over. The line goes on when the same person comes with another."""
    tunnel = live.tunnel
    while tunnel is not None:
        await asyncio.sleep(CHECK_LOGIN_EVERY_S)
        try:
            is_known = await authenticate(request) == live.session.owner
        except (Unauthenticated, Forbidden):
            is_known = False
        except Unavailable:
            continue  # nobody is cut because a provider does not answer
        if not is_known:
            tunnel.interrupt("The login has expired.")
            return
