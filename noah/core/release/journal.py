"""What a release has told so far: numbered, as much of it as memory may hold, and what is kept of it for later.

Numbers count from 1 without holes. Who reads on from a number that is not held any more gets a "gap" first, which says
how many are missing: nothing is left out without a word.
"""

import bisect
from collections import deque
from collections.abc import Iterable, Iterator
from operator import itemgetter

from noah.core.release.release_event import LINE_KINDS, Numbered, ReleaseEvent, ReleaseEventKind

HELD = 16 << 20  # bytes of memory for one release, roughly; at 1,000 lines per second, a minute
OVERHEAD = 400  # bytes that an event costs beside its text
LINES = 200  # lines kept of each run of a container
OTHERS = 1000  # kept events that are no lines
LONGEST_KEPT = 2000  # characters of a kept line
MOST_KEPT = 5000  # events


class Journal:
    def __init__(self, events: Iterable[Numbered] = (), *, held: int = HELD) -> None:
        """*events*: what was kept of it, when it is over."""
        self._held = held
        self._size = 0
        self._events: list[Numbered] = list(events)
        self.count = self._events[-1][0] if self._events else 0
        self._others: deque[Numbered] = deque(maxlen=OTHERS)
        self._lines: dict[tuple[str, str, int], deque[Numbered]] = {}

    def add(self, told: ReleaseEvent) -> None:
        self.count += 1
        self._events.append((self.count, told))
        self._size += _size([(self.count, told)])
        if self._size > self._held:
            self._drop()
        kept = self._lines.setdefault(told.run, deque(maxlen=LINES)) if told.kind in LINE_KINDS else self._others
        kept.append((self.count, told))

    def _drop(self) -> None:
        """The lines of the older half, so that it need not be done often; who comes late sees the pods all the same."""
        older = self._events[: len(self._events) // 2]
        others = [one for one in older if one[1].kind not in LINE_KINDS][-OTHERS:]
        self._size -= _size(older) - _size(others)
        self._events[: len(older)] = others

    def after(self, number: int, *, limit: int, size: int = HELD) -> Iterator[Numbered]:
        """The first *limit* events after *number*, as it is now; fewer when they have *size* bytes before."""
        first = bisect.bisect_right(self._events, number, key=itemgetter(0))
        found = self._events[first : first + limit]
        while len(found) > 1 and _size(found) > size:
            del found[len(found) // 2 :]
        return with_gaps(found, number)

    def kept(self) -> list[Numbered]:
        """For the store: the last lines of each container, and all else; the newest when even that is too much."""
        lines = (line for run in self._lines.values() for line in run)
        newest = sorted((*self._others, *lines), key=lambda one: one[0])[-MOST_KEPT:]
        return [(n, _cut(told)) for n, told in newest]


def with_gaps(events: Iterable[Numbered], last: int) -> Iterator[Numbered]:
    """*events*, with a word wherever some are missing; *last* is the number before them."""
    for number, told in events:
        if missed := number - last - 1:
            lines = "line was" if missed == 1 else "lines were"
            yield (
                number - 1,
                ReleaseEvent(told.at, ReleaseEventKind.GAP, f"{missed} {lines} left out here.", {"missed": missed}),
            )
        yield number, told
        last = number


def _size(events: Iterable[Numbered]) -> int:
    return sum(OVERHEAD + len(told.text) for _, told in events)


def _cut(told: ReleaseEvent) -> ReleaseEvent:
    if len(told.text) <= LONGEST_KEPT:
        return told
    return ReleaseEvent(told.at, told.kind, told.text[:LONGEST_KEPT] + " …", told.more)
