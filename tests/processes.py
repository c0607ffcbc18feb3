"""Programs that a test starts: none outlives the test, also when that fails or is canceled meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def killed_after(process: asyncio.subprocess.Process) -> AsyncIterator[asyncio.subprocess.Process]:
    """Kill it at the end of the context unless it has ended: what it leaves open is found by some later test."""
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def output_of(process: asyncio.subprocess.Process, *, within_s: float = 60.0) -> tuple[bytes, bytes]:
    """Return its standard output and error once it has ended."""
    async with killed_after(process), asyncio.timeout(within_s):
        out, err = await process.communicate()
    return out or b"", err or b""
