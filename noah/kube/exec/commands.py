"""Commands in containers: run to their end, held for hours, or as a connection that carries bytes.

exec is outside of the API server's own priority and fairness, so what one gateway has running at a time is limited
here, per cluster and per node. Closing a stream does not end its command: a command that must end has its own deadline.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from noah.core.session.rights import KnownAs
from noah.errors import NoahError, Unavailable
from noah.kube.client import Client, within
from noah.kube.errors import Asked, message_of, not_started, refused
from noah.kube.exec.held import HeldExec
from noah.kube.exec.pipe import Pipe
from noah.kube.exec.slots import WAIT_S, ExecSlots
from noah.kube.exec.stream import STDOUT, V4, V5, ExecStream, Sink
from noah.kube.exec.websocket import BEAT, ExecCounts
from noah.traces import span_within

HANDSHAKE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Container:
    """The place where a command runs. The node is for the limit per node; None when it is not known."""

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
    """Commands in one cluster's containers. *on_behalf*: the user of the cluster whom the gateway impersonates.

    What every verb may raise: MissingRight, NotFound (no such pod), BadInput (no such container), CannotDebug (no such
    program), ExecCut (how it ended is not known), Unavailable (all else).
    """

    def __init__(self, client: Client, *, handshake: float = HANDSHAKE, beat: float = BEAT) -> None:
        self.counts = ExecCounts()
        self._client = client
        self._handshake = handshake
        self._slots = ExecSlots(client.name)
        self._shared = {"counts": self.counts, "beat": beat}

    async def run(
        self,
        container: Container,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float,
        limit: int = 1 << 20,
        on_behalf: KnownAs | None = None,
    ) -> ExecResult:
        """Run *argv* to its end. After *timeout* seconds, or *limit* bytes of output, its stream is closed.

        API servers before 1.30 cannot end a command's stdin: one that reads on after *stdin* waits until *timeout*.
        """
        began = _now()
        with self._counted(container, argv[0]):
            async with self._slots.one(container.node, timeout):
                sink = _Collected(container, limit)
                async with within(
                    timeout - (_now() - began), f"{argv[0]} in {container} did not end within {timeout:g} s."
                ):
                    stream = await self._open(container, argv, sink, stdin=bool(stdin), on_behalf=on_behalf)
                    try:
                        stream.resume_reading()
                        if stdin:
                            stream.write(stdin)
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
        keep_stdin: bool = False,
        until: str,
        first_line_timeout: float,
        on_end: Callable[[int | NoahError], None] = lambda how: None,
        on_line: Callable[[str], None] | None = None,
        on_behalf: KnownAs | None = None,
    ) -> HeldExec:
        """Start a command that runs for hours; return when it has printed the line *until*, or has ended before.

        *on_line* gets each line that it prints after *until*, without its end; a line of more than 4 KiB ends the
        stream. *on_end* is called once when the stream ends, unless close() was called. Both may be called before this
        returns. The command's stdin ends after *stdin*, except as run() says; with *keep_stdin* it stays open for
        HeldExec.write(), and a script that comes by it has to end with `exit`.
        """
        began = _now()
        with self._counted(container, argv[0]):
            async with self._slots.one(container.node, first_line_timeout):
                late = f"{argv[0]} in {container} did not say {until!r} within {first_line_timeout:g} s."
                async with within(first_line_timeout - (_now() - began), late):
                    held = HeldExec(str(container), until, on_end=on_end, on_line=on_line)
                    has_stdin = bool(stdin) or keep_stdin
                    stream = await self._open(container, argv, held, stdin=has_stdin, on_behalf=on_behalf)
                    try:
                        stream.write(stdin)
                        if stdin and not keep_stdin:
                            stream.close_stdin()
                        await held.begin(stream)
                    except BaseException:
                        stream.close()
                        raise
                    return held

    async def connect(
        self,
        container: Container,
        argv: Sequence[str],
        factory: Callable[[], asyncio.BufferedProtocol],
        *,
        on_behalf: KnownAs | None = None,
    ) -> asyncio.Transport:
        """Return the command's stdin and stdout as a connection; whether *argv* got through is not known by then.

        connection_lost() gets None when the command ended with 0 or the transport was closed, else the reason.
        write_eof() works only where can_write_eof() says so; close() ends the command's stdin in any case.
        """
        with self._counted(container, argv[0]):
            async with self._slots.one(container.node, WAIT_S):
                pipe = Pipe()
                # v4 first: the API server passes it on as it is, and takes v5 apart and puts it together again, which
                # costs it three times the CPU and a byte a third more time. What v5 can in exchange is half a close.
                stream = await self._open(container, argv, pipe, stdin=True, offers=(V4, V5), on_behalf=on_behalf)
            pipe.begin(stream, factory())
            return pipe

    async def _open(
        self,
        container: Container,
        argv: Sequence[str],
        sink: Sink,
        *,
        stdin: bool,
        offers: Sequence[str] = (f"{V5}, {V4}", V4),
        on_behalf: KnownAs | None,
    ) -> ExecStream:
        params = [("command", word) for word in argv]
        params += [("container", container.name), ("stdout", "true"), ("stderr", "true")]
        if stdin:
            params.append(("stdin", "true"))
        for offer in offers:
            answer = await self._client.upgrade(
                path_of(container, "exec"), params, protocols=offer, timeout=self._handshake, on_behalf=on_behalf
            )
            if answer.status == 101 and answer.headers.get("Sec-WebSocket-Protocol") in (V5, V4):
                return ExecStream(answer, sink, container=str(container), program=argv[0], **self._shared)
            if _has_a_reason(answer) or offer == offers[-1]:
                break
            answer.close()
        raise await why_refused(self._client, answer, container, program=argv[0], within_s=self._handshake)

    @contextmanager
    def _counted(self, container: Container, program: str) -> Iterator[None]:
        self.counts.started += 1
        try:
            with span_within("exec", container=str(container), program=program):
                yield
        except NoahError as e:
            self.counts.failed[e.code] += 1
            raise


class _Collected(Sink):
    """The whole output of a command."""

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


def _has_a_reason(answer: aiohttp.ClientResponse) -> bool:
    """True if something else than the offered protocols was refused: that comes as a v1.Status."""
    return answer.status >= 400 and answer.content_type.endswith("json")


def path_of(container: Container, subresource: str) -> str:
    namespace, pod = quote(container.namespace, safe=""), quote(container.pod, safe="")
    return f"/api/v1/namespaces/{namespace}/pods/{pod}/{subresource}"


async def why_refused(
    client: Client, answer: aiohttp.ClientResponse, container: Container, *, program: str, within_s: float
) -> NoahError:
    """Return why *answer* is not a 101. The reason is in its body, as of any request."""
    subresource = answer.url.name
    if answer.status < 400:
        answer.close()
        return Unavailable(f'Cluster "{client.name}" has no {subresource} over WebSocket (it answers {answer.status}).')
    late = f"Why the {subresource} in {container} was refused did not come within {within_s:g} s."
    async with answer, within(within_s, late):
        body = await answer.read()
    if answer.status >= 500 and "container" in message_of(body):
        return not_started(message_of(body), str(container), program)
    return refused(Asked.by(client.name, "GET", path_of(container, subresource)), answer.status, body)


def _now() -> float:
    return asyncio.get_running_loop().time()
