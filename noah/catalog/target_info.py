"""What a listing shows of one target; made from what is in memory, never by asking the target.

There may be a hundred thousand of them: they are compact, and the garbage collector does not look through them.
"""

from collections.abc import Mapping
from datetime import datetime
from sys import intern
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from noah.core.session.rights import namespace_area
from noah.core.session.target import HostTarget, LocalTarget, PodTarget, Target

END = "\0"  # of an app's name in a key; sorts before all that names are made of, so an app's targets stay together
UNKNOWN = "Unknown"  # the phase of an app on a host that was not asked yet


class AppPlace(NamedTuple):
    """An app in one namespace of one cluster, or on hosts: what a listing of apps has a row for."""

    app: str
    cluster: str | None
    namespace: str | None
    kind: str

    @property
    def key(self) -> str:
        """Return how the keys of its targets begin."""
        where = f"{self.cluster}/{self.namespace}/" if self.cluster is not None else ""
        return f"{self.app}{END}{self.kind}/{where}"

    @classmethod
    def of_key(cls, key: str) -> "AppPlace":
        app, _, rest = key.rpartition(END)
        kind, *where = rest[:-1].split("/")
        cluster, namespace = where or (None, None)
        return cls(app, cluster, namespace, kind)

    @property
    def area(self) -> str | None:
        """Return the area of all of its targets; hosts are areas each."""
        if self.cluster is None or self.namespace is None:
            return None
        return namespace_area(self.cluster, self.namespace)


class TargetInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    name: str  # str() of its target
    app: str
    environment: str
    workload_text: str | None = None  # see workload_text()
    label_text: str = END  # see label_text()
    ready: bool
    phase: str  # "Running", "Pending", "CrashLoopBackOff": what `kubectl get pods` would say
    restarts: int = 0
    version: str | None = None  # the image's tag
    started_at: datetime | None = None
    checkurl: str | None = None
    needs_restart: str | None = None  # what to confirm before it is debugged, in one sentence; from resolve() only

    @property
    def target(self) -> Target:
        match self.name.split("/"):
            case ["pod", cluster, namespace, pod, container]:
                return PodTarget(cluster, namespace, pod, container)
            case ["host", host, app]:
                return HostTarget(host, app)
            case [_, name]:
                return LocalTarget(name)
        raise ValueError(self.name)

    @property
    def kind(self) -> str:
        return intern(self.name.partition("/")[0])

    @property
    def area(self) -> str:
        return intern(area_of_name(self.name))

    @property
    def workload(self) -> str | None:
        """ "Deployment/shop"; None for what no controller owns."""
        text = self.workload_text
        return text + self.app if text and text.endswith("/") else text

    @property
    def state_text(self) -> str:
        """Return what a Tally counts of it, as a text that very many targets have in common."""
        state = "unknown" * (self.phase == UNKNOWN), "ready" * self.ready
        return intern(END.join((self.kind, *state, self.version or "")))

    def sharing(self, before: "TargetInfo") -> "TargetInfo":
        """Return the same with the strings of what was known of this target *before*, where they are equal.

        The catalog's order has those; a target that has changed would otherwise have each of them twice.
        """
        return replace(
            self,
            name=before.name,
            app=before.app,
            label_text=before.label_text if before.label_text == self.label_text else self.label_text,
            started_at=before.started_at if before.started_at == self.started_at else self.started_at,
        )

    @property
    def key(self) -> str:
        """Sorts targets by app, then by name."""
        return f"{self.app}{END}{self.name}"

    @property
    def place(self) -> AppPlace:
        kind, *parts = self.name.split("/")
        cluster, namespace = map(intern, parts[:2]) if kind == "pod" else (None, None)
        return AppPlace(self.app, cluster, namespace, kind)

    @property
    def labels(self) -> dict[str, str]:
        pairs = (one.partition("=") for one in self.label_text.split(END)[1:-1])
        return {key: value for key, _, value in pairs}


def area_of_name(name: str) -> str:
    """Return the area of the target that is called so."""
    return name.rsplit("/", 2)[0] if name.startswith("pod/") else name


def workload_text(workload: str | None, app: str) -> str | None:
    """Return a workload as it is kept: most are named as their app, and of those only "Deployment/" is."""
    if workload is None:
        return None
    kind, slash, name = workload.partition("/")
    return intern(kind + slash if name == app else workload)


def label_text(labels: Mapping[str, str]) -> str:
    """Return labels as a text in which a label is found by one look, and that takes half of a mapping's memory."""
    return END.join(("", *(f"{key}={value}" for key, value in labels.items()), ""))
