"""Commands in containers: run to their end, held for hours, or as a connection that carries bytes.

exec is outside of the API server's own priority and fairness, so what one gateway has running at a time is limited
here, per cluster and per node. Ending a stream does not end its command: whoever needs that gives it a deadline.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from noah.errors import NoahError, Unavailable
from noah.kube.client import Client, within
from noah.kube.errors import Asked, message_of, not_started, refused
from noah.kube.held import HeldExec
from noah.kube.pipe import Pipe
from noah.kube.places import WAIT, Places
from noah.kube.stream import BUFFER, STDOUT, V4, V5, Counts, ExecStream, Sink

HANDSHAKE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Container:
    """Where a command runs. The node is for the limit per node; None when it is not known."""

    namespace: str
    pod: str
    name: str
    node: str | None = None

    def __str__(self) -> str:
        return f'container "{self.name}" of pod {self.namespace}/{self.pod}'


@dataclass(frozen=True, slots=True)
class ExecResult:
    code: int
    stdout: bytes
    stderr: bytes


class Exec:
    """Commands in one cluster's containers.

    What every verb may raise: MissingRight, NotFound (no such pod), BadInput (no such container), CannotDebug (no such
    program), ExecCut (nobody knows how it ended), Unavailable (all else).
    """

    def __init__(self, client: Client) -> None:
        self.counts = Counts()
        self._client = client
        self._places = Places(client.name)
        self._buffer = memoryview(bytearray(BUFFER))

    async def run(
        self, container: Container, argv: Sequence[str], *, stdin: bytes = b"", timeout: float, limit: int = 1 << 20
    ) -> ExecResult:
        """Runs *argv* to its end. After *timeout* seconds, or more than *limit* bytes of output, it is let go of.

        A command that reads all of *stdin* to its end does not work with API servers before 1.30, which cannot tell
        it where the end is.
        """
        began = _now()
        with self._counted():
            async with self._places.one(container.node, timeout):
                sink = _Collected(container, limit)
                async with within(
                    timeout - (_now() - began), f"{argv[0]} in {container} did not end within {timeout:g} s."
                ):
                    stream = await self._open(container, argv, sink, stdin=bool(stdin))
                    try:
                        stream.resume_reading()
                        if stdin:
                            stream.send(stdin)
                            stream.close_stdin()
                        return await sink.result
                    finally:
                        stream.close()

    async def hold(
        self,
        container: Container,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        until: str,
        first_line_timeout: float,
        on_end: Callable[[int | NoahError], None] = lambda how: None,
    ) -> HeldExec:
        """Starts what goes on for hours, and returns when it has printed the line *until*, or has ended before that.

        *on_end* is called when the stream ends, unless it was closed. The command's stdin ends after *stdin*.
        """
        began = _now()
        with self._counted():
            async with self._places.one(container.node, first_line_timeout):
                late = f"{argv[0]} in {container} did not say {until!r} within {first_line_timeout:g} s."
                async with within(first_line_timeout - (_now() - began), late):
                    held = HeldExec(until, on_end)
                    stream = await self._open(container, argv, held, stdin=bool(stdin))
                    try:
                        if stdin:
                            stream.send(stdin)
                            stream.close_stdin()
                        await held.begin(stream)
                    except BaseException:
                        stream.close()
                        raise
                    return held

    async def connect(
        self, container: Container, argv: Sequence[str], factory: Callable[[], asyncio.BufferedProtocol]
    ) -> asyncio.Transport:
        """The command's stdin and stdout as a connection. That *argv* itself got through is not known yet then.

        connection_lost() gets None when the command ended with 0 or the transport was closed, else the reason.
        """
        with self._counted():
            async with self._places.one(container.node, WAIT):
                pipe = Pipe()
                stream = await self._open(container, argv, pipe, stdin=True)
            pipe.begin(stream, factory())
            return pipe

    async def _open(self, container: Container, argv: Sequence[str], sink: Sink, *, stdin: bool) -> ExecStream:
        answer = await self._handshake(container, argv, stdin=stdin, protocols=f"{V5}, {V4}")
        if _speaks_neither(answer):
            answer.close()
            answer = await self._handshake(container, argv, stdin=stdin, protocols=V4)
        if answer.status == 101 and answer.headers.get("Sec-WebSocket-Protocol") in (V5, V4):
            return ExecStream(
                answer, sink, container=str(container), program=argv[0], buffer=self._buffer, counts=self.counts
            )
        try:
            raise await self._why(answer, container, argv[0])
        finally:
            answer.close()

    async def _handshake(
        self, container: Container, argv: Sequence[str], *, stdin: bool, protocols: str
    ) -> aiohttp.ClientResponse:
        params = [("command", word) for word in argv]
        params += [("container", container.name), ("stdout", "true"), ("stderr", "true")]
        if stdin:
            params.append(("stdin", "true"))
        return await self._client.upgrade(_path(container), params, protocols=protocols, timeout=HANDSHAKE)

    async def _why(self, answer: aiohttp.ClientResponse, container: Container, program: str) -> NoahError:
        if answer.status < 400:
            return Unavailable(
                f'Cluster "{self._client.name}" has no exec over WebSocket (it answers {answer.status}).'
            )
        async with within(HANDSHAKE, f"Why the exec in {container} was refused did not come within {HANDSHAKE:g} s."):
            body = await answer.read()
        asked = Asked.by(self._client.name, "GET", _path(container))
        if answer.status >= 500 and "container" in message_of(body):
            return not_started(message_of(body), str(container), program)
        return refused(asked, answer.status, body)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.counts.started += 1
        try:
            yield
        except NoahError:
            self.counts.failed += 1
            raise


class _Collected(Sink):
    """A command's whole output."""

    def __init__(self, container: Container, limit: int) -> None:
        self.result: asyncio.Future[ExecResult] = asyncio.get_running_loop().create_future()
        self._container = container
        self._limit = limit
        self._out, self._err = bytearray(), bytearray()

    def output(self, channel: int, piece: memoryview) -> None:
        into = self._out if channel == STDOUT else self._err
        into += piece
        if len(self._out) + len(self._err) > self._limit and not self.result.done():
            sentence = f"The command in {self._container} printed more than {self._limit} bytes."
            self.result.set_exception(Unavailable(sentence))

    def done(self, how: int | NoahError) -> None:
        if self.result.done():
            return
        if isinstance(how, NoahError):
            self.result.set_exception(how)
        else:
            self.result.set_result(ExecResult(how, bytes(self._out), bytes(self._err)))


def _speaks_neither(answer: aiohttp.ClientResponse) -> bool:
    """An API server that does not know v5 should choose v4; some, and some proxies, refuse the offer instead."""
    if answer.status == 101:
        return answer.headers.get("Sec-WebSocket-Protocol") not in (V5, V4)
    # A refusal with a reason comes as JSON.
    return answer.status in (400, 403) and not answer.content_type.endswith("json")


def _path(container: Container) -> str:
    namespace, pod = quote(container.namespace, safe=""), quote(container.pod, safe="")
    return f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"


def _now() -> float:
    return asyncio.get_running_loop().time()
