"""The machine's clock; the only place besides the command line that may read it (ruff.toml).

Whatever decides by time is given it, or a clock: the gateway's own is the database's (app.py), by which sessions end.
"""

from datetime import UTC, datetime


def machine_clock() -> datetime:
    return datetime.now(UTC)
