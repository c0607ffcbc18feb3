"""What a listing shows of one target; made from what is in memory, never by asking the target."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from noah.core.session.rights import area_of, namespace_area
from noah.core.session.target import PodTarget, Target

END = "\0"  # of an app's name in a key; sorts before all that names are made of, so an app's targets stay together
UNKNOWN = "Unknown"  # the phase of an app on a host that was not asked yet


@dataclass(frozen=True)
class AppPlace:
    """An app in one namespace of one cluster, or on hosts: what a listing of apps has a row for."""

    app: str
    cluster: str | None
    namespace: str | None
    kind: str

    @cached_property
    def area(self) -> str | None:
        """Return the area of all of its targets; hosts are areas each."""
        if self.cluster is None or self.namespace is None:
            return None
        return namespace_area(self.cluster, self.namespace)

    @cached_property
    def key(self) -> str:
        return END.join((self.app, self.cluster or "", self.namespace or "", self.kind))


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    target: Target
    app: str
    workload: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ready: bool
    phase: str  # "Running", "Pending", "CrashLoopBackOff": what `kubectl get pods` would say
    restarts: int = 0
    version: str | None = None  # the image's tag
    started_at: datetime | None = None
    checkurl: str | None = None
    needs_restart: str | None = None  # what to confirm before it is debugged, in one sentence; from resolve() only

    @cached_property
    def name(self) -> str:
        return str(self.target)

    @cached_property
    def area(self) -> str:
        return area_of(self.target)

    @cached_property
    def key(self) -> str:
        """Sorts targets by app, then by name."""
        return f"{self.app}{END}{self.name}"

    @cached_property
    def place(self) -> AppPlace:
        match self.target:
            case PodTarget(cluster=cluster, namespace=namespace):
                return AppPlace(self.app, cluster, namespace, self.target.kind)
        return AppPlace(self.app, None, None, self.target.kind)
