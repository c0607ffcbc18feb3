"""HTTP to one Kubernetes API: requests with a deadline, streams without one, and upgrades for exec.

Requests and streams have connections of their own, so that no number of watches and execs makes a request wait.
Every failure is raised as a sentence of errors.py.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from noah.core.session.rights import KnownAs
from noah.errors import NoahError, Unavailable
from noah.kube import bounded_json
from noah.kube.access import FRESH_S, LOAD_TIMEOUT_S, Access, Way
from noah.kube.bounded_json import TooLarge
from noah.kube.errors import Asked, refused
from noah.kube.sockets import Sockets
from noah.kube.socks import SocksConnector
from noah.settings import ClusterSettings
from noah.websocket import asking, new_key, proof_of

DEADLINE = 10.0  # seconds for a request, unless its caller knows better
REQUESTS = 50  # connections for requests at once; more wait
LONGEST_REFUSAL = 64 << 10  # bytes that are read of it
STREAMS = 0  # no limit for streams

Params = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str  # quoted
    params: Params
    headers: Mapping[str, str] = field(default_factory=dict)
    data: bytes | None = None


class Client:
    def __init__(
        self, cluster: ClusterSettings, *, fresh_s: float = FRESH_S, load_timeout_s: float = LOAD_TIMEOUT_S
    ) -> None:
        self.name = cluster.name
        self._way = Way(cluster, fresh_s=fresh_s, load_timeout_s=load_timeout_s)
        self._stack = contextlib.AsyncExitStack()
        self._sockets = Sockets()
        self._sessions: dict[tuple[int, URL | None], aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self._sockets.close)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = DEADLINE,
    ) -> dict[str, Any]:
        """The answer's JSON; {} when there is none. Raises TooLarge for more than what is read at once."""
        got = await self.read(method, path, params=params, body=body, content_type=content_type, timeout=timeout)
        asked = Asked.by(self.name, method, path, params)
        try:
            parsed = bounded_json.parse(got or b"{}")
        except TooLarge as e:
            raise self._too_large(asked, e, got) from None
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise Unavailable(f'Cluster "{self.name}" answers {asked} with something that is not a JSON object.')
        return parsed

    async def read(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str | None = None,
        timeout: float = DEADLINE,
    ) -> bytearray:
        """Return the answer as it came. Raises TooLarge for more than what is read at once."""
        asked = Asked.by(self.name, method, path, params)
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": content_type}
        headers |= {} if accept is None else {"Accept": accept}
        async with self._within(timeout):
            answer = await self._send(REQUESTS, _Request(method, path, params or {}, headers, data))
            async with answer:
                got = await _read(answer)
        if answer.status >= 400:
            raise _refused(asked, answer, got)
        if len(got) > bounded_json.LONGEST:
            raise self._too_large(asked, TooLarge(f"It sent more than {bounded_json.LONGEST >> 20} MiB at once."), got)
        return got

    def _too_large(self, asked: Asked, error: TooLarge, beginning: bytearray) -> TooLarge:
        return TooLarge(f'Cluster "{self.name}" answers {asked} with too much. {error.sentence}', beginning)

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, params: Mapping[str, str], *, accept: str | None = None
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """A GET whose answer comes over minutes. Only its beginning has a deadline; reading is the caller's to time."""
        asked = Asked.by(self.name, "GET", path, params)
        async with self._within(DEADLINE):
            answer = await self._send(STREAMS, _Request("GET", path, params, {"Accept": accept} if accept else {}))
        try:
            if answer.status >= 400:
                async with self._within(DEADLINE):
                    raise _refused(asked, answer, await _read(answer))
            with self._translated():
                yield answer.content
        finally:
            answer.close()

    async def upgrade(
        self, path: str, params: Params, *, protocols: str, timeout: float, on_behalf: KnownAs | None = None
    ) -> aiohttp.ClientResponse:
        """A WebSocket handshake: an answer with status 101 whose connection is the caller's, or any other status.

        *on_behalf*: the user of the cluster whom the gateway impersonates.
        """
        key = new_key()
        headers = CIMultiDict(
            {
                # A kubelet's exec answers 406 to anybody who accepts JSON only.
                "Accept": "*/*",
                "Sec-WebSocket-Protocol": protocols,
            }
            | asking(key)
        )
        if on_behalf is not None:
            headers["Impersonate-User"] = on_behalf.user
            for group in on_behalf.groups:
                headers.add("Impersonate-Group", group)
        async with self._within(timeout):
            answer = await self._send(STREAMS, _Request("GET", path, params, headers))
        if answer.status == 101 and answer.headers.get("Sec-WebSocket-Accept") != proof_of(key):
            answer.close()
            raise Unavailable(f'Cluster "{self.name}" does not speak WebSocket: its handshake has a wrong proof.')
        return answer

    async def _send(self, connections: int, request: _Request) -> aiohttp.ClientResponse:
        access = await self._way.access()
        answer = await self._sent(connections, access, request)
        if answer.status != 401:
            return answer
        # A token may have been replaced within the minute: once more, with what is there now.
        answer.close()
        self._way.distrust(access)
        return await self._sent(connections, await self._way.access(), request)

    async def _sent(self, connections: int, access: Access, request: _Request) -> aiohttp.ClientResponse:
        headers = CIMultiDict({"Accept": "application/json", "User-Agent": "noah"})
        headers.extend(access.headers)
        headers.update(request.headers)
        is_socks = access.proxy is not None and access.proxy.scheme == "socks5"
        return await self._session(connections, access.proxy if is_socks else None).request(
            request.method,
            access.base.joinpath(request.path.lstrip("/"), encoded=True),
            params=request.params,
            headers=headers,
            data=request.data,
            ssl=access.tls,
            server_hostname=access.server_name,
            proxy=None if is_socks else access.proxy,
            allow_redirects=False,
        )

    def _session(self, connections: int, socks: URL | None) -> aiohttp.ClientSession:
        """Return the session that has at most so many *connections*, 0 being no limit."""
        if (connections, socks) not in self._sessions:
            connector = (
                SocksConnector(socks, make_socket=self._sockets, limit=connections)
                if socks is not None
                else aiohttp.TCPConnector(limit=connections, socket_factory=self._sockets)
            )
            made = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=DEADLINE),
            )
            self._sessions[connections, socks] = made
            self._stack.push_async_callback(made.close)
        return self._sessions[connections, socks]

    @contextlib.asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        late = f'Cluster "{self.name}" does not answer: nothing came within {seconds:g} s.'
        async with within(seconds, late):
            with self._translated():
                yield

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as e:
            raise Unavailable(f'Cluster "{self.name}" does not answer: {_say(e)}.') from None


def _refused(asked: Asked, answer: aiohttp.ClientResponse, body: bytearray) -> NoahError:
    return refused(asked, answer.status, bytes(body[:LONGEST_REFUSAL]), retry_after=answer.headers.get("Retry-After"))


async def _read(answer: aiohttp.ClientResponse) -> bytearray:
    """Return the body, or so much of it that it is seen to be too large: a server may send without end.

    It is not copied once more at its end: that takes as long as finding the objects in it.
    """
    body = bytearray()
    while len(body) <= bounded_json.LONGEST and (piece := await answer.content.readany()):
        body += piece
    if len(body) > bounded_json.LONGEST:
        answer.close()
    return body


@contextlib.asynccontextmanager
async def within(seconds: float, late: str) -> AsyncIterator[None]:
    """Unavailable with the sentence *late* when it takes longer than *seconds*."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable(late) from None


def _say(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answers {error.status}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
