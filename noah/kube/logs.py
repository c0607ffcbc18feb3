"""What containers print, line by line, from the first one on; over cuts without gaps and doubles.

The API goes on from a second, not from a line: what came in that second already is known by its time and left out.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from noah.core.lines import Seen
from noah.errors import NoahError, NotFound
from noah.kube.client import Client

LONGEST = 64 * 1024  # bytes of a line; more of it is cut away
FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0  # seconds between two attempts


@dataclass(frozen=True, slots=True)
class Line:
    at: str  # RFC 3339 with nanoseconds, the kubelet's; sorts as text
    text: str


class Logs:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def follow(
        self, namespace: str, pod: str, container: str, *, runs: Callable[[], bool]
    ) -> AsyncGenerator[Line, None]:
        """Ends when the stream does and *runs* says that the container no longer does; when the pod is gone."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/log"
        seen, wait = Seen(), FIRST_WAIT
        while True:
            params = {"container": container, "follow": "true", "timestamps": "true"}
            params |= {"sinceTime": seen.at[:19] + "Z"} if seen.at else {}
            ran = runs()
            seen.reconnected()
            try:
                async with self._client.stream(path, params) as stream:
                    async for line in _lines(stream):
                        wait = FIRST_WAIT
                        if seen.is_new(line.at):
                            yield line
            except NotFound:
                return
            except NoahError:
                ran = True  # the API server is away; whether the container runs is not known
            if not ran:
                return
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - not a secret
            wait = min(2 * wait, LONGEST_WAIT)


async def _lines(stream: aiohttp.StreamReader) -> AsyncGenerator[Line, None]:
    begun = bytearray()
    while piece := await stream.readany():
        *whole, rest = piece.split(b"\n")
        for part in whole:
            yield _line(bytes(begun) + part)
            begun.clear()
        begun += rest[: max(0, LONGEST - len(begun))]


def _line(text: bytes) -> Line:
    at, _, rest = text[:LONGEST].decode(errors="replace").partition(" ")
    return Line(at, rest)
