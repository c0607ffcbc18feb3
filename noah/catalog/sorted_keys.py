"""A set of strings in order, in short lists: a change costs a few microseconds however many there are, and a reader
finds the order as it is.

Each key has a text, in which words are looked for, and columns: whatever else searches compare. A search counts list
by list, by functions that are C all through, and takes only the keys that somebody looks at. Parts of texts are looked
for in the joined texts of a list, which are made when they are needed and kept until the list changes: 90,000 texts
that lie all over the memory take 10 to 25 ms, joined ones 3 to 7.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress, islice, repeat
from operator import and_, contains, countOf, is_not
from typing import NamedTuple, Protocol

LONGEST = 1000  # keys of one list; of a longer one, two are made
ONE_BY_ONE = 8  # if fewer than one in so many keys are left, each of those costs less than all at once
MOST_COUNTED = 8  # searches whose counts are kept: pages ask for the same every few seconds
_BETWEEN = "\n"  # joined texts; a list in which a text has it is searched without joining
_LAST = "\U0010ffff"  # sorts after all that names are made of

Column = Callable[[str], str]  # gives the value of a key


@dataclass(frozen=True, slots=True)
class Substring:
    """Looks for values of which something is a part; of the text, or of a column."""

    part: str
    of: Column | None = None
    is_once: bool = False  # no value has it twice


@dataclass(frozen=True, slots=True)
class Among:
    """Looks for values of a column that are among some."""

    those: Collection[str]
    of: Column


Test = Substring | Among
Tests = tuple[Test, ...]


class Keys(Protocol):
    """Ordered keys, by their numbers."""

    def first_from(self, key: str) -> int:
        """Return the number of the first key that is not before *key*."""

    def first_after(self, key: str) -> int: ...

    def part(self, start: int, stop: int) -> list[str]: ...

    def counted(self, start: int, stop: int, column: Column) -> Counter[str]:
        """Return how many of the keys from one number to another have each value of a column."""


class SortedKeys:
    """*kept*: columns that are filled with each key; any other is filled when it is searched for the first time."""

    def __init__(self, *, kept: Sequence[Column] = (), longest: int = LONGEST) -> None:
        self._kept = kept
        self._longest = longest
        self._lists: list[_List] = []
        self._lasts: list[str] = []  # the last key of each list
        self._starts: list[int] | None = []  # the number of each list's first key; None: to be counted again

    def __len__(self) -> int:
        return self._count()[-1] + len(self._lists[-1].keys) if self._lists else 0

    def add(self, key: str, *, text: str) -> None:
        """Add a key that is not in the set."""
        self._starts = None
        if not self._lists:
            self._lists, self._lasts = [_List([], [], {column: [] for column in self._kept})], [key]
        number = min(bisect_left(self._lasts, key), len(self._lists) - 1)
        one = self._lists[number]
        one.add(key, text)
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

    def update(self, key: str) -> None:
        """Read the columns of a key that is in the set again."""
        self._lists[bisect_left(self._lasts, key)].update(key)

    def has(self, prefix: str) -> bool:
        """True if a key begins with *prefix*."""
        number = bisect_left(self._lasts, prefix)
        if number == len(self._lists):
            return False
        keys = self._lists[number].keys
        return keys[bisect_left(keys, prefix)].startswith(prefix)

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

    def counted(self, start: int, stop: int, column: Column) -> Counter[str]:
        return Counter(chain.from_iterable(one.cut(one.of.values(column)) for one in self._lists_of(start, stop)))

    def span(self, prefix: str) -> "Span":
        return Span(self, self.first_from(prefix), self.first_from(prefix + _LAST))

    def search(self, span: "Span", tests: Sequence[Test], *, groups: Column | None = None) -> "Matches":
        """Return those of a span of these keys that pass all of some *tests*. *groups*: see Matches."""
        return Matches(self._lists_of(span.start, span.stop), tuple(tests), groups)

    def _lists_of(self, start: int, stop: int) -> list["_Stretch"]:
        starts = self._count()
        number, found = max(0, bisect_right(starts, start) - 1), []
        while number < len(self._lists) and starts[number] < stop:
            one, begin = self._lists[number], max(0, start - starts[number])
            end = min(stop - starts[number], len(one.keys))
            if begin < end:
                found.append(_Stretch(one, begin, end))
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
    __slots__ = ("_columns", "_joined", "_texts", "counted", "keys")

    def __init__(self, keys: list[str], texts: list[str], columns: dict[Column, list[str]]) -> None:
        self.keys, self._columns = keys, columns
        self._texts = keys if texts == keys else texts  # as a rule they are the same, and then held once
        self._joined: dict[Column | None, str] = {}
        self.counted: dict[tuple[Tests, Column | None], _Counted] = {}  # of searches

    def add(self, key: str, text: str) -> None:
        at = bisect_left(self.keys, key)
        if self._texts is self.keys and text != key:
            self._texts = self.keys.copy()
        if self._texts is not self.keys:
            self._texts.insert(at, text)
        self.keys.insert(at, key)
        for column, values in self._columns.items():
            values.insert(at, column(key))
        self._joined.clear()
        self.counted.clear()

    def remove(self, key: str) -> None:
        at = bisect_left(self.keys, key)
        if self._texts is not self.keys:
            del self._texts[at]
        del self.keys[at]
        for values in self._columns.values():
            del values[at]
        self._joined.clear()
        self.counted.clear()

    def update(self, key: str) -> None:
        at = bisect_left(self.keys, key)
        for column, values in self._columns.items():
            values[at] = column(key)
            self._joined.pop(column, None)
        self.counted.clear()

    def split(self) -> "_List":
        """Return the first half, and keep the second."""
        half = len(self.keys) // 2
        columns = {column: values[:half] for column, values in self._columns.items()}
        first = _List(self.keys[:half], self._texts[:half], columns)
        if self._texts is not self.keys:
            del self._texts[:half]
        del self.keys[:half]
        for values in self._columns.values():
            del values[:half]
        return first

    def values(self, column: Column | None) -> list[str]:
        """Return the values of a column; None: the texts."""
        if column is None:
            return self._texts
        values = self._columns.get(column)
        if values is None:
            same: dict[str, str] = {}
            values = self._columns[column] = [same.setdefault(value, value) for value in map(column, self.keys)]
        return values

    def joined(self, column: Column | None) -> str:
        joined = self._joined.get(column)
        if joined is None:
            joined = self._joined[column] = _BETWEEN.join(self.values(column))
        return joined

    def values_near(self, column: Column | None) -> list[str]:
        """Return the values of a column as copies that lie beside each other."""
        near = self.joined(column).split(_BETWEEN)
        return near if len(near) == len(self.keys) else self.values(column)


class _Counted(NamedTuple):
    """The number of keys that a search finds, and of their groups, with the first and the last of these."""

    total: int
    groups: int = 0
    first: str | None = None
    last: str | None = None


class _Stretch(NamedTuple):
    """The keys of a list from one number to another."""

    of: _List
    begin: int
    end: int

    @property
    def last(self) -> str:
        return self.of.keys[self.end - 1]

    def cut(self, values: list[str]) -> list[str]:
        return values if self.begin == 0 and self.end == len(values) else values[self.begin : self.end]

    def counted(self, tests: Tests, groups: Column | None) -> _Counted:
        # Not with sets: comparing them may take as long as counting.
        if self.begin or self.end < len(self.of.keys) or not all(isinstance(test, Substring) for test in tests):
            return self._count(tests, groups)
        kept = self.of.counted
        if (tests, groups) not in kept:
            if len(kept) == MOST_COUNTED:
                del kept[next(iter(kept))]
            kept[tests, groups] = self._count(tests, groups)
        return kept[tests, groups]

    def _count(self, tests: Tests, groups: Column | None) -> _Counted:
        if groups is None:
            return _Counted(countOf(self.passing(tests), True))
        found = list(compress(self.cut(self.of.values(groups)), self.passing(tests)))
        if not found:
            return _Counted(0)
        changes = countOf(map(is_not, found, islice(found, 1, None)), True)
        return _Counted(len(found), 1 + changes, found[0], found[-1])

    def passing(self, tests: Tests) -> Iterable[bool]:
        """Yield for each key whether it passes all *tests*; nothing at all if none does."""
        passing: Iterable[bool] | None = None
        near: dict[Column | None, list[str]] = {}
        for test in tests:
            if isinstance(test, Among):
                values = self.cut(self.of.values(test.of))
                if passing is not None:
                    passing = list(passing)
                    if countOf(passing, True) * ONE_BY_ONE < len(values):
                        for number in compress(range(len(values)), passing):
                            passing[number] = values[number] in test.those
                        continue
                one = map(test.those.__contains__, values)
            elif test.part not in (joined := self.of.joined(test.of)):
                return ()
            elif test.is_once and _BETWEEN not in test.part and joined.count(test.part) == len(self.of.keys):
                continue
            else:
                if test.of not in near:
                    near[test.of] = self.cut(self.of.values_near(test.of))
                one = map(contains, near[test.of], repeat(test.part))
            passing = one if passing is None else map(and_, passing, one)
        return repeat(True, self.end - self.begin) if passing is None else passing


class Matches:
    """Keys that a search finds, in order: counted at once, taken where they are asked for.

    *groups*: a column that is counted too, how many values it has. Equal ones must be one object, and neighbours.
    """

    __slots__ = ("_found", "_starts", "_stretches", "_tests", "groups", "total")

    def __init__(self, stretches: Sequence[_Stretch], tests: Tests, groups: Column | None) -> None:
        self._stretches, self._tests = stretches, tests
        self._found: dict[int, list[str]] = {}  # keys, by the number of their stretch
        self._starts: list[int] = []  # the number of each stretch's first key
        self.total = self.groups = 0
        last: str | None = None
        for one in stretches:
            self._starts.append(self.total)
            counted = one.counted(tests, groups)
            self.total += counted.total
            self.groups += counted.groups - (counted.groups > 0 and counted.first is last)
            last = counted.last if counted.groups else last

    def first_from(self, key: str) -> int:
        number = bisect_left(self._stretches, key, key=lambda one: one.last)
        if number == len(self._starts):
            return self.total
        return self._starts[number] + bisect_left(self._keys(number), key)

    def first_after(self, key: str) -> int:
        number = bisect_right(self._stretches, key, key=lambda one: one.last)
        return (
            self._starts[number] + bisect_right(self._keys(number), key) if number < len(self._starts) else self.total
        )

    def part(self, start: int, stop: int) -> list[str]:
        number, found = max(0, bisect_right(self._starts, start) - 1), list[str]()
        while number < len(self._starts) and self._starts[number] < stop:
            first = self._starts[number]
            found += self._keys(number)[max(0, start - first) : stop - first]
            number += 1
        return found

    def counted(self, start: int, stop: int, column: Column) -> Counter[str]:
        number, found = max(0, bisect_right(self._starts, start) - 1), Counter[str]()
        while number < len(self._starts) and self._starts[number] < stop:
            first, one = self._starts[number], self._stretches[number]
            values = compress(one.cut(one.of.values(column)), one.passing(self._tests))
            found.update(islice(values, max(0, start - first), stop - first))
            number += 1
        return found

    def _keys(self, number: int) -> list[str]:
        found = self._found.get(number)
        if found is None:
            one = self._stretches[number]
            found = self._found[number] = list(compress(one.cut(one.of.keys), one.passing(self._tests)))
        return found


class FoundKeys:
    """Keys that are in a list, in order."""

    __slots__ = ("_keys",)

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys

    def first_from(self, key: str) -> int:
        return bisect_left(self._keys, key)

    def first_after(self, key: str) -> int:
        return bisect_right(self._keys, key)

    def part(self, start: int, stop: int) -> list[str]:
        return self._keys[start:stop]

    def counted(self, start: int, stop: int, column: Column) -> Counter[str]:
        return Counter(map(column, self._keys[start:stop]))


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

    def firsts(self, group: Callable[[str], str]) -> Iterator[str]:
        """Yield the first key of each group, in order; *group* returns how the keys of a group begin."""
        number = self.start
        while number < self.stop:
            [key] = self.part(number, number + 1)
            yield key
            number = self.within(group(key)).stop

    def part(self, start: int, stop: int) -> list[str]:
        return self.keys.part(max(start, self.start), min(stop, self.stop))

    def listed(self) -> list[str]:
        return self.keys.part(self.start, self.stop)

    def counted(self, column: Column) -> Counter[str]:
        """Return how many of its keys have each value of a column."""
        return self.keys.counted(self.start, self.stop, column)
