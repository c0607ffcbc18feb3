"""Changes what a document means with as few changes to its text as possible: comments, order, quotes and the rest of
its style stay, because only the changed places are written again.

Each pod that is changed gets *sources*: how the replaced places were written, by their paths. Taking the same changes
back with these sources gives the same text, byte for byte. A path's steps are keys and, in lists, an item's name
or number. A source begins with ":" if it stood behind a key, with "*" if it is an alias;
"" means that nothing stood there.

An alias whose anchor is changed is written out, unless it is to change as well: what it stands for stays.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from noah.cli.manifests.reading import (
    AliasNode,
    Json,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    is_merge,
    key_of,
    keys_of,
    value_of,
)
from noah.cli.manifests.writing import behind_key, block, flow, is_inline

Path = tuple[str | int, ...]
Sources = dict[str, str]
Pair = tuple[Node, Node]


@dataclass(slots=True)
class Rewriting:
    """Changes *text*, whose root means *old*, into one that means *new*.

    *pods*: the paths of the pods that have sources. *sources*: for each of them, how to write a value that a path had
    before. After `done`, *replaced* has for each pod how what is replaced was written.
    """

    text: str
    root: Node
    old: Any
    new: Any
    pods: Sequence[Path]
    sources: dict[Path, Sources] = field(default_factory=dict)
    replaced: dict[Path, Sources] = field(default_factory=dict)
    _edits: list[tuple[int, int, str]] = field(default_factory=list)
    _changed: set[int] = field(default_factory=set)  # nodes whose text changes
    _gone: set[int] = field(default_factory=set)  # nodes whose text goes

    def done(self) -> str:
        self._change(self.root, self.old, self.new, ())
        self._restore_aliases()
        self._write_out_aliases()
        text = self.text
        # From the end; of two at one place the inner one was asked for first, and comes first.
        for (start, end, new), _ in sorted(zip(self._edits, range(len(self._edits)), strict=True), key=_where)[::-1]:
            text = text[:start] + new + text[end:]
        return text

    # -- down the tree

    def _change(self, node: Node, old: Any, new: Any, path: Path) -> None:
        if old == new:
            return
        self._changed.add(id(node))
        if isinstance(node, MappingNode):
            self._change_mapping(node, old, new, path)
        elif isinstance(node, SequenceNode):
            self._change_sequence(node, old, new, path)

    def _change_mapping(self, node: MappingNode, old: Json, new: Json, path: Path) -> None:
        own = _own_pairs(node)
        restored: list[int] = []
        for name in [name for name in old if name in new and old[name] != new[name] and name in own]:
            key, value = node.pairs[own[name]]
            source = self._source((*path, name))
            if source == "":
                restored.append(own[name])
            elif source is None and _can_go_into(value, old[name], new[name]):
                self._change(value, old[name], new[name], (*path, name))
            else:
                self._replace(key, value, old[name], new[name], (*path, name), is_flow=node.is_flow)
        gone = {name for name in old if name not in new}
        removed = [i for i, (key, _) in enumerate(node.pairs) if not is_merge(key) and key_of(key) in gone]
        self._remove(node, node.pairs, sorted({*removed, *restored}))
        added = [(k, v) for k, v in new.items() if k not in own and (k not in old or old[k] != v)]
        for name, _ in added:
            if name in old:  # it came by a merge key
                self._keep((*path, name), "")
        self._add(node, node.pairs, added)

    def _change_sequence(self, node: SequenceNode, old: list[Any], new: list[Any], path: Path) -> None:
        if not (_are_named(old) and _are_named(new)):
            for number, (item, before, after) in enumerate(zip(node.items, old, new, strict=True)):
                self._change(item, before, after, (*path, number))
            return
        after_by_name = {item["name"]: item for item in new}
        for item, before in zip(node.items, old, strict=True):
            if before["name"] in after_by_name:
                self._change(item, before, after_by_name[before["name"]], (*path, before["name"]))
        self._remove(node, node.items, [i for i, one in enumerate(old) if one["name"] not in after_by_name])
        known = {item["name"] for item in old}
        self._add(node, node.items, [(None, item) for item in new if item["name"] not in known])

    # -- aliases

    def _write_out_aliases(self) -> None:
        for alias, path in _aliases(self.root, self.old, ()):
            if id(alias) not in self._gone and id(alias.target) in self._changed | self._gone:
                start, end = alias.start.index, alias.end.index
                self._keep(path, self.text[start:end])
                self._edits.append((start, end, flow(value_of(alias.target))))

    def _restore_aliases(self) -> None:
        for pod, sources in self.sources.items():
            for name, source in sources.items():
                if source.startswith("*"):
                    path = (*(() if name.startswith("/") else pod), *_steps(name))
                    found = _find(self.root, path)
                    if found is not None and id(found) not in self._gone:
                        self._edits.append((found.start.index, found.end.index, source))

    # -- sources

    def _pod_of(self, path: Path) -> Path:
        return next((pod for pod in self.pods if path[: len(pod)] == pod), self.pods[0] if self.pods else ())

    def _keep(self, path: Path, source: str) -> None:
        pod = self._pod_of(path)
        self.replaced.setdefault(pod, {})[_name(path, pod)] = source

    def _source(self, path: Path) -> str | None:
        pod = self._pod_of(path)
        return self.sources.get(pod, {}).get(_name(path, pod))

    # -- single places

    def _replace(self, key: Node, value: Node, old: Any, new: Any, path: Path, *, is_flow: bool) -> None:
        """Replace all from behind the key to the value's end, and with it a comment in between."""
        start, end = key.end.index, self._end_of((key, value))
        indent = key.start.column
        source = self.text[start:end]
        if source != ":" + self._value(old, indent, is_flow=is_flow):
            self._keep(path, source)
        known = self._source(path)
        self._edits.append((start, end, ":" + self._value(new, indent, is_flow=is_flow) if known is None else known))
        self._gone.update(_ids(value))

    def _add(
        self, node: MappingNode | SequenceNode, items: Sequence[Any], added: Sequence[tuple[str | None, Any]]
    ) -> None:
        if not added:
            return
        if node.is_flow:
            self._add_to_flow(node, items, added)
            return
        at = self._line_end(self._end_of(items[-1]))
        lines = [line for key, value in added for line in block(value, self._column(node, items), key=key)]
        self._edits.append((at, at, "".join(self._newline + line for line in lines)))

    def _add_to_flow(
        self, node: MappingNode | SequenceNode, items: Sequence[Any], added: Sequence[tuple[str | None, Any]]
    ) -> None:
        written = [flow(v) if k is None else f"{flow(k)}: {flow(v)}" for k, v in added]
        if not items:
            at = self.text.index("{" if isinstance(node, MappingNode) else "[", node.start.index) + 1
            self._edits.append((at, at, ", ".join(written)))
            return
        first, at, between = _start(items[0]), self._end_of(items[-1]), ", "
        if first.line != node.start.line:
            between = "," + self._newline + " " * first.column
        self._edits.append((at, at, "".join(between + text for text in written)))

    def _remove(self, node: MappingNode | SequenceNode, items: Sequence[Any], gone: Sequence[int]) -> None:
        behind_dash = self._remove_behind_dash(node, gone) if isinstance(node, MappingNode) else 0
        for i in gone[behind_dash:]:
            start, end = _start(items[i]).index, self._end_of(items[i])
            if not node.is_flow:
                line = self.text.rfind("\n", 0, start)
                start, end = line - 1 if self.text[line - 1] == "\r" else line, self._line_end(end)
            elif gone[0] > 0 and list(gone) == list(range(gone[0], len(items))):
                start = self._end_of(items[i - 1])
            elif i + 1 < len(items):
                end = _start(items[i + 1]).index
            self._edits.append((start, end, ""))
            for part in items[i] if isinstance(items[i], tuple) else (items[i],):
                self._gone.update(_ids(part))

    def _remove_behind_dash(self, node: MappingNode, gone: Sequence[int]) -> int:
        """Remove the first pairs of a mapping whose first key has a dash before it, which stays; return how many."""
        count = next((i for i, number in enumerate(gone) if i != number), len(gone))
        if node.is_flow or not count or count == len(node.pairs):
            return 0
        start = _start(node.pairs[0]).index
        if not self.text[self.text.rfind("\n", 0, start) + 1 : start].strip():
            return 0
        end, kept = self._line_end(self._end_of(node.pairs[count - 1])), _start(node.pairs[count]).index
        # What follows moves up to the dash; below a comment it stays where it is.
        self._edits.append((start, end if self.text[end:kept].strip() else kept, ""))
        for pair in node.pairs[:count]:
            for part in pair:
                self._gone.update(_ids(part))
        return count

    def _column(self, node: Node, items: Sequence[Any]) -> int:
        """Return where its keys or its dashes stand; an anchor stands before them."""
        first = _start(items[0])
        if isinstance(node, MappingNode):
            return int(first.column)
        dash = self.text.rindex("-", 0, first.index)
        return dash - self.text.rfind("\n", 0, dash) - 1

    def _end_of(self, item: Pair | Node) -> int:
        """Return where a pair of a mapping or an item of a sequence ends."""
        if not isinstance(item, tuple):
            return self._end(item)
        key, value = item
        colon = self.text.find(":", key.end.index, max(value.start.index, key.end.index + 1)) + 1
        if not colon:
            return max(self._end(value), int(key.end.index))  # a key alone, in flow style
        if isinstance(value, ScalarNode) and not value.style and not value.value and value.tag is None:
            return colon  # null by being nothing: its mark is at the next token
        return max(self._end(value), colon)

    def _end(self, node: Node) -> int:
        """Return its end without what only comes before the next token: comments and empty lines."""
        start, end = node.start.index, int(node.end.index)
        if isinstance(node, ScalarNode) and node.style in ("|", ">"):
            # Of a block that keeps its empty lines they are content.
            keeps = "+" in self.text[start : self.text.find("\n", start)]
            return end - 1 if keeps else len(self.text[:end].rstrip())
        if isinstance(node, MappingNode) and not node.is_flow and node.pairs:
            return self._end_of(node.pairs[-1])
        if isinstance(node, SequenceNode) and not node.is_flow and node.items:
            dash = node.items[-1]
            if isinstance(dash, ScalarNode) and not dash.style and not dash.value:
                return len(self.text[: dash.start.index].rstrip())  # a dash alone
            return self._end_of(dash)
        return end

    def _value(self, value: Any, indent: int, *, is_flow: bool) -> str:
        """Return what is written behind a key's colon."""
        if is_flow or is_inline(value):
            return " " + flow(value)
        lines = behind_key(value, indent)
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


def _own_pairs(node: MappingNode) -> dict[str, int]:
    """Return the number of the pair that gives each key its value, where it is not a merge key's."""
    own: dict[str, int] = {}
    for i, (key, value) in enumerate(node.pairs):
        if is_merge(key):
            for name in keys_of(value):
                own.pop(name, None)
        else:
            own[key_of(key)] = i
    return own


def _can_go_into(value: Node, old: Any, new: Any) -> bool:
    """Return whether a value can be changed in parts.

    What an alias stands for is written elsewhere. Where some keys go and others come, on the way back they would come
    at another place.
    """
    if isinstance(value, MappingNode):
        return (
            isinstance(new, dict)
            and bool(value.pairs and new)
            and (old.keys() <= new.keys() or (old.keys() >= new.keys() and old.keys() == _own_pairs(value).keys()))
        )
    if not isinstance(value, SequenceNode) or not (isinstance(new, list) and new and value.items):
        return False
    if any(isinstance(item, AliasNode) for item in value.items):
        return False
    if _are_named(old) and _are_named(new):
        return True
    return len(old) == len(new) and all(isinstance(item, dict) for item in (*old, *new))


def _are_named(items: list[Any]) -> bool:
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _start(item: Pair | Node) -> Any:
    return (item[0] if isinstance(item, tuple) else item).start


def _ids(node: Node) -> Iterator[int]:
    yield id(node)
    match node:
        case MappingNode():
            for key, value in node.pairs:
                yield from _ids(key)
                yield from _ids(value)
        case SequenceNode():
            for item in node.items:
                yield from _ids(item)


def _below(node: Node, old: Any) -> Iterator[tuple[str | int, Node, Any]]:
    """Yield the steps of paths below a node, with the nodes, and what these mean."""
    match node:
        case MappingNode():
            for key, value in node.pairs:
                name = "<<" if is_merge(key) else key_of(key)
                yield name, value, old.get(name) if isinstance(old, dict) else None
        case SequenceNode():
            means = old if isinstance(old, list) and len(old) == len(node.items) else [None] * len(node.items)
            named = _are_named(means)
            for number, (item, value) in enumerate(zip(node.items, means, strict=True)):
                yield value["name"] if named else number, item, value


def _aliases(node: Node, old: Any, path: Path) -> Iterator[tuple[AliasNode, Path]]:
    if isinstance(node, AliasNode):
        yield node, path
    for step, below, value in _below(node, old):
        yield from _aliases(below, value, (*path, step))


def _find(node: Node, path: Path) -> Node | None:
    if not path:
        return node
    # Of a key that is there twice the last one counts.
    found = [below for step, below, _ in _below(node, value_of(node)) if str(step) == str(path[0])]
    return _find(found[-1], path[1:]) if found else None


_ESCAPED = re.compile(r"~[01]")


def _name(path: Path, pod: Path) -> str:
    """Return a path as text: from the pod on, or with a leading "/" from the document's root on. "~" as in RFC 6901."""
    inside = path[: len(pod)] == pod
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in (path[len(pod) :] if inside else path)]
    return "/".join(steps) if inside else "/" + "/".join(steps)


def _steps(name: str) -> Path:
    steps = name.removeprefix("/").split("/")
    return tuple(_ESCAPED.sub(lambda found: "~" if found[0] == "~0" else "/", step) for step in steps)
