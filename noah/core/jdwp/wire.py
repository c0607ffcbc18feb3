"""The JDWP wire format, as much of it as a bystander needs.

After a handshake of 14 bytes each way, packets: length (4, the header included), ID (4), flags (1), then command set
and command (1 + 1), or a reply's error code (2). Everything is big-endian. A reply does not say what it answers: its ID
does. The numbers are those of "JDWP Protocol Details" of the JDK; sizes of IDs are the JVM's own, as IDSizes says.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

HANDSHAKE: Final = b"JDWP-Handshake"
HEADER_SIZE: Final = 11
LONGEST_NAME: Final = 200  # bytes of a name that are kept
REPLY: Final = 0x80  # the only flag there is

# The header with command set and command read as one number; for a reply that number is the error code.
header = struct.Struct(">IIBH").unpack_from
command_header = struct.Struct(">IB3xBH").unpack_from  # of the ID only the first byte
reply_header = struct.Struct(">IIB").unpack_from  # without the error code
_line_entries: Final = struct.Struct(">QI").iter_unpack


def command(command_set: int, number: int) -> int:
    return command_set << 8 | number


VM_VERSION: Final = command(1, 1)
VM_CLASSES_BY_SIGNATURE: Final = command(1, 2)
VM_ALL_CLASSES: Final = command(1, 3)
VM_ALL_THREADS: Final = command(1, 4)
VM_DISPOSE: Final = command(1, 6)
VM_ID_SIZES: Final = command(1, 7)
VM_SUSPEND: Final = command(1, 8)
VM_RESUME: Final = command(1, 9)
VM_EXIT: Final = command(1, 10)
VM_REDEFINE_CLASSES: Final = command(1, 18)
VM_ALL_CLASSES_GENERIC: Final = command(1, 20)
# A command that JDWP does not have: a JVM answers it with the error NOT_IMPLEMENTED (99). Positive as a signed byte,
# since HotSpot uses it as an index.
VM_UNKNOWN: Final = command(1, 127)
TYPE_SIGNATURE: Final = command(2, 1)
TYPE_METHODS: Final = command(2, 5)
TYPE_SIGNATURE_GENERIC: Final = command(2, 13)
TYPE_METHODS_GENERIC: Final = command(2, 15)
CLASS_INVOKE: Final = command(3, 3)
CLASS_NEW_INSTANCE: Final = command(3, 4)
INTERFACE_INVOKE: Final = command(5, 1)
METHOD_LINES: Final = command(6, 1)
OBJECT_INVOKE: Final = command(9, 6)
THREAD_NAME: Final = command(11, 1)
THREAD_SUSPEND: Final = command(11, 2)
THREAD_RESUME: Final = command(11, 3)
THREAD_STATUS: Final = command(11, 4)
THREAD_FRAMES: Final = command(11, 6)
THREAD_SUSPEND_COUNT: Final = command(11, 12)
REQUEST_SET: Final = command(15, 1)
FRAME_POP: Final = command(16, 4)
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
THREAD_DEATH: Final = 7
# Events that begin with a thread and a location: step, breakpoint, exception, fields, methods. Those of monitors have
# an object between the two.
_AT_LOCATION: Final = frozenset({1, BREAKPOINT, 4, 20, 21, 40, 41, 42})
_AT_MONITOR: Final = frozenset({43, 44, 45, 46})
_AT_THREAD: Final = frozenset({6, THREAD_DEATH, CLASS_PREPARE, 90})

ZOMBIE: Final = 0  # a thread's status: it has ended
SINGLE_THREADED: Final = 1  # an option of the commands that invoke methods: other threads are not resumed for it

NO_ONE, EVENT_THREAD, ALL = range(3)  # suspend policies

_DULL = (b"Ljava/", b"Ljavax/", b"Ljdk/", b"Lsun/", b"Lcom/sun/", b"[")


class Malformed(Exception):
    """A payload that is not what its command says."""


@dataclass(frozen=True, slots=True)
class IdSizes:
    """Sizes in bytes, 1 to 8. HotSpot has used 8 for all of them since it is 64-bit, so that is what to expect."""

    method: int = 8
    thread: int = 8  # and of any other object
    type: int = 8
    frame: int = 8


@dataclass(frozen=True, slots=True)
class Location:
    type: int
    method: int
    index: int


@dataclass(frozen=True, slots=True)
class Events:
    """A composite's policy and what its first event says; all events of one composite have one thread and location."""

    policy: int
    kind: int | None = None
    thread: int | None = None
    location: Location | None = None
    prepared: tuple[int, str] | None = None  # a class's ID and signature


class Reader:
    """Read a payload, or its beginning, from the start; Malformed when it ends too early."""

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

    def frame_id(self) -> int:
        return self.number(self._sizes.frame)

    def text(self) -> str:
        """Read a string; return its first LONGEST_NAME bytes."""
        begin, end = self._at + 4, self._at + 4 + self.number(4)
        if end > len(self._payload):
            raise Malformed
        self._at = end
        return self._payload[begin : min(end, begin + LONGEST_NAME)].decode(errors="replace")

    def location(self) -> Location:
        self.byte()  # class, interface or array
        return Location(self.type_id(), self.method_id(), self.number(8))


def read_events(payload: bytes, sizes: IdSizes) -> Events:
    """Read a composite; Malformed also when only the policy can be read."""
    reader = Reader(payload, sizes)
    policy, count = reader.byte(), reader.uint()
    if policy > ALL:
        raise Malformed
    if count == 0:
        return Events(policy)
    kind, _request = reader.byte(), reader.uint()
    if kind in _AT_LOCATION:
        return Events(policy, kind, reader.thread_id(), reader.location())
    if kind in _AT_MONITOR:
        thread, _tag, _monitor = reader.thread_id(), reader.byte(), reader.thread_id()  # all objects' IDs have one size
        return Events(policy, kind, thread, reader.location())
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
    return IdSizes(method=method, thread=thing, type=type_, frame=frame)


def read_top_frame(payload: bytes, sizes: IdSizes) -> Location | None:
    """Return the location of the first frame in a reply to ThreadReference.Frames; None if there are no frames."""
    reader = Reader(payload, sizes)
    if not reader.uint():
        return None
    reader.frame_id()
    return reader.location()


def read_version(payload: bytes) -> str:
    """Return the JVM's name and version, as people know it."""
    reader = Reader(payload, IdSizes())
    reader.text()  # several lines of description
    reader.uint(), reader.uint()  # JDWP's version
    version, name = reader.text(), reader.text()
    return f"{name} {version}"


def read_methods(payload: bytes, sizes: IdSizes, *, generic: bool, most: int) -> dict[int, str]:
    """Return names by method ID, of the first *most* methods and of those that *payload* has in full."""
    at, size, end = 4, sizes.method, len(payload)
    names = {}
    for _ in range(min(int.from_bytes(payload[:4]), most)):
        method, at = payload[at : at + size], at + size + 4
        begin, at = at, at + int.from_bytes(payload[at - 4 : at])
        name = payload[begin : min(at, begin + LONGEST_NAME)]
        for _ in range(2 if generic else 1):  # signatures
            at += 4 + int.from_bytes(payload[at : at + 4])
        at += 4  # modifiers
        if at > end:
            break
        names[int.from_bytes(method)] = name.decode(errors="replace")
    return names


def read_lines(payload: bytes, *, most: int) -> list[tuple[int, int]]:
    """Return code indexes and the lines that begin there; of the first *most* entries, as far as *payload* has them."""
    begin = 8 + 8 + 4  # after the method's first and last code index, and the number of entries
    count = min(int.from_bytes(payload[16:begin]), most, max(0, len(payload) - begin) // 12)
    return [*_line_entries(payload[begin : begin + 12 * count])]


def read_threads(payload: bytes, sizes: IdSizes) -> list[int] | None:
    """Return the IDs in a reply to AllThreads; None if *payload* has not all of them."""
    count, size = int.from_bytes(payload[:4]), sizes.thread
    if not 4 <= 4 + count * size <= len(payload):
        return None
    return [int.from_bytes(payload[at : at + size]) for at in range(4, 4 + count * size, size)]


def read_types(payload: bytes, sizes: IdSizes, *, most: int) -> list[int]:
    """Return the IDs in a reply to ClassesBySignature: one for each class loader that has a class of that name."""
    reader = Reader(payload, sizes)
    types = []
    for _ in range(min(reader.uint(), most)):
        reader.byte()  # class, interface or array
        types.append(reader.type_id())
        reader.uint()  # status
    return types


def read_classes(payload: bytes, sizes: IdSizes, *, generic: bool) -> Iterator[tuple[int, str]]:
    """Yield IDs and names of the classes of an application in a reply to AllClasses, as far as *payload* goes.

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


def packet(packet_id: int, number: int, payload: bytes) -> bytes:
    return struct.pack(">IIBH", HEADER_SIZE + len(payload), packet_id, 0, number) + payload


def class_name(signature: str) -> str:
    """Turn Lcom/shop/OrderService$Line; into OrderService$Line.

    Hidden classes, which most lambdas are, have a dot before their address, where people see a slash.
    """
    return signature.removeprefix("L").removesuffix(";").rpartition("/")[2].replace(".", "/")
