"""What gateways pass to each other for their sessions: this one to others, and others to this one."""

import ssl
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from noah.core.session.principal import Principal
from noah.errors import Conflict, Unavailable
from noah.peers.address import PeerAddress
from noah.peers.client import PeerClient
from noah.peers.connection import PeerConnection
from noah.peers.debugger import take_debugger
from noah.peers.line import PassedLine, take_line
from noah.sessions.live_session import LiveSession
from noah.sessions.task import SessionTask
from noah.store import gateways
from noah.store.lease import Lease


class PassedKind(StrEnum):
    """The kinds of connection that are passed on."""

    DEBUGGER = "debugger"
    LINE = "line"


class Passing:
    def __init__(
        self,
        client: PeerClient,
        *,
        lease: Lease,
        live_of: Callable[[str], LiveSession | None],
        task_of: Callable[[str], SessionTask | None],
    ) -> None:
        self._client = client
        self._lease = lease
        self._live_of = live_of
        self._task_of = task_of

    def peers(self) -> Sequence[PeerAddress]:
        """Return the gateways that are there, this one included."""
        return [peer for one in self._lease.peers.values() if (peer := _peer(one)) is not None]

    # -- to others

    async def debugger(self, session_id: str, address: str) -> PeerConnection:
        """Connect to the session's gateway for a debugger of that address. Raises Unavailable, or Conflict."""
        peer = self._gateway_of(session_id)
        return await self._client.dial(peer, kind=PassedKind.DEBUGGER, session=session_id, address=address)

    async def line(self, session_id: str, who: Principal, *, token: str | None, take_over: bool) -> PassedLine:
        """Return a line of *who* to the session's gateway. Raises Unavailable, or Conflict if another one has it."""
        about = {"session": session_id, "who": who.to_json(), "token": token, "take_over": take_over}
        return PassedLine(await self._client.dial(self._gateway_of(session_id), kind=PassedKind.LINE, **about))

    def _gateway_of(self, session_id: str) -> PeerAddress:
        live = self._live_of(session_id)
        if live is None or live.session.is_over:
            raise Conflict(f"Session {session_id} is over: enable debugging again.")
        id = live.fence.gateway if live.fence else None
        peer = next((one for one in self.peers() if one.id == id), None)
        if peer is None:
            raise Unavailable(f"Session {session_id} has no gateway at this moment: try again soon.")
        return peer

    # -- from others

    async def take(self, connection: PeerConnection, hello: dict[str, Any]) -> None:
        """Do what another gateway asks for; return when that is over."""
        session_id = str(hello.get("session"))
        task = self._task_of(session_id)
        if task is None or task.is_leaving:
            raise Unavailable(f"Session {session_id[:40]} is another gateway's: try again soon.")
        live = task.live
        if live.session.is_over:
            raise Conflict(f"Session {session_id} is over: enable debugging again.")
        if live.slot is None or not live.is_open:
            raise Unavailable(f"Session {session_id} is still starting: try again in a moment.")
        match hello.get("kind"):
            case PassedKind.DEBUGGER:
                await take_debugger(connection, live.slot.admit, str(hello.get("address")))
            case PassedKind.LINE:
                who, token = Principal.from_json(hello["who"]), hello.get("token")
                tunnel = live.tunnel_of(who) if live.may_attach(who.id) else None
                if tunnel is None:
                    raise Conflict(f"Session {session_id} is not {who.name}'s.")
                given = None if token is None else str(token)
                await take_line(connection, tunnel, token=given, take_over=hello.get("take_over") is True)
            case _:
                raise Conflict("This gateway does not know what another one asks for: are both of one version?")


def _peer(row: gateways.Peer) -> PeerAddress | None:
    about = row.about
    if about.peer_host is None or about.peer_port is None or about.certificate is None:
        return None
    certificate = ssl.PEM_cert_to_DER_cert(about.certificate)
    return PeerAddress(id=row.id, host=about.peer_host, port=about.peer_port, certificate=certificate)
