"""The container that is prepared for debugging, in its pod as it is before anything is put in; and how it is chosen."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from noah.core.agent import OwnAgent, own_agent
from noah.core.inject.ledger import Change, Path
from noah.core.inject.switches import PREFIX, Switches
from noah.core.pods import DEFAULT_CONTAINER
from noah.errors import BadInput

Json = Mapping[str, Any]

MOST_CONTAINERS = 200  # more than a node's memory has room for


@dataclass(frozen=True, slots=True)
class Part:
    """The changes and the sentences of one part of the plumbing."""

    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()  # sentences on what is left as it is, and on what to mind


@dataclass(frozen=True, slots=True, kw_only=True)
class AppContainer:
    owner: Json  # the object that the pod belongs to
    pod: Json
    container: Json
    listed: str  # containers, or initContainers for a native sidecar
    ends: bool  # its pod runs until it is done
    switches: Switches
    command: list[str]  # the words that it starts with, as far as they are known; an image's ENTRYPOINT is not
    own_agent: OwnAgent | None
    has_shell: bool  # in its image, as far as the image's name and the annotations say
    tools_image: str | None  # for a sidecar, unless an annotation names another

    @property
    def name(self) -> str:
        return str(self.container["name"])

    @property
    def spec(self) -> Json:
        spec: Json = self.pod["spec"]
        return spec

    @property
    def is_knative(self) -> bool:
        return str(self.owner.get("apiVersion", "")).startswith("serving.knative.dev/")

    def path(self, *keys: str) -> Path:
        return ("spec", self.listed, self.name, *keys)


def choose_app(
    owner: Json, pod: Json, switches: Switches, *, ends: bool, tools_image: str | None
) -> tuple[AppContainer | None, str]:
    """Return the container that is meant: the annotation's, the default one, the first JVM. None with a sentence why
    when there is none; it is empty when nobody has asked for anything. BadInput for what cannot be done."""
    if _is_windows(pod):
        raise BadInput("it is a Windows pod, and what is put in are POSIX shell scripts.")
    listed = [("containers", c) for c in pod["spec"]["containers"]]
    listed += [
        ("initContainers", c) for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"
    ]
    if not pod["spec"]["containers"] or any(not c.get("name") or not c.get("image") for _, c in listed):
        raise BadInput("it has no containers with a name and an image.")

    def app(where: str, container: Json) -> AppContainer:
        return AppContainer(
            owner=owner,
            pod=pod,
            container=container,
            listed=where,
            ends=ends,
            switches=switches,
            command=[str(word) for word in container.get("command") or ()] or switches.words("command"),
            own_agent=own_agent(container),
            has_shell=_has_shell(container, switches),
            tools_image=tools_image,
        )

    if len(listed) > MOST_CONTAINERS:
        raise BadInput(f"it has {len(listed)} containers, and no more than {MOST_CONTAINERS} are looked at.")
    if wanted := switches.get("container"):
        for where, container in listed:
            if container["name"] == wanted:
                return app(where, container), ""
        names = ", ".join(str(c["name"]) for _, c in listed)
        raise BadInput(f"{PREFIX}container names {wanted!r}, and it has {names}.")
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    default = annotations.get(DEFAULT_CONTAINER)
    chosen = [(where, c) for where, c in listed if c["name"] == default] or listed
    for where, container in chosen:
        if is_jvm(container):
            return app(where, container), ""
    if mentions := next((c for _, c in chosen if _mentions_java(c)), None):
        why = f"container {mentions['name']} mentions Java and does not look like a JVM"
        return None, f"{why}: left as it is. {PREFIX}container: {mentions['name']} says that it is one."
    asked = any(key.startswith(PREFIX) for key in annotations)
    return None, "as far as can be seen it has no JVM: left as it is." if asked else ""


def _is_windows(pod: Json) -> bool:
    spec = pod["spec"]
    selected = (spec.get("nodeSelector") or {}).get("kubernetes.io/os")
    return "windows" in ((spec.get("os") or {}).get("name"), selected)


# What images without a shell are called: Google's, Chainguard's, the smallest ones of buildpacks.
_WITHOUT_SHELL = re.compile(r"distroless|(?:^|/)chainguard/|^cgr\.dev/|-tiny(?:$|[:@])")


def _has_shell(container: Json, switches: Switches) -> bool:
    by = switches.one_of("probe-by", "auto", "container", "sidecar")
    if by != "auto":
        return by == "container"
    # Who names the container knows its image.
    return bool(switches.get("container")) or not _WITHOUT_SHELL.search(str(container["image"])[:1024])


# Variables that JVMs read: nothing else has a use for them.
_JVM_VARIABLES = frozenset(
    {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CATALINA_OPTS", "JAVA_OPTS_APPEND"}
)
# Variables that images of other programs have as well: for a tool beside them, or because a chart sets them everywhere.
_MENTIONING_VARIABLES = frozenset({"JAVA_OPTS", "JAVA_HOME", "JVM_OPTS", "JAVA_VERSION", "JAVA_ARGS"})
_RUNTIME = "java|jdk|jre|openjdk|temurin|corretto|zulu|liberica|sapmachine|semeru|dragonwell|graalvm"
_SERVER = "tomcat|jetty|wildfly|jboss|payara|liberty|spring"
# A runtime with its version is always what an image is made of; without one it may be only what the image is about.
_VERSIONED = re.compile(rf"(?:^|[/:_.-])(?:{_RUNTIME})[-_]?\d|(?:^|[:_.-])\d[\w.]*-(?:jdk|jre)(?:$|[-@])")
_NAMED = re.compile(rf"(?:^|[/_.-])(?:{_RUNTIME}|{_SERVER})(?=$|[:@/_.-]|\d)")
_OTHERS = re.compile(
    r"(?:^|[/_.-])(?:dashboards?|grafana|prometheus|exporter|rabbitmq|mosquitto|emqx|vernemq|nats|broker|redis|postgres|postgresql|mysql|"
    r"mariadb|mongo|mongodb|nginx|httpd|haproxy|envoy|traefik|node|nodejs|python|ruby|php|golang|javascript|js|typescript|"
    r"kubectl|helm|busybox|fluentd|fluent-bit|filebeat|vector|loki|memcached|etcd|vault|consul|"
    r"docs|documentation|ui|frontend|operator|proxy)(?=$|[:@/_.-]|\d)"
)
_LAUNCHER = re.compile(r"(?:^|[\s/\"'])java(?:[\s\"']|$)|\.(?:jar|war)(?:[\s\"';]|$)|(?:^|/)catalina\.sh\b")


def is_jvm(container: Json) -> bool:
    """True if the container is a JVM as far as a manifest says: a variable for Java, the command, the image's name."""
    names = set(_names(container.get("env") or ()))
    if names & _JVM_VARIABLES or own_agent(container) is not None:
        return True
    words = (*(container.get("command") or ()), *(container.get("args") or ()))
    if any(_LAUNCHER.search(str(word)[:4096]) for word in words):
        return True
    image = str(container.get("image") or "").lower()[:1024]
    if _VERSIONED.search(image):
        return True
    return _mentions_java(container) and not _OTHERS.search(_repository(image))


def _mentions_java(container: Json) -> bool:
    image = str(container.get("image") or "").lower()[:1024]
    return bool(_MENTIONING_VARIABLES.intersection(_names(container.get("env") or ())) or _NAMED.search(image))


def _repository(image: str) -> str:
    """Return an image's name without its registry, which may be called anything, and without its tag."""
    first, _, rest = image.partition("/")
    is_registry = rest and ("." in first or ":" in first or first == "localhost")
    return re.split(r"[:@]", rest if is_registry else image, maxsplit=1)[0]


def _names(variables: Iterable[Any]) -> Iterable[str]:
    return (str(each.get("name")) for each in variables if isinstance(each, Mapping))
