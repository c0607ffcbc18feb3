"""One event of a release's stream. Its kinds stand in one table, which the API, the page and the command line use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class ReleaseEventKind(StrEnum):
    RELEASE = "release"  # the first one: which release this is
    POD = "pod"  # a pod's phase changed; is_new: it is the release's own, not one that the release replaces
    CONDITION = "condition"  # a pod's condition changed
    ONLINE = "online"  # healthcheck.html of a pod came or went
    PROGRESS = "progress"  # how many pods are online
    PAUSED = "paused"  # somebody is paused at a breakpoint in a pod that the release is about to replace
    EVENT = "event"  # one of the cluster's own events
    LOG = "log"  # a line of a container
    HOOK = "hook"  # a line of a preStart or preOnline hook
    CHECKURL = "checkurl"  # what checkurl answered
    GAP = "gap"  # lines were left out here
    RESTARTED = "anew"  # the stream begins again from its first event
    END = "end"  # the last one: how the release ended


LINE_KINDS = frozenset({ReleaseEventKind.LOG, ReleaseEventKind.HOOK})

# What a person shows and hides on the page, by the name of its checkbox. GAP and RESTARTED are about the stream itself.
SHOWN_AS: Mapping[str, tuple[ReleaseEventKind, ...]] = {
    "phases": (
        ReleaseEventKind.RELEASE,
        ReleaseEventKind.POD,
        ReleaseEventKind.CONDITION,
        ReleaseEventKind.ONLINE,
        ReleaseEventKind.PROGRESS,
        ReleaseEventKind.PAUSED,
        ReleaseEventKind.END,
    ),
    "events": (ReleaseEventKind.EVENT,),
    "logs": (ReleaseEventKind.LOG,),
    "hooks": (ReleaseEventKind.HOOK,),
    "checks": (ReleaseEventKind.CHECKURL,),
}


@dataclass(frozen=True, slots=True)
class ReleaseEvent:
    at: str  # RFC 3339, UTC: a line's by the kubelet's clock, anything else's by the gateway's
    kind: ReleaseEventKind
    text: str
    more: Mapping[str, Any] = field(default_factory=dict)  # JSON; pod, container, restart and what else the kind has

    def json(self, n: int) -> dict[str, Any]:
        return {"at": self.at, "kind": self.kind, "n": n, **self.more, "text": self.text}

    @property
    def run(self) -> tuple[str, str, int]:
        """The run of a container that a line comes from."""
        return str(self.more.get("pod")), str(self.more.get("container")), int(self.more.get("restart", 0))


Numbered = tuple[int, ReleaseEvent]


def timestamp(at: datetime) -> str:
    """Write *at* as ReleaseEvent.at is written: finely enough to be put in order with lines."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
