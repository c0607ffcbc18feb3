"""Which commands of a debugger are looked into, how much of them and of their replies, and what they are counted as."""

from typing import Final

from noah.core.jdwp import wire

MOST_LOADERS: Final = 64  # of classes of one name

INVOKES: Final = frozenset({wire.CLASS_INVOKE, wire.CLASS_NEW_INSTANCE, wire.INTERFACE_INVOKE, wire.OBJECT_INVOKE})
ABOUT_THREADS: Final = frozenset(
    {wire.VM_ALL_THREADS, wire.THREAD_FRAMES, wire.THREAD_STATUS, wire.THREAD_SUSPEND_COUNT, wire.FRAME_POP}
)
LONGEST_INVOKE: Final = 256  # bytes of its payload, at whose end its options are: some 25 arguments
# Commands that may change what is suspended: one that cannot be understood leaves the state unknown.
SUSPENDING: Final = INVOKES | {
    wire.VM_DISPOSE,
    wire.VM_SUSPEND,
    wire.VM_RESUME,
    wire.THREAD_SUSPEND,
    wire.THREAD_RESUME,
}
# Commands that are looked into, and how many bytes of their payload that takes. The others are only counted.
COMMAND_HEADS: Final = {
    wire.VM_VERSION: 0,
    wire.VM_CLASSES_BY_SIGNATURE: 4 + wire.LONGEST_NAME,
    wire.VM_ALL_CLASSES: 0,
    wire.VM_ALL_THREADS: 0,
    wire.VM_DISPOSE: 0,
    wire.VM_ID_SIZES: 0,
    wire.VM_SUSPEND: 0,
    wire.VM_RESUME: 0,
    wire.VM_EXIT: 0,
    wire.VM_REDEFINE_CLASSES: 0,
    wire.VM_ALL_CLASSES_GENERIC: 0,
    wire.TYPE_SIGNATURE: 8,
    wire.TYPE_METHODS: 8,
    wire.TYPE_SIGNATURE_GENERIC: 8,
    wire.TYPE_METHODS_GENERIC: 8,
    **dict.fromkeys(INVOKES, LONGEST_INVOKE),
    wire.METHOD_LINES: 16,
    wire.THREAD_NAME: 8,
    wire.THREAD_SUSPEND: 8,
    wire.THREAD_RESUME: 8,
    wire.THREAD_STATUS: 8,
    wire.THREAD_FRAMES: 12,
    wire.THREAD_SUSPEND_COUNT: 8,
    wire.REQUEST_SET: 16,
    wire.FRAME_POP: 8,
}
# The same for replies, by what they answer. Names beyond these limits are not missed often, and can be asked for.
REPLY_HEADS: Final = {
    wire.VM_VERSION: 2048,
    wire.VM_CLASSES_BY_SIGNATURE: 4 + 13 * MOST_LOADERS,
    wire.VM_ALL_CLASSES: 256 << 10,
    wire.VM_ALL_THREADS: 16 << 10,
    wire.VM_ID_SIZES: 20,
    wire.VM_SUSPEND: 0,
    wire.VM_REDEFINE_CLASSES: 0,
    wire.VM_ALL_CLASSES_GENERIC: 256 << 10,
    wire.TYPE_SIGNATURE: 1024,
    wire.TYPE_METHODS: 128 << 10,
    wire.TYPE_SIGNATURE_GENERIC: 1024,
    wire.TYPE_METHODS_GENERIC: 128 << 10,
    **dict.fromkeys(INVOKES, 0),
    wire.METHOD_LINES: 8 << 10,
    wire.THREAD_NAME: 1024,
    wire.THREAD_SUSPEND: 0,
    wire.THREAD_STATUS: 8,
    wire.THREAD_FRAMES: 4 + 8 + 25,
    wire.THREAD_SUSPEND_COUNT: 4,
    wire.FRAME_POP: 0,
}
EVENT_HEAD: Final = 1024

UNKNOWN: Final = 0  # in counts: commands that JDWP does not have
BREAKPOINT_SET: Final = -1  # in counts: requests for a breakpoint, apart from requests for other events
KINDS: Final = wire.NAMES | {
    UNKNOWN: "unknown",
    BREAKPOINT_SET: "breakpoints set",
    **dict.fromkeys(INVOKES, "methods invoked"),
    **dict.fromkeys((wire.command(s, c) for s, c in ((3, 2), (9, 3), (13, 3), (16, 2))), "values set"),
    wire.VM_REDEFINE_CLASSES: "classes redefined",
}
