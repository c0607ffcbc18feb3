"""The outermost loop of a task that lives as long as its process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from noah.backoff import Backoff

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0  # of a task that failed for a reason that nobody foresaw


async def keep_running(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Run *work* until it returns. Whenever it raises, log the traceback and run it again, after a pause that grows."""
    backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
    while True:
        began = asyncio.get_running_loop().time()
        try:
            await work()
            return
        except Exception:  # the task's outermost loop
            log.exception("%s failed, and will run again", name)
        if asyncio.get_running_loop().time() - began > LONGEST_PAUSE_S:
            backoff.reset()
        await asyncio.sleep(backoff.next_s())
