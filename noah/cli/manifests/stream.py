"""A text of many documents, cut where kubectl cuts it, and which of them may hold a pod.

Nothing is parsed here: a document that holds no pod is passed on as it is, and a chart's CRDs are megabytes.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_SEPARATOR = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
# A line that is not empty, a comment, a directive or a mere separator.
_CONTENT = re.compile(r"^(?!\s*(?:#|$)|%|---\s*(?:#|$)|\ufeff$)", re.MULTILINE)
# The key of a sequence; between the two may be comments, an anchor or a tag. An alias may stand for the sequence, and a
# merge for the mapping that holds it. What matches by mistake only costs time.
_CONTAINERS = re.compile(r"containers[\"']?(?:\s|#[^\n]*\n)*:(?:\s|#[^\n]*\n|[&!][^\s,\[\]{}]*)*[-\[*]")
_KIND = re.compile(r"^[\"']?kind[\"']?[ \t]*:[ \t]*[\"']?([^\s\"'#]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    text: str
    number: int  # of the documents that have something in them; 0: nothing in it
    line: int  # of its first line in the whole text, from 1 on

    @property
    def may_hold_pod(self) -> bool:
        if not _CONTAINERS.search(self.text):
            return False
        # Operators' CRDs describe containers at length. In flow style the kind is not at the start of a line.
        kinds = _KIND.findall(self.text)
        return not kinds or any(kind != "CustomResourceDefinition" for kind in kinds)

    @property
    def looks_like_an_object(self) -> bool:
        return "apiVersion" in self.text and "kind" in self.text


def documents(text: str) -> list[Document]:
    """Cut *text* into its documents; their texts, joined, are *text*."""
    found: list[Document] = []
    number, line = 0, 1
    for piece in _pieces(text):
        content = _CONTENT.search(piece) is not None
        number += content
        found.append(Document(piece, number if content else 0, line))
        line += piece.count("\n")
    return found


def _pieces(text: str) -> Iterator[str]:
    """kubectl cuts YAML at lines that begin with `---`, and JSON between objects."""
    if text.startswith("\ufeff"):  # a byte order mark, which a file may begin with
        yield text[0]
        text = text[1:]
    cuts = [0, *(match.start() for match in _SEPARATOR.finditer(text)), len(text)]
    for start, end in pairwise(cuts):
        if start < end:
            yield from _json_objects(text[start:end])


def _json_objects(piece: str) -> Iterator[str]:
    start, decoder = 0, json.JSONDecoder()
    at = _next(piece, 0)
    while piece.startswith("{", at):
        try:
            _, end = decoder.raw_decode(piece, at)
        except (ValueError, RecursionError):
            break  # YAML in flow style
        at = _next(piece, end)
        if at < len(piece):
            yield piece[start:end]
            start = end
    yield piece[start:]


def _next(piece: str, at: int) -> int:
    while at < len(piece) and piece[at].isspace():
        at += 1
    return at
