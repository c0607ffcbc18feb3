"""How many targets there are of something, and in which state: kept per change, so that no listing has to count."""

from collections import Counter
from dataclasses import dataclass, field

from noah.catalog.target_info import UNKNOWN, TargetInfo


@dataclass(slots=True)
class Tally:
    targets: int = 0
    ready: int = 0
    unknown: int = 0  # hosts that were not asked yet
    known_ready: int = 0  # ready, and asked
    kinds: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    def add(self, info: TargetInfo) -> None:
        self.targets += 1
        self.ready += info.ready
        self.unknown += info.phase == UNKNOWN
        self.known_ready += info.ready and info.phase != UNKNOWN
        self.kinds[info.target.kind] += 1
        if info.version:
            self.versions[info.version] += 1

    def remove(self, info: TargetInfo) -> None:
        self.targets -= 1
        self.ready -= info.ready
        self.unknown -= info.phase == UNKNOWN
        self.known_ready -= info.ready and info.phase != UNKNOWN
        count_down(self.kinds, info.target.kind)
        if info.version:
            count_down(self.versions, info.version)

    def merge(self, other: "Tally") -> None:
        self.targets += other.targets
        self.ready += other.ready
        self.unknown += other.unknown
        self.known_ready += other.known_ready
        self.kinds.update(other.kinds)
        self.versions.update(other.versions)


def count_down(counter: Counter[str], key: str) -> None:
    """Forget a key with its last: versions and namespaces come and go for months."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
