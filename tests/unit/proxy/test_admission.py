"""Only a debugger reaches a JVM: by its address, and by the first 14 bytes that it says."""

import asyncio
import socket

import pytest

from noah.core.jdwp.wire import HANDSHAKE
from tests.unit.proxy.conftest import Open

TLS_HELLO = bytes.fromhex("16030100a5010000a10303")


async def test_an_address_that_is_not_allowed_never_reaches_the_jvm(opened: Open) -> None:
    watched = await opened(admits=lambda address: address != "127.0.0.1")
    for _ in range(3):
        reader, writer = await watched.connect()
        writer.write(HANDSHAKE)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    assert watched.slot.refused == {"not_allowed": 3}
    assert watched.jvm.touched == 0
    await watched.until(lambda: watched.notices_of("refused"))
    assert [refusal["address"] for refusal in watched.notices_of("refused")] == ["127.0.0.1"]  # announced once


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", TLS_HELLO, b"JDWP-handshake", b"\x00"])
async def test_whoever_says_something_else_is_hung_up_on_at_once(opened: Open, said: bytes) -> None:
    watched = await opened()
    reader, writer = await watched.connect()
    writer.write(said)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 3)  # sooner than by patience
    assert watched.slot.refused == {"no_handshake": 1}
    assert watched.jvm.touched == 0


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_half_a_handshake_is_hung_up_on_when_patience_ends(opened: Open) -> None:
    watched = await opened()
    began = asyncio.get_running_loop().time()
    reader, writer = await watched.connect()
    writer.write(HANDSHAKE[:13])
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    assert 4 < asyncio.get_running_loop().time() - began < 30
    assert watched.jvm.touched == 0


async def test_a_handshake_in_pieces_reaches_the_jvm_in_one(opened: Open) -> None:
    watched = await opened()  # its JVM asserts that
    reader, writer = await watched.connect()
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in HANDSHAKE:
        assert watched.jvm.touched == 0
        writer.write(bytes([byte]))
        await asyncio.sleep(0.005)
    assert await reader.readexactly(14) == HANDSHAKE
    assert watched.jvm.debuggers == 1


async def test_what_follows_the_handshake_in_one_segment_is_not_lost(opened: Open) -> None:
    watched = await opened()
    reader, writer = await watched.connect()
    command = bytes.fromhex("0000000b 00000001 00 0101")
    writer.write(HANDSHAKE + command)
    assert await reader.readexactly(14 + 11) == HANDSHAKE + command  # this JVM echoes


async def test_a_thousand_scanners_do_not_keep_a_debugger_out(opened: Open) -> None:
    watched = await opened()
    kinds = [b"GET / HTTP/1.0\r\n\r\n", TLS_HELLO, HANDSHAKE[:13], b""]
    scanners = []
    for i in range(1000):
        scanner = socket.socket()
        scanner.setblocking(False)
        await asyncio.get_running_loop().sock_connect(scanner, ("127.0.0.1", watched.listener.port))
        if kinds[i % 4]:
            scanner.send(kinds[i % 4])
        scanners.append(scanner)
        if i == 700:
            reader, writer = await watched.attach()
    try:
        writer.write(b"\x00\x00\x00\x0b\x00\x00\x00\x01\x00\x01\x01")
        assert len(await reader.readexactly(11)) == 11
        await watched.until(lambda: watched.slot.refused["no_handshake"] == 1000)
        assert watched.jvm.touched == 1
    finally:
        for scanner in scanners:
            scanner.close()
