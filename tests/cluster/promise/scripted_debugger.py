"""A debugger that does what a test asks for, and says when it was turned away; light enough to attach 300 times."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from noah.core.jdwp.wire import HANDSHAKE, HEADER_SIZE, REPLY, command
from tests import jdwp

CLASSES_BY_SIGNATURE = command(1, 2)
LOCATION_ONLY = 7  # a modifier of EventRequest.Set
ANSWERS_WITHIN_S = 60.0


class TurnedAway(Exception):
    """The connection ended, or stayed silent, before the JVM answered the handshake."""


class ScriptedDebugger:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next_id = 1
        self._stops = 0  # breakpoints that were hit and not waited for yet

    async def ask(self, number: int, payload: bytes = b"") -> bytes:
        """The reply's payload."""
        self._next_id += 1
        self._writer.write(jdwp.ask(self._next_id, number, payload))
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            while True:
                packet_id, flags, what, body = await self._packet()
                if flags & REPLY and packet_id == self._next_id:
                    assert what == 0, f"JDWP error {what}"
                    return body

    async def stop_in(self, method: str, *, signature: str = "LApp;") -> None:
        """Sets a breakpoint that suspends the whole VM."""
        classes = await self.ask(CLASSES_BY_SIGNATURE, jdwp.string(signature))
        (class_id,) = struct.unpack_from(">Q", classes, 5)
        place = jdwp.location(class_id, _methods(await self.ask(jdwp.METHODS, jdwp.long(class_id)))[method], 0)
        only = jdwp.integer(1) + bytes([LOCATION_ONLY]) + place
        await self.ask(jdwp.SET, bytes([jdwp.BREAKPOINT, jdwp.ALL]) + only)

    async def stopped(self, *, within: float = ANSWERS_WITHIN_S) -> None:
        """Waits until the breakpoint is hit."""
        async with asyncio.timeout(within):
            while not self._stops:
                await self._packet()
        self._stops -= 1

    async def resume(self) -> None:
        await self.ask(jdwp.RESUME)

    async def is_cut_off(self) -> None:
        """Waits until the connection ends."""
        try:
            while True:
                await self._packet()
        except (OSError, asyncio.IncompleteReadError):
            return

    async def _packet(self) -> tuple[int, int, int, bytes]:
        length, packet_id, flags, what = struct.unpack(">IIBH", await self._reader.readexactly(HEADER_SIZE))
        body = await self._reader.readexactly(length - HEADER_SIZE)
        if not flags & REPLY and what == jdwp.EVENTS and body[5] == jdwp.BREAKPOINT:
            self._stops += 1
        return packet_id, flags, what, body


@asynccontextmanager
async def attached(
    port: int, *, host: str = "127.0.0.1", within: float = ANSWERS_WITHIN_S
) -> AsyncIterator[ScriptedDebugger]:
    """A debugger whose JVM has answered the handshake and one command. TurnedAway when it did not within *within* s."""
    began = time.monotonic()
    writer = None
    try:
        try:
            async with asyncio.timeout(within):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(HANDSHAKE)
                assert await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE
                debugger = ScriptedDebugger(reader, writer)
                await debugger.ask(jdwp.VERSION)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as e:
            raise TurnedAway(f"after {time.monotonic() - began:.1f} s: {e!r}") from e
        yield debugger
    finally:
        if writer is not None:
            writer.close()


def _methods(reply: bytes) -> dict[str, int]:
    """The identifiers in a reply of ReferenceType.Methods, by name."""
    (count,) = struct.unpack_from(">I", reply)
    at, found = 4, {}
    for _ in range(count):
        (method,) = struct.unpack_from(">Q", reply, at)
        name, at = _string(reply, at + 8)
        _, at = _string(reply, at)
        at += 4  # the modifiers
        found[name] = method
    return found


def _string(reply: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", reply, at)
    return reply[at + 4 : at + 4 + length].decode(), at + 4 + length
