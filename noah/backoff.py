"""The pause before something that failed is tried again: it doubles with each failure, up to a limit.

It is spread at random, so that all who lost the same thing do not come back at the same moment. It never gives up.
"""

import random


class Backoff:
    def __init__(self, *, first_s: float, longest_s: float) -> None:
        self.failures = 0  # in a row
        self._first_s = first_s
        self._longest_s = longest_s

    def next_s(self) -> float:
        """Count a failure and return the seconds to wait: between half of the pause and all of it."""
        # 2.0**64 times anything is beyond every limit; a float would overflow after 1,024 failures.
        pause_s = min(self._first_s * 2.0 ** min(self.failures, 64), self._longest_s)
        self.failures += 1
        return pause_s * random.uniform(0.5, 1)  # noqa: S311 - not a secret

    def reset(self) -> None:
        """Forget the failures: it worked."""
        self.failures = 0
