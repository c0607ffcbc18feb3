"""Who may connect to the port for other gateways, and what anybody else costs."""

import asyncio
import ssl
import struct
from contextlib import suppress
from dataclasses import replace

import pytest

from noah.errors import Conflict, Unavailable
from noah.peers import server as peer_server
from noah.peers.client import PeerClient
from noah.peers.connection import PeerConnection, PeerLost
from noah.peers.frames import PeerFrameKind, encoded, encoded_json
from noah.peers.identity import Identity
from tests.unit.peers.conftest import Gateway, Start


async def test_two_gateways_recognize_each_other_by_their_certificates(start: Start) -> None:
    a, b = await start("a"), await start("b")
    connection = await a.client.dial(b.peer, kind="echo")
    await connection.send(PeerFrameKind.DATA, b"hello")
    assert (await connection.receive()).data == b"hello"
    connection.abort()


async def test_who_shows_a_certificate_of_no_gateway_is_hung_up_on(start: Start) -> None:
    b = await start("b")
    with pytest.raises(Unavailable):
        await PeerClient(Identity()).dial(b.peer, kind="echo")


async def test_a_gateway_whose_row_has_gone_is_not_accepted_any_more(start: Start) -> None:
    a, b = await start("a"), await start("b")
    (await a.client.dial(b.peer, kind="echo")).abort()
    del b.known["a"]
    with pytest.raises(Unavailable):
        await a.client.dial(b.peer, kind="echo")


async def test_nothing_is_said_to_who_listens_at_a_gateways_address_without_its_key(start: Start) -> None:
    a, b, other = await start("a"), await start("b"), await start("other")
    with pytest.raises(Unavailable):
        await a.client.dial(replace(b.peer, port=other.port), kind="echo")


async def test_a_certificate_that_another_gateways_key_has_signed_is_not_that_gateways(start: Start) -> None:
    """TLS would accept a chain: the whole certificate is compared."""
    b = await start("b")
    copy = Identity()
    forged = copy.client_context(b.peer.certificate)
    forged.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", b.port, ssl=forged)
    writer.write(encoded_json(PeerFrameKind.HELLO, {"version": 1}))
    with suppress(ssl.SSLError, ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_who_shows_no_certificate_is_hung_up_on(start: Start) -> None:
    b = await start("b")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", b.port, ssl=context)
    writer.write(encoded_json(PeerFrameKind.HELLO, {"version": 1}))
    with suppress(ssl.SSLError, ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_who_is_silent_is_hung_up_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_server, "RECOGNIZED_WITHIN_S", 0.5)
    b = await start("b")
    reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()


async def test_a_gateway_that_does_not_say_what_it_wants_is_hung_up_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_server, "RECOGNIZED_WITHIN_S", 2.0)
    a, b = await start("a"), await start("b")
    connection = await _connected(a, b)
    async with asyncio.timeout(30):
        with pytest.raises(PeerLost):
            await connection.receive()
    connection.abort()


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack(">BI", PeerFrameKind.HELLO, 1 << 30),
        struct.pack(">BI", 99, 1),
        encoded(PeerFrameKind.DATA, b"x"),
        encoded(PeerFrameKind.HELLO, b"[1]"),
        encoded(PeerFrameKind.HELLO, b"\xff"),
        encoded(PeerFrameKind.HELLO, b"[" * 60_000),
    ],
)
async def test_a_greeting_that_is_not_one_closes_the_connection(start: Start, sent: bytes) -> None:
    a, b = await start("a"), await start("b")
    connection = await _connected(a, b)
    assert connection._transport is not None
    connection._transport.write(sent)
    async with asyncio.timeout(30):
        with pytest.raises(PeerLost):
            await connection.receive()
    connection.abort()
    # The port goes on.
    (await a.client.dial(b.peer, kind="echo")).abort()


async def test_a_gateway_gets_through_thousands_of_strangers(start: Start) -> None:
    a, b = await start("a"), await start("b")
    strangers = []
    try:
        for _ in range(2000):
            with suppress(OSError):
                strangers.append(await asyncio.open_connection("127.0.0.1", b.port))
            for _, writer in strangers[:-100]:
                writer.close()
            del strangers[:-100]
        connection = await a.client.dial(b.peer, kind="echo")
        await connection.send(PeerFrameKind.DATA, b"hello")
        assert (await connection.receive()).data == b"hello"
        connection.abort()
        assert len(b.server._strangers) <= peer_server.MOST_STRANGERS
    finally:
        for _, writer in strangers:
            writer.close()


async def test_a_refusal_has_the_sentence_of_the_other_gateway(start: Start) -> None:
    async def refuse(connection: PeerConnection, hello: dict[str, object]) -> None:
        raise Conflict(f"{hello['kind']} is not to be had.")

    a, b = await start("a"), await start("b", refuse)
    with pytest.raises(Conflict, match="Tea is not to be had"):
        await a.client.dial(b.peer, kind="Tea")


async def test_a_gateway_of_another_version_is_refused_with_a_sentence(start: Start) -> None:
    a, b = await start("a"), await start("b")
    connection = await _connected(a, b)
    await connection.say(PeerFrameKind.HELLO, version=999)
    answer = await connection.receive()
    assert answer.kind is PeerFrameKind.REFUSED
    assert "another version" in answer.json()["sentence"]
    connection.abort()


async def test_a_sender_waits_for_a_gateway_that_does_not_read(start: Start) -> None:
    go_on = asyncio.Event()

    async def slow(connection: PeerConnection, hello: dict[str, object]) -> None:
        await connection.say(PeerFrameKind.ACCEPTED)
        await go_on.wait()
        while (await connection.receive()).kind is PeerFrameKind.DATA:
            pass
        await connection.say(PeerFrameKind.TEXT, all="read")

    a, b = await start("a"), await start("b", slow)
    connection = await a.client.dial(b.peer, kind="much")
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < 64 * 1024 * 1024:
            await connection.send(PeerFrameKind.DATA, bytes(64 * 1024))
            sent += 64 * 1024
        await connection.send(PeerFrameKind.END)

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send(), name="send")
        before = -1
        while sent != before:  # it stands still
            before = sent
            await asyncio.sleep(0.3)
        assert not sending.done()
        assert connection.backlog < 8 * 1024 * 1024
        go_on.set()
        async with asyncio.timeout(60):
            assert (await connection.receive()).json() == {"all": "read"}
    connection.abort()


async def _connected(a: Gateway, b: Gateway) -> PeerConnection:
    """TLS is there, and nothing was said."""
    _, connection = await asyncio.get_running_loop().create_connection(
        PeerConnection, "127.0.0.1", b.port, ssl=a.identity.client_context(b.peer.certificate)
    )
    return connection
