"""A command of the gateway's own machine, run to its end or to a deadline; either way nothing of it is left."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress


async def run(argv: Sequence[str], *, timeout: float, stderr: int | None = None) -> tuple[int, bytes, bytes]:
    """Exit code, stdout, stderr. OSError when it cannot be started; TimeoutError.

    *stderr* is asyncio.subprocess's; unless given it goes where the gateway's goes.
    """
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, stderr=stderr)
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return process.returncode or 0, out, err or b""
