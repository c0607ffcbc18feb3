"""Names of targets: pod/CLUSTER/NAMESPACE/POD[/CONTAINER], host/HOST/APP, local/NAME.

A Target names one JVM for good; a Wanted is what people type for a pod: `deploy/NAME` (or another kind of workload) and
`app=NAME` choose one, with or without a cluster and a namespace before them.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from noah.core.workload import KINDS_BY_SHORT_NAME, SHORT_NAMES, WorkloadKind
from noah.errors import BadInput

# RFC 1123 as Kubernetes applies it; 253 is the longest name of an object.
_PART = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
# A label's value may also have upper case and '_'.
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)

HOW = "write pod/CLUSTER/NAMESPACE/POD[/CONTAINER], host/HOST/APP, local/NAME, app=NAME or one of "
HOW += ", ".join(f"{short}/NAME" for short in KINDS_BY_SHORT_NAME)


@dataclass(frozen=True, slots=True)
class PodTarget:
    kind: ClassVar = "pod"

    cluster: str
    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return f"pod/{self.cluster}/{self.namespace}/{self.pod}/{self.container}"


@dataclass(frozen=True, slots=True)
class HostTarget:
    kind: ClassVar = "host"

    host: str
    app: str

    def __str__(self) -> str:
        return f"host/{self.host}/{self.app}"


@dataclass(frozen=True, slots=True)
class LocalTarget:
    kind: ClassVar = "local"

    name: str

    def __str__(self) -> str:
        return f"local/{self.name}"


Target = PodTarget | HostTarget | LocalTarget


@dataclass(frozen=True, slots=True)
class WantedPod:
    """A pod as people ask for one. Exactly one of pod, workload and app is set; what is None, the gateway finds out."""

    kind: ClassVar = "pod"

    cluster: str | None = None
    namespace: str | None = None
    pod: str | None = None
    workload: tuple[WorkloadKind, str] | None = None  # its kind and its name
    app: str | None = None
    container: str | None = None
    environment: str | None = None  # in which it is; what is written of it says where it is instead

    @property
    def workload_name(self) -> str | None:
        """Return the workload's kind and name in one, "Deployment/shop"."""
        return "/".join(self.workload) if self.workload else None

    def __str__(self) -> str:
        name = self.pod or f"app={self.app}"
        if self.workload:
            name = f"{SHORT_NAMES[self.workload[0]]}/{self.workload[1]}"
        where = f"pod/{self.cluster}/{self.namespace}/" if self.cluster else ""
        return where + name + (f"/{self.container}" if self.container else "")


Wanted = WantedPod | HostTarget | LocalTarget


def parse_wanted(text: str) -> Wanted:
    """BadInput, with the forms that there are, when *text* names nothing."""
    if len(text) > 800:
        raise BadInput(f"A target's name has at most 800 characters, this one has {len(text)}.")
    match text.split("/"):
        case ["local", name]:
            return LocalTarget(_checked(name, text))
        case ["host", host, app]:
            return HostTarget(_checked(host, text), _checked(app, text))
        case ["pod", cluster, namespace, *rest]:
            return _pod(_checked(cluster, text), _checked(namespace, text), rest, text)
        case rest if rest[0] in KINDS_BY_SHORT_NAME or rest[0].startswith("app="):
            return _pod(None, None, rest, text)
        case _:
            raise BadInput(f"{_shown(text)} is not a target: {HOW}.")


def parse_target(text: str) -> Target:
    """The inverse of str(); for what the store gives back."""
    match text.split("/"):
        case ["pod", *parts] if len(parts) == 4:
            # Not by parse_wanted: a pod may be called "deploy", and this is it.
            return PodTarget(*(_checked(part, text) for part in parts))
    match parse_wanted(text):
        case HostTarget() | LocalTarget() as target:
            return target
        case _:
            raise BadInput(f"{_shown(text)} does not name one JVM.")


def _pod(cluster: str | None, namespace: str | None, rest: list[str], text: str) -> WantedPod:
    match rest:
        case [short, name, *container] if short in KINDS_BY_SHORT_NAME and len(container) <= 1:
            workload = KINDS_BY_SHORT_NAME[short], _checked(name, text)
            return WantedPod(cluster, namespace, workload=workload, container=_container(container, text))
        case [label, *container] if label.startswith("app=") and len(container) <= 1:
            app = label.removeprefix("app=")
            if not _LABEL.fullmatch(app):
                raise BadInput(f"{_shown(text)}: {_shown(app)} is not a value of a label.")
            return WantedPod(cluster, namespace, app=app, container=_container(container, text))
        case [pod, *container] if cluster and len(container) <= 1:
            return WantedPod(cluster, namespace, pod=_checked(pod, text), container=_container(container, text))
        case _:
            raise BadInput(f"{_shown(text)} is not a target: {HOW}.")


def _container(part: list[str], text: str) -> str | None:
    return _checked(part[0], text) if part else None


def _checked(part: str, text: str) -> str:
    if not _PART.fullmatch(part):
        raise BadInput(
            f"{_shown(text)}: {_shown(part)} is not a name; a name is lower-case letters, digits, '-' and '.'."
        )
    return part


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
