"""How many targets there are of something, and in which state: kept per change, so that no listing has to count."""

from collections import Counter
from collections.abc import Mapping

import msgspec

from noah.catalog.target_info import END, UNKNOWN, TargetInfo


class Tally(msgspec.Struct, gc=False):
    targets: int = 0
    ready: int = 0
    unknown: int = 0  # hosts that were not asked yet
    known_ready: int = 0  # ready, and asked
    # Almost all have one kind and one version: those are counted by targets, without a mapping.
    _kinds: str | Counter[str] | None = None
    _versions: str | Counter[str] | None = None
    _with_version: int = 0

    @property
    def kinds(self) -> Counter[str]:
        return _counter(self._kinds, self.targets)

    @property
    def versions(self) -> Counter[str]:
        return _counter(self._versions, self._with_version)

    @classmethod
    def of(cls, states: Mapping[str, int]) -> "Tally":
        """Make one of how many targets have each TargetInfo.state_text."""
        tally, kinds, versions = cls(), Counter[str](), Counter[str]()
        for state, count in states.items():
            kind, unknown, ready, version = state.split(END, 3)
            tally._count(count, is_ready=bool(ready), is_unknown=bool(unknown))
            kinds[kind] += count
            if version:
                versions[version] += count
        tally._kinds, tally._versions = _compact(kinds), _compact(versions)
        tally._with_version = versions.total()
        return tally

    def add(self, info: TargetInfo) -> None:
        self._kinds = counted_up(self._kinds, self.targets, info.kind, 1)
        self._count(1, is_ready=info.ready, is_unknown=info.phase == UNKNOWN)
        if info.version:
            self._versions = counted_up(self._versions, self._with_version, info.version, 1)
            self._with_version += 1

    def remove(self, info: TargetInfo) -> None:
        self._count(-1, is_ready=info.ready, is_unknown=info.phase == UNKNOWN)
        self._kinds = counted_down(self._kinds, self.targets, info.kind)
        if info.version:
            self._with_version -= 1
            self._versions = counted_down(self._versions, self._with_version, info.version)

    def merge(self, other: "Tally") -> None:
        for kind, count in other.kinds.items():
            self._kinds = counted_up(self._kinds, self.targets, kind, count)
            self.targets += count
        for version, count in other.versions.items():
            self._versions = counted_up(self._versions, self._with_version, version, count)
            self._with_version += count
        self.ready += other.ready
        self.unknown += other.unknown
        self.known_ready += other.known_ready

    def _count(self, by: int, *, is_ready: bool, is_unknown: bool) -> None:
        self.targets += by
        self.ready += by * is_ready
        self.unknown += by * is_unknown
        self.known_ready += by * (is_ready and not is_unknown)


def _compact(counter: Counter[str]) -> str | Counter[str] | None:
    return counter if len(counter) > 1 else next(iter(counter), None)


def _counter(counted: str | Counter[str] | None, total: int) -> Counter[str]:
    if isinstance(counted, Counter):
        return counted
    return Counter() if counted is None or not total else Counter({counted: total})


def counted_up(counted: str | Counter[str] | None, total: int, key: str, by: int) -> str | Counter[str]:
    if isinstance(counted, Counter):
        counted[key] += by
        return counted
    if counted is None or not total or counted == key:
        return key
    return Counter({counted: total, key: by})


def counted_down(counted: str | Counter[str] | None, total: int, key: str) -> str | Counter[str] | None:
    if isinstance(counted, Counter):
        count_down(counted, key)
        return counted
    return counted if total else None


def count_down(counter: Counter[str], key: str) -> None:
    """Forget a key with its last: versions and namespaces come and go for months."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
