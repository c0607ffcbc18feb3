"""Programs that a test runs to their end: none outlives the test, also when that fails or is canceled meanwhile."""

import asyncio


async def output_of(process: asyncio.subprocess.Process, *, within_s: float = 60.0) -> tuple[bytes, bytes]:
    """Return its standard output and error once it has ended.

    One that takes longer, or that nobody waits for any more, is killed: what it would leave open is found by some
    later test.
    """
    try:
        async with asyncio.timeout(within_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out or b"", err or b""
