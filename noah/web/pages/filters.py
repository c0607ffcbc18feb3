"""Filters of the templates: how values are written until a page's script makes times local."""

import json
from collections.abc import Mapping
from urllib.parse import quote

END_REASONS = {
    "closed": "closed",
    "expired": "expired",
    "canceled": "ended by somebody else",
    "target_gone": "target gone",
    "failed": "failed",
    "right_lost": "right taken away",
}


def in_a_path(text: str) -> str:
    return quote(text, safe="/")


def in_bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def lasting(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def clock(at: str) -> str:
    return at[11:19] + " UTC"


def subject(principal: str) -> str:
    """Return by which name the principal of that ID logs in."""
    return str(json.loads(principal)[2])


def several(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def kinds(counts: Mapping[str, int]) -> str:
    """Return an app's targets by kind: "2 pods, 1 KVM host, 1 on this machine"."""
    pods, hosts, local = (counts.get(kind, 0) for kind in ("pod", "host", "local"))
    said = [several(pods, "pod")] if pods else []
    said += [several(hosts, "KVM host")] if hosts else []
    said += [f"{local} on this machine"] if local else []
    return ", ".join(said)
