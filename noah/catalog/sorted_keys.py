"""A set of strings in order, in short lists: a change costs a few microseconds however many there are, and a reader
finds the order as it is."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Protocol

LONGEST = 1000  # keys of one list; of a longer one, two are made
_LAST = "\U0010ffff"  # sorts after all that names are made of


class Keys(Protocol):
    """Ordered keys, by their numbers."""

    def first_from(self, key: str) -> int:
        """Return the number of the first key that is not before *key*."""

    def first_after(self, key: str) -> int: ...

    def part(self, start: int, stop: int) -> list[str]: ...


class SortedKeys:
    """Each key has a text, in which words are looked for, and its target's labels as a text."""

    def __init__(self, *, longest: int = LONGEST) -> None:
        self._longest = longest
        self._lists: list[_List] = []
        self._lasts: list[str] = []  # the last key of each list
        self._starts: list[int] | None = []  # the number of each list's first key; None: to be counted again

    def __len__(self) -> int:
        return self._count()[-1] + len(self._lists[-1].keys) if self._lists else 0

    def add(self, key: str, *, text: str, labels: str) -> None:
        """Add a key that is not in the set."""
        self._starts = None
        if not self._lists:
            self._lists, self._lasts = [_List([key], [text], [labels])], [key]
            return
        number = min(bisect_left(self._lasts, key), len(self._lists) - 1)
        one = self._lists[number]
        one.add(key, text, labels)
        if len(one.keys) > self._longest:
            self._lists.insert(number, one.split())
            self._lasts.insert(number, self._lists[number].keys[-1])
            number += 1
        self._lasts[number] = one.keys[-1]

    def remove(self, key: str) -> None:
        """Remove a key that is in the set."""
        self._starts = None
        number = bisect_left(self._lasts, key)
        one = self._lists[number]
        one.remove(key)
        if one.keys:
            self._lasts[number] = one.keys[-1]
        else:
            del self._lists[number], self._lasts[number]

    def relabel(self, key: str, labels: str) -> None:
        """Change the labels of a key that is in the set."""
        one = self._lists[bisect_left(self._lasts, key)]
        one.labels[bisect_left(one.keys, key)] = labels

    def first_from(self, key: str) -> int:
        number = bisect_left(self._lasts, key)
        return (
            self._count()[number] + bisect_left(self._lists[number].keys, key)
            if number < len(self._lists)
            else len(self)
        )

    def first_after(self, key: str) -> int:
        number = bisect_right(self._lasts, key)
        return (
            self._count()[number] + bisect_right(self._lists[number].keys, key)
            if number < len(self._lists)
            else len(self)
        )

    def part(self, start: int, stop: int) -> list[str]:
        found: list[str] = []
        for one, begin, end in self._lists_of(start, stop):
            found += one.keys[begin:end]
        return found

    def lists(self, start: int, stop: int) -> Iterator[tuple[list[str], list[str], list[str]]]:
        """Yield the keys from *start* to *stop*, their texts and their labels, list by list."""
        for one, begin, end in self._lists_of(start, stop):
            if begin == 0 and end >= len(one.keys):
                yield one.keys, one.texts, one.labels
            else:
                yield one.keys[begin:end], one.texts[begin:end], one.labels[begin:end]

    def span(self, prefix: str) -> "Span":
        return Span(self, self.first_from(prefix), self.first_from(prefix + _LAST))

    def _lists_of(self, start: int, stop: int) -> list[tuple["_List", int, int]]:
        starts = self._count()
        number, found = max(0, bisect_right(starts, start) - 1), []
        while number < len(self._lists) and starts[number] < stop:
            found.append((self._lists[number], max(0, start - starts[number]), stop - starts[number]))
            number += 1
        return found

    def _count(self) -> list[int]:
        if self._starts is None:
            self._starts, total = [], 0
            for one in self._lists:
                self._starts.append(total)
                total += len(one.keys)
        return self._starts


class _List:
    __slots__ = ("keys", "labels", "texts")

    def __init__(self, keys: list[str], texts: list[str], labels: list[str]) -> None:
        self.keys, self.texts, self.labels = keys, texts, labels

    def add(self, key: str, text: str, labels: str) -> None:
        at = bisect_left(self.keys, key)
        self.keys.insert(at, key)
        self.texts.insert(at, text)
        self.labels.insert(at, labels)

    def remove(self, key: str) -> None:
        at = bisect_left(self.keys, key)
        del self.keys[at], self.texts[at], self.labels[at]

    def split(self) -> "_List":
        """Return the first half, and keep the second."""
        half = len(self.keys) // 2
        first = _List(self.keys[:half], self.texts[:half], self.labels[:half])
        del self.keys[:half], self.texts[:half], self.labels[:half]
        return first


class FoundKeys:
    """Keys that a search has found, in order."""

    __slots__ = ("_keys",)

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys

    def first_from(self, key: str) -> int:
        return bisect_left(self._keys, key)

    def first_after(self, key: str) -> int:
        return bisect_right(self._keys, key)

    def part(self, start: int, stop: int) -> list[str]:
        return self._keys[start:stop]


class Span:
    """A stretch of ordered keys, without a copy of them; valid until the next change."""

    __slots__ = ("keys", "start", "stop")

    def __init__(self, keys: Keys, start: int, stop: int) -> None:
        self.keys, self.start, self.stop = keys, start, stop

    @classmethod
    def whole(cls, keys: list[str]) -> "Span":
        return cls(FoundKeys(keys), 0, len(keys))

    def __len__(self) -> int:
        return self.stop - self.start

    def after(self, key: str | None) -> int:
        """Return the number of the first key after *key*; without one, of the first key."""
        return min(max(self.keys.first_after(key), self.start), self.stop) if key else self.start

    def within(self, prefix: str) -> "Span":
        """Return the part of it whose keys begin with *prefix*."""
        start = min(max(self.keys.first_from(prefix), self.start), self.stop)
        return Span(self.keys, start, min(max(self.keys.first_from(prefix + _LAST), start), self.stop))

    def part(self, start: int, stop: int) -> list[str]:
        return self.keys.part(max(start, self.start), min(stop, self.stop))

    def listed(self) -> list[str]:
        return self.keys.part(self.start, self.stop)
