"""Lines of an API server's streams: the JSON of a watch."""

import logging
from collections.abc import AsyncGenerator

import aiohttp

from noah.kube.bounded_json import LONGEST

log = logging.getLogger(__name__)


async def lines_of(stream: aiohttp.StreamReader, *, longest: int = LONGEST) -> AsyncGenerator[bytes, None]:
    """Yield lines without their ends, except those of more than *longest* bytes: one object must not end a watch."""
    begun, is_too_long = bytearray(), False
    while piece := await stream.readany():
        *lines, rest = piece.split(b"\n")
        for line in lines:
            if not is_too_long and len(begun) + len(line) <= longest:
                yield bytes(begun) + line
            else:
                log.warning("a line of more than %d MiB of a watch is left out", longest >> 20)
            begun.clear()
            is_too_long = False
        is_too_long = is_too_long or len(begun) + len(rest) > longest
        begun = bytearray() if is_too_long else begun + rest
