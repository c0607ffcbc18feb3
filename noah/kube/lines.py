"""An API server's streams are of lines: a watch's JSON, a container's log."""

from collections.abc import AsyncGenerator

import aiohttp

from noah.errors import Unavailable


async def lines_of(stream: aiohttp.StreamReader, *, longest: int = 16 << 20) -> AsyncGenerator[bytes, None]:
    """Without their ends. Unavailable for one of more than *longest* bytes: etcd refuses objects of a tenth of it."""
    begun = bytearray()
    while piece := await stream.readany():
        *lines, rest = piece.split(b"\n")
        for line in lines:
            yield bytes(begun) + line
            begun.clear()
        begun += rest
        if len(begun) > longest:
            raise Unavailable(f"A line of a watch is larger than {longest >> 20} MiB.")
