"""Frames as a misbehaving peer may send them."""

import asyncio

import aiohttp
import pytest
from aiohttp._websocket.helpers import websocket_mask

from noah.errors import Unavailable
from noah.kube.client import Client
from noah.kube.errors import ExecCut
from noah.kube.exec.commands import Container, Exec, ExecResult
from noah.websocket import FRAMES_AT_ONCE
from tests.unit.kube.fake_api import BINARY, CLOSE, PONG, Answer, Call, FakeApi, frame, status

POD = Container("shop", "orders-1", "app")


def sends(*segments: bytes) -> Answer:
    """An exec that sends these segments, the first together with the 101, and then waits to be closed."""

    async def answer(call: Call) -> None:
        call.upgrade(then=segments[0])
        for segment in segments[1:]:
            await call.writer.drain()
            await asyncio.sleep(0.001)
            call.writer.write(segment)
        await call.until_closed()

    return answer


async def run(client: Client, **more: float) -> ExecResult:
    return await Exec(client, **more).run(POD, ["cat"], timeout=30)


async def test_frames_that_come_with_the_handshake_are_not_lost(api: FakeApi, client: Client) -> None:
    api.on_exec = sends(frame(b"\x01hello") + status())
    assert await run(client) == ExecResult(0, b"hello", b"")


async def test_a_byte_at_a_time_gives_the_same(api: FakeApi, client: Client) -> None:
    wire = frame(b"\x01one ") + frame(b"\x02oops") + frame(b"\x01" + b"x" * 300) + status(3)
    api.on_exec = sends(b"", *(bytes((byte,)) for byte in wire))
    assert await run(client) == ExecResult(3, b"one " + b"x" * 300, b"oops")


async def test_a_message_in_fragments_with_a_ping_between_is_one_message(api: FakeApi, client: Client) -> None:
    wire = frame(b"\x01a", 0x02) + frame(b"are you there", 0x89) + frame(b"b", 0x00) + frame(b"c", 0x80) + status()
    api.on_exec = sends(wire)
    assert (await run(client)).stdout == b"abc"


@pytest.mark.parametrize("size", [124, 125, 126, 65534, 65535, 70000])
async def test_each_form_of_a_length_is_understood_both_ways(api: FakeApi, client: Client, size: int) -> None:
    async def echo(call: Call) -> None:
        call.upgrade()
        first, payload = await call.frame()
        assert (first, payload[0]) == (BINARY, 0)
        call.writer.write(frame(b"\x01" + payload[1:]) + status())
        await call.until_closed()

    api.on_exec = echo
    result = await Exec(client).run(POD, ["cat"], stdin=b"y" * size, timeout=30)
    assert result.stdout == b"y" * size


async def test_a_ping_is_answered_with_what_it_said(api: FakeApi, client: Client) -> None:
    async def ping(call: Call) -> None:
        call.upgrade()
        call.writer.write(frame(b"are you there", 0x89))
        assert await call.frame() == (PONG, b"are you there")
        call.writer.write(status())
        await call.until_closed()

    api.on_exec = ping
    assert (await run(client)).code == 0


async def test_a_close_is_answered_and_is_no_success(api: FakeApi, client: Client) -> None:
    answered = asyncio.Event()

    async def close(call: Call) -> None:
        call.upgrade()
        call.writer.write(frame(b"\x03\xe8", CLOSE))
        assert await call.frame() == (CLOSE, b"\x03\xe8")
        answered.set()

    api.on_exec = close
    with pytest.raises(ExecCut, match="without a status"):
        await run(client)
    await asyncio.wait_for(answered.wait(), 30)


async def test_a_close_with_a_reason_tells_it(api: FakeApi, client: Client) -> None:
    api.on_exec = sends(frame(b"\x03\xf3the node is full", CLOSE))
    with pytest.raises(ExecCut, match="the node is full"):
        await run(client)


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 502 Bad Gateway", bytes((0xC2, 1, 1)), bytes((0x82, 0x81, 0, 0, 0, 0, 1))]
)
async def test_what_is_no_frame_ends_the_stream(api: FakeApi, client: Client, garbage: bytes) -> None:
    api.on_exec = sends(frame(b"\x01fine so far"), garbage)
    with pytest.raises(ExecCut):
        await run(client)


async def test_a_peer_that_says_nothing_is_given_up(api: FakeApi, client: Client) -> None:
    async def freeze(call: Call) -> None:
        call.upgrade()
        await call.hang()

    api.on_exec = freeze
    with pytest.raises(ExecCut, match="not a byte came"):
        await run(client, beat=0.05)


async def test_a_peer_that_only_answers_pings_is_kept(api: FakeApi, client: Client) -> None:
    async def patient(call: Call) -> None:
        call.upgrade()
        for _ in range(8):
            assert await call.frame() == (0x89, b"")
            call.writer.write(frame(b"", PONG))
            # Not for us, but for the container runtime, which does not count pings as traffic.
            assert await call.frame() == (BINARY, b"\x00")
        call.writer.write(status())
        await call.until_closed()

    api.on_exec = patient
    assert (await run(client, beat=0.05)).code == 0


async def test_a_flood_of_tiny_messages_leaves_others_their_turn(api: FakeApi, client: Client) -> None:
    count = 60_000

    async def flood(call: Call) -> None:
        call.upgrade(then=frame(b"\x01x") * count)
        call.writer.write(status())
        await call.until_closed()

    api.on_exec = flood
    exec_ = Exec(client)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += exec_.counts.in_flight
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(others())
        result = await exec_.run(POD, ["yes"], timeout=10)
        task.cancel()
    assert result.stdout == b"x" * count
    assert turns > count / FRAMES_AT_ONCE


async def test_masks_are_random_and_none_is_used_twice(api: FakeApi, client: Client) -> None:
    keys: list[bytes] = []

    async def note(call: Call) -> None:
        call.upgrade()
        for _ in range(10):
            await call.frame()
            call.writer.write(frame(b"", PONG))
        keys.extend(call.masks)
        call.writer.write(status())
        await call.until_closed()

    api.on_exec = note
    assert (await run(client, beat=0.05)).code == 0
    assert len(set(keys)) == len(keys) == 10
    assert bytes(4) not in keys


class Parser:
    def __init__(self) -> None:
        self.fed = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.fed += data
        return False, b""

    def feed_eof(self) -> None: ...


class Diverted(asyncio.Protocol):
    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.came.set()


async def test_aiohttp_still_gives_its_connection_away_as_the_stream_takes_it(api: FakeApi) -> None:
    """Pins what is used of aiohttp beyond its documentation: a new version that differs fails here first."""
    more = asyncio.Event()

    async def answer(call: Call) -> None:
        call.upgrade(then=b"early")
        await more.wait()
        call.writer.write(b"later")
        await call.writer.drain()
        await call.hang()

    api.on_exec = answer
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with aiohttp.ClientSession() as session:
        answered = await session.get(api.url + "/exec", headers=headers)
        assert answered.status == 101
        connection = answered.connection
        assert connection is not None
        assert connection.protocol is not None
        assert connection.transport is not None
        before, parser, diverted = connection.protocol, Parser(), Diverted()
        before.set_parser(parser, None)
        connection.transport.set_protocol(diverted)
        more.set()
        await asyncio.wait_for(diverted.came.wait(), 30)
        assert (parser.fed, diverted.data) == (b"early", b"later")
        connection.transport.abort()
        before.connection_lost(None)
        answered.close()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 1000])
def test_aiohttp_masks_in_place_as_rfc_6455_says(size: int) -> None:
    key, data = b"\x01\x80\xff\x07", bytes(range(256)) * 4
    masked = bytearray(data[:size])
    websocket_mask(key, masked)
    assert masked == bytes(byte ^ key[i % 4] for i, byte in enumerate(data[:size]))


async def test_a_wrong_proof_in_the_handshake_is_refused(api: FakeApi, client: Client) -> None:
    async def pretend(call: Call) -> None:
        call.headers["sec-websocket-key"] = "another"
        call.upgrade()

    api.on_exec = pretend
    with pytest.raises(Unavailable, match="does not speak WebSocket"):
        await run(client)
