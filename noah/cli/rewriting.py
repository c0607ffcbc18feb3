"""Changes what a YAML or JSON text means with as few changes to the text as can be: comments, order, quotes and the
rest of its style stay, since nothing but the changed places is written anew.

Whoever takes the same changes back with the sources that rewritten() gave gets the same text, byte for byte.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Sources = dict[str, str]  # by a path's steps, joined by "/": what stood behind a key


@dataclass(frozen=True, slots=True)
class Place:
    """One tree in a text: its node, what that means, and what it is to mean."""

    node: Node
    old: Any
    new: Any


@dataclass(slots=True)
class Rewriting:
    """*text* with the changes that were asked for. *sources*: how to write a value that a path had before."""

    text: str
    sources: Mapping[str, str] = field(default_factory=dict)  # of the place that is being changed
    replaced: Sources = field(default_factory=dict)
    _edits: list[tuple[int, int, str]] = field(default_factory=list)

    def change(self, place: Place, sources: Mapping[str, str]) -> Sources:
        """How what is replaced was written, where it is not as it would be written here."""
        self.sources, self.replaced = sources, {}
        self._change(place.node, place.old, place.new, ())
        return self.replaced

    def done(self) -> str:
        text = self.text
        # From the end; of two at one place the inner one was asked for first, and comes first.
        for (start, end, new), _ in sorted(zip(self._edits, range(len(self._edits)), strict=True), key=_where)[::-1]:
            text = text[:start] + new + text[end:]
        return text

    def _change(self, node: Node, old: Any, new: Any, path: tuple[str, ...]) -> None:
        if old == new:
            return
        if isinstance(node, MappingNode):
            self._change_mapping(node, old, new, path)
        else:
            self._change_sequence(node, old, new, path)

    def _change_mapping(self, node: MappingNode, old: Any, new: Any, path: tuple[str, ...]) -> None:
        own = {key.value for key, _ in node.value}
        for key, value in node.value:
            name = key.value
            if name == "<<" or name not in old or name not in new or old[name] == new[name]:
                continue
            known = "/".join((*path, name)) in self.sources
            if not known and _can_go_into(key, value, old[name], new[name]):
                self._change(value, old[name], new[name], (*path, name))
            else:
                self._replace(key, value, old[name], new[name], (*path, name), flow=bool(node.flow_style))
        gone = [i for i, (key, _) in enumerate(node.value) if key.value in old and key.value not in new]
        self._remove(node, gone)
        self._add(node, [(k, v) for k, v in new.items() if k not in own and (k not in old or old[k] != v)])

    def _change_sequence(self, node: Node, old: Any, new: Any, path: tuple[str, ...]) -> None:
        after = {item["name"]: item for item in new}
        for item, before in zip(node.value, old, strict=True):
            if before["name"] in after:
                self._change(item, before, after[before["name"]], (*path, before["name"]))
        self._remove(node, [i for i, before in enumerate(old) if before["name"] not in after])
        known = {item["name"] for item in old}
        self._add(node, [(None, item) for item in new if item["name"] not in known])

    # -- single places

    def _replace(self, key: Node, value: Node, old: Any, new: Any, path: tuple[str, ...], *, flow: bool) -> None:
        """All from behind the key to the value's end, and with it a comment in between."""
        start, end = key.end_mark.index, self._end_of((key, value))
        name, indent = "/".join(path), key.start_mark.column
        source = self.text[start:end]
        if source != ":" + self._value(old, indent, flow=flow):
            self.replaced[name] = source
        self._edits.append((start, end, self.sources.get(name) or ":" + self._value(new, indent, flow=flow)))

    def _add(self, node: Any, pairs: Sequence[tuple[str | None, Any]]) -> None:
        if not pairs:
            return
        if node.flow_style:
            self._add_to_flow(node, pairs)
            return
        at = self._line_end(self._end_of(node.value[-1]))
        lines = [line for key, value in pairs for line in _block(value, self._column(node), key=key)]
        self._edits.append((at, at, "".join(self._newline + line for line in lines)))

    def _add_to_flow(self, node: Any, pairs: Sequence[tuple[str | None, Any]]) -> None:
        written = [_flow(v) if k is None else f"{json.dumps(k)}: {_flow(v)}" for k, v in pairs]
        if not node.value:
            at = self.text.index("{" if isinstance(node, MappingNode) else "[", node.start_mark.index) + 1
            self._edits.append((at, at, ", ".join(written)))
            return
        first, at, between = _start(node.value[0]), self._end_of(node.value[-1]), ", "
        if first.line != node.start_mark.line:
            between = "," + self._newline + " " * first.column
        self._edits.append((at, at, "".join(between + text for text in written)))

    def _remove(self, node: Any, gone: Sequence[int]) -> None:
        for i in gone:
            start, end = _start(node.value[i]).index, self._end_of(node.value[i])
            if not node.flow_style:
                line = self.text.rfind("\n", 0, start)
                start, end = line - 1 if self.text[line - 1] == "\r" else line, self._line_end(end)
            elif gone[0] > 0 and gone == list(range(gone[0], len(node.value))):
                start = self._end_of(node.value[i - 1])
            elif i + 1 < len(node.value):
                end = _start(node.value[i + 1]).index
            self._edits.append((start, end, ""))

    def _column(self, node: Any) -> int:
        """Where its keys or its dashes stand; an anchor stands before them."""
        first: Any = _start(node.value[0])
        if isinstance(node, MappingNode):
            return int(first.column)
        dash = self.text.rindex("-", 0, first.index)
        return dash - self.text.rfind("\n", 0, dash) - 1

    def _end_of(self, item: Any) -> int:
        """Where a pair of a mapping or an item of a sequence ends."""
        if not isinstance(item, tuple):
            return self._end(item)
        key, value = item
        colon = self.text.index(":", key.end_mark.index) + 1
        if value.start_mark.index < key.start_mark.index:  # an alias: the node is where its anchor is
            found = _ALIAS.match(self.text, colon)
            return found.end() if found else colon
        if isinstance(value, ScalarNode) and not value.style and not value.value:
            return colon  # null by being nothing: its mark is at the next token
        return max(self._end(value), colon)

    def _end(self, node: Any) -> int:
        """Without what only comes before the next token: comments and empty lines."""
        start, end = node.start_mark.index, int(node.end_mark.index)
        if isinstance(node, ScalarNode) and node.style in ("|", ">"):
            # Of a block that keeps its empty lines they are content.
            keeps = "+" in self.text[start : self.text.find("\n", start)]
            return end - 1 if keeps else len(self.text[:end].rstrip())
        if isinstance(node, ScalarNode) or node.flow_style or not node.value:
            return end
        if isinstance(node, SequenceNode) and node.value[-1].start_mark.index < start:
            return len(self.text[:end].rstrip())
        return self._end_of(node.value[-1])

    def _value(self, value: Any, indent: int, *, flow: bool) -> str:
        """Behind a key's colon."""
        if flow or _inline(value):
            return " " + _flow(value)
        lines = _below(value, indent)
        return lines[0] + "".join(self._newline + line for line in lines[1:])

    @property
    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _line_end(self, index: int) -> int:
        end = self.text.find("\n", index)
        if end < 0:
            return len(self.text)
        return end - 1 if end > 0 and self.text[end - 1] == "\r" else end


def _where(numbered: tuple[tuple[int, int, str], int]) -> tuple[int, int, int]:
    (start, end, _), number = numbered
    return start, end, number


def _can_go_into(key: Node, value: Node, old: Any, new: Any) -> bool:
    """Not into what is written elsewhere, as aliases are: others would be changed with it. Nor where some keys go and
    others come: on the way back they would come at another place."""
    if value.start_mark.index < key.start_mark.index:
        return False
    if isinstance(value, MappingNode):
        return (
            isinstance(new, dict)
            and bool(value.value and new)
            and (old.keys() <= new.keys() or old.keys() >= new.keys())
        )
    return (
        isinstance(value, SequenceNode)
        and isinstance(new, list)
        and all(isinstance(item, dict) and "name" in item for item in (*old, *new))
        and all(item.start_mark.index >= value.start_mark.index for item in value.value)
    )


def _start(item: Any) -> Any:
    return (item[0] if isinstance(item, tuple) else item).start_mark


_ALIAS = re.compile(r"\s*\*[^\s,\[\]{}]+")


# -- writing

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _inline(value: Any) -> bool:
    if isinstance(value, dict | list):
        return not value
    return not _is_script(value)


def _is_script(value: Any) -> bool:
    return (
        isinstance(value, str) and "\n" in value and value.endswith("\n") and value.isascii() and value[0] not in " \n"
    )


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        if '"' in value and value.isprintable():
            return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False)


def _below(value: Any, indent: int) -> list[str]:
    """What stands behind a key at *indent*: the rest of its line, then lines."""
    if _is_script(value):
        blank = " " * (indent + 2)
        return [" |", *(blank + line if line else "" for line in value[:-1].split("\n"))]
    if _inline(value):
        return [" " + (_scalar(value) if not isinstance(value, dict | list) else _flow(value))]
    if isinstance(value, dict):
        return ["", *(line for k, v in value.items() for line in _block(v, indent + 2, key=k))]
    return ["", *(line for item in value for line in _block(item, indent + 2))]


def _block(value: Any, indent: int, *, key: str | None = None) -> list[str]:
    """The lines of one pair of a mapping, or one item of a sequence."""
    blank = " " * indent
    if key is not None:
        first, *rest = _below(value, indent)
        return [f"{blank}{_scalar(key)}:{first}", *rest]
    if isinstance(value, dict) and value:
        first, *rest = [line for k, v in value.items() for line in _block(v, indent + 2, key=k)]
        return [f"{blank}- {first.lstrip()}", *rest]
    first, *rest = _below(value, indent)
    return [f"{blank}-{first}", *rest]
