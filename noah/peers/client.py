"""Dialling another gateway."""

import asyncio
from typing import Any, Final

from noah.errors import Conflict, NoahError, Unavailable
from noah.peers.address import PeerAddress
from noah.peers.connection import PeerConnection
from noah.peers.frames import VERSION, BadFrame, PeerFrameKind
from noah.peers.identity import Identity, certificate_of
from noah.proxy.keepalive import set_keepalive

ANSWERS_WITHIN_S: Final = 5.0  # a gateway, from the first packet to its answer


class PeerClient:
    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def dial(self, peer: PeerAddress, /, **hello: Any) -> PeerConnection:
        """Return a connection that *peer* has accepted. Raises Unavailable, or Conflict with its own sentence."""
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                return await self._accepted(peer, hello)
        except (OSError, TimeoutError, BadFrame) as e:
            raise Unavailable(f"The session's gateway {peer.id} does not answer: {_reason(e)}.") from e

    async def _accepted(self, peer: PeerAddress, hello: dict[str, Any]) -> PeerConnection:
        transport, connection = await asyncio.get_running_loop().create_connection(
            PeerConnection,
            peer.host,
            peer.port,
            ssl=self._identity.client_context(peer.certificate),
            ssl_handshake_timeout=ANSWERS_WITHIN_S,
            ssl_shutdown_timeout=1.0,
        )
        try:
            if certificate_of(transport.get_extra_info("ssl_object")) != peer.certificate:
                raise Unavailable(f"Who answers for gateway {peer.id} is not that gateway.")
            set_keepalive(transport.get_extra_info("socket").fileno())
            await connection.say(PeerFrameKind.HELLO, version=VERSION, **hello)
            answer = await connection.receive()
            if answer.kind is PeerFrameKind.REFUSED:
                raise _refusal(answer.json())
            if answer.kind is not PeerFrameKind.ACCEPTED:
                raise BadFrame(f"it answers with {answer.kind.name}")
        except BaseException:
            connection.abort()
            raise
        return connection


def _refusal(said: dict[str, Any]) -> NoahError:
    sentence = str(said.get("sentence"))
    return Conflict(sentence) if said.get("status") == Conflict.http_status else Unavailable(sentence)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {ANSWERS_WITHIN_S:.0f} s"
    return str(getattr(error, "strerror", None) or error)
