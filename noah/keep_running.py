"""The outermost loop of a task that lives as long as its process: of one that runs on, and of one that has rounds.

A task that chooses its own pauses has a loop of its own, in which attempted() is a round.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from noah.backoff import Backoff
from noah.errors import NoahError

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0  # of a task that failed for a reason that nobody foresaw
LONGEST_ROUND_PAUSE_S = 60.0  # after failed rounds, unless the rounds themselves are further apart


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


async def repeat(work: Callable[[], Awaitable[object]], *, name: str, every_s: float) -> None:
    """Do *work* every *every_s* seconds, for ever. A round that fails is logged, and the pause after it grows."""
    backoff = Backoff(first_s=every_s, longest_s=max(every_s, LONGEST_ROUND_PAUSE_S))
    while True:
        pause_s = every_s
        try:
            await work()
            backoff.reset()
        except NoahError as e:
            pause_s = max(every_s, backoff.next_s())
            log.warning("%s: trying again in %.0f s: %s", name, pause_s, e.sentence)
        except Exception:  # the outermost loop of each task that runs this
            pause_s = max(every_s, backoff.next_s())
            log.exception("%s: trying again in %.0f s", name, pause_s)
        await asyncio.sleep(pause_s)


async def attempted(work: Callable[[], Awaitable[object]], name: str, backoff: Backoff) -> bool:
    """Do *work* once; return whether it succeeded, after a pause if it did not.

    Of failures in a row the first is logged, and the success after them.
    """
    try:
        await work()
    except NoahError as e:
        if not backoff.failures:
            log.warning("%s failed, and is tried again: %s", name, e.sentence)
    except Exception:  # the outermost of each task that has such rounds
        log.exception("%s failed, and is tried again", name)
    else:
        if backoff.failures:
            log.info("%s succeeds again", name)
        backoff.reset()
        return True
    await asyncio.sleep(backoff.next_s())
    return False
