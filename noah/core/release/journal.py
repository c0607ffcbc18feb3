"""What a release has published so far: numbered, as much of it as memory may hold, and what is kept of it for later.

Numbers count from 1 without holes. Who reads on from a number that is not held any more gets a "gap" first, which says
how many are missing: nothing is left out silently.
"""

import bisect
from collections import deque
from collections.abc import Iterable, Iterator
from operator import itemgetter

from noah.core.release.release_event import LINE_KINDS, Numbered, ReleaseEvent, ReleaseEventKind

JOURNAL_BYTES = 16 << 20  # of memory for one release, roughly; at 1,000 lines per second, a minute
EVENT_OVERHEAD_BYTES = 400  # that an event costs beside its text
LINES_PER_RUN = 200  # kept of each run of a container
MOST_OTHERS = 1000  # kept events that are not lines
LONGEST_KEPT_LINE = 2000  # characters
MOST_KEPT = 5000  # events


class Journal:
    def __init__(self, events: Iterable[Numbered] = (), *, held_bytes: int = JOURNAL_BYTES) -> None:
        """*events*: what was kept of it, when it is over."""
        self.size_bytes = 0  # of the memory that it holds, roughly
        self._held_bytes = held_bytes
        self._events: list[Numbered] = list(events)
        self.count = self._events[-1][0] if self._events else 0
        self._others: deque[Numbered] = deque(maxlen=MOST_OTHERS)
        self._lines: dict[tuple[str, str, int], deque[Numbered]] = {}
        self._lines_count = 0  # in _lines, at most

    def add(self, event: ReleaseEvent) -> None:
        self.count += 1
        one = self.count, event
        self._events.append(one)
        self.size_bytes += _size_bytes([one])
        if self.size_bytes > self._held_bytes:
            self.drop_older_half()
        if event.kind not in LINE_KINDS:
            self._others.append(one)
            return
        self._lines.setdefault(event.run, deque(maxlen=LINES_PER_RUN)).append(one)
        self._lines_count += 1
        if self._lines_count > 2 * MOST_KEPT:
            self._forget_runs()

    def add_as(self, number: int, event: ReleaseEvent) -> None:
        """Add an event that has its number already: those between it and the one before are missing."""
        self.count = number - 1
        self.add(event)

    def held(self) -> list[Numbered]:
        return list(self._events)

    def drop_older_half(self) -> None:
        """Drop the lines of the older half of what is held, and most of its other events.

        So it need not be done often, and who comes late to a loud release is shown its pods all the same.
        """
        older = self._events[: len(self._events) // 2]
        others = [one for one in older if one[1].kind not in LINE_KINDS][-MOST_OTHERS:]
        self.size_bytes -= _size_bytes(older) - _size_bytes(others)
        self._events[: len(older)] = others

    def after(self, number: int, *, limit: int, size_bytes: int = JOURNAL_BYTES) -> Iterator[Numbered]:
        """Return the first *limit* events after *number*, as it is now; fewer if they are larger than *size_bytes*."""
        first = bisect.bisect_right(self._events, number, key=itemgetter(0))
        found = self._events[first : first + limit]
        while len(found) > 1 and _size_bytes(found) > size_bytes:
            del found[len(found) // 2 :]
        return with_gaps(found, number)

    def kept(self) -> list[Numbered]:
        """Return what the store keeps: the last lines of each run, and all else; the newest if that is too much."""
        lines = (line for run in self._lines.values() for line in run)
        newest = sorted((*self._others, *lines), key=itemgetter(0))[-MOST_KEPT:]
        return [(n, _cut(event)) for n, event in newest]

    def _forget_runs(self) -> None:
        """Forget the runs that are too old to be kept: a release that lasts for weeks may have many."""
        lines = sorted((line for run in self._lines.values() for line in run), key=itemgetter(0))[-MOST_KEPT:]
        first = lines[0][0]
        self._lines = {run: held for run, held in self._lines.items() if held[-1][0] >= first}
        self._lines_count = sum(map(len, self._lines.values()))


def with_gaps(events: Iterable[Numbered], last: int) -> Iterator[Numbered]:
    """Yield *events*, and a gap wherever some are missing; *last* is the number before them."""
    for number, event in events:
        if missed := number - last - 1:
            lines = "line was" if missed == 1 else "lines were"
            text = f"{missed} {lines} left out here."
            yield number - 1, ReleaseEvent(event.at, ReleaseEventKind.GAP, text, {"missed": missed})
        yield number, event
        last = number


def _size_bytes(events: Iterable[Numbered]) -> int:
    return sum(EVENT_OVERHEAD_BYTES + len(event.text) for _, event in events)


def _cut(event: ReleaseEvent) -> ReleaseEvent:
    if len(event.text) <= LONGEST_KEPT_LINE:
        return event
    return ReleaseEvent(event.at, event.kind, event.text[:LONGEST_KEPT_LINE] + " …", event.more)
