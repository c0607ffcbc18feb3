"""So many requests a minute for each person: a script that runs wild is slowed down, and costs the others nothing."""

import time
from collections import Counter

from aiohttp import web

from noah.errors import TooMany


class Budget:
    def __init__(self) -> None:
        self._minute = 0
        self._spent: Counter[str] = Counter()  # in this minute

    def spend(self, person: str, *, per_minute: int) -> None:
        """Count a request of *person*. Raises TooMany once the minute's requests are used up."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute = minute
            self._spent.clear()
        self._spent[person] += 1
        if self._spent[person] > per_minute:
            raise TooMany(f"You have sent {per_minute} requests within a minute: wait until the next one.")


BUDGET = web.AppKey("budget", Budget)
