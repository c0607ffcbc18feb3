"""jdb, driven as a person drives it: a command, then what it prints."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

PROMPT = r"(?:> |\w[\w .-]*\[\d+\] )"
DEADLINE = 60.0  # seconds for anything that jdb is asked


class Jdb:
    def __init__(self, process: asyncio.subprocess.Process, deadline_s: float = DEADLINE) -> None:
        self.process = process
        self._deadline_s = deadline_s
        self._said = ""

    async def ask(self, command: str, *, until: str = PROMPT) -> str:
        """What it prints up to a match of *until*."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        return await self.said(until)

    async def said(self, until: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(self._deadline_s):
            while (found := re.search(until, self._said)) is None:
                piece = await self.process.stdout.read(65536)
                assert piece, f"jdb ended before {until!r}: {self._said!r}"
                self._said += piece.decode()
        said, self._said = self._said[: found.end()], self._said[found.end() :]
        return said

    async def quit(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"quit\n")
        await asyncio.wait_for(self.process.wait(), DEADLINE)


@asynccontextmanager
async def attached(port: int, *, deadline_s: float = DEADLINE, program: Sequence[str] = ("jdb",)) -> AsyncIterator[Jdb]:
    process = await asyncio.create_subprocess_exec(
        *program,
        "-attach",
        f"127.0.0.1:{port}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    jdb = Jdb(process, deadline_s)
    try:
        await jdb.said(r"Initializing jdb \.\.\.\s+> ")
        yield jdb
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
