"""The line of `noah connect`: a WebSocket that carries a session's debuggers between a laptop and the gateway.

The first message of each side is text, JSON: what it has of the line. All others are binary (noah/core/line).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, ValidationError

from noah.core.line.frame import BadMessage
from noah.core.line.line import MOST_STREAMS, LineState
from noah.core.session.rights import Right, area_of
from noah.core.session.trail import TrailCode
from noah.errors import Conflict, Forbidden, NotFound, Unauthenticated, Unavailable
from noah.line_socket import LineSocket, Said
from noah.peers.line import PassedLine
from noah.proxy.tunnel import Tunnel
from noah.sessions.live_session import LiveSession
from noah.web.api.route import Call, Routes
from noah.web.api.sessions import json_of, visible_session
from noah.web.forwarded import remote_for_log
from noah.web.identity import authenticate, principal_of
from noah.web.keys import BROKER
from noah.web.permission import demand, record
from noah.web.until_shutdown import UNTIL_SHUTDOWN
from noah.web.upgrade import upgrade
from noah.web.wire import Model, Nothing
from noah.websocket import GOING_AWAY

ROUTES = Routes()
TOKEN = "Noah-Line"  # noqa: S105 - a header's name; its value is the token of a line that goes on
HELLO_WITHIN_S = 10.0
CHECK_LOGIN_EVERY_S = 30.0  # a line may last for hours, and its login not
# Of a session's JSON: what the table of `noah connect` shows.
REPORTED = frozenset({"target", "status", "reason", "attached", "vm", "expires_at", "end_reason", "end_detail"})
# The laptop pings every 5 s (noah/connect): without a byte for that long its line is lost.
SILENT_AFTER_S = 16.0

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


@ROUTES.raw(
    "/api/v1/sessions/{id}/line",
    right=Right.DEBUG,
    summary="A WebSocket of `noah connect`: it carries the debuggers of the session's owner, or of a colleague.",
    content_types=(),
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def line(call: Call[LineQuery, Nothing]) -> web.StreamResponse:
    request, query = call.request, call.query
    if "Origin" in request.headers:  # a browser's page; it may have the cookie of somebody
        raise Forbidden("A line is for `noah connect`: pages may not open one.")
    live = await visible_session(request)
    session = live.session
    who = principal_of(request)
    if not live.may_attach(who.id):
        owner = session.owner.name
        raise Forbidden(f"Session {session.id} is {owner}'s, who has not shared it with you: ask them.")
    await demand(request, Right.DEBUG, area_of(session.target))
    if session.is_over:
        raise Conflict(f"Session {session.id} is over: enable debugging again.")
    token, is_first = request.headers.get(TOKEN), live.line_of(who) is None
    way = await request.app[BROKER].line(live, who, token=token, take_over=query.take_over)
    if who != session.owner and is_first:
        target = str(session.target)
        record(request, TrailCode.JOINED, target=target, session=session.id, sentence="By a line of their own.")

    async def beside(socket: LineSocket, serve: Callable[[], Awaitable[str]]) -> str:
        async def both() -> str:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(_report(socket, request, live), name=f"{session.id}: status to the laptop"),
                    group.create_task(_check_login(request, way), name=f"{session.id}: login of the laptop"),
                ]
                why = await serve()
                for task in tasks:
                    task.cancel()
            return why

        return await request.app[UNTIL_SHUTDOWN].result_of(both) or "The gateway is stopping."

    try:
        return await carry(request, way, address=remote_for_log(request), beside=beside)
    finally:
        if isinstance(way, PassedLine):
            way.close()


async def carry(
    request: web.Request,
    way: Tunnel | PassedLine,
    *,
    address: str,
    beside: Callable[[LineSocket, Callable[[], Awaitable[str]]], Awaitable[str]] = lambda _, serve: serve(),
) -> web.StreamResponse:
    """Make *request* a connection of the line, which may be at another gateway.

    *beside* awaits its end, and returns why it is over.
    """
    greeting: asyncio.Future[Said] = asyncio.get_running_loop().create_future()

    def said(text: Said) -> None:
        if greeting.done():
            raise BadMessage("a second greeting")
        greeting.set_result(text)

    upgraded, response = await upgrade(request)
    make = way.socket if isinstance(way, PassedLine) else LineSocket
    socket = make(upgraded, silent_after_s=SILENT_AFTER_S, said=said)

    async def serve() -> str:
        await asyncio.wait((greeting, socket.over), timeout=HELLO_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        try:
            hello = Hello.model_validate(greeting.result())
        except (asyncio.InvalidStateError, ValidationError):
            return "What came is not the protocol of `noah connect`: are both of one version?"
        if isinstance(way, PassedLine):
            return await way.serve(hello.state, address=address, port=hello.port)
        token = request.headers.get(TOKEN)
        return await way.serve(socket, token=token, state=hello.state, address=address, port=hello.port)

    try:
        socket.close(GOING_AWAY, await beside(socket, serve))
        await socket.lost
    finally:
        socket.abort()
    return response


async def _report(socket: LineSocket, request: web.Request, live: LiveSession) -> None:
    """Send what people see of the session, now and whenever it changes."""
    while True:
        shown = json_of(request, live)
        socket.say({"session": {key: value for key, value in shown.items() if key in REPORTED}})
        await live.change()


async def _check_login(request: web.Request, way: Tunnel | PassedLine) -> None:
    """End the connection once its login is over. The line goes on when the same person comes with another."""
    while True:
        await asyncio.sleep(CHECK_LOGIN_EVERY_S)
        try:
            is_known = await authenticate(request) == principal_of(request)
        except (Unauthenticated, Forbidden):
            is_known = False
        except Unavailable:
            continue  # nobody is cut because a provider does not answer
        if not is_known:
            way.interrupt("The login has expired.")
            return
