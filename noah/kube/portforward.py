"""A TCP port of a pod as a connection, through the API server: it needs nothing in the pod's images.

pods/portforward over WebSocket with v4.channel.k8s.io, which API servers pass on to the kubelet as it is, from 1.28 to
1.35. Port number i has channel 2i for its bytes and 2i + 1 for what went wrong; the first two bytes of each repeat the
port. The other end connects to the pod's loopback, and closes everything when that connection ends.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from noah.core.session.rights import KnownAs
from noah.kube.client import Client
from noah.kube.errors import ExecCut
from noah.kube.exec.commands import HANDSHAKE, Container, path_of, why_refused
from noah.kube.exec.pipe import Pipe
from noah.kube.exec.stream import STDOUT, V4, ChannelStream, Sink
from noah.kube.exec.websocket import BEAT, ExecCounts

DATA, TROUBLE = 0, 1  # channels of the first port
PREFIX_BYTES = 2  # of each channel: the port's number
TROUBLE_BYTES = 2048  # of a sentence, that are kept


class PortStream(ChannelStream):
    """The stream of one connection to one port."""

    def __init__(self, answer: aiohttp.ClientResponse, sink: Sink, *, where: str, **rest: Any) -> None:
        self._where = where
        self._prefix_left = {DATA: PREFIX_BYTES, TROUBLE: PREFIX_BYTES}
        self._trouble = bytearray()
        super().__init__(answer, sink, name=f"The port-forward to {where}", **rest)

    def _channel_piece(self, channel: int, piece: memoryview) -> None:
        if channel not in self._prefix_left:
            return
        skipped = min(self._prefix_left[channel], len(piece))
        self._prefix_left[channel] -= skipped
        piece = piece[skipped:]
        if channel == TROUBLE:
            self._trouble += piece[: TROUBLE_BYTES - len(self._trouble)]
        elif piece:
            self._sink.output(STDOUT, piece)

    def _channel_message_is_over(self, channel: int) -> None:
        if channel == TROUBLE and self._trouble:
            said = " ".join(self._trouble.decode(errors="replace").split())
            self._done(ExecCut(f"{self._where[0].upper()}{self._where[1:]} cannot be reached: {said}"))

    def _stopped(self, error: ExecCut | None) -> None:
        self._done(error or 0)


class PortForward:
    """Connections to ports of one cluster's pods. What connect() may raise is what Exec may."""

    def __init__(self, client: Client, *, handshake: float = HANDSHAKE, beat: float = BEAT) -> None:
        self.counts = ExecCounts()
        self._client = client
        self._handshake = handshake
        self._shared = {"counts": self.counts, "beat": beat}

    async def connect(
        self,
        container: Container,
        port: int,
        factory: Callable[[], asyncio.BufferedProtocol],
        *,
        on_behalf: KnownAs | None,
    ) -> asyncio.Transport:
        """Return a connection to the pod's loopback; whether anything listens there is not known by then.

        *on_behalf*: the user of the cluster whom the gateway impersonates.

        connection_lost() gets None when the other end closed, else the reason. Half a close is not possible.
        """
        answer = await self._client.upgrade(
            path_of(container, "portforward"),
            [("ports", str(port))],
            protocols=V4,
            timeout=self._handshake,
            on_behalf=on_behalf,
        )
        if answer.status != 101 or answer.headers.get("Sec-WebSocket-Protocol") != V4:
            raise await why_refused(self._client, answer, container, program="port-forward", within_s=self._handshake)
        where = f"port {port} of pod {container.namespace}/{container.pod}"
        pipe = Pipe()
        pipe.begin(PortStream(answer, pipe, where=where, **self._shared), factory())
        return pipe
