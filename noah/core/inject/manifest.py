"""Puts the debug plumbing and the hooks of a release into a manifest, and takes them out again.

One function from manifest to manifest serves the command line and the webhook. What was there before stands in the
annotation debug.noah/original of the pod (ledger.py says how), so that eject gives back exactly that. Manifests are
JSON as dicts, of which a result shares with its original what is the same; switches.py has the annotations that choose.

inject(inject(m)) is inject(m): what was put in by an earlier version is taken out first. Time grows with the manifest's
size and no faster: the webhook is given what anybody in a namespace likes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from noah.core.inject.agent import place_agent
from noah.core.inject.app import AppContainer, Part, choose_app
from noah.core.inject.hooks import place_command, place_preonline, place_prestart
from noah.core.inject.ledger import Ledger, SetValue, take_back
from noah.core.inject.probe import place_probes
from noah.core.inject.switches import PREFIX, Switches
from noah.core.inject.templates import Path, at, pods_with_owners
from noah.core.inject.tools import place_tools
from noah.errors import BadInput

Json = Mapping[str, Any]
Manifest = dict[str, Any]

ORIGINAL = PREFIX + "original"
SOURCE = PREFIX + "source"  # how the original was written; only the command line writes and reads it
LONGEST_ACCOUNT = 256 << 10  # characters: an API server takes no more in all annotations together


def _place_probes(app: AppContainer) -> Part:
    return place_probes(app) if app.has_shell else place_tools(app)


# In this order they are applied. The sidecar is a copy of the app without the agent, since they share the network and
# with it the agent's port; preStart stands before the command that has the agent.
_PARTS: tuple[Callable[[AppContainer], Part], ...] = (
    place_preonline,
    place_command,
    place_agent,
    place_prestart,
    _place_probes,
)


@dataclass(frozen=True, slots=True)
class Injected:
    manifest: Manifest
    notes: tuple[str, ...] = ()  # sentences on what was left as it is, and why


def inject(manifest: Json, *, tools_image: str | None = None) -> Injected:
    """Return the manifest with all that its annotations ask for, and notes on what was left as it is.

    *tools_image*: for the sidecar of an app whose image has no shell, unless an annotation names another.
    BadInput only for an account that was changed by hand.
    """
    found = list(pods_with_owners(manifest))
    notes: list[str] = []
    pods: dict[Path, Json] = {}
    for owner, path in found:
        earlier = at(manifest, path)
        pod, said = _prepared(owner, _taken_out(earlier), earlier, ends=_ends(owner, path), tools_image=tools_image)
        pods[path] = _with_source(pod, earlier)
        notes += [f"{_name(owner)}: {note}" for note in said]
    return Injected(_with_pods(manifest, pods), tuple(notes))


def eject(manifest: Json) -> Manifest:
    paths = [path for _, path in pods_with_owners(manifest)]
    return _with_pods(manifest, {path: _taken_out(at(manifest, path)) for path in paths})


def is_injected(pod: Json) -> bool:
    return ORIGINAL in _annotations(pod)


def _prepared(owner: Json, pod: Json, earlier: Json, *, ends: bool, tools_image: str | None) -> tuple[Json, list[str]]:
    switches = Switches(_annotations(pod))
    if not switches.on("inject"):
        return pod, []
    try:
        app, why = choose_app(owner, pod, switches, ends=ends, tools_image=tools_image)
        if app is None:
            return pod, [why] if why else []
        parts = [part(app) for part in _PARTS]
    except BadInput as e:
        return pod, [f"{e.sentence} Left as it is."]
    ledger = Ledger(pod, earlier=earlier)
    for part in parts:
        ledger.apply(part.changes)
    notes = [f"the annotation {key} is unknown." for key in switches.unknown()]
    notes += [note for part in parts for note in part.notes]
    return (_with_account(ledger) if ledger.entries else pod), notes


def _with_account(ledger: Ledger) -> Manifest:
    path = ("metadata", "annotations", ORIGINAL)
    ledger.apply([SetValue(path, "", ours=True)])
    # The account holds itself: its last entry is the annotation's own.
    account = json.dumps(ledger.entries, separators=(",", ":"))
    ledger.tree["metadata"]["annotations"][ORIGINAL] = account
    return ledger.tree


def _taken_out(pod: Json) -> Json:
    account = _annotations(pod).get(ORIGINAL)
    if account is None:
        return pod
    annotations = {key: value for key, value in _annotations(pod).items() if key != SOURCE}
    pod = {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}
    try:
        if len(account) > LONGEST_ACCOUNT:
            raise ValueError(f"longer than {LONGEST_ACCOUNT} characters")
        return take_back(pod, json.loads(account))
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        raise BadInput(f"The annotation {ORIGINAL} was changed by hand; what it held cannot be read.") from None


def _with_source(pod: Json, earlier: Json) -> Json:
    """Return the pod with the record of how its original was written, if that still fits."""
    source, account = _annotations(earlier).get(SOURCE), _annotations(pod).get(ORIGINAL)
    if source is None or account is None or _annotations(earlier).get(ORIGINAL) != account:
        return pod
    annotations = {**_annotations(pod), SOURCE: source}
    return {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}


def _with_pods(manifest: Json, pods: Mapping[Path, Json]) -> Manifest:
    """Return the manifest with these pods at these paths; what is around them is copied, once."""
    copies: dict[Path, Any] = {(): dict(manifest)}

    def copied(path: Path) -> Any:
        if path not in copies:
            node = copied(path[:-1])[path[-1]]
            copies[path] = list(node) if isinstance(node, list) else dict(node)
            copied(path[:-1])[path[-1]] = copies[path]
        return copies[path]

    for path, pod in pods.items():
        if not path:
            return dict(pod)
        copied(path[:-1])[path[-1]] = pod
    result: Manifest = copies[()]
    return result


def _ends(owner: Json, path: Path) -> bool:
    """True if its pods run until they are done. An API server shows whose a pod is."""
    owners = (owner.get("metadata") or {}).get("ownerReferences") or ()
    kinds = {str(owner["kind"]), *(str(each.get("kind")) for each in owners)}
    return any(kind.endswith("Job") for kind in kinds) or not {"jobTemplate", "jobTargetRef"}.isdisjoint(path)


def _annotations(pod: Json) -> Json:
    annotations = (pod.get("metadata") or {}).get("annotations")
    return annotations if isinstance(annotations, Mapping) else {}


def _name(manifest: Json) -> str:
    metadata = manifest.get("metadata") or {}
    return f"{manifest.get('kind')} {metadata.get('name') or metadata.get('generateName') or '(no name)'}"
