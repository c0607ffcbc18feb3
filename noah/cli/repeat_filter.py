"""Which events of a release are new after the gateway was restarted in the middle of its stream."""

from collections import Counter, defaultdict

from noah.client.gateway_client import Json
from noah.core.release.log_cursor import LogCursor
from noah.core.release.release_event import LINE_KINDS, ReleaseEventKind

# What comes from a container's output: after a restart its own times tell what is new.
_PRINTED = LINE_KINDS | {ReleaseEventKind.CHECKURL, ReleaseEventKind.ONLINE}


class RepeatFilter:
    """Drops what was shown already: a gateway that was restarted sends a release again, in almost the same words."""

    def __init__(self) -> None:
        self._restarted = False
        self._lines: dict[tuple[str, ...], LogCursor] = defaultdict(LogCursor)
        self._before: Counter[tuple[str, ...]] = Counter()
        self._now: Counter[tuple[str, ...]] = Counter()

    def is_new(self, event: Json) -> bool:
        if event["kind"] == ReleaseEventKind.RESTARTED:
            self._restarted = True
            self._before |= self._now
            self._now.clear()
            for cursor in self._lines.values():
                cursor.reconnected()
            return False
        if event["kind"] in _PRINTED:
            source = (str(event.get("pod")), str(event.get("container")), str(event.get("restart")))
            return self._lines[source].is_new(event["at"])
        key = (event["kind"], str(event.get("pod") or event.get("object")), event["text"])
        self._now[key] += 1
        return event["kind"] == ReleaseEventKind.END or not self._restarted or self._now[key] > self._before[key]
