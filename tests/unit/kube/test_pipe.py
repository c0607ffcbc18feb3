"""An exec stream, or a forwarded port, as a connection."""

import asyncio
import random
from typing import cast

import pytest

from noah.kube.client import Client
from noah.kube.errors import ExecCut, MissingRight
from noah.kube.exec.commands import Container, Exec
from noah.kube.exec.stream import V4, V5
from noah.kube.portforward import PortForward
from tests.unit.kube.fake_api import CLOSE, Answer, Call, FakeApi, frame, status

POD = Container("shop", "orders-1", "app")


class Receiver(asyncio.BufferedProtocol):
    """Notes every call."""

    def __init__(self, room: int = 64 * 1024) -> None:
        self.got = bytearray()
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.lost = asyncio.Event()
        self._room = bytearray(room)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.calls.append("made")

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self._room[:nbytes]

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.error = exc
        self.lost.set()

    async def until(self, condition: str) -> None:
        async with asyncio.timeout(60):
            while condition not in self.calls:
                await asyncio.sleep(0.005)

    async def bytes(self, number: int) -> None:
        async with asyncio.timeout(60):
            while len(self.got) < number:
                await asyncio.sleep(0.005)


async def connect(client: Client, receiver: Receiver) -> asyncio.Transport:
    return await Exec(client).connect(POD, ["socat", "-", "UNIX-CONNECT:/x"], lambda: receiver)


def echo(protocol: str) -> Answer:
    async def answer(call: Call) -> None:
        call.upgrade(protocol)
        while True:
            first, payload = await call.frame()
            if first == CLOSE:
                call.writer.write(frame(payload, CLOSE))
                return
            if payload == b"\xff\x00":
                call.writer.write(status())
            else:
                call.writer.write(frame(b"\x01" + payload[1:]))

    return answer


@pytest.mark.parametrize("room", [1, 100, 65536])
async def test_bytes_come_back_as_they_went(api: FakeApi, client: Client, room: int) -> None:
    api.on_exec = echo(V4)
    receiver = Receiver(room)
    transport = await connect(client, receiver)
    sent = random.Random(3).randbytes(200_000)
    for at in range(0, len(sent), 7_001):
        transport.write(memoryview(sent)[at : at + 7_001])
    await receiver.bytes(len(sent))
    assert receiver.got == sent
    transport.close()
    await receiver.until("lost")
    assert receiver.calls == ["made", "lost"]
    assert receiver.error is None
    assert transport.is_closing()


async def test_half_a_close_ends_stdin_where_the_protocol_can(api: FakeApi, client: Client) -> None:
    async def only_v5(call: Call) -> None:
        if call.headers["sec-websocket-protocol"] != V5:
            call.writer.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
        else:
            await echo(V5)(call)

    api.on_exec = only_v5
    receiver = Receiver()
    transport = await connect(client, receiver)
    assert transport.can_write_eof()
    transport.write(b"the last words")
    transport.write_eof()
    transport.write_eof()
    with pytest.raises(RuntimeError, match="after write_eof"):
        transport.write(b"more")
    await receiver.until("lost")
    assert receiver.got == b"the last words"
    assert receiver.calls == ["made", "eof", "lost"]
    assert receiver.error is None


async def test_over_v4_half_a_close_is_refused(api: FakeApi, client: Client) -> None:
    api.on_exec = echo(V4)
    receiver = Receiver()
    transport = await connect(client, receiver)
    assert not transport.can_write_eof()
    with pytest.raises(NotImplementedError):
        transport.write_eof()
    transport.abort()
    await receiver.until("lost")


async def test_a_failed_command_is_the_reason_of_the_loss(api: FakeApi, client: Client) -> None:
    async def refused(call: Call) -> None:
        call.upgrade(V4, then=frame(b"\x02E connect: No such file or directory\n") + status(1))
        await call.until_closed()

    api.on_exec = refused
    receiver = Receiver()
    await connect(client, receiver)
    await receiver.until("lost")
    assert receiver.calls == ["made", "lost"]
    assert str(receiver.error) == (
        "The connection's command ended with exit code 1: E connect: No such file or directory."
    )


async def test_a_cut_is_the_reason_of_the_loss(api: FakeApi, client: Client) -> None:
    async def cut(call: Call) -> None:
        call.upgrade(V4, then=frame(b"\x01half"))

    api.on_exec = cut
    receiver = Receiver()
    await connect(client, receiver)
    await receiver.until("lost")
    assert receiver.got == b"half"
    assert isinstance(receiver.error, ExecCut)


async def test_who_does_not_read_stops_the_sender(api: FakeApi, client: Client) -> None:
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        call.upgrade(V4)
        piece = frame(b"\x01" + bytes(100_000))
        for _ in range(1000):
            call.writer.write(piece)
            await call.writer.drain()
            sent += 100_000
        call.writer.write(status())
        await call.until_closed()

    api.on_exec = flood
    receiver = Receiver()
    transport = await connect(client, receiver)
    transport.pause_reading()
    assert not transport.is_reading()
    before = -1
    async with asyncio.timeout(60):
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.2)
    assert sent < 20_000_000  # what the kernel's two socket buffers take, not the 100 MB
    assert len(receiver.got) < 1_000_000
    transport.resume_reading()
    await receiver.until("lost")
    assert len(receiver.got) == 100_000_000
    assert receiver.calls == ["made", "eof", "lost"]


async def test_who_pauses_within_a_piece_gets_nothing_more_of_it(api: FakeApi, client: Client) -> None:
    class OneAtATime(Receiver):
        def buffer_updated(self, nbytes: int) -> None:
            assert self.transport.is_reading()
            super().buffer_updated(nbytes)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def talk(call: Call) -> None:
        call.upgrade(V4, then=frame(b"\x01" + b"0123456789" * 20) * 5 + status())
        await call.until_closed()

    api.on_exec = talk
    receiver = OneAtATime(room=7)
    await connect(client, receiver)
    await receiver.until("lost")
    assert receiver.got == b"0123456789" * 100
    assert receiver.calls == ["made", "eof", "lost"]


async def test_a_sender_is_told_to_stop_and_to_go_on(api: FakeApi, client: Client) -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        call.upgrade(V4)
        await go_on.wait()
        await call.until_closed()

    api.on_exec = slow
    receiver = Receiver()
    transport = await connect(client, receiver)
    transport.set_write_buffer_limits(high=0)
    transport.write(b"a little")
    assert receiver.calls == ["made"]
    while "pause" not in receiver.calls:
        transport.write(bytes(100_000))
    assert transport.get_write_buffer_size() > 0
    go_on.set()
    await receiver.until("resume")
    transport.close()
    await receiver.until("lost")


async def test_what_was_written_before_a_close_arrives(api: FakeApi, client: Client) -> None:
    came = bytearray()

    async def note(call: Call) -> None:
        call.upgrade(V4)
        while (got := await call.frame())[0] != CLOSE:
            came.extend(got[1][1:])
        call.writer.write(frame(got[1], CLOSE))

    api.on_exec = note
    receiver = Receiver()
    transport = await connect(client, receiver)
    transport.write(bytes(3_000_000))
    transport.close()
    transport.write(b"too late")
    await receiver.until("lost")
    assert len(came) == 3_000_000


PORT = 50005
PREFIX = PORT.to_bytes(2, "little")  # begins each channel


async def forward(client: Client, receiver: Receiver) -> asyncio.Transport:
    return await PortForward(client).connect(POD, PORT, lambda: receiver, on_behalf=None)


@pytest.mark.parametrize("together", [True, False])
async def test_a_port_is_a_connection_without_the_words_around_it(api: FakeApi, client: Client, together: bool) -> None:
    async def echoes(call: Call) -> None:
        assert (call.path, call.params) == ("/api/v1/namespaces/shop/pods/orders-1/portforward", [("ports", "50005")])
        call.upgrade(V4)
        for channel in (b"\x00", b"\x01"):
            for piece in [PREFIX] if together else [PREFIX[:1], PREFIX[1:]]:
                call.writer.write(frame(channel + piece))
        while (got := await call.frame())[0] != CLOSE:
            if got[1][1:]:
                call.writer.write(frame(b"\x00" + got[1][1:]))
                if got[1].endswith(b"bye"):
                    call.writer.write(frame(b"\x03\xe8", CLOSE))

    api.on_anything = echoes
    receiver = Receiver(100)
    transport = await forward(client, receiver)
    assert not transport.can_write_eof()
    sent = random.Random(4).randbytes(50_000) + b"bye"
    for at in range(0, len(sent), 9_001):
        transport.write(sent[at : at + 9_001])
    await receiver.until("lost")
    assert receiver.got == sent
    assert receiver.calls == ["made", "eof", "lost"]
    assert receiver.error is None


async def test_a_port_that_refuses_says_so(api: FakeApi, client: Client) -> None:
    async def refuses(call: Call) -> None:
        call.upgrade(V4, then=frame(b"\x00" + PREFIX) + frame(b"\x01" + PREFIX + b"connection refused\n"))
        await call.until_closed()

    api.on_anything = refuses
    receiver = Receiver()
    await forward(client, receiver)
    await receiver.until("lost")
    assert isinstance(receiver.error, ExecCut)
    assert receiver.error.sentence == "Port 50005 of pod shop/orders-1 cannot be reached: connection refused"


async def test_a_missing_right_to_forward_is_named(api: FakeApi, client: Client) -> None:
    async def forbids(call: Call) -> None:
        call.refuse(
            403, 'User "noah" cannot create resource "pods/portforward" in API group "" in the namespace "shop"'
        )

    api.on_anything = forbids
    with pytest.raises(MissingRight, match='may not create pods/portforward in namespace "shop"'):
        await forward(client, Receiver())
