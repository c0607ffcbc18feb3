"""A relay that is cut, or records what passes, and a debugging session in which every byte counts."""

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress

from noah.core.jdwp.cache import ROWS, Lifetime, effect_of
from noah.core.jdwp.far import OWN_IDS as AHEAD_IDS
from noah.core.jdwp.questions import OWN_IDS
from noah.core.jdwp.wire import HANDSHAKE, HEADER_SIZE, REPLY, command, header
from tests import jdwp
from tests.jdwp import ALL, BREAKPOINT, Debugger, integer, long, string


class Relay:
    """TCP to a port of this machine; it records what passes, can be cut, and can swallow what comes."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.up = bytearray()
        self.down = bytearray()
        self.connections = 0
        self.is_cut = False
        self.delay_s = 0.0  # of each piece, in each direction
        self.swallows = False
        self.keeps = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: asyncio.TaskGroup

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Relay"]:
        async with asyncio.TaskGroup() as self._tasks:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                server.close()
                self.drop()

    def drop(self) -> None:
        """Break off every connection."""
        for writer in self._writers:
            writer.transport.abort()

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Break off every connection and take none."""
        self.is_cut = True
        self.drop()
        try:
            yield
        finally:
            self.is_cut = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_cut:
            writer.transport.abort()
            return
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers |= {writer, far_writer}
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pipe(reader, far_writer, self.up))
                    group.create_task(self._pipe(far_reader, writer, self.down))
            finally:
                self._writers -= {writer, far_writer}
                far_writer.transport.abort()
                writer.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                if self.swallows:
                    continue
                if self.keeps:
                    record += piece
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(piece)
                await writer.drain()
            writer.write_eof()


def without_own_questions(stream: bytes) -> bytes:
    """Leave out what the gateway itself asked the JVM, and the answers to that."""
    assert stream.startswith(HANDSHAKE)
    kept, at = bytearray(HANDSHAKE), len(HANDSHAKE)
    while at + HEADER_SIZE <= len(stream):
        length, packet_id = struct.unpack_from(">II", stream, at)
        if packet_id >> 24 != OWN_IDS:
            kept += stream[at : at + length]
        at += length
    return bytes(kept)


def packets(stream: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield ID, flags, command or error, and payload."""
    assert stream.startswith(HANDSHAKE)
    at = len(HANDSHAKE)
    while at + HEADER_SIZE <= len(stream):
        length, packet_id, flags, number = header(stream, at)
        yield packet_id, flags, number, stream[at + HEADER_SIZE : at + length]
        at += length


def replies(up: bytes, down: bytes) -> Iterator[tuple[int, tuple[int, bytes], tuple[int, bytes]]]:
    """Yield of what came down: the number of events before it, the question, and error and payload of its answer."""
    asked = {packet_id: (number, payload) for packet_id, _, number, payload in packets(up)}
    events = 0
    for packet_id, flags, error, payload in packets(down):
        if flags & REPLY:
            yield events, asked[packet_id], (error, payload)
        else:
            events += 1


def check_against_the_jvm(sent: bytes, got: bytes, *, up: bytes, down: bytes) -> None:
    """Hold what a debugger *sent* and *got* over an accelerated line against what the JVM was asked and said.

    The streams differ, since the accelerator asks ahead and answers from memory. The same bytes means:
    - what has an effect came to the JVM exactly as it was sent, in that order, once;
    - the events are the JVM's, in their order, by hash;
    - each command has one reply, and that is, by hash, what the JVM itself said to the same question at the same stop
      (between the same two events); to a question about classes or the VM, at this or an earlier one.
    """
    ours = [packet for packet in packets(up) if packet[0] >> 24 not in (OWN_IDS, AHEAD_IDS)]
    assert [one for one in ours if effect_of(one[2], one[3])] == [
        one for one in packets(sent) if effect_of(one[2], one[3])
    ]
    events, true_events = ([one for one in packets(stream) if not one[1] & REPLY] for stream in (got, down))
    assert events == true_events
    said: dict[tuple[int, bytes], list[tuple[int, str]]] = {}
    for stop, question, (error, payload) in replies(up, down):
        said.setdefault(question, []).append((stop, f"{error} {digest(payload)}"))
    count = 0
    for stop, question, (error, payload) in replies(sent, got):
        row = ROWS.get(question[0])
        lasts = row is not None and row.lifetime in (Lifetime.VM, Lifetime.CLASS)
        true = {answer for at, answer in said[question] if at == stop or (lasts and at < stop)}
        assert f"{error} {digest(payload)}" in true, f"command {question} at stop {stop}"
        count += 1
    assert count == sum(1 for _ in packets(sent))


def digest(stream: bytes | bytearray) -> str:
    return hashlib.sha256(stream).hexdigest()


def debug(port: int, *, rounds: Iterable[int], patience_s: float = 60.0) -> tuple[bytes, bytes]:
    """Stop the shop at a breakpoint again and again, with commands and bulk; return what was sent and what was read.

    The next of *rounds* is taken while the VM is at the breakpoint, or about to be.
    """
    debugger = _Recording(port)
    with debugger:
        debugger.socket.settimeout(patience_s)
        debugger.ask(jdwp.ID_SIZES)
        debugger.ask(jdwp.VERSION)
        type_id = debugger.ask(jdwp.CLASSES_BY_SIGNATURE, string("LShop$OrderService;"))[5:13]
        method_id = _method(debugger.ask(jdwp.METHODS, type_id), "price")
        where = b"\x01" + type_id + method_id + long(0)
        request = debugger.ask(jdwp.SET, bytes([BREAKPOINT, ALL]) + integer(1) + bytes([7]) + where)
        for _ in rounds:
            thread = debugger.event()[10:18]
            debugger.ask(jdwp.FRAMES, thread + integer(0, 0xFFFFFFFF))
            threads = debugger.ask(jdwp.ALL_THREADS)
            for at in range(4, len(threads), 8):
                debugger.ask(jdwp.THREAD_NAME, threads[at : at + 8])
            debugger.ask(jdwp.ALL_CLASSES)  # some hundred KiB
            debugger.ask(jdwp.RESUME)
        debugger.ask(command(15, 2), bytes([BREAKPOINT]) + request)
        debugger.ask(jdwp.DISPOSE)
        return bytes(debugger.sent), bytes(debugger.got)


class _Recording(Debugger):
    def __init__(self, port: int) -> None:
        self.sent, self.got = bytearray(HANDSHAKE), bytearray()
        super().__init__(port)

    def read(self, count: int) -> bytes:
        data = super().read(count)
        self.got += data
        return data

    def ask(self, number: int, payload: bytes = b"") -> bytes:
        self.sent += jdwp.ask(self._next_id + 1, number, payload)
        return super().ask(number, payload)


def _method(methods: bytes, name: str) -> bytes:
    at = 4
    while at < len(methods):
        method_id, found = methods[at : at + 8], methods[at + 8 :]
        size = int.from_bytes(found[:4], "big")
        text = found[4 : 4 + size].decode()
        at += 8 + 4 + size
        at += 4 + int.from_bytes(methods[at : at + 4], "big") + 4
        if text == name:
            return method_id
    raise AssertionError(f"no method {name}")
