"""What a release has published by an earlier follower, so that the next one, which reads all again, repeats nothing."""

from collections import Counter
from collections.abc import Iterable

from noah.core.release.release_event import LINE_KINDS, Numbered, ReleaseEvent, ReleaseEventKind

# Their time is that of the look at the cluster: of two looks that show the same, one is an event.
_OF_LOOKS = frozenset(
    {
        ReleaseEventKind.RELEASE,
        ReleaseEventKind.POD,
        ReleaseEventKind.CONDITION,
        ReleaseEventKind.PROGRESS,
        ReleaseEventKind.PAUSED,
    }
)
_What = tuple[str, ...]


class Published:
    def __init__(self, events: Iterable[Numbered]) -> None:
        """*events*: those that are held, in order; of a loud container these may be the last lines only."""
        self._seen: Counter[_What] = Counter()
        self._first_at: dict[tuple[str, str, int], str] = {}  # of each run of a container, the first line that is held
        self._shown: dict[_What, str] = {}  # what the last look has shown
        for _, event in events:
            if event.kind in _OF_LOOKS:
                self._shown[_shown_of(event)] = event.text
                continue
            self._seen[_what(event)] += 1
            if event.kind in LINE_KINDS:
                self._first_at.setdefault(event.run, event.at)

    def is_new(self, event: ReleaseEvent) -> bool:
        """Return whether *event*, which the next follower has found, is not published yet. Ask once for each."""
        if event.kind in _OF_LOOKS:
            return self._shown.pop(_shown_of(event), None) != event.text
        what = _what(event)
        if self._seen[what]:
            self._seen[what] -= 1
            return False
        return not (event.kind in LINE_KINDS and event.at < self._first_at.get(event.run, ""))


def _what(event: ReleaseEvent) -> _What:
    place = (str(event.more.get(key)) for key in ("pod", "container", "restart", "object"))
    return event.kind, event.at, event.text, *place


def _shown_of(event: ReleaseEvent) -> _What:
    return event.kind, *(str(event.more.get(key)) for key in ("pod", "condition", "session"))
