"""Puts the debug plumbing and the hooks of a release into a manifest, and takes them out again.

One function from manifest to manifest serves the command line and the webhook. What was there before stands in the
annotation debug.noah/original of the pod (ledger.py tells how), so that eject gives back exactly that. Manifests are
JSON as dicts; switches.py has the annotations that choose.

inject(inject(m)) is inject(m): what was put in by an earlier version is taken out first.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from noah.core.inject.container import is_jvm, place_agent, place_probe
from noah.core.inject.hooks import place_preonline, place_prestart
from noah.core.inject.ledger import Ledger, take_back
from noah.core.inject.switches import PREFIX, Switches
from noah.core.pods import DEFAULT_CONTAINER
from noah.errors import BadInput

Json = Mapping[str, Any]
Manifest = dict[str, Any]

ORIGINAL = PREFIX + "original"
SOURCE = PREFIX + "source"  # how the original was written; only the command line writes and reads it

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Rollout"),
        ("spec", "template"),
    ),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True, slots=True)
class Injected:
    manifest: Manifest
    notes: tuple[str, ...] = ()  # sentences on what was left as it is, and why


def inject(manifest: Json) -> Injected:
    """What cannot be done is left, and a note says so. BadInput only for an account that was changed by hand."""
    ejected = eject(manifest)
    notes = [
        f"{_name(object_)}: {note}" for object_, pod in _pods(ejected) for note in _place(pod, ends=_ends(object_))
    ]
    _keep_sources(manifest, ejected)
    return Injected(ejected, tuple(notes))


def eject(manifest: Json) -> Manifest:
    ejected = deepcopy(dict(manifest))
    for _, pod in _pods(ejected):
        _take_out(pod)
    return ejected


def is_injected(pod: Json) -> bool:
    return ORIGINAL in _annotations(pod)


def template_of(manifest: Json) -> Manifest | None:
    """The pod in it: metadata and spec. None for what has none."""
    path = TEMPLATES.get(str(manifest.get("kind")))
    node: Any = manifest
    for key in path or ():
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if path is not None and isinstance(node, dict) and isinstance(node.get("spec"), dict) else None


def _pods(manifest: Manifest) -> Iterator[tuple[Manifest, Manifest]]:
    """Each object with a pod in it, and the pod."""
    if str(manifest.get("kind", "")).endswith("List"):
        for item in manifest.get("items") or ():
            if isinstance(item, dict):
                yield from _pods(item)
    elif (pod := template_of(manifest)) is not None:
        yield manifest, pod


def _place(pod: Manifest, *, ends: bool) -> list[str]:
    switches = Switches(_annotations(pod))
    if not switches.on("inject"):
        return []
    try:
        container = _app(pod, switches)
        if container is None:
            return ["there is no JVM in it as far as can be told: left as it is."] if _says_so(pod) else []
        draft = deepcopy(pod)
        ledger = Ledger(draft)
        notes = [f"the annotation {key} is unknown." for key in switches.unknown()]
        notes += _put_in(ledger, deepcopy(container), switches, ends=ends)
    except BadInput as e:
        return [f"{e.sentence} Left as it is."]
    if ledger.entries:
        ledger.put(("metadata", "annotations", ORIGINAL), "")
        # The account holds itself: the last entry is the annotation's own.
        draft["metadata"]["annotations"][ORIGINAL] = json.dumps(ledger.entries, separators=(",", ":"))
        pod.clear()
        pod.update(draft)
    return notes


def _ends(manifest: Json) -> bool:
    """Whether its pods run until they are done. An API server shows whose a pod is."""
    owners = (manifest.get("metadata") or {}).get("ownerReferences") or ()
    return not {str(manifest["kind"]), *(owner.get("kind") for owner in owners)}.isdisjoint({"Job", "CronJob"})


def _put_in(ledger: Ledger, container: Json, switches: Switches, *, ends: bool) -> list[str]:
    # The sidecar is a copy of the app without the agent: they share the network, and with it the agent's port.
    told = [
        place_preonline(ledger, container, switches, ends=ends),
        place_prestart(ledger, container, switches),
        place_agent(ledger, container, switches),
        place_probe(ledger, container, switches),
    ]
    return [sentence for sentence in told if sentence]


def _app(pod: Json, switches: Switches) -> Json | None:
    """The container that is meant: the annotation's, the default one, the first JVM. None: there is no JVM."""
    containers = [c for c in pod["spec"].get("containers") or () if isinstance(c, dict) and c.get("name")]
    if not containers or any("image" not in c for c in containers):
        raise BadInput("it has no containers with a name and an image.")
    if _is_windows(pod):
        raise BadInput("it is a Windows pod, and what is put in are POSIX shell scripts.")
    wanted = switches.get("container")
    if wanted:
        if found := next((c for c in containers if c["name"] == wanted), None):
            return found
        raise BadInput(f"{PREFIX}container names {wanted!r}, and it has {', '.join(c['name'] for c in containers)}.")
    default = _annotations(pod).get(DEFAULT_CONTAINER)
    chosen = [c for c in containers if c["name"] == default] or containers
    found = next((c for c in chosen if is_jvm(pod, c)), None)
    if found is not None and "distroless" in str(found["image"]):
        raise BadInput(f"the image {found['image']} seems to have no shell; {PREFIX}container says that it has.")
    return found


def _says_so(pod: Json) -> bool:
    """Somebody has asked for something, so that silence would be no answer."""
    return any(key.startswith(PREFIX) for key in _annotations(pod))


def _is_windows(pod: Json) -> bool:
    spec = pod["spec"]
    selected = (spec.get("nodeSelector") or {}).get("kubernetes.io/os")
    return "windows" in ((spec.get("os") or {}).get("name"), selected)


def _take_out(pod: Manifest) -> None:
    annotations = _annotations(pod)
    if ORIGINAL not in annotations:
        return
    pod["metadata"]["annotations"].pop(SOURCE, None)
    try:
        take_back(pod, json.loads(annotations[ORIGINAL]))
    except (ValueError, TypeError, AttributeError, LookupError):
        raise BadInput(f"The annotation {ORIGINAL} was changed by hand; what it held cannot be told.") from None


def _keep_sources(before: Json, after: Manifest) -> None:
    """How the original was written goes along, if it is the same still."""
    for (_, old), (_, new) in zip(_pods(dict(before)), _pods(after), strict=True):
        source = _annotations(old).get(SOURCE)
        if source is not None and _annotations(old).get(ORIGINAL) == _annotations(new).get(ORIGINAL):
            new["metadata"]["annotations"][SOURCE] = source


def _annotations(pod: Json) -> Json:
    annotations = (pod.get("metadata") or {}).get("annotations")
    return annotations if isinstance(annotations, Mapping) else {}


def _name(manifest: Json) -> str:
    metadata = manifest.get("metadata") or {}
    return f"{manifest.get('kind')} {metadata.get('name') or metadata.get('generateName') or '(no name)'}"
