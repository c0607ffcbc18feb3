"""The JDWP wire format, as much of it as a bystander needs.

After a handshake of 14 bytes each way, packets: length (4, the header included), ID (4), flags (1), then command set
and command (1 + 1), or a reply's error code (2). Everything is big-endian. A reply does not say what it answers: its ID
does. The numbers are those of "JDWP Protocol Details" of the JDK; sizes of IDs are the JVM's own, told by IDSizes.
"""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

HANDSHAKE: Final = b"JDWP-Handshake"
HEADER_SIZE: Final = 11
LONGEST_NAME: Final = 200  # bytes of a name that are kept
REPLY: Final = 0x80  # the only flag there is
NOT_IMPLEMENTED: Final = 99

# The header with command set and command read as one number; for a reply that number is the error code.
header = struct.Struct(">IIBH").unpack_from
command_header = struct.Struct(">I4xBH").unpack_from  # without the ID
reply_header = struct.Struct(">IIB").unpack_from  # without the error code


def command(command_set: int, number: int) -> int:
    return command_set << 8 | number


VM_VERSION: Final = command(1, 1)
VM_ALL_CLASSES: Final = command(1, 3)
VM_DISPOSE: Final = command(1, 6)
VM_ID_SIZES: Final = command(1, 7)
VM_SUSPEND: Final = command(1, 8)
VM_RESUME: Final = command(1, 9)
VM_EXIT: Final = command(1, 10)
VM_ALL_CLASSES_GENERIC: Final = command(1, 20)
TYPE_SIGNATURE: Final = command(2, 1)
TYPE_METHODS: Final = command(2, 5)
TYPE_SIGNATURE_GENERIC: Final = command(2, 13)
TYPE_METHODS_GENERIC: Final = command(2, 15)
METHOD_LINES: Final = command(6, 1)
THREAD_NAME: Final = command(11, 1)
THREAD_SUSPEND: Final = command(11, 2)
THREAD_RESUME: Final = command(11, 3)
REQUEST_SET: Final = command(15, 1)
EVENTS: Final = command(64, 100)  # Event.Composite, the one command that a JVM sends

_COMMANDS: Final = {
    1: (
        "VirtualMachine",
        "Version ClassesBySignature AllClasses AllThreads TopLevelThreadGroups Dispose IDSizes Suspend Resume Exit "
        "CreateString Capabilities ClassPaths DisposeObjects HoldEvents ReleaseEvents CapabilitiesNew RedefineClasses "
        "SetDefaultStratum AllClassesWithGeneric InstanceCounts AllModules",
    ),
    2: (
        "ReferenceType",
        "Signature ClassLoader Modifiers Fields Methods GetValues SourceFile NestedTypes Status Interfaces ClassObject "
        "SourceDebugExtension SignatureWithGeneric FieldsWithGeneric MethodsWithGeneric Instances ClassFileVersion "
        "ConstantPool Module",
    ),
    3: ("ClassType", "Superclass SetValues InvokeMethod NewInstance"),
    4: ("ArrayType", "NewInstance"),
    5: ("InterfaceType", "InvokeMethod"),
    6: ("Method", "LineTable VariableTable Bytecodes IsObsolete VariableTableWithGeneric"),
    9: (
        "ObjectReference",
        "ReferenceType GetValues SetValues _ MonitorInfo InvokeMethod DisableCollection EnableCollection IsCollected "
        "ReferringObjects",
    ),
    10: ("StringReference", "Value"),
    11: (
        "ThreadReference",
        "Name Suspend Resume Status ThreadGroup Frames FrameCount OwnedMonitors CurrentContendedMonitor Stop Interrupt "
        "SuspendCount OwnedMonitorsStackDepthInfo ForceEarlyReturn IsVirtual",
    ),
    12: ("ThreadGroupReference", "Name Parent Children"),
    13: ("ArrayReference", "Length GetValues SetValues"),
    14: ("ClassLoaderReference", "VisibleClasses"),
    15: ("EventRequest", "Set Clear ClearAllBreakpoints"),
    16: ("StackFrame", "GetValues SetValues ThisObject PopFrames"),
    17: ("ClassObjectReference", "ReflectedType"),
    18: ("ModuleReference", "Name ClassLoader"),
}
NAMES: Final = {
    command(number, i): f"{group}.{name}"
    for number, (group, names) in _COMMANDS.items()
    for i, name in enumerate(names.split(), 1)
}

BREAKPOINT: Final = 2
CLASS_PREPARE: Final = 8
VM_DEATH: Final = 99
# Events that begin with a thread and a location: step, breakpoint, exception, fields, methods. Those of monitors
# (43-46) have an object between the two.
_AT_LOCATION: Final = frozenset({1, BREAKPOINT, 4, 20, 21, 40, 41, 42})
_AT_THREAD: Final = frozenset({6, 7, CLASS_PREPARE, 43, 44, 45, 46, 90})

NO_ONE, EVENT_THREAD, ALL = range(3)  # suspend policies

_DULL = (b"Ljava/", b"Ljavax/", b"Ljdk/", b"Lsun/", b"Lcom/sun/", b"[")


class Malformed(Exception):
    """A payload that is not what its command says."""


@dataclass(frozen=True, slots=True)
class IdSizes:
    """In bytes, 1 to 8. HotSpot has used 8 for all of them since it is 64-bit, so that is what to expect."""

    method: int = 8
    thread: int = 8
    type: int = 8


@dataclass(frozen=True, slots=True)
class Location:
    type: int
    method: int
    index: int


@dataclass(frozen=True, slots=True)
class Events:
    """A composite's policy and what its first event tells; all events of one composite are of one thread and place."""

    policy: int
    kind: int | None = None
    thread: int | None = None
    location: Location | None = None
    prepared: tuple[int, str] | None = None  # a class's ID and signature


class Reader:
    """Reads a payload, or its beginning, from the start; Malformed when it ends too early."""

    def __init__(self, payload: bytes, sizes: IdSizes) -> None:
        self._payload = payload
        self._sizes = sizes
        self._at = 0

    def number(self, size: int) -> int:
        end = self._at + size
        if end > len(self._payload):
            raise Malformed
        value = int.from_bytes(self._payload[self._at : end])
        self._at = end
        return value

    def byte(self) -> int:
        return self.number(1)

    def uint(self) -> int:
        return self.number(4)

    def type_id(self) -> int:
        return self.number(self._sizes.type)

    def method_id(self) -> int:
        return self.number(self._sizes.method)

    def thread_id(self) -> int:
        return self.number(self._sizes.thread)

    def text(self) -> str:
        """The first LONGEST_NAME bytes of a string."""
        begin, end = self._at + 4, self._at + 4 + self.number(4)
        if end > len(self._payload):
            raise Malformed
        self._at = end
        return self._payload[begin : min(end, begin + LONGEST_NAME)].decode(errors="replace")

    def location(self) -> Location:
        self.byte()  # class, interface or array
        return Location(self.type_id(), self.method_id(), self.number(8))


def read_events(payload: bytes, sizes: IdSizes) -> Events:
    """Malformed also when only the policy can be read."""
    reader = Reader(payload, sizes)
    policy, count = reader.byte(), reader.uint()
    if policy > ALL:
        raise Malformed
    if count == 0:
        return Events(policy)
    kind, _request = reader.byte(), reader.uint()
    if kind in _AT_LOCATION:
        return Events(policy, kind, reader.thread_id(), reader.location())
    if kind in _AT_THREAD:
        return Events(policy, kind, reader.thread_id(), prepared=_prepared(reader) if kind == CLASS_PREPARE else None)
    return Events(policy, kind)


def _prepared(reader: Reader) -> tuple[int, str]:
    reader.byte()  # class, interface or array
    return reader.type_id(), class_name(reader.text())


def read_id_sizes(payload: bytes) -> IdSizes:
    reader = Reader(payload, IdSizes())
    field, method, thing, type_, frame = (reader.uint() for _ in range(5))
    if not all(1 <= size <= 8 for size in (field, method, thing, type_, frame)):
        raise Malformed
    return IdSizes(method=method, thread=thing, type=type_)


def read_version(payload: bytes) -> str:
    """The JVM's name and version, as people know it."""
    reader = Reader(payload, IdSizes())
    reader.text()  # several lines of description
    reader.uint(), reader.uint()  # JDWP's version
    version, name = reader.text(), reader.text()
    return f"{name} {version}"


def read_methods(payload: bytes, sizes: IdSizes, *, generic: bool, most: int) -> dict[int, str]:
    """Names by method ID, of the first *most* methods and of those that *payload* has in full."""
    reader = Reader(payload, sizes)
    names = {}
    with suppress(Malformed):
        for _ in range(min(reader.uint(), most)):
            method, name, _signature = reader.method_id(), reader.text(), reader.text()
            if generic:
                reader.text()
            reader.uint()  # modifiers
            names[method] = name
    return names


def read_lines(payload: bytes, *, most: int) -> dict[int, int]:
    """Lines by the code index at which they begin; of the first *most* entries."""
    reader = Reader(payload, IdSizes())
    lines = {}
    with suppress(Malformed):
        reader.number(8), reader.number(8)  # the method's first and last code index
        for _ in range(min(reader.uint(), most)):
            index, line = reader.number(8), reader.uint()
            lines[index] = line
    return lines


def read_classes(payload: bytes, sizes: IdSizes, *, generic: bool) -> Iterator[tuple[int, str]]:
    """IDs and names of the classes of an application in a reply to AllClasses, as far as *payload* goes.

    Classes of the JDK, arrays and lambdas are left out: they are most of the reply, and rarely where one stops.
    """
    at, size, end = 4, sizes.type, len(payload)
    while at + 5 + size <= end:
        type_id = int.from_bytes(payload[at + 1 : at + 1 + size])
        at += 5 + size
        begin, at = at, at + int.from_bytes(payload[at - 4 : at])
        signature = payload[begin:at]
        if generic:
            at += 4 + int.from_bytes(payload[at : at + 4])
        at += 4  # status
        if len(signature) <= LONGEST_NAME and not signature.startswith(_DULL) and b"$$" not in signature:
            yield type_id, class_name(signature.decode(errors="replace"))


def error_reply(packet_id: int, error: int) -> bytes:
    return struct.pack(">IIBH", HEADER_SIZE, packet_id, REPLY, error)


def class_name(signature: str) -> str:
    """Lcom/shop/OrderService$Line; -> OrderService$Line"""
    return signature.removeprefix("L").removesuffix(";").rpartition("/")[2]
