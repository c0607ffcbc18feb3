"""Points in time as a person reads them: ages like kubectl's, and the reader's clock."""

from datetime import UTC, datetime


def _moment(rfc3339: str | None) -> datetime | None:
    return datetime.fromisoformat(rfc3339) if rfc3339 else None


def age(rfc3339: str | None, now: datetime | None = None) -> str | None:
    """Return how long ago that was, in kubectl's short form."""
    then = _moment(rfc3339)
    return None if then is None else short(((now or datetime.now(UTC)) - then).total_seconds())


def short(seconds: float) -> str:
    """Return what kubectl's HumanDuration does: two units while the second matters, else one."""
    s = max(0, int(seconds))
    for below, big, small in ((120, "s", ""), (600, "m", "s"), (10800, "m", ""), (28800, "h", "m"), (172800, "h", "")):
        if s < below:
            return _units(s, big, small)
    return _units(s, "d", "h" if s < 8 * 86400 else "")


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _units(seconds: int, big: str, small: str) -> str:
    count, rest = divmod(seconds, _SECONDS[big])
    fine = rest // _SECONDS[small] if small else 0
    return f"{count}{big}" + (f"{fine}{small}" if fine else "")


def clock(rfc3339: str | None, now: datetime | None = None, *, seconds: bool = False) -> str:
    """Return the time of day on the reader's clock; with the day if that is not today."""
    then = _moment(rfc3339)
    if then is None:
        return "-"
    local, today = then.astimezone(), (now or datetime.now(UTC)).astimezone().date()
    day = "" if local.date() == today else "%a %d %b "
    return local.strftime(day + ("%H:%M:%S" if seconds else "%H:%M"))
