"""What the gateway asks a JVM itself, where a stop cannot be described from what passed.

Each question is asked at most once for each stop, with packet IDs that no debugger uses. Once a debugger does use them
there are none.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from noah.core.jdwp import wire
from noah.core.jdwp.stops import Stops
from noah.core.jdwp.symbols import SymbolTable
from noah.core.jdwp.wire import IdSizes
from noah.core.session.session import Vm

OWN_IDS: Final = 0xED  # the first byte of the packet IDs of our own questions; debuggers count from 1
_MOST_UNANSWERED: Final = 8
_TOP_FRAME: Final = bytes([0, 0, 0, 0, 0, 0, 0, 1])  # from frame 0, one


class OwnQuestion(NamedTuple):
    """A command, the IDs that it is about, and its payload."""

    number: int
    first: int
    second: int
    payload: bytes

    @property
    def subject(self) -> tuple[int, int, int]:
        return self.number, self.first, self.second


class Questions:
    __slots__ = ("_asked", "_may_ask", "_serial", "_step", "unanswered")

    def __init__(self) -> None:
        self.unanswered: set[int] = set()  # packet IDs; who gets a reply takes its ID out
        self._may_ask = True
        self._serial = 0
        self._step = -1
        self._asked: set[tuple[int, int, int]] = set()  # at that step

    def stop(self) -> None:
        """Ask nothing any more."""
        self._may_ask = False

    def are_open(self, stops: Stops, symbols: SymbolTable, sizes: IdSizes) -> bool:
        return next(self._open(stops, symbols, sizes), None) is not None

    def take(self, stops: Stops, symbols: SymbolTable, sizes: IdSizes) -> Iterator[tuple[int, OwnQuestion]]:
        """Yield the questions to ask now, with their packet IDs."""
        for question in list(self._open(stops, symbols, sizes)):
            if len(self.unanswered) >= _MOST_UNANSWERED:
                break
            self._serial += 1
            packet_id = OWN_IDS << 24 | self._serial & 0xFFFFFF
            self.unanswered.add(packet_id)
            self._asked.add(question.subject)
            yield packet_id, question

    def _open(self, stops: Stops, symbols: SymbolTable, sizes: IdSizes) -> Iterator[OwnQuestion]:
        """Yield questions that were not asked since the last step."""
        if not self._may_ask or stops.is_invoking or stops.vm not in (Vm.SUSPENDED, Vm.THREAD):
            return
        if stops.step != self._step:
            self._step = stops.step
            self._asked.clear()
        for question in _missing(stops, symbols, sizes):
            if question.subject not in self._asked:
                yield question


def _missing(stops: Stops, symbols: SymbolTable, sizes: IdSizes) -> Iterator[OwnQuestion]:
    for thread in stops.unchecked:
        yield OwnQuestion(wire.THREAD_STATUS, thread, 0, thread.to_bytes(sizes.thread))
    if stops.is_partly_resumed:
        yield OwnQuestion(wire.VM_ALL_THREADS, 0, 0, b"")
    current = stops.current()
    if current is None:
        return
    thread, location = current
    if symbols.thread(thread) is None:
        yield OwnQuestion(wire.THREAD_NAME, thread, 0, thread.to_bytes(sizes.thread))
    if location is None:
        yield OwnQuestion(wire.THREAD_FRAMES, thread, 0, thread.to_bytes(sizes.thread) + _TOP_FRAME)
        return
    type_id = location.type.to_bytes(sizes.type)
    if not symbols.knows_class(location.type):
        yield OwnQuestion(wire.TYPE_SIGNATURE, location.type, 0, type_id)
    if not symbols.knows_methods(location.type):
        yield OwnQuestion(wire.TYPE_METHODS, location.type, 0, type_id)
    if not symbols.knows_lines(location.type, location.method):
        payload = type_id + location.method.to_bytes(sizes.method)
        yield OwnQuestion(wire.METHOD_LINES, location.type, location.method, payload)
