"""Work of many small pieces on the event loop, in turns, between which everybody else is served.

All such work shares the loop: however many clusters are listed at once, one of them has one turn per pass of the loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from time import perf_counter
from typing import TypeVar
from weakref import WeakKeyDictionary

TURN_S = 0.0001  # of work, one pod; a debugger's bytes wait as long, and between two turns pass some 10 us

_T = TypeVar("_T")
_waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[asyncio.Future[None]]] = WeakKeyDictionary()


async def in_turns(pieces: Iterable[_T]) -> AsyncGenerator[_T, None]:
    """Yield what *pieces* yield; what they do meanwhile must bear that others run in between."""
    await turn()
    began = perf_counter()
    for piece in pieces:
        yield piece
        if perf_counter() - began > TURN_S:
            await turn()
            began = perf_counter()


async def turn() -> None:
    """Wait for a turn: the event loop has served its sockets since the last one, whose it ever was."""
    loop = asyncio.get_running_loop()
    waiting = _waiting.setdefault(loop, deque())
    mine: asyncio.Future[None] = loop.create_future()
    waiting.append(mine)
    if len(waiting) == 1:
        loop.call_soon(_give, loop, waiting)
    await mine


def _give(loop: asyncio.AbstractEventLoop, waiting: deque[asyncio.Future[None]]) -> None:
    """Let the first of those who wait go on in the loop's next pass, and the next one in the pass after it."""
    while waiting and waiting[0].done():  # cancelled
        waiting.popleft()
    if waiting:
        waiting.popleft().set_result(None)
    if waiting:
        loop.call_soon(_give, loop, waiting)
