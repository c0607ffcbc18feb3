"""What a pod's object tells: whose it is, which container is the app, how it is, where its JVM listens.

Pods are the API's own JSON as dicts: models cost a blocked event loop (443 ms for 500 pods against 30 ms).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from noah.core.agent import LONGEST_TEXT, OwnAgent, own_agent
from noah.core.workload import WorkloadKind
from noah.errors import CannotDebug, NotFound

Pod = Mapping[str, Any]

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
# Published by Skaffold and Cloud Code: {"<container>": {"runtime": "jvm", "ports": {"jdwp": 50005}}}.
DEBUG_CONFIG = "debug.cloud.google.com/config"
# The variable in which a container that Noah was put into finds its pod's address.
POD_IP = "NOAH_POD_IP"

# The sidecar with a shell and socat, for an app whose image has none; and the paths where it answers the app's probes.
TOOLS = "noah-tools"
TOOLS_PATHS = {"livenessProbe": "/noah/liveness", "startupProbe": "/noah/startup"}
# The variables in which it has the arguments of liveness.sh for each, one a line.
TOOLS_QUESTIONS = {"livenessProbe": "NOAH_LIVENESS_ASKS", "startupProbe": "NOAH_STARTUP_ASKS"}
# The variable that says that the JVM waits for its first debugger, and its agent's port.
SUSPENDS = "NOAH_SUSPENDS"

# The label with the hash in a ReplicaSet's name, and the kind of workload that makes such ReplicaSets.
_TEMPLATE_HASHES = (
    ("pod-template-hash", WorkloadKind.DEPLOYMENT),
    ("rollouts-pod-template-hash", WorkloadKind.ROLLOUT),
)
MOST_WORDS = 1000  # of a probe's command; what asks a URL is shorter

_URL = re.compile(r"https?://[^\s\"'`|;<>]{1,2000}")


def name_of(pod: Pod) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def annotations_of(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}


def labels_of(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def workload_of(pod: Pod) -> str | None:
    """ "Deployment/shop", from the controller that owns it; None for a pod on its own.

    A ReplicaSet of a Deployment is named NAME-HASH, and its pods carry the hash as a label: no look-up is needed.
    """
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            kind, name = owner["kind"], owner["name"]
            for label, parent in _TEMPLATE_HASHES:
                template = labels_of(pod).get(label)
                if kind == WorkloadKind.REPLICA_SET and template and name.endswith(f"-{template}"):
                    return f"{parent}/{name.removesuffix(f'-{template}')}"
            return f"{kind}/{name}"
    return None


def app_of(pod: Pod, label: str) -> str:
    labels = labels_of(pod)
    named = labels.get(label) or labels.get("app.kubernetes.io/name")
    return named or (workload_of(pod) or pod["metadata"]["name"]).rpartition("/")[2]


def containers_of(pod: Pod) -> list[Mapping[str, Any]]:
    """Return the containers that run as long as the pod does: native sidecars are listed among the init containers."""
    sidecars = [c for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return [*pod["spec"]["containers"], *sidecars]


def choose_container(pod: Pod, wanted: str | None) -> str:
    """Return the container that is meant: the one asked for, the annotated one, the only JVM, the only one."""
    all_of_them = containers_of(pod)
    if wanted is None and len(all_of_them) == 1:
        return str(all_of_them[0]["name"])
    names: list[str] = [c["name"] for c in pod["spec"]["containers"]]
    if wanted is not None:
        if all(c["name"] != wanted for c in all_of_them):
            raise NotFound(f"Pod {name_of(pod)} has no container {wanted!r}; it has {', '.join(names)}.")
        return wanted
    annotated = annotations_of(pod).get(DEFAULT_CONTAINER, "")
    if any(c["name"] == annotated for c in all_of_them):
        return annotated
    published = _published_ports(pod)
    jvms: list[str] = [c["name"] for c in all_of_them if published.get(c["name"]) or own_agent(c) is not None]
    if len(jvms) == 1:
        return jvms[0]
    if len(names) == 1:
        return names[0]
    raise CannotDebug(
        f"Pod {name_of(pod)} has several containers ({', '.join(names)}): name one, as in "
        f"{pod['metadata']['name']}/{names[0]}, or annotate the pod with {DEFAULT_CONTAINER}."
    )


def jdwp_port(pod: Pod, container: str, otherwise: int) -> int:
    """Return where the container's JVM listens for a debugger, as the pod's annotations or its options say."""
    published = _published_ports(pod).get(container)
    if published is not None:
        return published
    agent = own_agent(container_of(pod, container))
    return (agent.port if agent else None) or otherwise


def statuses_of(pod: Pod) -> tuple[Mapping[str, Any], ...]:
    """Return the statuses of all containers that have one by now, init containers first."""
    status = pod.get("status") or {}
    return (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))


def is_there(pod: Pod) -> bool:
    return not is_leaving(pod) and not has_ended(pod)


def is_leaving(pod: Pod) -> bool:
    """Return whether it is being deleted; its containers run until they have ended or their grace period has."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def has_ended(pod: Pod) -> bool:
    """It runs no more, and is only still listed: evicted, for one."""
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def is_ready(pod: Pod) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return is_there(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def not_running(pod: Pod, container: str) -> str | None:
    """Return one sentence why the container does not run; None when it does.

    Readiness is not asked: a VM that stands at a breakpoint is not ready, and is just what the session is about.
    """
    where = f"container {container} of pod {name_of(pod)}"
    for status in statuses_of(pod):
        if status["name"] == container:
            state = status.get("state") or {}
            if "running" in state:
                return None
            why = state.get("waiting") or state.get("terminated") or {}
            reason = why.get("reason", "not started")
            message = f" ({why['message'][:200]})" if why.get("message") else ""
            return f"{where[0].upper()}{where[1:]} does not run: {reason}{message}."
    return f"Pod {name_of(pod)} does not run yet: {phase_of(pod)}."


def phase_of(pod: Pod) -> str:
    """Return the word that `kubectl get pods` shows."""
    status = pod["status"]
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for init in status.get("initContainerStatuses") or ():
        state = init.get("state") or {}
        if reason := (state.get("waiting") or {}).get("reason"):
            return reason if reason == "PodInitializing" else f"Init:{reason}"
    for container in status.get("containerStatuses") or ():
        state = container.get("state") or {}
        why = state.get("waiting") or state.get("terminated") or {}
        if why.get("reason"):
            return str(why["reason"])
    return str(status.get("reason") or status.get("phase") or "Unknown")


def restarts_of(pod: Pod) -> int:
    return sum(c.get("restartCount", 0) for c in pod["status"].get("containerStatuses") or ())


def version_of(pod: Pod, container: str) -> str | None:
    image: str = container_of(pod, container).get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2].partition("@")[0]
    return tag or None


def is_probed_beside(pod: Pod, container: str) -> bool:
    """True if the sidecar noah-tools answers the container's probes."""
    spec = container_of(pod, container)
    return any(_asks_tools(spec.get(kind) or {}) for kind in TOOLS_PATHS)


def _asks_tools(probe: Mapping[str, Any]) -> bool:
    return (probe.get("httpGet") or {}).get("path") in TOOLS_PATHS.values()


def running_tools(pod: Pod, container: str) -> str | None:
    """Return the container with tools of ours that runs: the sidecar, or an ephemeral one beside *container*."""
    if any(status["name"] == TOOLS and "running" in (status.get("state") or {}) for status in statuses_of(pod)):
        return TOOLS
    return next((name for name, state in _ephemeral_tools(pod, container) if "running" in state), None)


def tools_wait(pod: Pod, container: str) -> bool:
    """True if an ephemeral container of ours beside *container* has not come, for want of its image for one."""
    return any("waiting" in state for _, state in _ephemeral_tools(pod, container))


def _ephemeral_tools(pod: Pod, container: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name and the state of each ephemeral container of ours beside *container*."""
    beside = {
        each["name"]
        for each in pod["spec"].get("ephemeralContainers") or ()
        if each["name"].startswith(f"{TOOLS}-") and each.get("targetContainerName") == container
    }
    for status in pod["status"].get("ephemeralContainerStatuses") or ():
        if status["name"] in beside:
            yield status["name"], status.get("state") or {}


def restricted_like(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return a security context that any policy admits that admits *container*: as its user, and with no rights."""
    own = container.get("securityContext") or {}
    kept = {key: own[key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile") if key in own}
    return {
        **kept,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def started_at(pod: Pod, container: str) -> datetime | None:
    for status in statuses_of(pod):
        if status["name"] == container and (running := (status.get("state") or {}).get("running")):
            return datetime.fromisoformat(running["startedAt"])
    return None


def checkurl_of(pod: Pod, container: str) -> str | None:
    """Return what the container's liveness probe asks; of our own probe, what it was given as checkurl."""
    probe = container_of(pod, container).get("livenessProbe") or {}
    if _asks_tools(probe):
        variables = {each["name"]: str(each.get("value")) for each in container_of(pod, TOOLS).get("env") or ()}
        asks = variables.get(TOOLS_QUESTIONS["livenessProbe"], "").partition("\n")[0]
        return _as_asked(asks) or None
    return url_of(probe)


def url_of(probe: Mapping[str, Any]) -> str | None:
    if get := probe.get("httpGet"):
        scheme = str(get.get("scheme", "HTTP")).lower()
        return f"{scheme}://localhost:{get.get('port')}{get.get('path', '/')}"
    command = [str(word)[:LONGEST_TEXT] for word in (probe.get("exec") or {}).get("command") or ()]
    if "noah-liveness" in command[:4]:
        after = command[command.index("noah-liveness") + 1 :]
        return _as_asked(after[0]) if after else None
    words = command[:MOST_WORDS] if len(command) != 3 else [command[2]]
    return next((found[0] for word in words if (found := _URL.search(word))), None)


def _as_asked(url: str) -> str:
    """Return the URL that our probe asks, as a kubelet expands it and from inside of the pod."""
    return url.replace("$$", "$").replace(f"${POD_IP}", "127.0.0.1")


def probe_verdicts(pod: Pod, container: str) -> list[tuple[str, str]]:
    """Return ("ok" | "warning" | "error", one sentence) each: would the kubelet kill this container at a breakpoint?"""
    spec = container_of(pod, container)
    found = [
        _verdict(f"{kind} probe", probe) for kind in ("liveness", "startup") if (probe := spec.get(f"{kind}Probe"))
    ]
    if "livenessProbe" not in spec:
        found.insert(0, ("warning", "There is no liveness probe: nothing restarts the app when it hangs."))
    agent = own_agent(spec)
    if agent is not None and agent.suspends and (spec.get("livenessProbe") or spec.get("startupProbe")):
        beside = container_of(pod, TOOLS) if is_probed_beside(pod, container) else spec
        is_known = any(each.get("name") == SUSPENDS for each in beside.get("env") or ())
        found.append(("ok", waits_and_is_spared(agent)) if is_known else ("warning", waits_for_debugger(agent)))
    return found


def waits_for_debugger(agent: OwnAgent) -> str:
    return (
        f"The agent that {agent.by} brings has suspend=y: the JVM waits for its first debugger, answers no probe until "
        "one comes, and the kubelet kills it meanwhile. Use suspend=n, or the probe that `noah inject` puts in."
    )


def waits_and_is_spared(agent: OwnAgent) -> str:
    return (
        f"The agent that {agent.by} brings has suspend=y: the JVM waits for its first debugger, and the probe spares "
        "it until one comes."
    )


def _verdict(name: str, probe: Mapping[str, Any]) -> tuple[str, str]:
    command = (probe.get("exec") or {}).get("command") or []
    if _asks_tools(probe):
        return "ok", f"The {name} is answered by the sidecar {TOOLS}, which knows when the app is being debugged."
    if not {"noah-liveness", "noah-liveness-old"} & set(command[:4]):
        kind = next((kind for kind in ("httpGet", "tcpSocket", "grpc", "exec") if kind in probe), "probe")
        return "error", (
            f"Its {name} ({kind}) kills it at a breakpoint: put the one in its place that `noah probe-spec` prints."
        )
    seconds = probe.get("timeoutSeconds", 1)
    if seconds < 2:
        return "error", f"Its {name} has timeoutSeconds {seconds}, which checkurl alone can use up: set 3."
    return "ok", f"The {name} knows when the app is being debugged."


def successor_of(
    pods: Iterable[Pod], *, workload: str, container: str, gone: str, node: str | None, held: frozenset[str]
) -> Pod | None:
    """The pod that takes the place of *gone*: the same name again (a StatefulSet's), else the newest, which is what a
    rollout or a ReplicaSet has just made; of two as new, the one on the same node (a DaemonSet's).

    *held*: names of pods that other sessions are on. Only pods whose container runs count.
    """
    fits = [
        pod
        for pod in pods
        if workload_of(pod) == workload
        and is_there(pod)
        and pod["metadata"]["name"] not in held
        and not_running(pod, container) is None
    ]
    return max(
        fits,
        key=lambda pod: (
            pod["metadata"]["name"] == gone,
            str(pod["metadata"]["creationTimestamp"]),
            pod["spec"].get("nodeName") == node,
        ),
        default=None,
    )


def oldest_ready(pods: Iterable[Pod]) -> Pod | None:
    return min(filter(is_ready, pods), key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def container_of(pod: Pod, container: str) -> Mapping[str, Any]:
    """Return its part of the pod's spec; {} when there is none of that name."""
    return next((c for c in containers_of(pod) if c["name"] == container), {})


def _published_ports(pod: Pod) -> Mapping[str, int]:
    """Return the ports that the annotation of Skaffold and Cloud Code names, by container."""
    text = annotations_of(pod).get(DEBUG_CONFIG)
    try:
        config = json.loads(text) if text else {}
        ports = {name: each["ports"].get("jdwp") for name, each in config.items() if "ports" in each}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: port for name, port in ports.items() if isinstance(port, int) and 0 < port < 65536}
