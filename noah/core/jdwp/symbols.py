"""The names of classes, methods, lines and threads that passing replies contained, so that a stop can be named.

Debuggers ask for these once and remember them; so does this, within bounds of memory. What was used longest ago is
forgotten first: then a stop is described with less, until somebody asks again.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from noah.core.jdwp.wire import Location

# Together at most about 2 MiB for a debugger that asks for everything; a few KiB for one that steps through a method.
MOST_CLASSES: Final = 2048
MOST_THREADS: Final = 256
METHOD_BYTES: Final = 512 << 10
LINE_BYTES: Final = 512 << 10
# What an entry takes beside its content, [seen] with CPython 3.11 by tracemalloc.
_TABLE_BYTES: Final = 400
_METHOD_BYTES: Final = 180

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Recent(Generic[K, V]):
    """Entries kept or used most recently, up to *most* in all: a number of entries, or of bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0

    def keep(self, key: K, value: V, size: int = 1) -> None:
        self.drop(key)
        self._entries[key] = value, size
        self._size += size
        while self._size > self._most:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def drop(self, key: K) -> None:
        _, size = self._entries.pop(key, (None, 0))
        self._size -= size

    def clear(self) -> None:
        self._entries.clear()
        self._size = 0


class SymbolTable:
    def __init__(self) -> None:
        self._classes: _Recent[int, str] = _Recent(MOST_CLASSES)
        self._methods: _Recent[int, Mapping[int, str]] = _Recent(METHOD_BYTES)
        self._lines: _Recent[tuple[int, int], tuple[array[int], array[int]]] = _Recent(LINE_BYTES)
        self._threads: _Recent[int, str] = _Recent(MOST_THREADS)

    def learn_class(self, type_id: int, name: str) -> None:
        self._classes.keep(type_id, name)

    def learn_methods(self, type_id: int, names: Mapping[int, str]) -> None:
        size = _TABLE_BYTES + sum(_METHOD_BYTES + len(name) for name in names.values())
        self._methods.keep(type_id, names, size)

    def learn_lines(self, type_id: int, method: int, lines: Sequence[tuple[int, int]]) -> None:
        """Keep *lines*: code indexes, and the line that begins at each."""
        ordered = sorted(lines)
        table = array("Q", [index for index, _ in ordered]), array("I", [line for _, line in ordered])
        self._lines.keep((type_id, method), table, _TABLE_BYTES + 12 * len(ordered))

    def learn_thread(self, thread: int, name: str) -> None:
        self._threads.keep(thread, name)

    def forget_code(self) -> None:
        """Methods and lines may be others now: a class was redefined."""
        self._methods.clear()
        self._lines.clear()

    def thread(self, thread: int) -> str | None:
        return self._threads.get(thread)

    def knows_class(self, type_id: int) -> bool:
        return self._classes.get(type_id) is not None

    def knows_methods(self, type_id: int) -> bool:
        return self._methods.get(type_id) is not None

    def knows_lines(self, type_id: int, method: int) -> bool:
        return self._lines.get((type_id, method)) is not None

    def describe(self, location: Location) -> str | None:
        """Return "OrderService.total:16", or as much of it as is known; None if not even the class is."""
        name = self._classes.get(location.type)
        if name is None:
            return None
        method = (self._methods.get(location.type) or {}).get(location.method)
        if method is None:
            return name
        line = self._line(location)
        return f"{name}.{method}" if line is None else f"{name}.{method}:{line}"

    def _line(self, location: Location) -> int | None:
        indexes, lines = self._lines.get((location.type, location.method)) or ((), ())
        nth = bisect_right(indexes, location.index) - 1
        return lines[nth] if nth >= 0 else None
