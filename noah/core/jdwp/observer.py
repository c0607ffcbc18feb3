"""A JDWP connection, understood as its bytes pass by; and what must not reach a JVM, stopped.

Each direction is fed what was read, in any pieces, and gives back what to pass on: nearly always the very bytes that
came. The debugger's direction holds back an unfinished header, with the few bytes of payload that are looked into; a
JVM cannot use them yet, and they go on with the packet's next byte. The JVM's direction holds back nothing. Of payloads
only beginnings are kept, only of packets that matter, only until they were read.

Handshakes are not its business: it begins after them. Where packets can no longer be told apart, everything passes.
"""

from typing import Final

from noah.core.jdwp import wire
from noah.core.jdwp.conversation import COMMAND_HEADS, EVENT_HEAD, UNKNOWN, Conversation, ExitRefused, PacketRefused
from noah.core.jdwp.wire import HEADER_SIZE, REPLY, command_header, header, reply_header

# A JVM allocates what a header says before it reads on. The longest packet that is meant well is RedefineClasses: MiBs.
LONGEST: Final = 64 << 20
ANSWERS: Final = 4096  # bytes of answers of our own that wait for a gap between the JVM's packets; more are left out
FOREVER: Final = 1 << 62  # the rest of a packet, where packets can no longer be told apart


class OversizedPacket(Exception):
    """The debugger announces a packet that no JVM should allocate."""

    def __init__(self, length: int) -> None:
        super().__init__(f"it announced a packet of {length} bytes; the most that is passed on is {LONGEST}")


class FromDebugger:
    __slots__ = ("_allow_exit", "_between", "_held", "_leaving_out", "_passed", "_rest", "_talk", "answers")

    def __init__(self, talk: Conversation, *, allow_exit: bool) -> None:
        self.answers = bytearray()  # of our own, in the JVM's stead
        self._talk = talk
        self._passed = talk.passed
        self._allow_exit = allow_exit
        self._between = True  # what comes next is a header, of which nothing is held
        self._rest = 0  # of a packet whose head has passed
        self._leaving_out = False  # that rest does not pass
        self._held = b""

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """What to pass on to the JVM. OversizedPacket: hang up, before the JVM allocates it."""
        size = len(data)
        if self._between and size >= HEADER_SIZE:
            # Nearly all: one whole packet, of a kind that has passed before.
            length, flags, number = command_header(data)
            if length == size and number in self._passed and not flags:
                self._passed[number] += 1
                return data
        return self._feed(data)

    def _feed(self, data: bytes | memoryview) -> bytes | memoryview:
        if self._held:
            data = self._held + data
        view, size, at = memoryview(data), len(data), self._rest
        begin = at if self._leaving_out else 0  # of what is passed on
        pieces: list[memoryview] = []
        while at + HEADER_SIZE <= size:
            length, packet_id, flags, number = header(view, at)
            length = self._checked(length)
            head = at + min(length, HEADER_SIZE + (COMMAND_HEADS.get(number, 0) if not flags & REPLY else 0))
            if head > size:
                break
            if not flags & REPLY and not self._passes(number, packet_id, view[at + HEADER_SIZE : head]):
                pieces.append(view[begin:at])
                begin = at + length
            at += length
        self._held = bytes(view[at:])
        self._rest = max(0, at - size)
        self._leaving_out = begin > size
        self._between = at == size
        if begin:
            return b"".join([*pieces, view[begin:at]])
        return data if at >= size else view[:at]

    def take_held(self) -> bytes:
        """What is held back when the debugger has ended: it goes to the JVM as it is."""
        held, self._held = self._held, b""
        return held

    def _checked(self, length: int) -> int:
        if length > LONGEST:
            self._talk.events.append(PacketRefused(length))
            raise OversizedPacket(length)
        if length >= HEADER_SIZE:
            return length
        # The JVM will hang up. Where the next packet begins nobody can say.
        self._talk.doubt()
        return FOREVER

    def _passes(self, number: int, packet_id: int, head: memoryview) -> bool:
        if number == wire.VM_EXIT and not self._allow_exit:
            if len(self.answers) < ANSWERS:
                self.answers += wire.error_reply(packet_id, wire.NOT_IMPLEMENTED)
            self._talk.events.append(ExitRefused())
            return False
        if number in COMMAND_HEADS:
            self._talk.command(number, packet_id, bytes(head))
        else:
            known = number if number in wire.NAMES else UNKNOWN
            self._passed[known] = self._passed.get(known, 0) + 1
        return True


class FromJvm:
    __slots__ = ("_answers", "_asked", "_between", "_gathered", "_goal", "_rest", "_talk")

    def __init__(self, talk: Conversation, *, answers: bytearray) -> None:
        self._talk = talk
        self._asked = talk.asked
        self._answers = answers
        self._between = True  # what comes next is a header, of which nothing is gathered
        self._rest = 0  # of a packet whose head has passed
        self._gathered = bytearray()  # the head of a packet that is looked into
        self._goal = HEADER_SIZE  # its size

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """What to pass on to the debugger: *data*, and answers of our own where they fit between two packets."""
        size = len(data)
        if self._between and size >= HEADER_SIZE:
            # Nearly all: one whole reply that nobody looks into.
            length, packet_id, flags = reply_header(data)
            if length == size and flags == REPLY and packet_id not in self._asked and not self._answers:
                return data
        return self._feed(data)

    def _feed(self, data: bytes | memoryview) -> bytes | memoryview:
        size, at = len(data), self._rest
        gap = at if not self._gathered else FOREVER  # the first place between two packets
        if self._gathered:
            at = self._gather(data, at)
        while at + HEADER_SIZE <= size:
            length, packet_id, flags = reply_header(data, at)
            if flags & REPLY and packet_id not in self._asked and length >= HEADER_SIZE:
                at += length
            else:
                at = self._gather(data, at)
        if at < size:
            self._gathered += data[at:]
            at = size
        self._rest = at - size
        self._between = at == size and not self._gathered
        if not self._answers:
            return data
        if gap > size and self._between:
            gap = size
        return data if gap > size else bytes(data[:gap]) + self._take_answers() + data[gap:]

    def answer(self) -> bytes:
        """Answers of our own that can go to the debugger now, after all that was passed on."""
        return self._take_answers() if self._answers and self._between else b""

    def _take_answers(self) -> bytes:
        answers = bytes(self._answers)
        self._answers.clear()
        return answers

    def _gather(self, data: bytes | memoryview, at: int) -> int:
        """Gathers a head from *at* on. Where the next packet begins, once it is complete; else the end of *data*."""
        while True:
            missing = self._goal - len(self._gathered)
            self._gathered += data[at : at + missing]
            at += missing
            if at > len(data):
                return len(data)
            beyond = self._understand()
            if beyond is not None:
                self._gathered.clear()
                self._goal = HEADER_SIZE
                return at + beyond

    def _understand(self) -> int | None:
        """How much of its packet is beyond the gathered head; None: the head has to be longer."""
        head = self._gathered
        length, packet_id, flags, number = header(head)
        if length < HEADER_SIZE:
            self._talk.doubt()
            return FOREVER
        if len(head) == HEADER_SIZE:
            self._goal = min(length, HEADER_SIZE + self._head_size(packet_id, flags, number))
            if self._goal > HEADER_SIZE:
                return None
        payload = bytes(head[HEADER_SIZE:])
        if flags & REPLY:
            self._talk.reply(packet_id, error=number, payload=payload)
        elif number == wire.EVENTS:
            self._talk.composite(payload)
        return int(length) - len(head)

    def _head_size(self, packet_id: int, flags: int, number: int) -> int:
        if flags & REPLY:
            return self._talk.reply_head(packet_id)
        return EVENT_HEAD if number == wire.EVENTS else 0


class Observer:
    """Both directions of one connection, after its handshakes."""

    __slots__ = ("conversation", "from_debugger", "from_jvm")

    def __init__(self, *, allow_exit: bool) -> None:
        self.conversation = Conversation()
        self.from_debugger = FromDebugger(self.conversation, allow_exit=allow_exit)
        self.from_jvm = FromJvm(self.conversation, answers=self.from_debugger.answers)
