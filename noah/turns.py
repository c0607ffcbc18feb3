"""Work of many small pieces on the event loop, in turns, between which everybody else is served.

All such work shares the loop: however many clusters are listed at once, one of them has one turn per pass of the loop.
While a debugger talks with its JVM, the work stands still for most of the time.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from time import perf_counter
from typing import TypeVar
from weakref import WeakKeyDictionary

TURN_S = 0.00005  # of work; a debugger's bytes wait for one such turn, and between two turns pass some 10 us
TALKS_S = 0.02  # after its last bytes a debugger is taken to wait for more
AT_ONCE_S = 0.0005  # of work, while a debugger talks; then nobody has a turn for PAUSE_S
PAUSE_S = 0.001  # the shortest that uvloop knows

_T = TypeVar("_T")


class _Debuggers:
    talked_at = float("-inf")  # by perf_counter()


def debugger_talks() -> None:
    """Called whenever bytes of a debugger or its JVM have come."""
    _Debuggers.talked_at = perf_counter()


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
    await _turns.setdefault(asyncio.get_running_loop(), _Turns()).mine()


class _Turns:
    """Those who wait for a turn in one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._works_since = 0.0  # by perf_counter(): the last pause was over then

    def mine(self) -> asyncio.Future[None]:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if len(self._waiting) == 1:
            self._go_on()
        return mine

    def _go_on(self) -> None:
        loop, now = asyncio.get_running_loop(), perf_counter()
        if now - _Debuggers.talked_at < TALKS_S and now - self._works_since > AT_ONCE_S:
            loop.call_later(PAUSE_S, self._pause_over)
        else:
            loop.call_soon(self._give)

    def _pause_over(self) -> None:
        self._works_since = perf_counter()
        self._give()

    def _give(self) -> None:
        """Let the first of those who wait go on in the loop's next pass, and the next one in a pass after it."""
        while self._waiting and self._waiting[0].done():  # cancelled
            self._waiting.popleft()
        if self._waiting:
            self._waiting.popleft().set_result(None)
        if self._waiting:
            self._go_on()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()
