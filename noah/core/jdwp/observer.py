"""A JDWP connection, understood as its bytes pass by; and what must not reach a JVM, stopped.

Each direction is fed what was read, in any pieces, and returns what to pass on: nearly always the very object that it
was fed, and always that when nothing was changed or held back. Of payloads only beginnings are kept, only of packets
that matter, only until they were read.

- From the debugger an unfinished header is held back, with the few bytes of payload that are looked into; a JVM cannot
  use them yet, and they go on with the packet's next byte. A command to exit is made one that no JVM knows, so that
  the JVM itself answers it with an error.
- From the JVM nothing is held back but the replies to questions of our own, and unfinished headers while there are
  such questions.

Handshakes are not its business: it begins after them. Once the borders of packets are lost, everything passes.
Who feeds it must be able to do without it (see noah.proxy.ends): `held`, and `ours` of the JVM's direction, say after
each call what that takes.
"""

from typing import Final

from noah.core.jdwp import wire
from noah.core.jdwp.commands import COMMAND_HEADS, EVENT_HEAD, UNKNOWN
from noah.core.jdwp.conversation import Conversation, PacketRefused
from noah.core.jdwp.questions import OWN_IDS
from noah.core.jdwp.wire import HEADER_SIZE, REPLY, command_header, header, reply_header

# A JVM allocates what a header says before it reads on. The longest packet that is meant well is RedefineClasses: MiBs.
LONGEST: Final = 64 << 20
FOREVER: Final = 1 << 62  # the rest of a packet, once the borders of packets are lost

Data = bytes | memoryview


class OversizedPacket(Exception):
    """The debugger announces a packet that no JVM should allocate."""

    def __init__(self, length: int) -> None:
        super().__init__(f"it announced a packet of {length} bytes; the most that is passed on is {LONGEST}")


class FromDebugger:
    ours: Final = 0  # the debugger sends nothing that is for the gateway

    __slots__ = ("_allow_exit", "_is_between", "_passed", "_rest", "_talk", "held")

    def __init__(self, talk: Conversation, *, allow_exit: bool) -> None:
        self.held = b""
        self._talk = talk
        self._passed = talk.passed
        self._allow_exit = allow_exit
        self._is_between = True  # what comes next is a header, of which nothing is held
        self._rest = 0  # of a packet whose head has passed

    def feed(self, data: Data) -> Data:
        """Return what to pass on to the JVM. Raise OversizedPacket to hang up before the JVM allocates it."""
        size = len(data)
        if self._is_between and size >= HEADER_SIZE:
            # Nearly all: one whole packet, of a kind that has passed before.
            length, first_of_id, flags, number = command_header(data)
            if length == size and number in self._passed and not flags and first_of_id != OWN_IDS:
                self._passed[number] += 1
                return data
        return self._feed(data)

    def _feed(self, data: Data) -> Data:
        if self.held:
            data = self.held + data
        self._talk.begin_read()
        view, size, at = memoryview(data), len(data), self._rest
        exits: list[int] = []
        while at + HEADER_SIZE <= size:
            length, packet_id, flags, number = header(view, at)
            if not HEADER_SIZE <= length <= LONGEST:
                length = self._strange(length)
            if not flags & REPLY:
                head = at + min(length, HEADER_SIZE + COMMAND_HEADS.get(number, 0))
                if head > size:
                    break
                if number == wire.VM_EXIT and not self._allow_exit:
                    self._talk.refuse_exit()
                    exits.append(at)
                else:
                    self._look_into(number, packet_id, view[at + HEADER_SIZE : head])
            at += length
        self.held = bytes(view[at:])
        self._rest = max(0, at - size)
        self._is_between = at == size
        if exits:
            return _without_exits(bytearray(view[:at]), exits)
        return data if at >= size else view[:at]

    def _strange(self, length: int) -> int:
        if length > LONGEST:
            self._talk.events.append(PacketRefused(length))
            raise OversizedPacket(length)
        # The JVM will hang up. Where the next packet begins is unknown.
        self._talk.doubt()
        return FOREVER

    def _look_into(self, number: int, packet_id: int, head: memoryview) -> None:
        if packet_id >> 24 == OWN_IDS:
            self._talk.saw_own_id()
        if number in COMMAND_HEADS:
            if self._talk.effort > 0:
                self._talk.command(number, packet_id, bytes(head))
            else:
                self._talk.skip_command(number)
        else:
            known = number if number in wire.NAMES else UNKNOWN
            self._passed[known] = self._passed.get(known, 0) + 1

    @property
    def is_between(self) -> bool:
        """True if all that came has passed, and what comes next is another packet."""
        return self._is_between


def _without_exits(data: bytearray, exits: list[int]) -> bytes:
    for at in exits:
        data[at + 9 : at + HEADER_SIZE] = wire.VM_UNKNOWN.to_bytes(2)
    return bytes(data)


class FromJvm:
    __slots__ = ("_asked", "_gathered", "_goal", "_is_between", "_own", "_rest", "_talk", "held", "ours")

    def __init__(self, talk: Conversation) -> None:
        self.held = b""
        self.ours = 0  # of what comes next, these bytes are the rest of a reply to a question of our own
        self._talk = talk
        self._asked = talk.asked
        self._own = talk.own
        self._is_between = True  # what comes next is a header, of which nothing is gathered or held
        self._rest = 0  # of a packet whose head has passed
        self._gathered = bytearray()  # the head of a packet that is looked into
        self._goal = HEADER_SIZE  # its size

    def feed(self, data: Data) -> Data:
        """Return what to pass on to the debugger."""
        size = len(data)
        if self._is_between and size >= HEADER_SIZE:
            # Nearly all: one whole reply that is not looked into.
            length, packet_id, flags = reply_header(data)
            if length == size and flags == REPLY and packet_id not in self._asked:
                return data
        return self._feed(data)

    def _feed(self, data: Data) -> Data:
        if self.held:
            data, self.held = self.held + data, b""
        self._talk.begin_read()
        view, size, at, begin = memoryview(data), len(data), self._rest, self.ours
        pieces: list[memoryview] = []  # that are passed on, and after them what begins at *begin*
        while at < size:
            if not self._gathered:
                if size - at >= HEADER_SIZE:
                    length, packet_id, flags = reply_header(view, at)
                    is_reply = flags & REPLY
                    if length < HEADER_SIZE:
                        pass
                    elif is_reply and packet_id not in self._asked:
                        at += length
                        continue
                    elif not is_reply and self._talk.effort <= 0:
                        self._talk.skip_composite(bytes(view[at + HEADER_SIZE : at + min(length, HEADER_SIZE + 1)]))
                        at += length
                        continue
                    elif is_reply and packet_id in self._own:
                        pieces.append(view[begin:at])
                        begin = at + length
                elif self._own:
                    self.held = bytes(view[at:])
                    break
            at = self._gather(view, at)
        end = size - len(self.held)
        self._rest = max(0, at - end)
        self.ours = max(0, begin - end)
        self._is_between = at == size and not self._gathered
        if begin or end < size:
            return b"".join([*pieces, view[begin:end]])
        return data

    def _gather(self, data: memoryview, at: int) -> int:
        """Gather a head from *at* on. Return where the next packet begins, once it is complete; else the end."""
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
        """Return how much of its packet is beyond the gathered head; None if the head has to be longer."""
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
        self.from_jvm = FromJvm(self.conversation)

    @property
    def is_asking(self) -> bool:
        """True if the gateway could say more of a stop by asking the JVM, or waits for its replies."""
        return bool(self.conversation.own) or self.conversation.has_questions

    def take_questions(self) -> bytes:
        """Return packets for the JVM; none while the debugger is in the middle of one."""
        return self.conversation.take_questions() if self.from_debugger.is_between else b""
