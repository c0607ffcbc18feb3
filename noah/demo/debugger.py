"""Drives a real debugger, jdb, the way a developer types."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from noah.errors import Unavailable

ANSWERS_WITHIN_S = 30.0  # jdb is a JVM that has to start first


class Jdb:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = ""

    def type(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def says(self, words: str, *, within: float = ANSWERS_WITHIN_S) -> str:
        """Return what it printed up to and with *words*. Raises Unavailable if it does not print them in time."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within):
                while words not in self._said:
                    piece = await self._process.stdout.read(4096)
                    if not piece:
                        raise Unavailable(f"jdb ended: {self._said.strip()[-300:] or 'without a word'}")
                    self._said += piece.decode("utf-8", "replace")
        except TimeoutError:
            raise Unavailable(f"jdb did not say {words!r} within {within:.0f} s: {self._said.strip()[-300:]}") from None
        before, words, self._said = self._said.partition(words)
        return before + words

    async def ended(self) -> None:
        assert self._process.stdout is not None
        while await self._process.stdout.read(4096):
            pass
        await self._process.wait()


@asynccontextmanager
async def jdb(host: str, port: int) -> AsyncIterator[Jdb]:
    process = await asyncio.create_subprocess_exec(
        "jdb",
        "-attach",
        f"{host}:{port}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # A process group of its own: Ctrl-C is for the demo, which then ends it in order.
        start_new_session=True,
    )
    debugger = Jdb(process)
    try:
        await debugger.says("> ")
        yield debugger
    finally:
        # SIGTERM lets jdb's JVM close its connection, which resumes the other one.
        with suppress(ProcessLookupError):
            process.terminate()
        await debugger.ended()
