"""A release's hooks in a pod: the wrapper for preStart, and the sidecar for preOnline that says who is online.

The sidecar has the app's image, environment, directory, user and volumes, and so the code's scripts. It is ready when
healthcheck.html is there: a rollout then waits for preOnline, and the sentence why not becomes an event on the pod.
"""

from typing import Any

from noah.core.inject.app import AppContainer, Json, Part
from noah.core.inject.ledger import Change, Insert, SetValue
from noah.core.inject.probe import Question, health_question, inlined, pod_ip, without_comments
from noah.core.inject.resources import sidecar_resources
from noah.core.inject.switches import PREFIX
from noah.inpod import script

SHARED = "/noah"  # where healthcheck.html is, in both containers
VOLUME = "noah"
SIDECAR = "noah-preonline"
_OF_THE_APP = ("imagePullPolicy", "workingDir", "env", "envFrom", "securityContext", "volumeMounts")

_READY = '[ -f "$1/healthcheck.html" ] || { cat "$1/.noah-preonline"; exit 1; }'
_STOPPING = 'rm -f "$1/healthcheck.html"; : > "$1/.noah-stopping"'
_DRAIN = 'rm -f "$1/healthcheck.html"; sleep "$2"'


def place_command(app: AppContainer) -> Part:
    """The image's ENTRYPOINT as the annotation says it, for what is put before it or into it."""
    if app.command and not app.container.get("command"):
        return Part((SetValue(app.path("command"), app.command),))
    return Part()


def place_prestart(app: AppContainer) -> Part:
    file = app.switches.file("prestart", "/app/noah/prestart.sh")
    if file is None:
        return Part()
    if not app.has_shell:
        return Part(notes=(f"preStart is not put in: the image of container {app.name} seems to have no shell.",))
    if not app.command:
        sentence = (
            f"preStart is not put in: container {app.name} has no command, and what its image's ENTRYPOINT is stands "
            f"""in no manifest. Give it a command, or say so: {PREFIX}command: '["java", "-jar", "/app.jar"]'."""
        )
        return Part(notes=(sentence,))
    seconds = app.switches.number("prestart-seconds", 600)
    message = str(app.container.get("terminationMessagePath") or "/dev/termination-log")
    wrapper = ("sh", "-c", _with_hook("prestart"), "noah-prestart", file, str(seconds), SHARED, message)
    return Part((Insert(app.path("command"), wrapper, known_by=3),))


def place_preonline(app: AppContainer) -> Part:
    """Nobody's traffic goes to a Job's pod, and Knative neither takes a sidecar nor needs one."""
    file = app.switches.file("preonline", "/app/noah/preonline.sh")
    if file is None or app.ends:
        return Part()
    if not app.has_shell:
        return Part(notes=(f"preOnline is not put in: the image of container {app.name} seems to have no shell.",))
    if app.is_knative:
        return Part(
            notes=("preOnline is not put in: Knative takes no such sidecar, and sends no traffic before ready.",)
        )
    question = health_question(app)
    if question is None:
        return Part(notes=(f"preOnline is not put in: nothing tells a checkurl; name one with {PREFIX}checkurl.",))
    if refusal := _in_the_way(app):
        return Part(notes=(f"preOnline is not put in: {refusal}",))
    where, sidecar = "containers", _sidecar(app, question, file)
    if app.switches.one_of("preonline-as", "sidecar", "container") == "sidecar":
        where, sidecar = "initContainers", {**sidecar, "restartPolicy": "Always"}
    changes: list[Change] = [
        SetValue(("spec", "volumes", VOLUME), {"name": VOLUME, "emptyDir": {}}),
        SetValue(app.path("volumeMounts", VOLUME), _mount()),
        SetValue(("spec", where, SIDECAR), sidecar),
    ]
    drain = _drain(app)
    return Part((*changes, *drain.changes), drain.notes)


def _in_the_way(app: AppContainer) -> str:
    """Return a sentence on what has a name or a place that the sidecar needs; empty: nothing."""
    if any(str(m.get("mountPath", "")).rstrip("/") == SHARED for m in app.container.get("volumeMounts") or ()):
        return f"container {app.name} has a volume of its own at {SHARED}."
    if any(volume.get("name") == VOLUME for volume in app.spec.get("volumes") or ()):
        return f"the pod has a volume of its own that is called {VOLUME}."
    names = {c.get("name") for c in (*app.spec["containers"], *(app.spec.get("initContainers") or ()))}
    return f"the pod has a container of its own that is called {SIDECAR}." if SIDECAR in names else ""


def _drain(app: AppContainer) -> Part:
    """Wait between the moment that healthcheck.html is gone and SIGTERM, for those who have just seen it."""
    seconds = app.switches.number("drain-seconds", 5, at_least=0, at_most=3600)
    grace = app.spec.get("terminationGracePeriodSeconds")
    # The app's own end needs most of the time that there is.
    seconds = min(seconds, (30 if grace is None else grace) // 3)
    if not seconds:
        return Part()
    if "preStop" in (app.container.get("lifecycle") or {}):
        sentence = (
            f"Container {app.name} keeps its own preStop: it should wait some seconds for those who have just seen "
            "healthcheck.html."
        )
        return Part(notes=(sentence,))
    command = ["sh", "-c", _DRAIN, "noah-drain", SHARED, str(seconds)]
    return Part((SetValue(app.path("lifecycle", "preStop"), {"exec": {"command": command}}),))


def _sidecar(app: AppContainer, question: Question, file: str) -> dict[str, Any]:
    switches = app.switches
    seconds, tries = switches.number("preonline-seconds", 300), switches.number("preonline-tries", 3, at_most=1000)
    # The script asks within 2 s, whatever the app's own probes allow. A kubelet expands $(NAME) in a command.
    url, _, *more = question.arguments(2)
    more = more[1:]  # without the name of whose reports to believe
    arguments = [inlined(), url, str(question.port), file, str(seconds), str(tries), SHARED, *more]
    theirs = {key: app.container[key] for key in _OF_THE_APP if key in app.container}
    if question.asks_pod:
        theirs["env"] = [*(theirs.get("env") or ()), pod_ip(app).value]
    resources = sidecar_resources(app)
    return {
        "name": SIDECAR,
        "image": app.container["image"],
        **theirs,
        "command": ["sh", "-c", _with_hook("preonline"), "noah-preonline", *arguments],
        "volumeMounts": [*(theirs.get("volumeMounts") or ()), _mount()],
        **({"resources": resources} if resources else {}),
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", _READY, "noah-online", SHARED]},
            "periodSeconds": 2,
            "failureThreshold": 1,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", _STOPPING, "noah-stopping", SHARED]}}},
    }


def _mount() -> Json:
    return {"name": VOLUME, "mountPath": SHARED}


def _with_hook(name: str) -> str:
    return without_comments(script("hook") + script(name))
