"""What all sessions of a gateway share: the ways to their targets, where they are kept, whom they tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from noah.core.session.target import HostTarget, LocalTarget, PodTarget, Target, Wanted, WantedPod
from noah.errors import NotFound
from noah.settings import Settings
from noah.store import Store
from noah.store.feed import Feed
from noah.targets.base import Kind

KIND_OF: Mapping[type[Wanted | Target], str] = {
    WantedPod: "pod",
    PodTarget: "pod",
    HostTarget: "host",
    LocalTarget: "local",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    kinds: Mapping[str, Kind]
    store: Store
    feed: Feed
    settings: Settings
    clock: Callable[[], datetime]
    took: Callable[[float], None]  # seconds from enable to ready, once per session

    def kind(self, target: Wanted | Target) -> Kind:
        name = KIND_OF[type(target)]
        if name not in self.kinds:
            raise NotFound(f"This gateway knows no {name} targets.")
        return self.kinds[name]
