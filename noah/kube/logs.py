"""The lines that containers print, from the first one on; a cut makes no gap and repeats nothing.

The API resumes at a second, not at a line: what has been read of that second is counted and left out. It gives the log
of a container's present run, so which run that is by now is looked up each time.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import aiohttp

from noah.backoff import Backoff
from noah.core.pods import statuses_of
from noah.core.release.log_cursor import LogCursor
from noah.errors import NotFound, Unavailable
from noah.kube.client import Client

LONGEST = 64 * 1024  # bytes of a line; more of it is cut away
AT_ONCE = 100  # lines that have come already, before everybody else has a turn
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # between two attempts


@dataclass(frozen=True, slots=True)
class LogLine:
    # RFC 3339 with nanoseconds, the kubelet's, in UTC: sorts as text. "" for its own words about a log that is gone.
    at: str
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a container."""

    namespace: str
    pod: str
    uid: str  # the pod's
    container: str
    restart: int  # how often the container had been restarted

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{quote(self.namespace, safe='')}/pods/{quote(self.pod, safe='')}"


class Logs:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def follow(self, run: Run) -> AsyncGenerator[LogLine, None]:
        """Yield lines until the run ends, or its log is not kept any more.

        An API that is away is waited for; raises what else it answers, above all MissingRight.
        """
        cursor, backoff = LogCursor(), Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        while True:
            try:
                state = state_of(await self._client.ask("GET", run.path), run)
                if state == "gone":
                    return
                cursor.reconnected()
                async with self._client.stream(f"{run.path}/log", _asked(run, state, cursor)) as stream:
                    # Of a run that goes on, a line without an end may be one that the API has cut.
                    async for line in _lines(stream, to_the_end=state != "running"):
                        backoff.reset()
                        if cursor.is_new(line.at):
                            yield line
                if state != "running":
                    return  # it had ended before its log was read to the end
            except NotFound:
                return
            except Unavailable:
                pass
            await asyncio.sleep(backoff.next_s())


def state_of(pod: Mapping[str, Any], run: Run) -> Literal["running", "ended", "previous", "gone"]:
    """*previous*: the container runs again, and of its runs before only the last one's log is kept."""
    one = next((one for one in statuses_of(pod) if one["name"] == run.container), None)
    if one is None or pod["metadata"]["uid"] != run.uid:
        return "gone"
    match one.get("restartCount", 0) - run.restart:
        case 0:
            state = one.get("state") or {}
            # Between two runs it waits; the log that it gives then is still the one of the run before.
            return "running" if "running" in state else "ended"
        case 1:
            return "previous"
        case _:
            return "gone"


def _asked(run: Run, state: str, cursor: LogCursor) -> dict[str, str]:
    asked = {"container": run.container, "timestamps": "true"}
    asked |= {"previous": "true"} if state == "previous" else {"follow": "true"}
    return asked | ({"sinceTime": cursor.since + "Z"} if cursor.since else {})


async def _lines(stream: aiohttp.StreamReader, *, to_the_end: bool) -> AsyncGenerator[LogLine, None]:
    begun = bytearray()
    while piece := await stream.readany():
        *whole, rest = piece.split(b"\n")
        for number, part in enumerate(whole):
            yield line_of(bytes(begun) + part)
            begun.clear()
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        begun += rest[: max(0, LONGEST + 1 - len(begun))]
    if begun and to_the_end:
        yield line_of(bytes(begun))


def line_of(text: bytes) -> LogLine:
    line = text[:LONGEST].decode(errors="replace") + (" …" if len(text) > LONGEST else "")
    at, _, rest = line.partition(" ")
    if at.endswith("Z"):
        return LogLine(at, rest)
    try:
        # A kubelet tells the time of its node's zone; a datetime has no nanoseconds.
        seconds = datetime.fromisoformat(at[:19] + at[-6:]).astimezone(UTC)
    except (ValueError, OverflowError):
        return LogLine("", line)
    return LogLine(f"{seconds:%Y-%m-%dT%H:%M:%S}{at[19:-6]}Z", rest)
