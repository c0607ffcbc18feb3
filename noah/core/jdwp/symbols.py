"""What passing replies said about classes, methods, lines and threads, so that a stop can be named.

Debuggers ask for these once and remember them; so does this, within bounds. A name that passed long ago may be
forgotten: then a stop is told with less.
"""

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Final, TypeVar

from noah.core.jdwp.wire import Location

# Together at most about 1 MiB for a debugger that asks for everything; a few KiB for one that steps through a method.
MOST_CLASSES: Final = 2048
MOST_METHOD_TABLES: Final = 64
MOST_LINE_TABLES: Final = 128
MOST_THREADS: Final = 256

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Places:
    def __init__(self) -> None:
        self._classes: OrderedDict[int, str] = OrderedDict()
        self._methods: OrderedDict[int, Mapping[int, str]] = OrderedDict()
        self._lines: OrderedDict[tuple[int, int], tuple[array[int], array[int]]] = OrderedDict()
        self._threads: OrderedDict[int, str] = OrderedDict()

    def learn_class(self, type_id: int, name: str) -> None:
        _keep(self._classes, type_id, name, MOST_CLASSES)

    def learn_methods(self, type_id: int, names: Mapping[int, str]) -> None:
        _keep(self._methods, type_id, names, MOST_METHOD_TABLES)

    def learn_lines(self, type_id: int, method: int, lines: Mapping[int, int]) -> None:
        """*lines*: from a code index to the line that begins there."""
        ordered = sorted(lines.items())
        table = array("Q", [index for index, _ in ordered]), array("Q", [line for _, line in ordered])
        _keep(self._lines, (type_id, method), table, MOST_LINE_TABLES)

    def learn_thread(self, thread: int, name: str) -> None:
        _keep(self._threads, thread, name, MOST_THREADS)

    def thread(self, thread: int) -> str | None:
        return self._threads.get(thread)

    def describe(self, place: Location) -> str | None:
        """ "OrderService.total:16", as much of it as is known; None when not even the class is."""
        name = self._classes.get(place.type)
        if name is None:
            return None
        method = self._methods.get(place.type, {}).get(place.method)
        if method is None:
            return name
        line = self._line(place)
        return f"{name}.{method}" if line is None else f"{name}.{method}:{line}"

    def _line(self, place: Location) -> int | None:
        indexes, lines = self._lines.get((place.type, place.method), ((), ()))
        nth = bisect_right(indexes, place.index) - 1
        return lines[nth] if nth >= 0 else None


def _keep(table: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > most:
        table.popitem(last=False)
