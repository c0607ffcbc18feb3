"""Lines of an API server's streams: the JSON of a watch."""

from collections.abc import AsyncGenerator

import aiohttp

from noah.errors import Unavailable


async def lines_of(stream: aiohttp.StreamReader, *, longest: int = 16 << 20) -> AsyncGenerator[bytes, None]:
    """Yield lines without their ends; raise Unavailable for one of more than *longest* bytes.

    etcd refuses objects of a tenth of that.
    """
    begun = bytearray()
    while piece := await stream.readany():
        *lines, rest = piece.split(b"\n")
        for line in lines:
            yield bytes(begun) + line
            begun.clear()
        begun += rest
        if len(begun) > longest:
            raise Unavailable(f"A line of a watch is larger than {longest >> 20} MiB.")
