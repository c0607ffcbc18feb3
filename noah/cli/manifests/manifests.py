"""`inject` and `eject` for a text of many documents. inject, then eject, gives the same text, byte for byte.

A result that does not mean what was decided is never given out. A document that cannot be read is named, and passed on
as it is.
"""

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from noah.cli.manifests.reading import Json, Node, NotReadable, compose, meaning, repeated_keys
from noah.cli.manifests.rewriting import Path, Rewriting, Sources
from noah.cli.manifests.stream import Document, documents
from noah.core.inject import manifest as core
from noah.core.inject.templates import at, pod_paths
from noah.errors import BadInput

_Decision = TypeVar("_Decision")

# Other braces are a template only where they keep the text from being YAML: arguments may have templates of their own.
_HELM = re.compile(r"\{\{[^}\n]*(?:\.Values|\.Release|\.Chart|\.Capabilities|\binclude\b)")
_NOT_AN_OBJECT = "is not a Kubernetes object: it has no apiVersion and kind."
_HELM_SENTENCE = "is a Helm template, not yet a manifest: pipe `helm template` into `noah inject -f -`."


@dataclass(frozen=True, slots=True)
class Changed:
    """The new text, sentences on what was left as it is, and sentences on documents that cannot be read."""

    text: str
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def inject(text: str, *, tools_image: str | None = None) -> Changed:
    """Raise BadInput if no document can be read."""
    return _changed(text, lambda document: _injected(document, tools_image))


def eject(text: str) -> Changed:
    """Raise BadInput if no document can be read."""
    return _changed(text, lambda document: (_ejected(document.text), ()))


def _changed(text: str, change: Callable[[Document], tuple[str, tuple[str, ...]]]) -> Changed:
    texts: list[str] = []
    notes: list[str] = []
    refused: list[str] = []
    found = documents(text)
    for document in found:
        new = document.text
        try:
            if document.number and not document.looks_like_an_object:
                raise BadInput(_HELM_SENTENCE if _HELM.search(document.text) else _NOT_AN_OBJECT)
            if document.may_hold_pod:
                new, said = change(document)
                notes += said
        except BadInput as e:
            line = document.line + (e.line if isinstance(e, NotReadable) else _leading_lines(document.text))
            refused.append(f"Document {document.number} (line {line}) {_why(e, document.text)}")
        texts.append(new)
    readable = [document for document in found if document.number]
    if not readable:
        raise BadInput("The input is empty: it has no YAML document.")
    if len(refused) == len(readable):
        raise BadInput(refused[0])
    return Changed("".join(texts), tuple(notes), tuple(refused))


def _why(error: BadInput, text: str) -> str:
    if isinstance(error, NotReadable):
        return _HELM_SENTENCE if "{{" in text else f"is not YAML that kubectl reads: {error.sentence}."
    return error.sentence


def _leading_lines(text: str) -> int:
    """Return how many lines come before the content of a document."""
    lines = text.split("\n")
    return next((i for i, line in enumerate(lines) if line.strip() and not line.startswith(("---", "#"))), 0)


class _Read:
    """One document that may hold a pod, with what it means."""

    def __init__(self, text: str) -> None:
        self.text = text
        root = compose(text)
        if root is None:
            raise NotReadable("there is nothing in it", 0)
        self.root: Node = root
        self.meaning: Json = meaning(root, text)
        if _HELM.search(text):
            raise BadInput(_HELM_SENTENCE)
        if not (
            isinstance(self.meaning, dict)
            and isinstance(self.meaning.get("kind"), str)
            and self.meaning.get("apiVersion")
        ):
            raise BadInput(_NOT_AN_OBJECT)


def _injected(document: Document, tools_image: str | None) -> tuple[str, tuple[str, ...]]:
    earlier = _Read(document.text)
    injected = _decided(partial(core.inject, tools_image=tools_image), earlier.meaning)
    clean = _Read(_ejected(document.text))
    # What eject will give: the same in another order, which tells where the text has to be kept as well.
    back = _decided(core.eject, injected.manifest)
    if back != clean.meaning:
        raise BadInput("has a pod that an API server would refuse: what inject puts in could not be taken out again.")
    notes = _repeated(clean, document)
    new = deepcopy(injected.manifest)
    pods = [path for path in pod_paths(new) if core.ORIGINAL in _annotations(at(new, path))]
    for path in pods:
        _annotations(at(new, path)).pop(core.SOURCE, None)
    trial = Rewriting(clean.text, clean.root, back, new, pods)
    trial.done()
    for path, sources in trial.replaced.items():
        if path in pods:
            _annotations(at(new, path))[core.SOURCE] = json.dumps(sources, separators=(",", ":"), ensure_ascii=False)
    return _rewritten(clean, new, [Rewriting(clean.text, clean.root, back, new, pods)]), notes + injected.notes


def _ejected(text: str) -> str:
    if core.ORIGINAL not in text:
        return text
    read = _Read(text)
    new = _decided(core.eject, read.meaning)
    pods = pod_paths(read.meaning)
    sources = {path: _sources(at(read.meaning, path)) for path in pods}
    # A source does not fit where somebody has added to what stands there now.
    ways = [Rewriting(text, read.root, read.meaning, new, pods, sources=known) for known in (sources, {})]
    return _rewritten(read, new, ways)


def _decided(decide: Callable[[Json], _Decision], manifest: Json) -> _Decision:
    """Return what noah.core.inject decides; it relies on the shape that an API server checks, and nobody has yet."""
    try:
        return decide(manifest)
    except (AttributeError, TypeError, LookupError, ValueError) as e:
        raise BadInput(f"has a pod that an API server would refuse ({type(e).__name__}: {e}).") from e


def _rewritten(read: _Read, new: Json, ways: list[Rewriting]) -> str:
    if new == read.meaning:
        return read.text
    for way in ways:
        text = way.done()
        if _means(text, new):
            return text
    raise BadInput("cannot be changed without changing something else in it: write its YAML anchors out.")


def _means(text: str, wanted: Json) -> bool:
    try:
        return _Read(text).meaning == wanted
    except BadInput:
        return False


def _repeated(read: _Read, document: Document) -> tuple[str, ...]:
    return tuple(
        f"Document {document.number}: the key {key} is there twice, on lines {document.line + first} and "
        f"{document.line + second}; kubectl takes the last one."
        for key, first, second in repeated_keys(read.root)
    )


def _annotations(pod: Json) -> dict[str, Any]:
    annotations = (pod.get("metadata") or {}).get("annotations")
    return annotations if isinstance(annotations, dict) else {}


def _sources(pod: Mapping[str, Any]) -> Sources:
    try:
        sources = json.loads(_annotations(dict(pod)).get(core.SOURCE) or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in sources.items()} if isinstance(sources, dict) else {}


__all__ = ["Changed", "Path", "eject", "inject"]
