"""Work of many small pieces on the event loop, in turns, between which everybody else is served.

All such work shares the loop: however many clusters are listed at once, one of them has one turn per pass of the loop.
While a debugger talks with its JVM, nobody has a turn while an answer is due, and after an answer there is one at most:
a question waits for one turn, or for none.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from time import perf_counter
from typing import TypeVar

from noah.per_loop import PerLoop

TURN_S = 0.00003  # of work; a debugger's bytes wait for one such turn, and between two turns pass some 10 us
TALKS_S = 0.02  # after an answer, in which a debugger is taken to ask again
GAP_S = 0.0002  # from one turn to the next meanwhile, at least
PAUSE_S = 0.001  # at most, for an answer; the shortest that uvloop knows

_T = TypeVar("_T")


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
    await turns().mine()


class Turns:
    """Those who wait for a turn in one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._next: asyncio.Handle | None = None  # gives the next turn
        self._is_asked = self._is_held_back = False  # a debugger waits for an answer; and a turn waits for that too
        self._answered_at = self._given_at = -TALKS_S  # by perf_counter()

    def mine(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        if self._next is None:
            self._next = loop.call_soon(self._give)
        return mine

    def asked(self) -> None:
        """Have nobody get a turn now: bytes of a debugger have been passed on to its JVM."""
        self._is_asked = True

    def answered(self) -> None:
        self._is_asked, self._answered_at = False, perf_counter()
        if self._is_held_back and self._next is not None:
            self._next.cancel()
            self._is_held_back = False
            self._next = asyncio.get_running_loop().call_soon(self._give)

    def _wait_no_longer(self) -> None:
        """Give a turn for which an answer came too late, also if the debugger has asked more: some never stop."""
        self._is_asked = self._is_held_back = False
        self._give()

    def _give(self) -> None:
        """Let the first of those who wait go on in the loop's next pass, and the next one in a pass after it."""
        self._next = None
        while self._waiting and self._waiting[0].done():  # cancelled
            self._waiting.popleft()
        if not self._waiting:
            return
        loop, now = asyncio.get_running_loop(), perf_counter()
        talks = now - self._answered_at < TALKS_S
        if self._is_asked or (talks and now - self._given_at < GAP_S):
            self._is_held_back = True
            self._next = loop.call_later(PAUSE_S, self._wait_no_longer)
        else:
            self._given_at = now
            self._waiting.popleft().set_result(None)
            if self._waiting:
                self._next = loop.call_soon(self._give)


_by_loop = PerLoop(Turns)


def turns() -> Turns:
    """Return those of the running event loop. Who needs them often asks for them once."""
    return _by_loop.get()
