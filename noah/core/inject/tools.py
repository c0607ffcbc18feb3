"""The sidecar noah-tools, for an app whose image has no shell: it has socat, and answers the app's probes.

It has an image of its own, and sees of the app what all containers of a pod share: the sockets and /dev/shm. So the
sockets of the agent's port stand there for the JVM's process, by which liveness.sh spares in the app's container.
"""

from collections.abc import Mapping
from typing import Any

from noah.core.inject.agent import agent_port, taken_ports
from noah.core.inject.app import AppContainer, Part
from noah.core.inject.ledger import Change, SetValue, Swap
from noah.core.inject.probe import HANDLERS, PATIENT_PROBES, inlined, patience, question_of, socket_port
from noah.core.inject.probe import without_comments as bare
from noah.core.inject.resources import sidecar_resources
from noah.core.inject.switches import PREFIX
from noah.core.pods import POD_IP, SUSPENDS, TOOLS, TOOLS_PATHS, TOOLS_QUESTIONS, restricted_like
from noah.errors import BadInput
from noah.inpod import script

Json = Mapping[str, Any]

PORT = 50105  # where it answers, unless something else in the pod has it


def place_tools(app: AppContainer) -> Part:
    image = app.switches.get("tools-image") or app.tools_image
    where = f"container {app.name}"
    if app.is_knative:
        return Part(notes=(f"The probes of {where} stay as they are: Knative takes no sidecar to answer them.",))
    if not image:
        sentence = (
            f"The image of {where} seems to have no shell, so a sidecar has to answer its probes, and no image is known"
            f" for it: name one with {PREFIX}tools-image. {PREFIX}probe-by: container says that it has a shell."
        )
        return Part(notes=(sentence,))
    if any(c.get("name") == TOOLS for c in (*app.spec["containers"], *(app.spec.get("initContainers") or ()))):
        return Part(notes=(f"The probes of {where} stay as they are: the pod has its own container {TOOLS}.",))
    jdwp, port = agent_port(app), PORT
    while port in taken_ports(app) or port == jdwp:
        port += 1
    changes: list[Change] = []
    notes: list[str] = []
    asked: dict[str, list[str]] = {}
    for kind, switch in PATIENT_PROBES.items():
        old = app.container.get(kind)
        if not old or not app.switches.on(switch):
            continue
        timeout, more = patience(app, kind, old)
        try:
            asked[kind] = _asks(app, kind, old, timeout - 1, f"jvm:{jdwp}")
        except BadInput as e:
            notes.append(f"The {switch} probe of {where} stays as it is, and kills it at a breakpoint: {e}")
            continue
        answer = {"httpGet": {"path": TOOLS_PATHS[kind], "port": port}}
        changes += [Swap(app.path(kind), HANDLERS, answer), *more]
    as_sidecar = app.switches.one_of("tools-as", "sidecar", "container") == "sidecar"
    sidecar = _sidecar(app, image, port, jdwp, asked)
    listed = "initContainers" if as_sidecar else "containers"
    # First, so that it answers before the app is probed.
    changes.insert(
        0, SetValue(("spec", listed, TOOLS), {**sidecar, **({"restartPolicy": "Always"} if as_sidecar else {})})
    )
    if app.spec.get("hostNetwork"):
        notes.append(
            f"With hostNetwork the port {port} of the sidecar {TOOLS} is the node's: of two pods on a node the second "
            "has none, and its probes are answered by the first one's."
        )
    return Part(tuple(changes), tuple(notes))


def _asks(app: AppContainer, kind: str, old: Json, seconds: int, name: str) -> list[str]:
    """Return the arguments of liveness.sh. BadInput for what nothing beside the app can ask."""
    if asked := question_of(app, kind, old):
        return asked.arguments(seconds, name)
    if (port := socket_port(old, app.container)) is not None:
        return [f"tcp:{port}", str(seconds), name]
    raise BadInput(f"nothing outside of its image can ask what it asks: name a checkurl with {PREFIX}checkurl.")


def _sidecar(app: AppContainer, image: str, port: int, jdwp: int, asked: Mapping[str, list[str]]) -> dict[str, Any]:
    env: list[dict[str, Any]] = [{"name": POD_IP, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    env += [{"name": TOOLS_QUESTIONS[kind], "value": "\n".join(words)} for kind, words in asked.items()]
    if app.own_agent is not None and app.own_agent.suspends:
        env.append({"name": SUSPENDS, "value": str(jdwp)})
    resources = sidecar_resources(app)
    return {
        "name": TOOLS,
        "image": image,
        "command": ["sh", "-c", bare(script("tools")), TOOLS, str(port), bare(script("answer")), inlined()],
        "env": env,
        "securityContext": restricted_like(app.container),
        **({"resources": resources} if resources else {}),
    }
