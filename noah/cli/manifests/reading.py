"""YAML as kubectl reads it: its nodes with their places in the text, and what they mean as JSON.

kubectl reads by sigs.k8s.io/yaml, whose parser is a port of libyaml 0.1: the same texts are refused, and so this reads
by libyaml too. What a scalar means follows that library's resolve.go: YAML 1.1's truth values (yes, on, y), octal
numbers with 0 and 0o, no sexagesimal numbers and no dates. Of a key that occurs twice the last one counts; a merge key
(`<<`) overrides what stands before it. Of a text only the first document is read.
"""

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from noah.errors import BadInput

Json = dict[str, Any]

# PyYAML without libyaml is ten times slower; what it reads differs only in what it refuses.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# A document of a few aliases can stand for more values than memory has; kubectl refuses such documents as well.
MOST_VALUES = 1_000_000

MOST_COLONS = 100  # each costs another reading of the text


class NotReadable(BadInput):
    """This document cannot be read."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line  # in the document, from 0 on


@dataclass(slots=True, eq=False)
class Node:
    """A part of the text. *start* and *end* are its places; an anchor and a tag belong to it."""

    start: Any
    end: Any
    tag: str | None = None


@dataclass(slots=True, eq=False)
class ScalarNode(Node):
    value: str = ""
    style: str | None = None
    is_plain: bool = True  # neither quoted nor tagged


@dataclass(slots=True, eq=False)
class MappingNode(Node):
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    is_flow: bool = False


@dataclass(slots=True, eq=False)
class SequenceNode(Node):
    items: list[Node] = field(default_factory=list)
    is_flow: bool = False


@dataclass(slots=True, eq=False)
class AliasNode(Node):
    target: Node = field(default_factory=lambda: Node(None, None))


def compose(text: str) -> Node | None:
    """Return the root of the first document in *text*; None if there is none. Raises NotReadable."""
    parsed, colon = _without_surrogates(text), ""
    for _ in range(MOST_COLONS):
        loader = _PARSER(parsed)
        try:
            return _Composer(loader, colon).root()
        except yaml.YAMLError as e:
            mark = getattr(e, "problem_mark", None) or getattr(e, "context_mark", None)
            problem = getattr(e, "problem", None) or str(e).splitlines()[0]
            if problem != "found unexpected ':'" or mark is None or parsed[mark.index] != ":":
                raise NotReadable(str(problem), mark.line if mark else 0) from None
            # libyaml 0.2 refuses [a:], where 0.1 takes the colon for a part of the word.
            colon = colon or _unused_in(text)
            parsed = parsed[: mark.index] + colon + parsed[mark.index + 1 :]
        except RecursionError:
            raise NotReadable("it is nested too deeply", 0) from None
        finally:
            loader.dispose()
    raise NotReadable("it has too many colons at the end of words in flow style", 0)


def _unused_in(text: str) -> str:
    """Return a private character that the text does not have, written or as an escape."""
    codes = text.lower()
    return next(chr(code) for code in range(0xE000, 0xF900) if chr(code) not in text and f"{code:04x}" not in codes)


def meaning(root: Node, text: str) -> Any:
    """Return what kubectl makes of a document, as JSON. Raises NotReadable."""
    try:
        if text.lstrip().startswith("{"):
            try:
                return json.loads(text)
            except ValueError:
                pass  # YAML in flow style
        return _Meaning().of(root)
    except RecursionError:
        raise NotReadable("it is nested too deeply", 0) from None


def value_of(node: Node) -> Any:
    return _Meaning().of(node)


def is_merge(key: Node) -> bool:
    return isinstance(key, ScalarNode) and key.value == "<<" and (key.is_plain or key.tag == "tag:yaml.org,2002:merge")


def key_of(key: Node) -> str:
    """Return a key as JSON has it. Raises NotReadable."""
    value = _scalar(key) if isinstance(key, ScalarNode) else value_of(key)
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return json.dumps(value)
        case _:
            kind = "null" if value is None else "mapping" if isinstance(value, dict) else "list"
            raise NotReadable(f"a {kind} cannot be a key", key.start.line)


def keys_of(node: Node) -> Iterator[str]:
    """Yield the keys of what a merge key merges."""
    match node:
        case AliasNode():
            yield from keys_of(node.target)
        case SequenceNode():
            for item in node.items:
                yield from keys_of(item)
        case MappingNode():
            for key, value in node.pairs:
                if is_merge(key):
                    yield from keys_of(value)
                else:
                    yield key_of(key)


def repeated_keys(root: Node) -> Iterator[tuple[str, int, int]]:
    """Yield each key that occurs twice in a mapping, and the two lines, from 0 on."""
    match root:
        case MappingNode():
            lines: dict[str, int] = {}
            for key, value in root.pairs:
                if not is_merge(key):
                    name = key_of(key)
                    if name in lines:
                        yield name, lines[name], key.start.line
                    lines[name] = key.start.line
                yield from repeated_keys(value)
        case SequenceNode():
            for item in root.items:
                yield from repeated_keys(item)


def _without_surrogates(text: str) -> str:
    """JSON writes an emoji as two escapes that YAML does not know; only their places matter here."""
    return _SURROGATES.sub(r"\\u0020\\u0020", text) if "\\u" in text else text


_SURROGATES = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class _Composer:
    def __init__(self, loader: Any, colon: str) -> None:
        """*colon*: the character that stands for some of the text's colons; empty: none does."""
        self._loader = loader
        self._colon = colon
        self._anchors: dict[str, Node] = {}

    def root(self) -> Node | None:
        for wanted in (yaml.StreamStartEvent, yaml.DocumentStartEvent):
            if not isinstance(self._loader.get_event(), wanted):
                return None
        return self._node(self._loader.get_event())

    def _node(self, event: Any) -> Node:
        start, end = event.start_mark, event.end_mark
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise NotReadable(f"unknown anchor {event.anchor!r}", start.line)
            return AliasNode(start, end, None, self._anchors[event.anchor])
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = ScalarNode(
                start,
                end,
                event.tag,
                event.value.replace(self._colon, ":") if self._colon else event.value,
                event.style,
                bool(event.implicit[0]),
            )
            self._anchor(event.anchor, node)
        elif isinstance(event, yaml.MappingStartEvent):
            node = MappingNode(start, end, event.tag, is_flow=bool(event.flow_style))
            self._anchor(event.anchor, node)
            while not isinstance(key := self._loader.get_event(), yaml.MappingEndEvent):
                node.pairs.append((self._node(key), self._node(self._loader.get_event())))
            node.end = key.end_mark
        else:
            node = SequenceNode(start, end, event.tag, is_flow=bool(event.flow_style))
            self._anchor(event.anchor, node)
            while not isinstance(item := self._loader.get_event(), yaml.SequenceEndEvent):
                node.items.append(self._node(item))
            node.end = item.end_mark
        return node

    def _anchor(self, name: str | None, node: Node) -> None:
        if name is not None:
            self._anchors[name] = node


class _Meaning:
    """Each value is made apart, aliases' too: a change to one must not be a change to another."""

    def __init__(self) -> None:
        self._values = 0
        self._open: set[int] = set()  # the nodes that are being read

    def of(self, node: Node) -> Any:
        self._values += 1
        if self._values > MOST_VALUES:
            raise NotReadable("its aliases stand for too many values", node.start.line)
        match node:
            case ScalarNode():
                return _scalar(node)
            case AliasNode():
                if id(node.target) in self._open:
                    raise NotReadable("an anchor contains itself", node.start.line)
                return self.of(node.target)
            case SequenceNode():
                self._open.add(id(node))
                values = [self.of(item) for item in node.items]
                self._open.discard(id(node))
                return values
            case MappingNode():
                self._open.add(id(node))
                made = self._mapping(node)
                self._open.discard(id(node))
                return made
        raise AssertionError(node)

    def _mapping(self, node: MappingNode) -> Json:
        made: Json = {}
        for key, value in node.pairs:
            if is_merge(key):
                made.update(self._merged(value))
            else:
                made[key_of(key)] = self.of(value)
        return made

    def _merged(self, node: Node) -> Json:
        target = node.target if isinstance(node, AliasNode) else node
        merged: Json = {}
        for one in reversed(target.items) if isinstance(target, SequenceNode) and target is node else [node]:
            value = self.of(one)
            if not isinstance(value, dict):
                raise NotReadable("a merge key (<<) needs a mapping, or a list of mappings", node.start.line)
            merged.update(value)
        return merged


_FIXED: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LOWEST_INTEGER, _HIGHEST_INTEGER = -(1 << 63), (1 << 64) - 1
_CORE = "tag:yaml.org,2002:"
_RESOLVED = frozenset({"", "null", "bool", "int", "float", "timestamp", "binary"})


def _scalar(node: ScalarNode) -> Any:
    """resolve.go's resolve, and what decode.go makes of a tag."""
    tag = (node.tag or "").removeprefix(_CORE)
    if tag == "binary":
        try:
            return base64.b64decode(node.value).decode()
        except ValueError:
            raise NotReadable("!!binary without base64 of text in it", node.start.line) from None
    if tag not in _RESOLVED or (not tag and not node.is_plain):
        return node.value
    value = _resolved(node.value)
    if isinstance(value, float) and not math.isfinite(value):
        raise NotReadable(f"{node.value} has no place in JSON", node.start.line)
    if (tag == "float" and isinstance(value, int | float)) or not tag:
        return value
    if tag != _tag_of(value):
        raise NotReadable(f"{node.value!r} is not a !!{tag}", node.start.line)
    return value


def _tag_of(value: Any) -> str:
    return {bool: "bool", int: "int", float: "float", type(None): "null"}.get(type(value), "str")


def _resolved(text: str) -> Any:
    if text in _FIXED:
        return _FIXED[text]
    if text[0] == ".":
        return _float(text, otherwise=text) if _FLOAT.fullmatch(text) else text
    if not (text[0] in "+-" or "0" <= text[0] <= "9"):
        return text
    plain = text.replace("_", "")
    if match := _INTEGER.fullmatch(plain):
        sign, *digits = match.groups()
        base, number = next((b, d) for b, d in zip((16, 2, 8, 10), digits, strict=True) if d is not None)
        value = int(number, base) * (-1 if sign == "-" else 1) if len(number) < 70 else _HIGHEST_INTEGER + 1
        if _LOWEST_INTEGER <= value <= _HIGHEST_INTEGER:
            return value
    return _float(plain, otherwise=text) if _FLOAT.fullmatch(plain) else text


def _float(text: str, *, otherwise: str) -> int | float | str:
    """Return a number as Go's JSON writes it: 1e3 is 1000, and 1e999 is text."""
    value = float(text)
    if math.isinf(value):
        return otherwise
    return int(value) if value.is_integer() and abs(value) < 1e21 else value
