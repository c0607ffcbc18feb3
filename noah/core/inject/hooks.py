"""A release's hooks in a pod: the wrapper for preStart, and the sidecar for preOnline that says who is online.

The sidecar has the app's image, environment, directory, user and volumes, and so the code's scripts. It is ready when
healthcheck.html is there: a rollout then waits for preOnline, and the sentence why not becomes an event on the pod.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

from noah.core.inject.container import checkurl
from noah.core.inject.ledger import Ledger
from noah.core.inject.probe import inlined, without_comments
from noah.core.inject.switches import PREFIX, Switches
from noah.inpod import script

Json = Mapping[str, Any]

SHARED = "/noah"  # where healthcheck.html is, in both containers
VOLUME = "noah"
SIDECAR = "noah-preonline"
_OF_THE_APP = ("imagePullPolicy", "workingDir", "env", "envFrom", "securityContext", "volumeMounts")

_READY = '[ -f "$1/healthcheck.html" ] || { cat "$1/.noah-preonline"; exit 1; }'
_STOPPING = 'rm -f "$1/healthcheck.html"; : > "$1/.noah-stopping"'
_DRAIN = 'rm -f "$1/healthcheck.html"; sleep "$2"'


def place_prestart(ledger: Ledger, container: Json, switches: Switches) -> str | None:
    file = switches.file("prestart", "/app/noah/prestart.sh")
    if file is None:
        return None
    name, command = container["name"], list(container.get("command") or switches.words("command"))
    if not command:
        return (
            f"preStart is not put in: container {name} has no command, and what its image's ENTRYPOINT is stands in no "
            f"""manifest. Give it a command, or say so: {PREFIX}command: '["java", "-jar", "/app.jar"]'."""
        )
    seconds = switches.number("prestart-seconds", 600)
    message = str(container.get("terminationMessagePath") or "/dev/termination-log")
    wrapped = ["sh", "-c", _with_hook("prestart"), "noah-prestart", file, str(seconds), SHARED, message, *command]
    ledger.put(("spec", "containers", name, "command"), wrapped)
    return None


def place_preonline(ledger: Ledger, container: Json, switches: Switches, *, ends: bool) -> str | None:
    """*container* as it was before anything was put in. *ends*: its pod is a Job's, and nobody's traffic goes there."""
    file = switches.file("preonline", "/app/noah/preonline.sh")
    if file is None or ends:
        return None
    url = checkurl(container, switches)
    if url is None:
        return f"preOnline is not put in: nothing tells a checkurl; name one with {PREFIX}checkurl."
    if any(m.get("mountPath", "").rstrip("/") == SHARED for m in container.get("volumeMounts") or ()):
        return f"preOnline is not put in: container {container['name']} has a volume of its own at {SHARED}."
    sidecar = _sidecar(container, switches, url, file)
    where = "containers"
    if switches.one_of("preonline-as", "sidecar", "container") == "sidecar":
        where, sidecar = "initContainers", {**sidecar, "restartPolicy": "Always"}
    ledger.put(("spec", "volumes", VOLUME), {"name": VOLUME, "emptyDir": {}})
    ledger.put(("spec", "containers", container["name"], "volumeMounts", VOLUME), _mount())
    ledger.put(("spec", where, SIDECAR), sidecar)
    return _place_drain(ledger, container, switches)


def _place_drain(ledger: Ledger, container: Json, switches: Switches) -> str | None:
    """Between the moment that healthcheck.html is gone and SIGTERM, for those who have just seen it."""
    seconds = switches.number("drain-seconds", 5, at_least=0, at_most=3600)
    grace = ledger.tree["spec"].get("terminationGracePeriodSeconds")
    # The app's own end needs most of the time that there is.
    seconds = min(seconds, (30 if grace is None else grace) // 3)
    if not seconds:
        return None
    if "preStop" in (container.get("lifecycle") or {}):
        return (
            f"Container {container['name']} keeps its own preStop: it should wait some seconds for those who have just "
            "seen healthcheck.html."
        )
    command = ["sh", "-c", _DRAIN, "noah-drain", SHARED, str(seconds)]
    ledger.put(("spec", "containers", container["name"], "lifecycle", "preStop"), {"exec": {"command": command}})
    return None


def _sidecar(container: Json, switches: Switches, url: str, file: str) -> dict[str, Any]:
    seconds, tries = switches.number("preonline-seconds", 300), switches.number("preonline-tries", 3, at_most=1000)
    # A kubelet would expand what looks like $(NAME) in a URL.
    arguments = [inlined(), url.replace("$", "$$"), str(_port(url)), file, str(seconds), str(tries), SHARED]
    theirs = {key: deepcopy(container[key]) for key in _OF_THE_APP if key in container}
    limits = (container.get("resources") or {}).get("limits") or {}
    return {
        "name": SIDECAR,
        "image": container["image"],
        **theirs,
        "command": ["sh", "-c", _with_hook("preonline"), "noah-preonline", *arguments],
        "volumeMounts": [*(theirs.get("volumeMounts") or ()), _mount()],
        # The hook may need what the app may have; waiting needs next to nothing.
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            **({"limits": {k: limits[k] for k in ("cpu", "memory") if k in limits}} if limits else {}),
        },
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", _READY, "noah-online", SHARED]},
            "periodSeconds": 2,
            "failureThreshold": 1,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", _STOPPING, "noah-stopping", SHARED]}}},
    }


def _mount() -> dict[str, Any]:
    return {"name": VOLUME, "mountPath": SHARED}


def _port(url: str) -> int:
    """0 when it is not this pod's: nobody can look at whether it listens."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return 0
    return parts.port or (443 if parts.scheme == "https" else 80)


def _with_hook(name: str) -> str:
    return without_comments(script("hook") + script(name))
