"""What a debugger will probably ask at a stop: rules first, then what this debugger does.

A walk begins at a stop and follows the JVM's answers: from the stop's thread to its frames, their methods and
variables, from there to objects; then to all other threads. Questions have ranks, and lower ranks go first. The habits
say which commands are worth asking: at first those of the rules, later those that this debugger has asked lately.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import IntEnum
from typing import Final

from noah.core.jdwp import cache, wire
from noah.core.jdwp.cache import ROWS, Question, Subject
from noah.core.jdwp.wire import Malformed

_TOP_FRAMES: Final = 5  # whose variables are asked for
_MOST_FRAMES: Final = 256  # of a thread, whose methods are asked for
_MOST_THREADS: Final = 1024
_MOST_OBJECTS: Final = 256  # that are looked into
_MOST_TYPES: Final = 32  # that an object inherits from
_MOST_CLIMBED: Final = 256  # types of all objects, with what they inherit from
_MOST_FIELDS: Final = 256  # of a type
_MOST_QUESTIONS: Final = 20_000  # of one walk
_MOST_LINES: Final = 64  # methods of a class that is touched, whose lines are asked for
_PATIENCE: Final = 3  # stops after which what the rules expect and nobody asked is not foreseen any more
_MEMORY: Final = 20  # the same for what was asked once: debuggers keep much themselves, and ask of what is new

_STATIC: Final = 0x0008

# The rules: what is asked about each subject, with generic signatures. Habits are added to these.
_RULES: Final = {
    Subject.THREAD: (
        wire.THREAD_NAME, wire.THREAD_STATUS, cache.THREAD_GROUP, cache.THREAD_FRAME_COUNT, wire.THREAD_FRAMES,
    ),
    Subject.GROUP: (cache.GROUP_NAME, cache.GROUP_PARENT),
    Subject.TYPE: (
        cache.TYPE_EXTENSION, cache.TYPE_SOURCE_FILE, wire.TYPE_METHODS_GENERIC, wire.TYPE_SIGNATURE_GENERIC,
        cache.TYPE_FIELDS_GENERIC, cache.SUPERCLASS, cache.TYPE_INTERFACES,
    ),
    Subject.METHOD: (wire.METHOD_LINES, cache.METHOD_VARIABLES_GENERIC),
    Subject.FRAME: (cache.FRAME_THIS, cache.FRAME_VALUES),
    Subject.OBJECT: (cache.OBJECT_TYPE, cache.OBJECT_VALUES),
    Subject.STRING: (cache.STRING_VALUE,),
    Subject.ARRAY: (cache.ARRAY_LENGTH,),
}  # fmt: skip
# Asked of the types of objects, not of those that have code on a stack.
_OF_OBJECTS: Final = frozenset({cache.TYPE_FIELDS, cache.TYPE_FIELDS_GENERIC, cache.SUPERCLASS, cache.TYPE_INTERFACES})
# HotSpot takes the group's monitor for it: if a suspended thread has that, the JVM answers nothing until a resume.
# So it is asked only once the debugger has begun to ask for it.
_LOCKING: Final = cache.GROUP_CHILDREN
# Asked only after something else is known: not of a subject alone.
_DEPENDENT: Final = frozenset(
    {cache.OBJECT_VALUES, cache.FRAME_VALUES, cache.TYPE_VALUES, cache.ARRAY_VALUES, cache.IS_COLLECTED}
)


class Rank(IntEnum):
    STOP = 0  # the stop's thread
    TOP = 1  # its first frames: where they are, their variables
    OBJECTS = 2  # what the variables refer to
    REST = 3  # its other frames
    THREADS = 4  # all threads
    STACKS = 5  # where all threads are


class Habits:
    """Remembers which commands this debugger has asked lately."""

    def __init__(self) -> None:
        self._stop = 0
        # The stops until which each command is worth asking.
        self._until = {number: _PATIENCE for numbers in _RULES.values() for number in numbers}
        self._others_asked = 0  # the stop at which other threads than the stop's were last asked about
        self._by_subject: dict[Subject, dict[int, None]] = {s: dict.fromkeys(_RULES.get(s, ())) for s in Subject}

    def begin_stop(self) -> None:
        self._stop += 1

    def note(self, number: int) -> None:
        """The debugger has asked this of something."""
        row = ROWS.get(number)
        if row is not None:
            self._until[number] = self._stop + _MEMORY
            if number not in _DEPENDENT and number != _LOCKING and row.subject is not Subject.VM:
                self._by_subject[row.subject][number] = None

    def note_others(self) -> None:
        """The debugger has asked about other threads than the stop's."""
        self._others_asked = self._stop

    @property
    def wants_others(self) -> bool:
        return self._stop - self._others_asked <= 1

    def wants(self, number: int) -> bool:
        return self._stop <= self._until.get(number, -1)

    def of(self, subject: Subject) -> Iterator[int]:
        return filter(self.wants, self._by_subject[subject])


class Walk:
    """The questions of one stop, or about classes that were touched.

    *is_known* says what need not be asked, *recall* what the JVM said about a class earlier.
    """

    def __init__(
        self, habits: Habits, *, is_known: Callable[[Question], bool], recall: Callable[[Question], bytes | None]
    ) -> None:
        self._habits = habits
        self._is_known = is_known
        self._recall = recall
        self._queues: dict[Rank, deque[Question]] = {rank: deque() for rank in Rank}
        self._seen: set[Question] = set()
        self._thread = b""  # the stop's
        self._top: dict[bytes, list[tuple[bytes, int]]] = {}  # frames with their code indexes, by class and method
        self._objects: dict[bytes, int] = {}  # how far each is from a variable
        self._type_of: dict[bytes, bytes] = {}
        self._of_type: dict[bytes, list[bytes]] = {}  # objects whose fields are wanted, by their types
        self._types_of: dict[bytes, set[bytes]] = {}  # the same by object
        self._climbed: set[bytes] = set()  # types that are asked about with all that they inherit from
        self._has_others = False

    def take(self) -> Question | None:
        for queue in self._queues.values():
            if queue:
                return queue.popleft()
        return None

    # Where it begins

    def stop(self, thread: int, location: wire.Location | None) -> None:
        self._thread = thread.to_bytes(8)
        self._ask_of_thread(self._thread, Rank.STOP)
        if location is not None:
            type_id = location.type.to_bytes(8)
            self._ask_of_code(type_id, type_id + location.method.to_bytes(8), Rank.TOP)

    def all_threads(self) -> None:
        if not self._has_others:
            self._has_others = True
            self._add(Rank.THREADS, cache.TOP_LEVEL_GROUPS, b"")
            self._add(Rank.THREADS, wire.VM_ALL_THREADS, b"")

    def look_into(self, value: bytes) -> None:
        """Foresee what is asked about a tagged value that the debugger has just been given."""
        with suppress(KeyError, IndexError):
            self._look_into([value] if value else [], 0)

    def touch(self, number: int, question: bytes) -> None:
        """The debugger asked this itself, and has to wait for the answer."""
        is_of_another = ROWS[number].subject is Subject.THREAD and self._thread and question[:8] != self._thread
        if is_of_another or number in (wire.VM_ALL_THREADS, cache.TOP_LEVEL_GROUPS, cache.GROUP_CHILDREN):
            self.all_threads()
        elif number == cache.OBJECT_VALUES:
            self._note(question[:8], 0)

    def touch_class(self, number: int, type_id: bytes, methods: bytes) -> None:
        """The debugger has asked for a class's methods; next it looks for a line in all of them."""
        generic = number == wire.TYPE_METHODS_GENERIC
        for method in wire.read_methods(methods, wire.IdSizes(), generic=generic, most=_MOST_LINES):
            self._add(Rank.TOP, wire.METHOD_LINES, type_id + method.to_bytes(8))

    # Where it goes on

    def learn(self, number: int, question: bytes, answer: bytes) -> None:
        """Follow the JVM's answer, also one that the debugger asked for itself."""
        with suppress(Malformed, struct.error, IndexError):  # nothing follows from what is not understood
            self._follow(number, question, answer)

    def _follow(self, number: int, question: bytes, answer: bytes) -> None:
        match number:
            case wire.THREAD_FRAMES if question == cache.all_frames(question[:8]):
                self._follow_frames(question[:8], answer)
            case wire.VM_ALL_THREADS:
                for thread in _ids(answer, 4, most=_MOST_THREADS):
                    self._ask_of_thread(thread, Rank.THREADS)
            case cache.TOP_LEVEL_GROUPS:
                for group in _ids(answer, 4, most=_MOST_THREADS):
                    self._ask(Subject.GROUP, group, Rank.THREADS)
            case cache.GROUP_CHILDREN:
                threads = int.from_bytes(answer[:4])
                for group in _ids(answer, 8 + 8 * threads, most=_MOST_THREADS):
                    self._ask(Subject.GROUP, group, Rank.THREADS)
                    self._add(Rank.THREADS, _LOCKING, group)
            case cache.THREAD_GROUP:
                self._ask(Subject.GROUP, answer[:8], Rank.THREADS)
            case _:
                self._follow_variables(number, question, answer)

    def _follow_variables(self, number: int, question: bytes, answer: bytes) -> None:
        match number:
            case cache.METHOD_VARIABLES | cache.METHOD_VARIABLES_GENERIC:
                self._ask_values(question, answer, generic=number == cache.METHOD_VARIABLES_GENERIC)
            case cache.FRAME_VALUES:
                self._look_into(cache.split_values(answer), 1)
            case cache.FRAME_THIS:
                self._look_into([answer], 0)
            case cache.OBJECT_VALUES | cache.TYPE_VALUES:
                self._look_into(cache.split_values(answer), 1 + self._objects.get(question[:8], 0))
            case cache.OBJECT_TYPE:
                self._follow_type(question[:8], answer[1:9])
            case cache.ARRAY_VALUES:
                self._look_into(cache.split_array(answer), 1)
            case cache.TYPE_FIELDS | cache.TYPE_FIELDS_GENERIC:
                self._ask_fields(self._of_type.get(question, []), answer, generic=number == cache.TYPE_FIELDS_GENERIC)
            case cache.SUPERCLASS if any(answer):
                if question in self._climbed:
                    self._climb(answer[:8])
                for thing in self._of_type.get(question, ()):
                    self._open(thing, answer[:8])
            case cache.TYPE_INTERFACES if question in self._climbed:
                for interface in _ids(answer, 4, most=_MOST_TYPES):
                    self._climb(interface)

    def _follow_frames(self, thread: bytes, answer: bytes) -> None:
        is_stop = thread == self._thread
        for i, (frame, type_id, method, index) in enumerate(_frames(answer)[:_MOST_FRAMES]):
            code = type_id + method
            if is_stop and i < _TOP_FRAMES:
                self._top.setdefault(code, []).append((frame, index))
                for number in self._habits.of(Subject.FRAME):
                    if number not in _DEPENDENT:
                        self._add(Rank.TOP, number, thread + frame)
                self._ask_of_code(type_id, code, Rank.TOP)
            else:
                self._ask_of_code(type_id, code, Rank.REST if is_stop else Rank.STACKS)
        if is_stop:
            for code in self._top:
                for number in (cache.METHOD_VARIABLES, cache.METHOD_VARIABLES_GENERIC):
                    table = self._recall((number, code))
                    if table is not None:
                        self._ask_values(code, table, generic=number == cache.METHOD_VARIABLES_GENERIC)

    def _ask_values(self, method: bytes, answer: bytes, *, generic: bool) -> None:
        for frame, index in self._top.get(method, ()):
            slots = [
                struct.pack(">I", slot) + signature[:1]
                for begin, length, signature, slot in _variables(answer, generic=generic)
                if begin <= index < begin + length
            ]
            if slots and self._habits.wants(cache.FRAME_VALUES):
                payload = self._thread + frame + struct.pack(">I", len(slots)) + b"".join(slots)
                self._add(Rank.TOP, cache.FRAME_VALUES, payload)

    def _look_into(self, values: list[bytes], depth: int) -> None:
        for value in values:
            thing = value[1:]
            if not cache.object_in(value) or not self._note(thing, depth):
                continue
            if value[:1] == b"s":
                self._ask(Subject.STRING, thing, Rank.OBJECTS)
            elif value[:1] == b"[":
                self._ask(Subject.ARRAY, thing, Rank.OBJECTS)

    def _note(self, thing: bytes, depth: int) -> bool:
        """Look into an object; False if that has begun already, or if there are enough."""
        if self._objects.get(thing, depth + 1) <= depth or len(self._objects) >= _MOST_OBJECTS:
            return False
        self._objects[thing] = depth
        self._ask(Subject.OBJECT, thing, Rank.OBJECTS)
        if thing in self._type_of:
            self._follow_type(thing, self._type_of[thing])
        return True

    def _follow_type(self, thing: bytes, type_id: bytes) -> None:
        self._type_of[thing] = type_id
        depth = self._objects.get(thing)
        if depth is not None:
            self._climb(type_id)
            if depth == 0:
                self._open(thing, type_id)

    def _climb(self, type_id: bytes) -> None:
        """Ask about a type and all that it inherits from, as far as that is known."""
        above = [type_id]
        while above and len(self._climbed) < _MOST_CLIMBED:
            one = above.pop()
            if one in self._climbed:
                continue
            self._climbed.add(one)
            self._ask(Subject.TYPE, one, Rank.OBJECTS)
            parent = self._recall((cache.SUPERCLASS, one))
            if parent is not None and any(parent):
                above.append(parent[:8])
            interfaces = self._recall((cache.TYPE_INTERFACES, one))
            if interfaces is not None:
                above += _ids(interfaces, 4, most=_MOST_TYPES)

    def _open(self, thing: bytes, type_id: bytes) -> None:
        """Look into all fields of an object, as far as its type and what that inherits from are known."""
        while type_id not in self._types_of.setdefault(thing, set()) and len(self._types_of[thing]) < _MOST_TYPES:
            self._types_of[thing].add(type_id)
            self._of_type.setdefault(type_id, []).append(thing)
            for number in (cache.TYPE_FIELDS, cache.TYPE_FIELDS_GENERIC):
                table = self._recall((number, type_id))
                if table is not None:
                    self._ask_fields([thing], table, generic=number == cache.TYPE_FIELDS_GENERIC)
            parent = self._recall((cache.SUPERCLASS, type_id))
            if parent is None or not any(parent):
                break
            type_id = parent[:8]

    def _ask_fields(self, things: list[bytes], answer: bytes, *, generic: bool) -> None:
        fields = [field for field, modifiers in _fields(answer, generic=generic) if not modifiers & _STATIC]
        fields = fields[:_MOST_FIELDS]
        for thing in things:
            if fields and self._habits.wants(cache.OBJECT_VALUES):
                payload = thing + struct.pack(">I", len(fields)) + b"".join(fields)
                self._add(Rank.OBJECTS, cache.OBJECT_VALUES, payload)

    # What is asked

    def _ask_of_thread(self, thread: bytes, rank: Rank) -> None:
        for number in self._habits.of(Subject.THREAD):
            payload = cache.all_frames(thread) if number == wire.THREAD_FRAMES else thread
            self._add(Rank.STACKS if rank is Rank.THREADS and number == wire.THREAD_FRAMES else rank, number, payload)
        for number in (cache.OBJECT_TYPE, cache.IS_COLLECTED):
            if self._habits.wants(number):
                self._add(rank, number, thread)

    def _ask_of_code(self, type_id: bytes, code: bytes, rank: Rank) -> None:
        for number in self._habits.of(Subject.TYPE):
            if number not in _OF_OBJECTS:
                self._add(rank, number, type_id)
        for number in self._habits.of(Subject.METHOD):
            if rank is Rank.TOP or number == wire.METHOD_LINES:
                self._add(rank, number, code)

    def _ask(self, subject: Subject, thing: bytes, rank: Rank) -> None:
        if any(thing):
            for number in self._habits.of(subject):
                if number not in _DEPENDENT:
                    self._add(rank, number, thing)

    def _add(self, rank: Rank, number: int, payload: bytes) -> None:
        question = number, payload
        if question not in self._seen and len(self._seen) < _MOST_QUESTIONS and not self._is_known(question):
            self._seen.add(question)
            self._queues[rank].append(question)


# Answers, taken apart


def _ids(answer: bytes, at: int, *, most: int) -> list[bytes]:
    """Return the first IDs, at most so many, of a list whose count ends at *at*."""
    count = min(most, int.from_bytes(answer[at - 4 : at]))
    return [answer[begin : begin + 8] for begin in range(at, min(len(answer) - 7, at + 8 * count), 8)]


def _frames(answer: bytes) -> list[tuple[bytes, bytes, bytes, int]]:
    """Return each frame's ID, class, method and code index."""
    return [
        (
            answer[at : at + 8],
            answer[at + 9 : at + 17],
            answer[at + 17 : at + 25],
            int.from_bytes(answer[at + 25 : at + 33]),
        )
        for at in range(4, len(answer) - 32, 33)
    ]


def _variables(answer: bytes, *, generic: bool) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield each variable's first code index, its range's length, signature and slot."""
    at = 8
    for _ in range(int.from_bytes(answer[4:8])):
        (begin,) = struct.unpack_from(">Q", answer, at)
        texts, at = _texts(answer, at + 8, 3 if generic else 2)
        length, slot = struct.unpack_from(">II", answer, at)
        at += 8
        yield begin, length, texts[1], slot


def _fields(answer: bytes, *, generic: bool) -> Iterator[tuple[bytes, int]]:
    """Yield each field's ID and modifiers."""
    at = 4
    for _ in range(int.from_bytes(answer[:4])):
        field = answer[at : at + 8]
        _, at = _texts(answer, at + 8, 3 if generic else 2)
        (modifiers,) = struct.unpack_from(">I", answer, at)
        at += 4
        yield field, modifiers


def _texts(answer: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    texts = []
    for _ in range(count):
        (length,) = struct.unpack_from(">I", answer, at)
        texts.append(answer[at + 4 : at + 4 + length])
        at += 4 + length
    return texts, at
