"""Which environments there are: of each, its targets by app and what is counted of them, kept per change.

An environment has pods of any cluster, apps on hosts and JVMs of this machine under one name. It may be one of thirty
thousand, or have all targets: what is kept of it is small, and no listing has to count.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from noah.catalog.sorted_keys import SortedKeys
from noah.catalog.tally import counted_down, counted_up
from noah.catalog.target_info import END, UNKNOWN, TargetInfo


@dataclass(frozen=True, slots=True)
class EnvironmentSummary:
    """The row that a listing has for an environment, or for the part of it that somebody may see."""

    name: str
    apps: int
    targets: int
    ready: int  # of those that were asked
    unknown: int  # hosts that were not asked yet
    kinds: Mapping[str, int]


class Environment:
    __slots__ = ("apps", "areas", "hosts", "keys", "locals", "name", "ready", "unknown")

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys: list[str] = []  # TargetInfo.key of each of its targets, in order
        self.apps = 0
        self.ready = 0
        self.unknown = 0
        self.hosts = self.locals = 0  # targets of these kinds; the others are pods
        self.areas: str | Counter[str] | None = None  # targets of each; as a rule it is one namespace

    @property
    def summary(self) -> EnvironmentSummary:
        kinds = {"pod": len(self.keys) - self.hosts - self.locals, "host": self.hosts, "local": self.locals}
        return EnvironmentSummary(self.name, self.apps, len(self.keys), self.ready, self.unknown, kinds)

    def _has(self, app: str) -> bool:
        at = bisect_left(self.keys, app + END)
        return at < len(self.keys) and self.keys[at].startswith(app + END)

    def add(self, info: TargetInfo, key: str) -> None:
        self.apps += not self._has(info.app)
        self.areas = counted_up(self.areas, len(self.keys), info.area, 1)
        insort(self.keys, key)
        self.count(info, 1)

    def remove(self, info: TargetInfo, key: str) -> None:
        del self.keys[bisect_left(self.keys, key)]
        self.apps -= not self._has(info.app)
        self.areas = counted_down(self.areas, len(self.keys), info.area)
        self.count(info, -1)

    def is_within(self, areas: Collection[str]) -> bool:
        """True if nothing of it is outside of *areas*."""
        return self.areas in areas if isinstance(self.areas, str) else all(one in areas for one in self.areas or ())

    def count(self, info: TargetInfo, by: int) -> None:
        self.hosts += by * info.name.startswith("host/")
        self.locals += by * info.name.startswith("local/")
        if info.phase == UNKNOWN:
            self.unknown += by
        elif info.ready:
            self.ready += by


class Environments:
    def __init__(self) -> None:
        self.names = SortedKeys()
        self._by_name: dict[str, Environment] = {}

    def get(self, name: str) -> Environment | None:
        return self._by_name.get(name)

    def within(self, areas: Collection[str]) -> Collection[str]:
        """Return the names of those that have something in *areas*."""
        return {
            name
            for name, one in self._by_name.items()
            if (one.areas in areas if type(one.areas) is str else any(area in areas for area in one.areas or ()))
        }

    def add(self, info: TargetInfo, key: str) -> None:
        name = info.environment
        if name not in self._by_name:
            self._by_name[name] = Environment(name)
            lower = name.lower()
            self.names.add(name, text=name if lower == name else lower)
        self._by_name[name].add(info, key)

    def remove(self, info: TargetInfo, key: str) -> None:
        name = info.environment
        environment = self._by_name[name]
        environment.remove(info, key)
        if not environment.keys:
            del self._by_name[name]
            self.names.remove(name)

    def change(self, before: TargetInfo, info: TargetInfo) -> None:
        """Count a target of the same environment and app that is in another state now."""
        environment = self._by_name[info.environment]
        environment.count(before, -1)
        environment.count(info, 1)


def summary_of(name: str, infos: Iterable[TargetInfo]) -> EnvironmentSummary:
    """Return what a listing shows of a part of an environment."""
    part = Environment(name)
    for info in infos:
        part.add(info, info.key)
    return part.summary
