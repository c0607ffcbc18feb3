"""How long one step of an event loop takes, in its thread's own CPU time: a busy machine changes nothing in it."""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


def most_s() -> float:
    """Return how long one input of an outsider may hold the loop, in seconds.

    On a busy machine CPU time itself grows, since others have the caches.
    """
    return 0.05 if os.getloadavg()[0] < (os.cpu_count() or 1) else 0.1


@dataclass
class Longest:
    seconds: float = 0.0


@contextlib.contextmanager
def watching_the_loop() -> Iterator[Longest]:
    """Note the longest round of the running loop until the block ends."""
    gc.collect()
    gc.freeze()  # what other tests have left is not looked through meanwhile
    loop, longest, on = asyncio.get_running_loop(), Longest(), True
    last = time.thread_time()

    def look() -> None:
        nonlocal last
        now = time.thread_time()
        longest.seconds, last = max(longest.seconds, now - last), now
        if on:
            loop.call_soon(look)

    loop.call_soon(look)
    try:
        yield longest
    finally:
        on = False
        gc.unfreeze()


def cpu_of(work: Callable[[], object]) -> float:
    """Return the least of three runs: the first one warms up."""
    taken = []
    for _ in range(3):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return min(taken)
