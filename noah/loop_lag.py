"""How late the event loop is: for so long everybody's debuggers, pages and words to pods wait."""

import asyncio
from collections.abc import Callable

LOOK_INTERVAL_S = 0.1


async def measure_lag(observe: Callable[[float], None]) -> None:
    """Call *observe* with the seconds by which the loop is late, ten times a second, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK_INTERVAL_S
        await asyncio.sleep(LOOK_INTERVAL_S)
        observe(max(0.0, loop.time() - due))
