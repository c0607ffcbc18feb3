"""Lengths of time as people write them: `90s`, `45m`, `2h`, `1h30m`, `30d`, or a plain number of seconds."""

import re
from datetime import timedelta

_PARTS = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Return the length of time. Raises ValueError, with a sentence for people, if *text* is not one or is zero."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        found = timedelta(seconds=int(text))
    else:
        match = _PARTS.fullmatch(text)
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
        found = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not found:
        raise ValueError(f"{text[:40]!r} is not a length of time: write something like 90s, 45m, 2h or 1h30m")
    return found


def format_duration(length: timedelta) -> str:
    """Return `1h30m`, `45m` or `12s`: the largest two units; `0s` for nothing or less."""
    seconds = max(0, int(length.total_seconds()))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if n]
    return "".join(parts[:2]) or "0s"
