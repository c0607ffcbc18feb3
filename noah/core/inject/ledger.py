"""Applies changes to a tree of JSON, and takes them back by an account of a few lines.

A path's steps are keys; in a list, the `name` of an item, so that it still fits when somebody has added one before it.
The account is made of lists, to be short as JSON. A MARK is a digest of what was put there: what has another one by now
was changed by somebody else since, and stays.
  ["-", path, mark]              was not there; without a mark it is ours whatever has become of it
  ["=", path, value, mark]       had this value; without a mark (of earlier versions) it gets it back in any case
  ["?", path]                    was not there, but others may have put something into it
  ["+", path, text]              this text was appended to the string
  ["w", path, count, mark, offset, word]  so many words were put into the list, of which the one at offset is `word`
  ["s", path, values, mark, keys, order]  of these keys only `values` were there, with all others in this order
  ["j", path, before, after]     a JSON text that had this value, and got that one

Nothing is changed in place: a tree shares with the one that it was made from what is the same in both. The time that
this takes grows with the tree's size and no faster, whatever an account says: accounts come from outsiders.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]
Entry = list[Any]
Tree = Mapping[str, Any]

# What is a list in a pod's spec, of those that are changed here.
LISTS = frozenset({"containers", "initContainers", "volumes", "volumeMounts", "env"})
MOST_ENTRIES = 100  # a pod with everything put into it has about thirty
MOST_MARKED = 256 << 10  # characters that are digested for one account; what is put into a pod has about 40,000
_GONE = object()


@dataclass(frozen=True, slots=True)
class SetValue:
    """The value of *path*, in the place of what is there. `ours`: nobody else has a say in it."""

    path: Path
    value: Any
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """An option at the end of a string of options."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Words before the word number *at* of a list; *known_by*: which of them, counted from 0, occurs nowhere else."""

    path: Path
    words: tuple[str, ...]
    at: int = 0
    known_by: int = 0


@dataclass(frozen=True, slots=True)
class Swap:
    """A mapping's values for some keys in the place of what it has for those and for *keys*."""

    path: Path
    keys: frozenset[str]
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PutJson:
    """The value of *keys* in the JSON object that *path* holds as a text."""

    path: Path
    keys: Path
    value: Mapping[str, Any]


Change = SetValue | Append | Insert | Swap | PutJson


class Ledger:
    """Applies changes to *tree* and keeps the account. *earlier*: the same tree as it was before a last round of
    changes was taken back; an option that stood in the midst of others there is put at the same place again."""

    def __init__(self, tree: Tree, *, earlier: Tree | None = None) -> None:
        self._draft = _Draft(tree)
        self._earlier = earlier or {}
        self.entries: list[Entry] = []

    @property
    def tree(self) -> dict[str, Any]:
        return self._draft.tree

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            match change:
                case SetValue(path, value, ours):
                    self._put(path, value, ours=ours)
                case Append(path, text):
                    self._append(path, text)
                case Insert(path, words, at, known_by):
                    self._insert(path, words, at, known_by)
                case Swap(path, keys, values):
                    self._swap(path, keys, values)
                case PutJson(path, keys, value):
                    self._put_json(path, keys, value)

    def _put(self, path: Path, value: Any, *, ours: bool) -> None:
        parent = self._parent(path[:-1])
        old = self._draft.child(parent, path[-1])
        if old is None and not (isinstance(parent, MutableMapping) and path[-1] in parent):
            unmarked = ours or isinstance(parent, list)
            self.entries.append(["-", list(path)] if unmarked else ["-", list(path), mark(value)])
        elif old == value:
            return
        else:
            self.entries.append(["=", list(path), old, mark(value)])
        self._draft.put(parent, path[-1], value)

    def _append(self, path: Path, text: str) -> None:
        parent = self._parent(path[:-1])
        old = parent.get(path[-1])
        if old is None:
            self.entries.append(["?", list(path), None] if path[-1] in parent else ["?", list(path)])
        old = str(old or "")
        text = f" {text}" if old else text
        self.entries.append(["+", list(path), text])
        kept = find(self._earlier, path)
        stays = isinstance(kept, str) and kept != old and _without(kept, text) == old
        parent[path[-1]] = kept if stays else old + text

    def _insert(self, path: Path, words: tuple[str, ...], at: int, known_by: int) -> None:
        parent = self._parent(path[:-1])
        old = list(parent.get(path[-1]) or ())
        self.entries.append(["w", list(path), len(words), mark(list(words)), known_by, words[known_by]])
        parent[path[-1]] = [*old[:at], *words, *old[at:]]

    def _swap(self, path: Path, keys: frozenset[str], values: Mapping[str, Any]) -> None:
        node = self._parent(path)
        touched = sorted(keys & node.keys() | values.keys())
        old = {key: node[key] for key in touched if key in node}
        self.entries.append(["s", list(path), old, mark(dict(values)), touched, list(node)])
        for key in old:
            del node[key]
        node.update(values)

    def _put_json(self, path: Path, keys: Path, value: Mapping[str, Any]) -> None:
        parent = self._parent(path[:-1])
        before = parent.get(path[-1])
        config = json.loads(before or "{}")
        node = config
        for key in keys:
            node[key] = dict(node.get(key) or {})
            node = node[key]
        node.update(value)
        after = json.dumps(config, separators=(",", ":"))
        self.entries.append(["j", list(path), before, after])
        parent[path[-1]] = after

    def _parent(self, path: Path) -> Any:
        """Return what is at *path*, made where it is not."""
        node: Any = self._draft.tree
        for depth, key in enumerate(path, 1):
            below = self._draft.owned(node, key)
            if below is None:
                below = [] if key in LISTS else {}
                if isinstance(node, list):
                    below = {"name": key}
                was_null = isinstance(node, MutableMapping) and key in node
                # A null says what nothing says; it comes back as it was, unless others have put something into it.
                self.entries.append(["?", list(path[:depth]), None] if was_null else ["?", list(path[:depth])])
                self._draft.put(node, key, below)
                below = self._draft.owned(node, key)
            node = below
        return node


def take_back(tree: Tree, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return *tree* without the changes of this account, the last one first. What somebody else has changed or taken
    away meanwhile stays as it is now. ValueError and its like for what is not an account."""
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"an account has at most {MOST_ENTRIES} entries")
    draft = _Draft(tree)
    reversal = _Reversal(draft)
    for kind, path, *rest in reversed(entries):
        node: Any = draft.tree
        for key in path[:-1]:
            node = draft.owned(node, key)
        if isinstance(node, list | MutableMapping):
            reversal.take_back(kind, node, path[-1], rest)
    return draft.finished()


class _Reversal:
    def __init__(self, draft: "_Draft") -> None:
        self._draft = draft
        self._left = MOST_MARKED

    def take_back(self, kind: str, node: Any, key: str, rest: list[Any]) -> None:
        draft, now = self._draft, self._draft.child(node, key)
        match kind, rest:
            case "=", [before]:
                draft.put_back(node, key, before)
            case "=", [before, known] if self._is_ours(now, known):
                draft.put_back(node, key, before)
            case "-", [] if now is not None:
                draft.remove(node, key)
            case "-", [known] if now is not None and self._is_ours(now, known):
                draft.remove(node, key)
            case "?", [None] if now is not None and draft.is_empty(now, item=isinstance(node, list)):
                draft.put(node, key, None)
            case "?", [] if now is not None and draft.is_empty(now, item=isinstance(node, list)):
                draft.remove(node, key)
            case "+", [str(text)] if isinstance(now, str):
                node[key] = _without(now, text)
            case "w", [int(count), known, int(offset), str(word)] if isinstance(now, list):
                node[key] = self._without_words(now, count, known, offset, word)
            case "s", [dict(before), known, list(keys), list(order)] if isinstance(now, Mapping):
                self._swap_back(draft.owned(node, key), before, known, keys, order)
            case "j", [before, str(after)] if isinstance(now, str):
                _take_json_back(node, key, now, before, after)

    def _without_words(self, now: list[Any], count: int, known: Any, offset: int, word: str) -> list[Any]:
        starts = [i - offset for i, each in enumerate(now) if each == word and i >= offset][:8]
        start = next((i for i in starts if self._is_ours(now[i : i + count], known)), None)
        return now if start is None else [*now[:start], *now[start + count :]]

    def _swap_back(
        self, node: dict[str, Any], before: Mapping[str, Any], known: Any, keys: list[str], order: list[str]
    ) -> None:
        if self._is_ours({key: node[key] for key in keys if key in node}, known):
            rest = {key: value for key, value in node.items() if key not in keys} | dict(before)
            node.clear()
            node.update({key: rest[key] for key in order if key in rest} | rest)

    def _is_ours(self, now: Any, known: Any) -> bool:
        """True for what was put in. What is longer than all that is ever put in has been changed by somebody else."""
        self._left -= _length(now, self._left)
        return self._left > 0 and mark(now) == known


def _length(value: Any, most: int) -> int:
    """Return about how many characters a value has as JSON; no more than a little over *most* are looked at."""
    length, rest = 0, [value]
    while rest and length <= most:
        node = rest.pop()
        if isinstance(node, Mapping):
            length += 4 * len(node)
            rest += [*node.keys(), *node.values()] if length <= most else []
        elif isinstance(node, list):
            length += 4 * len(node)
            rest += node if length <= most else []
        else:
            length += len(node) if isinstance(node, str) else 4
    return length


def _without(now: str, text: str) -> str:
    """Return *now* without the first *text* that is a word of its own; others may have written around it."""
    for piece in (text, text.strip()):
        start = now.find(piece)
        while start >= 0 and piece:
            end = start + len(piece)
            begins = start == 0 or piece[0].isspace() or now[start - 1].isspace()
            if begins and (end == len(now) or now[end].isspace()):
                head, rest = now[:start], now[end:]
                if not piece[0].isspace():
                    # What is around it was written by others, with a blank for it.
                    head, rest = head[:-1], rest if head else rest.lstrip()
                return head + rest
            start = now.find(piece, end)
    return now


def _take_json_back(node: MutableMapping[str, Any], key: str, now: str, before: str | None, after: str) -> None:
    if now != after:
        try:
            there = json.loads(now)
            merged = _merged(json.loads(before or "{}"), json.loads(after), there)
        except (ValueError, AttributeError):
            return  # theirs by now, whatever it is
        before = json.dumps(merged, separators=(",", ":")) if merged or before is not None else None
    if before is None:
        del node[key]
    else:
        node[key] = before


def _merged(before: Mapping[str, Any], after: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return *before* with the changes that lead from *after* to *now*."""
    result = dict(now)
    for key, ours in after.items():
        if key not in now or before.get(key) == ours:
            continue
        if isinstance(ours, dict) and isinstance(now[key], dict):
            result[key] = _merged(before.get(key) or {}, ours, now[key])
            if not result[key] and key not in before:
                del result[key]
        elif now[key] == ours and key in before:
            result[key] = before[key]
        elif now[key] == ours:
            del result[key]
    return result


def mark(value: Any) -> str:
    """Return a digest of a value, short for an annotation and long enough to tell a change from none."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def find(tree: Any, path: Path) -> Any:
    """Return what is at *path*; None when there is nothing."""
    for key in path:
        if isinstance(tree, list):
            tree = next((item for item in tree if isinstance(item, Mapping) and item.get("name") == key), None)
        else:
            tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


class _Draft:
    """A tree that is changed while the one it was made from stays as it is: nodes are copied on their first change.

    Items of lists are found by an index, and leave only at the end, so that no list is searched or moved twice.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree: dict[str, Any] = dict(tree)
        self._owned: dict[int, Any] = {id(self.tree): self.tree}  # by identity; held, so that none is used again
        self._indexes: dict[int, tuple[list[Any], dict[str, int]]] = {}
        self._gone: dict[int, int] = {}

    def owned(self, node: Any, key: str) -> Any:
        """Return the child of an owned *node*, as a copy that may be changed; None when it is not there."""
        below = self.child(node, key)
        if isinstance(below, list | Mapping) and id(below) not in self._owned:
            below = list(below) if isinstance(below, list) else dict(below)
            self._owned[id(below)] = below
            self.put(node, key, below)
        return below

    def child(self, node: Any, key: str) -> Any:
        if isinstance(node, list):
            position = self._index(node).get(key)
            return None if position is None else node[position]
        return node.get(key) if isinstance(node, Mapping) else None

    def put(self, node: Any, key: str, value: Any) -> None:
        if isinstance(node, list):
            position = self._index(node).get(key)
            if position is None:
                self._index(node)[key] = len(node)
                node.append(value)
            else:
                node[position] = value
        else:
            node[key] = value

    def put_back(self, node: Any, key: str, value: Any) -> None:
        """SetValue a value where one was; an item of a list that somebody has taken away stays away."""
        if isinstance(node, MutableMapping) or self.child(node, key) is not None:
            self.put(node, key, value)

    def remove(self, node: Any, key: str) -> None:
        if isinstance(node, list):
            node[self._index(node).pop(key)] = _GONE
            self._gone[id(node)] = self._gone.get(id(node), 0) + 1
        else:
            del node[key]

    def is_empty(self, value: Any, *, item: bool) -> bool:
        """An *item* of a list has a name from its beginning."""
        if isinstance(value, list):
            return len(value) == self._gone.get(id(value), 0)
        if isinstance(value, Mapping):
            return not value or (item and value.keys() == {"name"})
        return bool(value == "")

    def finished(self) -> dict[str, Any]:
        for number in self._gone:
            items = self._owned[number]
            items[:] = [item for item in items if item is not _GONE]
        return self.tree

    def _index(self, items: list[Any]) -> dict[str, int]:
        """Return where each name is; of two with one name the last, which is the one that a kubelet goes by."""
        if id(items) not in self._indexes:
            names = {
                item["name"]: position
                for position, item in enumerate(items)
                if isinstance(item, Mapping) and isinstance(item.get("name"), str)
            }
            self._indexes[id(items)] = (items, names)
        return self._indexes[id(items)][1]
