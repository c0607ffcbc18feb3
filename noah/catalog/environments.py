"""Which environments there are: of each, its targets by app and what is counted of them, kept per change.

An environment has pods of any cluster, apps on hosts and JVMs of this machine under one name. It may be one of thirty
thousand, or have all targets: what is kept of it is small, and no listing has to count.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import compress, repeat
from operator import itemgetter

from noah.catalog.sorted_keys import SortedKeys
from noah.catalog.target_info import END, UNKNOWN, TargetInfo

_NOT_READY, _READY, _NOT_KNOWN = range(3)  # states of targets


@dataclass(frozen=True, slots=True)
class EnvironmentSummary:
    """The row that a listing has for an environment, or for the part of it that somebody may see."""

    name: str
    apps: int = 0
    targets: int = 0
    ready: int = 0  # of those that were asked
    unknown: int = 0  # hosts that were not asked yet
    kinds: Mapping[str, int] = field(default_factory=dict)


class Environment:
    """The targets of one, by app; of each its area and its state, in lists that are read without a look at a target."""

    __slots__ = ("_states", "apps", "areas", "hosts", "keys", "locals", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.keys: list[str] = []  # TargetInfo.key of each of its targets, in order
        self.areas: str | list[str] = ""  # of each of these; as a rule all are in one namespace, which is kept once
        self._states = bytearray()  # of each of these
        self.apps = 0
        self.hosts = self.locals = 0  # targets of these kinds; the others are pods

    def _has(self, app: str) -> bool:
        at = bisect_left(self.keys, app + END)
        return at < len(self.keys) and self.keys[at].startswith(app + END)

    def add(self, info: TargetInfo, key: str) -> None:
        at, area = bisect_left(self.keys, key), info.area
        self.apps += not self._has(info.app)
        if not self.keys:
            self.areas = area
        elif isinstance(self.areas, str) and area != self.areas:
            self.areas = [self.areas] * len(self.keys)
        if isinstance(self.areas, list):
            self.areas.insert(at, area)
        self.keys.insert(at, key)
        self._states.insert(at, _state_of(info))
        self._count(info, 1)

    def remove(self, info: TargetInfo, key: str) -> None:
        at = bisect_left(self.keys, key)
        del self.keys[at], self._states[at]
        if isinstance(self.areas, list):
            del self.areas[at]
        self.apps -= not self._has(info.app)
        self._count(info, -1)

    def change(self, info: TargetInfo) -> None:
        """Note the state of a target that is in it."""
        self._states[bisect_left(self.keys, info.key)] = _state_of(info)

    def _count(self, info: TargetInfo, by: int) -> None:
        self.hosts += by * info.name.startswith("host/")
        self.locals += by * info.name.startswith("local/")

    def has_part_in(self, areas: Collection[str]) -> bool:
        return self.areas in areas if isinstance(self.areas, str) else any(map(areas.__contains__, self.areas))

    def summary(self, areas: Collection[str] | None) -> EnvironmentSummary | None:
        """Return what there is in it, or what of it is in *areas*; None if that is nothing."""
        whole = self._summary(self.apps, self._states, self.hosts, self.locals)
        if areas is None:
            return whole
        if isinstance(self.areas, str):
            return whole if self.areas in areas else None
        is_in_part = bytes(map(areas.__contains__, self.areas))
        if not any(is_in_part):
            return None
        if all(is_in_part):
            return whole
        apps = map(str.partition, compress(self.keys, is_in_part), repeat(END))
        hosts, locals_ = (
            count and sum(map(str.startswith, compress(self.areas, is_in_part), repeat(kind)))
            for kind, count in (("host/", self.hosts), ("local/", self.locals))
        )
        states = bytes(compress(self._states, is_in_part))
        return self._summary(len(set(map(itemgetter(0), apps))), states, hosts, locals_)

    def _summary(self, apps: int, states: bytes | bytearray, hosts: int, locals_: int) -> EnvironmentSummary:
        kinds = {"pod": len(states) - hosts - locals_, "host": hosts, "local": locals_}
        ready, unknown = states.count(_READY), states.count(_NOT_KNOWN)
        return EnvironmentSummary(self.name, apps, len(states), ready, unknown, kinds)


def _state_of(info: TargetInfo) -> int:
    return _NOT_KNOWN if info.phase == UNKNOWN else _READY if info.ready else _NOT_READY


class Environments:
    def __init__(self) -> None:
        self.names = SortedKeys()
        self._by_name: dict[str, Environment] = {}

    def get(self, name: str) -> Environment | None:
        return self._by_name.get(name)

    def within(self, areas: Collection[str]) -> Collection[str]:
        """Return the names of those that have something in *areas*."""
        return {name for name, one in self._by_name.items() if one.has_part_in(areas)}

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

    def change(self, info: TargetInfo) -> None:
        """Note the state of a target that was there before, in the same environment."""
        self._by_name[info.environment].change(info)
