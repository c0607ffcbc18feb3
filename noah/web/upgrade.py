"""The server's side of a WebSocket's handshake."""

from typing import Any

from aiohttp import web

from noah.errors import BadInput
from noah.websocket import Early, Upgraded, proof_of


async def upgrade(request: web.Request) -> tuple[Upgraded, web.StreamResponse]:
    """Answer 101, and take the connection. The response is the handler's to return once the connection is lost.

    Raises BadInput if *request* does not ask for a WebSocket, and ConnectionError.
    """
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise BadInput("A line is a WebSocket, and the request does not ask for one: does a proxy leave out `Upgrade`?")
    response = web.StreamResponse(
        status=101,
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Accept": proof_of(request.headers["Sec-WebSocket-Key"]),
        },
    )
    response.force_close()
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    early: Any = Early()
    request.protocol.set_parser(early)
    return Upgraded(transport, transport.get_protocol(), bytes(early.data), is_client=False), response
