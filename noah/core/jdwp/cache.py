"""What may be answered from memory, and until when: one table, and how questions and answers are taken apart.

A question is a command's number and its payload, byte for byte. A row says how long its answer stays true:

- Lifetime.VM: for the life of the connection.
- Lifetime.CLASS: until classes are redefined or unloaded; only while the debugger has asked for all ClassUnload events.
- Lifetime.THREAD: while one thread is suspended, with or without the others.
- Lifetime.STILL: while the whole VM is suspended.
- Lifetime.MOMENT: for a second, while one thread is suspended and others run (`MOMENT_S`).

Whatever has an effect has no row: it always reaches the JVM, and ends what it may change (`effect_of`). That is every
command which is not listed here as harmless; a command that JDWP does not have ends everything.

All IDs have 8 bytes here, as HotSpot's have; who uses this must check IDSizes.
"""

import struct
from collections.abc import Callable, Iterator
from enum import Enum, Flag, IntEnum, auto
from typing import Final, NamedTuple

from noah.core.jdwp import wire
from noah.core.jdwp.commands import INVOKES
from noah.core.jdwp.wire import Malformed, command

Question = tuple[int, bytes]  # a command's number and payload
Mentions = tuple[
    tuple[int, ...], tuple[int, ...]
]  # object IDs and type IDs that an answer hands out, as often as it does

ABSENT_INFORMATION: Final = 101
NATIVE_METHOD: Final = 511
# Errors that are as lasting as an answer: the class file has no such table. All others pass and are not remembered.
LASTING_ERRORS: Final = frozenset({ABSENT_INFORMATION, NATIVE_METHOD})

CAPABILITIES: Final = command(1, 12)
CLASS_PATHS: Final = command(1, 13)
DISPOSE_OBJECTS: Final = command(1, 14)
CAPABILITIES_NEW: Final = command(1, 17)
SET_DEFAULT_STRATUM: Final = command(1, 19)
TOP_LEVEL_GROUPS: Final = command(1, 5)
TYPE_FIELDS: Final = command(2, 4)
TYPE_VALUES: Final = command(2, 6)
TYPE_SOURCE_FILE: Final = command(2, 7)
TYPE_INTERFACES: Final = command(2, 10)
TYPE_EXTENSION: Final = command(2, 12)
TYPE_FIELDS_GENERIC: Final = command(2, 14)
SUPERCLASS: Final = command(3, 1)
METHOD_VARIABLES: Final = command(6, 2)
METHOD_VARIABLES_GENERIC: Final = command(6, 5)
OBJECT_TYPE: Final = command(9, 1)
OBJECT_VALUES: Final = command(9, 2)
IS_COLLECTED: Final = command(9, 9)
STRING_VALUE: Final = command(10, 1)
THREAD_GROUP: Final = command(11, 5)
THREAD_FRAME_COUNT: Final = command(11, 7)
GROUP_NAME: Final = command(12, 1)
GROUP_PARENT: Final = command(12, 2)
GROUP_CHILDREN: Final = command(12, 3)
ARRAY_LENGTH: Final = command(13, 1)
ARRAY_VALUES: Final = command(13, 2)
FRAME_VALUES: Final = command(16, 1)
FRAME_THIS: Final = command(16, 3)
REQUEST_CLEAR: Final = command(15, 2)
CLASS_UNLOAD: Final = 9  # a kind of event

# Seconds, at the debugger's end, beyond the time that any reply is on its way: as long as a person does not notice,
# and long enough for a debugger to ask the names of a thousand threads one after the other.
MOMENT_S: Final = 1.0
INVALID_OBJECT: Final = 20  # the error for an object that has been collected

_RUNNING, _SLEEPING, _AT_MONITOR, _WAITING = 1, 2, 3, 4  # a thread's status
_WHOLE_LIST: Final = b"\xff\xff\xff\xff"  # of frames
_FRAME_SIZE: Final = 8 + 1 + 8 + 8 + 8

_uint = struct.Struct(">I").unpack_from
_id = struct.Struct(">Q").unpack_from

_OBJECT_TAGS: Final = frozenset(b"L[stglc")
_VALUE_SIZES: Final = {
    **dict.fromkeys(_OBJECT_TAGS, 8), **dict.fromkeys(b"BZ", 1), **dict.fromkeys(b"CS", 2),
    **dict.fromkeys(b"IF", 4), **dict.fromkeys(b"JD", 8), ord("V"): 0,
}  # fmt: skip


class Lifetime(IntEnum):
    VM = 0
    CLASS = 1
    THREAD = 2
    STILL = 3
    MOMENT = 4


class Otherwise(Enum):
    """Says how long what a still VM answers lasts where only some threads are suspended."""

    UNKNOWN = auto()  # it may be another at any time
    OWN_THREAD = auto()  # as long as the thread that it is about is suspended, whatever other threads do
    ANY_THREAD = auto()  # as long as any thread is: it is about an object, and never changes during the object's life
    MOMENT = auto()  # for MOMENT_S: it hardly ever changes


class Subject(Enum):
    """The kind of thing a question is about, whose ID its payload begins with."""

    VM = auto()
    TYPE = auto()
    METHOD = auto()
    OBJECT = auto()
    STRING = auto()
    ARRAY = auto()
    THREAD = auto()
    GROUP = auto()
    FRAME = auto()


class Effect(Flag):
    NONE = 0
    STATE = auto()  # values, stacks or IDs may be others afterwards
    RESUMES = auto()  # threads may run afterwards
    CLASSES = auto()  # classes may be others afterwards


class Row(NamedTuple):
    lifetime: Lifetime
    subject: Subject
    mentions: Callable[[bytes], Mentions]
    source: str  # in "JDWP Protocol Details", why the answer lasts
    otherwise: Otherwise = Otherwise.UNKNOWN


# What answers mention


def _nothing(_: bytes) -> Mentions:
    return (), ()


def _objects(ids: Iterator[int] | list[int]) -> Mentions:
    return tuple(i for i in ids if i), ()


def _one_object(answer: bytes) -> Mentions:
    return _objects([_id(answer)[0]])


def _one_tagged_object(answer: bytes) -> Mentions:
    return _objects([_id(answer, 1)[0]])


def _one_type(answer: bytes) -> Mentions:
    return (), _objects([_id(answer)[0]])[0]


def _one_tagged_type(answer: bytes) -> Mentions:
    return (), _objects([_id(answer, 1)[0]])[0]


def _column(answer: bytes, *, at: int, stride: int, offset: int) -> list[int]:
    """Return the IDs at *offset* of each of the entries of *stride* bytes, whose count is at *at*."""
    (count,) = _uint(answer, at)
    begin = at + 4
    if count * stride > len(answer) - begin:
        raise Malformed
    column = struct.Struct(f">{offset}xQ{stride - offset - 8}x").iter_unpack
    return [i for (i,) in column(memoryview(answer)[begin : begin + count * stride])]


def _object_list(answer: bytes) -> Mentions:
    return _objects(_column(answer, at=0, stride=8, offset=0))


def _tagged_object_list(answer: bytes) -> Mentions:
    return _objects(_column(answer, at=0, stride=9, offset=1))


def _monitors_and_depths(answer: bytes) -> Mentions:
    return _objects(_column(answer, at=0, stride=13, offset=1))


def _children(answer: bytes) -> Mentions:
    threads = _column(answer, at=0, stride=8, offset=0)
    return _objects([*threads, *_column(answer, at=4 + 8 * len(threads), stride=8, offset=0)])


def _type_list(answer: bytes) -> Mentions:
    return (), _objects(_column(answer, at=0, stride=8, offset=0))[0]


def _tagged_type_list(answer: bytes) -> Mentions:
    return (), _objects(_column(answer, at=0, stride=9, offset=1))[0]


def _frame_types(answer: bytes) -> Mentions:
    return (), _objects(_column(answer, at=0, stride=_FRAME_SIZE, offset=9))[0]


def _value_list(answer: bytes) -> Mentions:
    return _objects([i for i in map(object_in, split_values(answer)) if i])


def _array_region(answer: bytes) -> Mentions:
    if answer[0] not in _OBJECT_TAGS:
        return (), ()
    return _objects(_column(answer, at=1, stride=9, offset=1))


# The table

_VM: Final = "VirtualMachine: describes the target VM itself"
_CLASS: Final = "ReferenceType, Method: taken from the class file"
_STILL: Final = "VirtualMachine.Suspend: suspends the execution of the application"
_STACK: Final = "StackFrame: a frame ID is valid while its thread is suspended"
_OBJECT: Final = (
    "ObjectReference.ReferenceType: the runtime type; arrays have their length, strings their characters for life"
)
_BRIEF: Final = "ThreadReference: no state of the thread is asked for, only what it is called and whether it is there"

_SOURCES: Final = {
    Otherwise.UNKNOWN: _STILL,
    Otherwise.OWN_THREAD: _STACK,
    Otherwise.ANY_THREAD: _OBJECT,
    Otherwise.MOMENT: _BRIEF,
}


def _still(subject: Subject, mentions: Callable[[bytes], Mentions], otherwise: Otherwise = Otherwise.UNKNOWN) -> Row:
    return Row(Lifetime.STILL, subject, mentions, _SOURCES[otherwise], otherwise)


def _class(mentions: Callable[[bytes], Mentions] = _nothing, *, subject: Subject = Subject.TYPE) -> Row:
    return Row(Lifetime.CLASS, subject, mentions, _CLASS)


ROWS: Final[dict[int, Row]] = {
    **dict.fromkeys(
        (wire.VM_VERSION, wire.VM_ID_SIZES, CAPABILITIES, CLASS_PATHS, CAPABILITIES_NEW),
        Row(Lifetime.VM, Subject.VM, _nothing, _VM),
    ),
    wire.VM_ALL_THREADS: _still(Subject.VM, _object_list),
    TOP_LEVEL_GROUPS: _still(Subject.VM, _object_list),
    wire.TYPE_SIGNATURE: _class(),
    command(2, 2): _class(_one_object),  # ClassLoader
    command(2, 3): _class(),  # Modifiers
    TYPE_FIELDS: _class(),
    wire.TYPE_METHODS: _class(),
    TYPE_VALUES: _still(Subject.TYPE, _value_list),
    TYPE_SOURCE_FILE: _class(),
    command(2, 8): _still(Subject.TYPE, _tagged_type_list),  # NestedTypes: those that are loaded
    command(2, 9): _still(Subject.TYPE, _nothing),  # Status
    TYPE_INTERFACES: _class(_type_list),
    command(2, 11): _class(_one_object),  # ClassObject
    TYPE_EXTENSION: _class(),
    wire.TYPE_SIGNATURE_GENERIC: _class(),
    TYPE_FIELDS_GENERIC: _class(),
    wire.TYPE_METHODS_GENERIC: _class(),
    command(2, 17): _class(),  # ClassFileVersion
    command(2, 19): _class(_one_object),  # Module
    SUPERCLASS: _class(_one_type),
    wire.METHOD_LINES: _class(subject=Subject.METHOD),
    METHOD_VARIABLES: _class(subject=Subject.METHOD),
    command(6, 3): _class(subject=Subject.METHOD),  # Bytecodes: as loaded, without breakpoints
    METHOD_VARIABLES_GENERIC: _class(subject=Subject.METHOD),
    OBJECT_TYPE: _still(Subject.OBJECT, _one_tagged_type, Otherwise.ANY_THREAD),
    OBJECT_VALUES: _still(Subject.OBJECT, _value_list),
    # Asked of threads, one by one. The collector may also work while the whole VM is suspended.
    IS_COLLECTED: Row(Lifetime.MOMENT, Subject.OBJECT, _nothing, _BRIEF, Otherwise.MOMENT),
    STRING_VALUE: _still(Subject.STRING, _nothing, Otherwise.ANY_THREAD),
    wire.THREAD_NAME: _still(Subject.THREAD, _nothing, Otherwise.MOMENT),  # a running thread may be renamed
    wire.THREAD_STATUS: _still(Subject.THREAD, _nothing),  # as of the stop: see `is_same`
    THREAD_GROUP: _still(Subject.THREAD, _one_object, Otherwise.MOMENT),  # null once the thread has ended
    wire.THREAD_FRAMES: _still(Subject.THREAD, _frame_types, Otherwise.OWN_THREAD),
    THREAD_FRAME_COUNT: _still(Subject.THREAD, _nothing, Otherwise.OWN_THREAD),
    command(11, 8): _still(Subject.THREAD, _tagged_object_list),  # OwnedMonitors
    command(11, 13): _still(Subject.THREAD, _monitors_and_depths),  # OwnedMonitorsStackDepthInfo
    GROUP_NAME: _still(Subject.GROUP, _nothing),
    GROUP_PARENT: _still(Subject.GROUP, _one_object),
    GROUP_CHILDREN: _still(Subject.GROUP, _children),
    ARRAY_LENGTH: _still(Subject.ARRAY, _nothing, Otherwise.ANY_THREAD),
    ARRAY_VALUES: _still(Subject.ARRAY, _array_region),
    FRAME_VALUES: _still(Subject.FRAME, _value_list, Otherwise.OWN_THREAD),
    FRAME_THIS: _still(Subject.FRAME, _one_tagged_object, Otherwise.OWN_THREAD),
    command(17, 1): _class(_one_tagged_type),  # ReflectedType
}

# Commands without a row that change nothing which a row remembers.
_HARMLESS: Final = frozenset(
    {
        wire.VM_CLASSES_BY_SIGNATURE, wire.VM_ALL_CLASSES, wire.VM_ALL_CLASSES_GENERIC, wire.VM_SUSPEND,
        command(1, 11),  # CreateString
        command(1, 21), command(1, 22),  # InstanceCounts, AllModules
        command(2, 16), command(2, 18),  # Instances, ConstantPool
        command(4, 1),  # ArrayType.NewInstance
        command(6, 4),  # IsObsolete
        # What a wait with a deadline changes at its end, also while its thread is suspended: MonitorInfo and
        # CurrentContendedMonitor.
        command(9, 5), command(11, 9),
        command(9, 7), command(9, 8), command(9, 10),  # collection of objects, ReferringObjects
        wire.THREAD_SUSPEND, wire.THREAD_SUSPEND_COUNT, command(11, 15),  # IsVirtual
        command(14, 1),  # VisibleClasses
        wire.REQUEST_SET, REQUEST_CLEAR, command(15, 3),  # of events; all breakpoints
        command(18, 1), command(18, 2),  # ModuleReference
    }
)  # fmt: skip
_RESUMING: Final = frozenset({wire.VM_RESUME, wire.THREAD_RESUME})
_STATE: Final = INVOKES | {
    DISPOSE_OBJECTS,
    command(1, 15), command(1, 16),  # HoldEvents, ReleaseEvents
    command(3, 2), command(9, 3), command(13, 3), command(16, 2),  # SetValues
    command(11, 10), command(11, 11), command(11, 14),  # Stop, Interrupt, ForceEarlyReturn
    wire.FRAME_POP,
}  # fmt: skip


def effect_of(number: int, payload: bytes) -> Effect:
    """Return what a command ends; *payload* may be its beginning."""
    if number in ROWS:
        return Effect.NONE
    if number == REQUEST_CLEAR and payload[:1] in (b"", bytes([CLASS_UNLOAD])):
        return Effect.STATE | Effect.CLASSES  # unloaded classes are not reported any more
    if number in _HARMLESS:
        return Effect.NONE
    if number in _STATE:
        return Effect.STATE
    if number in _RESUMING:
        return Effect.STATE | Effect.RESUMES
    if number in (wire.VM_REDEFINE_CLASSES, SET_DEFAULT_STRATUM):  # the stratum chooses line tables
        return Effect.STATE | Effect.CLASSES
    return Effect.STATE | Effect.RESUMES | Effect.CLASSES


def mentions(number: int, answer: bytes) -> Mentions:
    """Return the IDs that *answer* hands out; Malformed if it is not what its command says."""
    try:
        return ROWS[number].mentions(answer)
    except (struct.error, IndexError) as e:
        raise Malformed from e


def is_same(number: int, remembered: bytes, truth: bytes) -> bool:
    """Return whether a remembered answer is still the JVM's.

    A sleep or a wait whose time is up ends while its thread is suspended: seen with HotSpot 17. The thread's status is
    then another, though it has not moved; what it was at the stop is remembered, and counts as the same.
    """
    if remembered == truth:
        return True
    if number != wire.THREAD_STATUS or len(truth) != 8 or remembered[4:] != truth[4:]:
        return False
    return remembered[3] in (_SLEEPING, _WAITING) and truth[3] in (_RUNNING, _AT_MONITOR)


def is_collected_since(number: int, error: int) -> bool:
    """Return whether the JVM's *error* says that the object of a remembered answer has been collected since.

    While other threads run, what they alone hold may go; what was remembered was so until then.
    """
    return error == INVALID_OBJECT and ROWS[number].otherwise is Otherwise.ANY_THREAD


# Questions about several parts: what is known of each part answers any choice of them

_MOST_PARTS: Final = 1024
_PART_SIZES: Final = {TYPE_VALUES: (8, 8), OBJECT_VALUES: (8, 8), FRAME_VALUES: (16, 5)}  # of the subject, of a part


def split_question(number: int, payload: bytes) -> tuple[bytes, list[bytes]] | None:
    """Return the subject of a question about fields or variables, and its parts; None for other questions."""
    sizes = _PART_SIZES.get(number)
    if sizes is None:
        return None
    begin, size = sizes[0] + 4, sizes[1]
    if (
        not begin < len(payload) <= begin + _MOST_PARTS * size
        or len(payload) != begin + _uint(payload, sizes[0])[0] * size
    ):
        return None
    return payload[: sizes[0]], [payload[at : at + size] for at in range(begin, len(payload), size)]


def split_values(answer: bytes) -> list[bytes]:
    """Return the tagged values of a list."""
    values, at = [], 4
    (count,) = _uint(answer)
    if count > len(answer):
        raise Malformed
    try:
        for _ in range(count):
            end = at + 1 + _VALUE_SIZES[answer[at]]
            values.append(answer[at:end])
            at = end
    except (IndexError, KeyError) as e:
        raise Malformed from e
    if at != len(answer):
        raise Malformed
    return values


def split_array(answer: bytes) -> list[bytes]:
    """Return the tagged values of a part of an array, if it is one of objects."""
    if not answer or answer[0] not in _OBJECT_TAGS:
        return []
    return [answer[at : at + 9] for at in range(5, len(answer) - 8, 9)]


def join_values(values: list[bytes]) -> bytes:
    return struct.pack(">I", len(values)) + b"".join(values)


def object_in(value: bytes) -> int:
    """Return the object's ID in a tagged value; 0 for null and for what is not an object."""
    return int.from_bytes(value[1:9]) if value[0] in _OBJECT_TAGS else 0


# Frames: the whole list answers each range of it


def all_frames(thread: bytes) -> bytes:
    """Return the payload that asks for all frames of a thread."""
    return thread + bytes(4) + _WHOLE_LIST


def some_frames(payload: bytes, whole: bytes) -> bytes | None:
    """Return the answer to a question about a range of frames, out of the *whole* list; None if it has no such range.

    The JVM refuses ranges beyond the list, in several ways: those questions are for the JVM.
    """
    start, length = struct.unpack(">ii", payload[8:16])
    (count,) = _uint(whole)
    if length == -1:
        length = count - start
    if start < 0 or length < 1 or start + length > count:
        return None
    begin = 4 + start * _FRAME_SIZE
    return struct.pack(">I", length) + whole[begin : begin + length * _FRAME_SIZE]
