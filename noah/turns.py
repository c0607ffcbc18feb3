"""Work of many small pieces on the event loop: after some milliseconds of it everybody else has a turn."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from time import perf_counter
from typing import TypeVar

TURN_S = 0.005  # of work; a debugger's bytes wait as long

_T = TypeVar("_T")


async def in_turns(pieces: Iterable[_T]) -> AsyncGenerator[_T, None]:
    """Yield what *pieces* yield; what they do meanwhile must bear that others run in between."""
    began = perf_counter()
    for piece in pieces:
        yield piece
        if perf_counter() - began > TURN_S:
            await asyncio.sleep(0)
            began = perf_counter()
