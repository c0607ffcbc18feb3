"""Manifests as texts: many documents, in any style. inject, then eject, gives the same text, byte for byte.

What a text means is decided in noah.core.inject; here it is only written. A result that does not mean what was decided
is never given out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from noah.cli.rewriting import Place, Rewriting
from noah.core.inject import manifest as core
from noah.core.inject.templates import at, pod_paths
from noah.errors import BadInput

Json = dict[str, Any]

# Other braces are a template only where they keep the text from being YAML: a ConfigMap may hold templates of its own.
_HELM = re.compile(r"\{\{[^}\n]*(?:\.Values|\.Release|\.Chart|\.Capabilities|\binclude\b)")
_HELM_SENTENCE = "This is a Helm template, not yet a manifest: pipe `helm template` into `noah inject -f -`."


def inject(text: str) -> tuple[str, list[str]]:
    """The new text, and sentences on what was left as it is."""
    documents = _read(eject(text))
    notes: list[str] = []
    new = []
    for document in documents.meanings:
        injected = core.inject(document)
        notes += injected.notes
        new.append(injected.manifest)
    return documents.written(new, keep_sources=True), notes


def eject(text: str) -> str:
    documents = _read(text)
    return documents.written([core.eject(document) for document in documents.meanings])


class _Documents:
    def __init__(self, text: str, nodes: list[Node], meanings: list[Json]) -> None:
        self.text = text
        self.nodes = nodes
        self.meanings = meanings

    def written(self, new: list[Json], *, keep_sources: bool = False) -> str:
        if new == self.meanings:
            return self.text
        # A source does not fit where somebody has added to what stands there now.
        for with_sources in (True, False):
            text = self._rewritten(new, keep_sources=keep_sources, with_sources=with_sources)
            if _means(text, new):
                return text
        raise BadInput("This text cannot be changed without changing something else in it: write its YAML anchors out.")

    def _rewritten(self, new: list[Json], *, keep_sources: bool, with_sources: bool) -> str:
        rewriting = Rewriting(self.text)
        for node, old, wanted in zip(self.nodes, self.meanings, new, strict=True):
            for place in _places(node, old, wanted):
                if keep_sources:
                    _keep_sources(place, Rewriting(self.text).change(place, {}))
                rewriting.change(place, _sources(place.old) if with_sources else {})
        return rewriting.done()


def _means(text: str, wanted: list[Json]) -> bool:
    try:
        return _read(text).meanings == wanted
    except BadInput:
        return False


def _places(node: Node, old: Json, new: Json) -> Iterator[Place]:
    """Yield the pods in a document."""
    for path in pod_paths(old):
        found: Any = node
        for step in path:
            found = found.value[step] if isinstance(step, int) else _below(found, step)
        yield Place(found, at(old, path), at(new, path))


def _below(node: Any, key: str) -> Any:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _keep_sources(place: Place, replaced: Mapping[str, str]) -> None:
    annotations = (place.new.get("metadata") or {}).get("annotations") or {}
    if replaced and core.ORIGINAL in annotations:
        annotations[core.SOURCE] = json.dumps(replaced, separators=(",", ":"), ensure_ascii=False)


def _sources(pod: Json) -> Mapping[str, str]:
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    try:
        sources = json.loads(annotations.get(core.SOURCE) or "{}")
    except ValueError:
        return {}
    return sources if isinstance(sources, dict) else {}


def _read(text: str) -> _Documents:
    """BadInput for what is no Kubernetes."""
    if _HELM.search(text):
        raise BadInput(_HELM_SENTENCE)
    try:
        pairs = [(node, meaning) for node in _composed(text) if (meaning := _meaning(node)) is not None]
    except YAMLError as e:
        raise BadInput(_HELM_SENTENCE if "{{" in text else f"This is no YAML: {_say(e)}.") from None
    if not pairs:
        raise BadInput("There is nothing in it: no YAML document at all.")
    for number, (_, meaning) in enumerate(pairs, 1):
        if not (isinstance(meaning, dict) and isinstance(meaning.get("kind"), str) and meaning.get("apiVersion")):
            raise BadInput(f"Document {number} is no Kubernetes object: it has no apiVersion and kind.")
    return _Documents(text, [node for node, _ in pairs], [meaning for _, meaning in pairs])


def _composed(text: str) -> list[Any]:
    return list(YAML(typ="safe", pure=True).compose_all(text))


def _meaning(node: Node | None) -> Any:
    return None if node is None else _apart(YAML(typ="safe", pure=True).constructor.construct_document(node))


def _apart(value: Any) -> Any:
    """An alias's object is its anchor's: a change to one would be a change to both."""
    match value:
        case dict():
            return {key: _apart(below) for key, below in value.items()}
        case list():
            return [_apart(below) for below in value]
        case _:
            return value


def _say(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)
