"""What the near end remembers: answers by question and lifetime, and how often IDs were handed out.

The JVM counts how often it sent an object's ID, and forgets the object once a debugger has disposed of it as often
(VirtualMachine.DisposeObjects). `_balance` has the difference between that count and what the debugger saw: above zero
where an answer came ahead and was not asked for, below where one answer was given several times. A debugger's own
disposals are corrected by it, so that the JVM forgets an object exactly when it would without this memory.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple

from noah.core.jdwp import wire
from noah.core.jdwp.cache import (
    LASTING_ERRORS,
    MOMENT_S,
    Lifetime,
    Mentions,
    Question,
    join_values,
    mentions,
    object_in,
    some_frames,
    split_question,
    split_values,
)

_MOST_BYTES: Final = 8 << 20  # of questions and answers, for each lifetime
_MOST_UNBALANCED: Final = 100_000  # IDs; beyond that answers with objects are not given from memory
_ENTRY_BYTES: Final = 200  # what an entry costs besides its bytes

NO_MENTIONS: Final[Mentions] = ((), ())


@dataclass(frozen=True, slots=True)
class JvmReply:
    error: int
    payload: bytes


_Key = Question | tuple[int, bytes, bytes]  # the latter for the value of one field or variable


class Found(NamedTuple):
    """An answer from memory, and the IDs that it hands out."""

    answer: JvmReply
    mentions: Mentions
    is_brief: bool = False  # the JVM may say another thing by now: Lifetime.MOMENT


@dataclass(slots=True)
class _Entry:
    answer: JvmReply  # of a part: its value
    mentions: Mentions
    until_s: float = inf


def _size(key: _Key, entry: _Entry) -> int:
    return _ENTRY_BYTES + sum(len(part) for part in key[1:] if isinstance(part, bytes)) + len(entry.answer.payload)


class Memory:
    def __init__(self) -> None:
        self.now_s = 0.0  # who uses this sets it
        self._lifetimes: dict[Lifetime, dict[_Key, _Entry]] = {lifetime: {} for lifetime in Lifetime}
        self._bytes: Counter[Lifetime] = Counter()
        self._by_id: dict[int, set[_Key]] = {}  # keys of Lifetime.CLASS, by all IDs in question and answer
        self._balance: dict[int, int] = {}

    # Questions

    def answer(self, number: int, payload: bytes) -> Found | None:
        """Return what the JVM would answer now; None if that is not known."""
        entry = self._find((number, payload))
        if entry is not None:
            return self._may_give(entry.answer, entry.mentions, is_brief=entry.until_s < inf)
        if number == wire.THREAD_FRAMES and len(payload) == 16:
            return self._some_frames(payload)
        parts = split_question(number, payload)
        return self._join(number, *parts) if parts is not None else None

    def _find(self, key: _Key) -> _Entry | None:
        for entries in self._lifetimes.values():
            if (entry := entries.get(key)) is not None and self.now_s < entry.until_s:
                return entry
        return None

    def _may_give(self, answer: JvmReply, handed_out: Mentions, *, is_brief: bool = False) -> Found | None:
        if handed_out != NO_MENTIONS and len(self._balance) >= _MOST_UNBALANCED:
            return None
        return Found(answer, handed_out, is_brief)

    def _some_frames(self, payload: bytes) -> Found | None:
        whole = self._find((wire.THREAD_FRAMES, payload[:8] + b"\0\0\0\0\xff\xff\xff\xff"))
        if whole is None:
            return None
        some = some_frames(payload, whole.answer.payload)
        if some is None:
            return None
        return self._may_give(JvmReply(0, some), mentions(wire.THREAD_FRAMES, some))

    def _join(self, number: int, subject: bytes, parts: list[bytes]) -> Found | None:
        values = []
        for part in parts:
            entry = self._find((number, subject, part))
            if entry is None:
                return None
            values.append(entry.answer.payload)
        return self._may_give(JvmReply(0, join_values(values)), (tuple(i for i in map(object_in, values) if i), ()))

    # Answers

    def learn(
        self, number: int, payload: bytes, answer: JvmReply, handed_out: Mentions, lifetime: Lifetime
    ) -> Counter[int]:
        """Remember an answer; return the objects that it mentions and that are not remembered, and how often."""
        if lifetime is Lifetime.MOMENT:
            return self._learn_briefly((number, payload), answer, handed_out)
        parts = None if answer.error else split_question(number, payload)
        if parts is None:
            is_kept = self._put(lifetime, (number, payload), _Entry(answer, handed_out))
            return Counter() if is_kept else Counter(handed_out[0])
        subject, names = parts
        values = split_values(answer.payload)
        if len(values) != len(names):
            return Counter(handed_out[0])
        left: Counter[int] = Counter()
        for name, value in zip(names, values, strict=True):
            thing = object_in(value)
            given: Mentions = ((thing,), ()) if thing else NO_MENTIONS
            if not self._put(lifetime, (number, subject, name), _Entry(JvmReply(0, value), given)) and thing:
                left[thing] += 1
        return left

    def _learn_briefly(self, key: Question, answer: JvmReply, handed_out: Mentions) -> Counter[int]:
        earlier = self._lifetimes[Lifetime.MOMENT].pop(key, None)
        left: Counter[int] = Counter()
        if earlier is not None:
            self._bytes[Lifetime.MOMENT] -= _size(key, earlier)
            left.update(earlier.mentions[0])
        if not self._put(Lifetime.MOMENT, key, _Entry(answer, handed_out, self.now_s + MOMENT_S)):
            left.update(handed_out[0])
        return left

    def _put(self, lifetime: Lifetime, key: _Key, entry: _Entry) -> bool:
        entries = self._lifetimes[lifetime]
        if key in entries or (entry.answer.error and entry.answer.error not in LASTING_ERRORS):
            return False
        size = _size(key, entry)
        if self._bytes[lifetime] + size > _MOST_BYTES:
            return False
        self._bytes[lifetime] += size
        entries[key] = entry
        if lifetime is Lifetime.CLASS:
            for i in (int.from_bytes(key[1][:8]), *entry.mentions[0], *entry.mentions[1]):
                self._by_id.setdefault(i, set()).add(key)
        return True

    # What ends

    def forget(self, *lifetimes: Lifetime) -> list[tuple[int, int]]:
        """Forget what lasts as long as *lifetimes*; return the object IDs to release, and how often."""
        unasked: Counter[int] = Counter()
        for lifetime in lifetimes:
            for entry in self._lifetimes[lifetime].values():
                unasked.update(entry.mentions[0])
            self._lifetimes[lifetime] = {}
            self._bytes[lifetime] = 0
            if lifetime is Lifetime.CLASS:
                self._by_id.clear()
        return self.release(unasked)

    def forget_ids(self, ids: Iterable[int]) -> None:
        """Forget what is known of classes by these IDs."""
        for i in ids:
            for key in self._by_id.pop(i, ()):
                self._lifetimes[Lifetime.CLASS].pop(key, None)

    # Counts

    def came_ahead(self, handed_out: Mentions) -> None:
        """The JVM handed these IDs out, and the debugger has not seen it."""
        for i in (*handed_out[0], *handed_out[1]):
            self._shift(i, 1)

    def given(self, handed_out: Mentions) -> None:
        """The debugger was given these IDs from memory."""
        for i in (*handed_out[0], *handed_out[1]):
            self._shift(i, -1)

    def _shift(self, i: int, by: int) -> None:
        balance = self._balance.get(i, 0) + by
        if balance:
            self._balance[i] = balance
        else:
            self._balance.pop(i, None)

    def release(self, unasked: Counter[int]) -> list[tuple[int, int]]:
        """Return how often to dispose of objects that nobody asked for, and count it as done."""
        released = []
        for i, count in unasked.items():
            due = min(count, self._balance.get(i, 0))
            if due > 0:
                self._shift(i, -due)
                released.append((i, due))
        return released

    def dispose(self, disposals: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the disposals that have the effect on the JVM which these of the debugger would have had."""
        corrected = []
        for i, count in disposals:
            due = count + self._balance.get(i, 0)
            if due > 0:
                self._balance.pop(i, None)
                corrected.append((i, due))
            else:
                self._shift(i, count)
        return corrected
