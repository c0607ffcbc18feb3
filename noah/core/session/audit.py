"""What the debuggers of a session did, as JSON: `commands` by kind, and the last `connections`.

`foreseen` are the commands, by kind, that an accelerated line asked the JVM ahead of a debugger; `commands` are what
debuggers asked, also where the answer came from memory.

A session outlives gateways, each of which counts from nothing: what they saw is added up here.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

REMEMBERED: Final = 50  # connections

Audit = Mapping[str, Any]

KILLED: Final = "the gateway ended before it could say why"


def added(earlier: Audit | None, now: Audit) -> Audit:
    if earlier is None:
        return now
    return {
        "commands": dict(Counter(earlier["commands"]) + Counter(now["commands"])),
        "foreseen": dict(foreseen(earlier) + foreseen(now)),
        "connections": [*earlier["connections"], *now["connections"]][-REMEMBERED:],
    }


def foreseen(audit: Audit) -> Counter[str]:
    """Return what *audit* says of that; one of an earlier version says nothing."""
    return Counter(audit.get("foreseen", {}))


def left_behind(audit: Audit) -> Audit:
    """Return it as a killed gateway left it: nobody saw its last connection end, but it has."""
    return {
        **audit,
        "connections": [c if c["until"] or c["ended"] else {**c, "ended": KILLED} for c in audit["connections"]],
    }
