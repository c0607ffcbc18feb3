"""The machine's clocks; the only place besides the command line that may read them (ruff.toml).

Whatever decides by time is given it, or a clock: the gateway's own is the database's (app.py), by which sessions end.
"""

import time
from datetime import UTC, datetime

# Goes on while the process or the machine is stopped, and is set by nobody. macOS has no such clock.
_UNSTOPPED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def machine_clock() -> datetime:
    return datetime.now(UTC)


def unstopped_clock() -> float:
    """Return seconds since some moment of the past, by the clock that a lease is believed by."""
    return time.clock_gettime(_UNSTOPPED)
