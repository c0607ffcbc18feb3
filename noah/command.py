"""A command of the gateway's own machine, run to its end or to a deadline, with an output that has a limit.

It gets no stdin. One that does not end in time is killed together with what it has started.
"""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress

LONGEST_OUTPUT = 16 << 20  # bytes
LONGEST_LAMENT = 64 << 10  # bytes of stderr that are kept, the last ones
PIECE = 64 << 10  # bytes
ENDS_WITHIN_S = 1.0


class TooMuchOutput(OSError):
    """The command printed more than is read of it."""

    def __init__(self) -> None:
        super().__init__(f"it printed more than {LONGEST_OUTPUT >> 20} MiB")
        self.strerror = self.args[0]


async def run(
    argv: Sequence[str],
    *,
    timeout: float | None,
    reads_stderr: bool = False,
    env: Mapping[str, str] | None = None,
) -> tuple[int, bytes, bytes]:
    """Return exit code, stdout, and the end of stderr, which goes where the gateway's goes unless it is read.

    Raises OSError when the command cannot be started or prints too much, and TimeoutError.
    """
    stderr = PIPE if reads_stderr else None
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=DEVNULL, stdout=PIPE, stderr=stderr, env=env, start_new_session=True
    )
    try:
        async with asyncio.timeout(timeout):
            out, err, code = await asyncio.gather(_all_of(process), _end_of(process.stderr), process.wait())
    except BaseException:
        await _end(process)
        raise
    if len(out) > LONGEST_OUTPUT:
        raise TooMuchOutput
    return code, out, err


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: Process) -> None:
    _kill(process)
    # It counts as ended when its pipes are at their ends, which they may not be for who has left its group.
    with suppress(TimeoutError):
        async with asyncio.timeout(ENDS_WITHIN_S):
            await asyncio.gather(_end_of(process.stdout), _end_of(process.stderr), process.wait())


async def _all_of(process: Process) -> bytes:
    """Return its output, or more than the longest one if it is longer, and then end the command."""
    read = bytearray()
    while process.stdout is not None and (piece := await process.stdout.read(PIECE)):
        if len(read) <= LONGEST_OUTPUT:
            read += piece
            if len(read) > LONGEST_OUTPUT:
                _kill(process)
    return bytes(read)


async def _end_of(stream: asyncio.StreamReader | None) -> bytes:
    read = bytearray()
    while stream is not None and (piece := await stream.read(PIECE)):
        read += piece
        del read[:-LONGEST_LAMENT]
    return bytes(read)
