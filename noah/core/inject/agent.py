"""The JDWP agent of an app: where it listens, and how it reaches the app's own JVM and no other.

JAVA_TOOL_OPTIONS is one variable for everybody: put into a manifest it replaces what an image or a ConfigMap sets, and
every tool that is a JVM (nodetool, kafka-topics.sh) gets the agent too, finds its port taken and ends. In this order:
  the variable, where the manifest has it: the agent is appended to its value;
  the command, where it is known: as an option of its `java`, or by a wrapper that appends the agent to whatever the
  variable holds by then, for this process and its children;
  the variable all the same, with a note on what that may replace.
"""

import json
import re
from typing import Any

from noah.core.agent import own_agent
from noah.core.inject.app import AppContainer, Json, Part
from noah.core.inject.ledger import Append, Change, Insert, PutJson
from noah.core.inject.switches import PREFIX
from noah.core.pods import DEBUG_CONFIG

EVERY_JVM = "JAVA_TOOL_OPTIONS"  # read from Java 5 on
LAUNCHER = "JDK_JAVA_OPTIONS"  # read by `java` alone, from JDK 9 on
PORT = 50005
# The first and the last JDK whose agent knows onjcmd; any other ends with a syntax error.
ON_DEMAND_SINCE, ON_DEMAND_UNTIL = 11, 24

_WITH_AGENT = """\
JAVA_TOOL_OPTIONS=${JAVA_TOOL_OPTIONS:+$JAVA_TOOL_OPTIONS }$1
export JAVA_TOOL_OPTIONS
shift
exec "$@"
"""
# A tool that is a JVM inherits the app's variables, and must not have the app's agent.
WITHOUT_AGENT = """\
for name in JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS; do
  eval "value=\\${$name-}"
  case $value in *-agentlib:jdwp=*) ;; *) continue ;; esac
  rest=${value#*-agentlib:jdwp=}
  case $rest in *' '*) rest=${rest#* } ;; *) rest= ;; esac
  value=${value%%-agentlib:jdwp=*}$rest
  case $value in *[!' ']*) export "$name=$value" ;; *) unset "$name" ;; esac
done
"""
_TOOL = WITHOUT_AGENT + 'exec "$@"\n'
# Commands of probes and hooks that are not JVMs and start none.
_NOT_A_JVM = frozenset(
    {
        *(
            "[",
            "cat",
            "curl",
            "grep",
            "ls",
            "mysqladmin",
            "nc",
            "nginx",
            "pg_isready",
            "pgrep",
            "ps",
            "redis-cli",
            "rm",
        ),
        *("sleep", "stat", "test", "touch", "true", "wget"),
    }
)


def agent_option(port: int, *, on_demand: bool = False) -> str:
    """Return the agent's option: loopback only; quiet, or it prints a line each time that it listens again."""
    wait = ",onjcmd=y" if on_demand else ""
    return f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y{wait}"


def place_agent(app: AppContainer) -> Part:
    """An agent that is there already is kept."""
    kind = app.switches.one_of("agent", "always", "on-demand", "off")
    if app.own_agent is not None:
        return _keep(app)
    if kind == "off":
        return Part()
    port, notes = _free_port(app)
    if kind == "on-demand":
        refusal, note = _on_demand(app)
        if refusal:
            return Part(notes=(refusal,))
        notes += note
    changes, more = _brought(app, agent_option(port, on_demand=kind == "on-demand"))
    return Part((*changes, *_published(app, port)) if changes else (), (*notes, *more))


def _keep(app: AppContainer) -> Part:
    agent = app.own_agent
    assert agent is not None
    where = f"container {app.name}"
    notes = []
    if agent.suspends:
        notes.append(
            f"The agent that {agent.by} of {where} brings has suspend=y: the JVM waits for its first debugger, and "
            "answers no probe until one comes. The probes that are put in spare it until then; any other kills it."
        )
    if not agent.certain:
        notes.append(
            f"An agent that {agent.by} of {where} brings is kept, and no second one is put in; whether it is always "
            f"there cannot be seen here. If it is not, take it out there."
        )
    port = app.switches.number("jdwp-port", agent.port or 0, at_least=0 if agent.port is None else 1, at_most=65535)
    if not port:
        notes.append(
            f"The port of the agent that {agent.by} of {where} brings cannot be read: say it with {PREFIX}jdwp-port."
        )
        return Part(notes=tuple(notes))
    return Part(tuple(_published(app, agent.port or port)), tuple(notes))


def agent_port(app: AppContainer) -> int:
    """Return where the app's agent listens: its own one, or the one that is put in."""
    own = app.own_agent.port if app.own_agent is not None else None
    if own or app.own_agent is not None or app.switches.one_of("agent", "always", "on-demand", "off") == "off":
        return own or app.switches.number("jdwp-port", PORT, at_most=65535)
    return _free_port(app)[0]


def taken_ports(app: AppContainer) -> set[int]:
    """Return the ports that the pod's manifest names: its containers share them all."""
    taken = set[int]()
    for container in (*app.spec["containers"], *(app.spec.get("initContainers") or ())):
        other = own_agent(container)
        taken.update({other.port} if other and other.port else ())
        ports = [p.get("containerPort") for p in container.get("ports") or ()]
        taken.update(p for p in ports if isinstance(p, int))
    return taken


def _free_port(app: AppContainer) -> tuple[int, tuple[str, ...]]:
    """Return a port that nothing else in the pod has, as far as the manifest tells."""
    taken = taken_ports(app)
    given = app.switches.get("jdwp-port")
    port = app.switches.number("jdwp-port", PORT, at_most=65535)
    if given and port in taken:
        return port, (f"{PREFIX}jdwp-port is {port}, which something else in the pod has: the JVM will not start.",)
    while port in taken:
        port += 1
    if app.spec.get("hostNetwork") and not given:
        return port, (
            f"With hostNetwork the agent's port is the node's: of two pods on one node the second JVM does not start. "
            f"Give each a port of its own with {PREFIX}jdwp-port.",
        )
    return port, ()


def _on_demand(app: AppContainer) -> tuple[str, tuple[str, ...]]:
    """Return a sentence why there is no agent on demand, or notes."""
    version = jdk_version(app.container)
    if version is None:
        return "", (
            f"agent: on-demand ends the JVM at its start in Java 8 and from JDK {ON_DEMAND_UNTIL + 1} on, and the "
            f"image of container {app.name} does not say which it is: use always there.",
        )
    if not ON_DEMAND_SINCE <= version <= ON_DEMAND_UNTIL:
        return (
            f"No agent is put into container {app.name}: with agent: on-demand its JVM, of version {version}, would "
            f"end at its start. Set {PREFIX}agent to always.",
            (),
        )
    return "", ()


_VERSION = re.compile(
    r"(?:java|jdk|jre|openjdk|temurin|corretto|zulu|liberica|sapmachine|semeru|dragonwell|graalvm)(?:-ce|-ee)?[-_:]?(\d{1,2})(?!\d)"
    r"|[:_.-](\d{1,2})(?:\.\d+){0,3}(?:[_+]\d+)?-(?:jdk|jre)(?!\d)"
)


def jdk_version(container: Json) -> int | None:
    """Return the major version of the JDK as far as the image's name or JAVA_VERSION says."""
    for each in container.get("env") or ():
        if each.get("name") == "JAVA_VERSION" and (
            found := re.match(r"(?:jdk-?)?(?:1\.)?(\d+)", str(each.get("value") or ""))
        ):
            return int(found[1])
    image = str(container.get("image") or "").lower()[:1024]
    found = _VERSION.search(image.rpartition("/")[2]) or _VERSION.search(image)
    return int(found[1] or found[2]) if found else None


def _brought(app: AppContainer, option: str) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """Return what brings the option to the JVM. Nothing, with a sentence, where it cannot be brought."""
    by = app.switches.one_of("agent-by", "auto", "command", "variable")
    env = [e for e in app.container.get("env") or () if isinstance(e, dict)]
    variable = next((e for e in reversed(env) if e.get("name") == EVERY_JVM), None)
    unseen = bool(app.container.get("envFrom"))
    notes = (
        f"The variables that container {app.name} has from envFrom cannot be seen here: if one of them brings an agent "
        f"of its own, switch this one off with {PREFIX}agent.",
    ) * unseen
    if by != "command" and variable is not None and "valueFrom" not in variable:
        return (Append(app.path("env", EVERY_JVM, "value"), option), *_spared_tools(app)), notes
    if by != "variable" and app.command and (app.has_shell or is_java(app.command[0])):
        return _by_command(app, option), notes
    if variable is not None and "valueFrom" in variable:
        return (), (
            f"{EVERY_JVM} of container {app.name} comes from elsewhere (valueFrom): add {option} there; or give the "
            "container a command, and the agent goes there.",
        )
    if by == "command":
        return (), (
            f"No agent is put into container {app.name}: it has no command, and {PREFIX}agent-by asks for one.",
        )
    if unseen and by == "auto":
        launcher = next((e for e in env if e.get("name") == LAUNCHER), {})
        if "valueFrom" not in launcher:
            return (Append(app.path("env", LAUNCHER, "value"), option), *_spared_tools(app)), (
                *notes,
                f"Since envFrom may hold {EVERY_JVM}, the agent of container {app.name} is in {LAUNCHER}, which Java 8 "
                f"does not read. {PREFIX}agent-by: variable puts it into {EVERY_JVM}, and what envFrom has is lost.",
            )
    return (Append(app.path("env", EVERY_JVM, "value"), option), *_spared_tools(app)), (
        *notes,
        f"If the image of container {app.name} sets {EVERY_JVM} itself, that value is not read any more: give the "
        f"container a command, or say the image's with {PREFIX}command, and it is kept.",
    )


def _by_command(app: AppContainer, option: str) -> tuple[Change, ...]:
    if is_java(app.command[0]):
        return (Insert(app.path("command"), (option,), at=1),)
    return (Insert(app.path("command"), ("sh", "-c", _WITH_AGENT, "noah-agent", option), known_by=4),)


def is_java(word: str) -> bool:
    """True for a launcher of a JVM."""
    return word.rpartition("/")[2] == "java"


def _spared_tools(app: AppContainer) -> tuple[Change, ...]:
    """Return what keeps the agent from what else the kubelet runs in the container. The probes that are replaced see to
    that by themselves."""
    if not app.has_shell:
        return ()
    places = [("readinessProbe",), ("lifecycle", "preStop"), ("lifecycle", "postStart")]
    changes = []
    for place in places:
        node: Any = app.container
        for key in (*place, "exec"):
            node = (node or {}).get(key) or {}
        command = node.get("command") or []
        if command and str(command[0]).rpartition("/")[2] not in _NOT_A_JVM:
            wrapper = ("sh", "-c", _TOOL, "noah-tool")
            changes.append(Insert(app.path(*place, "exec", "command"), wrapper, known_by=3))
    return tuple(changes)


def _published(app: AppContainer, port: int) -> tuple[Change, ...]:
    """Publish the port as Skaffold and Cloud Code do, unless they have."""
    annotations = (app.pod.get("metadata") or {}).get("annotations") or {}
    if not app.switches.on("config"):
        return ()
    try:
        config = json.loads(annotations.get(DEBUG_CONFIG) or "{}")
        known = config.get(app.name) or {}
        if "jdwp" in (known.get("ports") or {}):
            return ()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ()  # somebody else's; not ours to mend
    path = ("metadata", "annotations", DEBUG_CONFIG)
    value = {"runtime": "jvm", **known, "ports": {**(known.get("ports") or {}), "jdwp": port}}
    return (PutJson(path, (app.name,), value),)
