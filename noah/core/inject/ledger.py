"""Changes to a tree of JSON that can be taken back, exactly, by an account of a few lines.

A path's steps are keys; in a list, the `name` of an item, so that it still fits when somebody has added one before it.
The account is made of lists, to be short as JSON:
  ["-", path]         was not there
  ["=", path, value]  had this value
  ["?", path]         was not there, but others may have put something into it
"""

from collections.abc import MutableMapping, Sequence
from copy import deepcopy
from typing import Any

Path = tuple[str, ...]
Entry = list[Any]

# What is a list in a pod's spec, of those that are changed here.
LISTS = frozenset({"containers", "initContainers", "volumes", "volumeMounts", "env"})


class Ledger:
    """Changes *tree* in place."""

    def __init__(self, tree: MutableMapping[str, Any]) -> None:
        self.tree = tree
        self.entries: list[Entry] = []

    def put(self, path: Path, value: Any) -> None:
        parent = self._parent(path[:-1])
        if isinstance(parent, list):
            self._put_item(parent, path, value)
        elif path[-1] in parent:
            if parent[path[-1]] != value:
                self.entries.append(["=", list(path), parent[path[-1]]])
                parent[path[-1]] = value
        else:
            self.entries.append(["-", list(path)])
            parent[path[-1]] = value

    def _put_item(self, items: list[Any], path: Path, value: Any) -> None:
        found = _index(items, path[-1])
        if found is None:
            self.entries.append(["-", list(path)])
            items.append(value)
        elif items[found] != value:
            self.entries.append(["=", list(path), items[found]])
            items[found] = value

    def _parent(self, path: Path) -> Any:
        """What is at *path*, made where it is not."""
        node: Any = self.tree
        for depth, key in enumerate(path, 1):
            below = child(node, key)
            if below is None:
                below = [] if key in LISTS else {}
                was_null = isinstance(node, MutableMapping) and key in node
                self.entries.append(["=", list(path[:depth]), None] if was_null else ["?", list(path[:depth])])
                node[key] = below
            node = below
        return node


def child(node: Any, key: str) -> Any:
    """None when it is not there."""
    if isinstance(node, list):
        found = _index(node, key)
        return None if found is None else node[found]
    return node.get(key) if isinstance(node, MutableMapping) else None


def take_back(tree: MutableMapping[str, Any], entries: Sequence[Entry]) -> None:
    """The last change first. What somebody else has taken away meanwhile stays away."""
    for kind, path, *value in reversed(entries):
        node: Any = tree
        for key in path[:-1]:
            node = child(node, key)
        if child(node, path[-1]) is None and kind != "=":
            continue
        if isinstance(node, list):
            found = _index(node, path[-1])
            if found is not None:
                node[found : found + 1] = deepcopy(value)
        elif isinstance(node, MutableMapping):
            if kind == "=":
                node[path[-1]] = deepcopy(value[0])
            elif kind == "-" or not node[path[-1]]:
                del node[path[-1]]


def _index(items: list[Any], name: str) -> int | None:
    return next(
        (i for i, item in enumerate(items) if isinstance(item, MutableMapping) and item.get("name") == name), None
    )
