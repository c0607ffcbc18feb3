"""Somebody who opens connections, sends slowly or never reads cannot keep a debugger, a health check or others out."""

import asyncio
import contextlib
import gzip
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp import web

from noah.errors import TooMany, Unavailable
from noah.http_limits import LIMITS, LimitedSite, Limits, within_limits
from noah.kube.bounded_json import LONGEST
from noah.kube.client import Client
from noah.kube.pods import read_pod
from noah.kube.watch import Pace, Watch
from noah.proxy import admission
from noah.proxy.admission import MOST_OF_ADDRESS, MOST_WAITING
from noah.proxy.listener import Listener
from noah.proxy.slot import Slot
from noah.web.sse import Streams
from tests.reverse_proxies import make_certificate
from tests.security.hostile_api import api_in_a_thread
from tests.security.loop_time import most_s, watching_the_loop
from tests.unit.kube.fake_api import Call

HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


@contextlib.asynccontextmanager
async def served(limits: Limits, *, tls: ssl.SSLContext | None = None, **more: Any) -> AsyncIterator[int]:
    async def livez(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def held(request: web.Request) -> web.Response:
        await more["until"].wait()
        return web.Response(text="ok")

    site = web.Application(middlewares=[within_limits])
    site[LIMITS] = limits
    site.router.add_get("/livez", livez)
    site.router.add_get("/held", held)
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    with socket.create_server(("0.0.0.0", 0)) as listener:
        listener.setblocking(False)
        await LimitedSite(runner, listener, limits, ssl_context=tls).start()
        try:
            yield listener.getsockname()[1]
        finally:
            await runner.cleanup()


async def is_alive(port: int, source: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> bool:
    """True if somebody who asks gets an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), ssl=tls)
    try:
        writer.write(HEAD + b"Connection: close\r\n\r\n")
        async with asyncio.timeout(60):
            return (await reader.read()).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False
    finally:
        writer.close()


async def silent(port: int, count: int, source: str = "127.0.0.1") -> list[asyncio.StreamWriter]:
    return [(await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))[1] for _ in range(count)]


async def test_silent_connections_leave_a_place_for_who_asks_something() -> None:
    # On a busy machine the one who asks may take longer than the limit on heads, which has a test of its own.
    limits = Limits(most=40, most_of_address=1000, first_head_within_s=600)
    async with served(limits) as port:
        opened = await silent(port, 200)
        assert await is_alive(port)
        assert len(limits) <= 40
        for writer in opened:
            writer.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["silent", "a hello without its end"])
def test_connections_before_their_tls_handshake_count(
    loop: Callable[[], asyncio.AbstractEventLoop], said: bytes, tmp_path: Path
) -> None:
    make_certificate(tmp_path, "localhost")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=tmp_path / "proxy.crt")
    server.load_cert_chain(tmp_path / "proxy.crt", tmp_path / "proxy.key")
    client.check_hostname = False

    async def story() -> None:
        limits = Limits(most=40, most_of_address=1000, first_head_within_s=600)
        async with served(limits, tls=server) as port:
            opened = await silent(port, 200)
            for writer in opened:
                writer.write(said)
            async with asyncio.timeout(60):
                while len(limits) < 40:
                    await asyncio.sleep(0.02)
            assert await is_alive(port, tls=client)
            assert len(limits) <= 40
            for writer in opened:
                writer.close()
            async with asyncio.timeout(60):
                while len(limits):
                    await asyncio.sleep(0.02)
            assert await is_alive(port, tls=client)
        limits = Limits(most=40, most_of_address=1000, first_head_within_s=0.3)
        async with served(limits, tls=server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(60):
                    assert await reader.read() == b""
            assert not len(limits)
            writer.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())


async def test_a_head_that_never_ends_is_hung_up_on() -> None:
    limits = Limits(most=40, most_of_address=1000, first_head_within_s=0.3)
    async with served(limits) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while await reader.read(1):
                    writer.write(b"X-More: 1\r\n")
        writer.close()
        assert not len(limits)


async def test_requests_that_are_being_answered_are_not_cut_and_one_address_has_not_all_places() -> None:
    until = asyncio.Event()
    limits = Limits(most=30, most_of_address=10)
    limits._is_exempt = lambda address: False  # type: ignore[method-assign]
    async with served(limits, until=until) as port:
        held = []
        for _ in range(12):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.5", 0))
            writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            held.append((reader, writer))
        async with asyncio.timeout(20):
            while limits.refused < 2:
                await asyncio.sleep(0.01)
        assert await is_alive(port, "127.0.0.6")
        assert limits.refused == 2
        until.set()
        answers = await asyncio.gather(*(reader.read() for reader, _ in held), return_exceptions=True)
        assert sum(isinstance(one, bytes) and one.startswith(b"HTTP/1.1 200") for one in answers) == 10
        for _, writer in held:
            writer.close()


def test_event_streams_have_a_limit_for_each_person_and_in_all() -> None:
    streams = Streams(most=10, most_of_one=3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(streams.one_more("mallory"))
        with pytest.raises(TooMany), streams.one_more("mallory"):
            pass
        for number in range(7):
            stack.enter_context(streams.one_more(f"m{number}"))
        with pytest.raises(TooMany), streams.one_more("ada"):
            pass
    with streams.one_more("ada"):
        pass


async def test_silent_connections_to_debug_ports_are_few_in_all_and_keep_no_debugger_out() -> None:
    async def no_jvm(factory: object) -> asyncio.Transport:
        raise OSError("there is not a JVM here")

    async with contextlib.AsyncExitStack() as stack:
        ports, slots = [], []
        for number in range(4):
            slot = Slot(
                session_id=f"s{number}",
                dial=no_jvm,
                allow_exit=False,
                clock=lambda: datetime.now(UTC),
                changed=lambda: None,
                noticed=lambda kind, data: None,
            )
            await slot.open()
            stack.push_async_callback(slot.close, "over")
            listener = Listener(slot, host="0.0.0.0", port=0, admits=lambda host: True)
            await listener.open()
            stack.callback(listener.close)
            ports.append(listener.port)
            slots.append(slot)
        opened = []
        for number in range(12):
            source = f"127.0.0.{number + 10}"
            opened += await silent(ports[number % 4], MOST_OF_ADDRESS + 8, source)
            _assert_few_wait()
        async with asyncio.timeout(30):
            while sum(slot.refused["no_handshake"] for slot in slots) < 12 * (MOST_OF_ADDRESS + 8) - MOST_WAITING:
                await asyncio.sleep(0.01)
                _assert_few_wait()
        _, debugger = await asyncio.open_connection("127.0.0.1", ports[0])
        debugger.write(b"JDWP-Handshake")
        async with asyncio.timeout(30):
            while not slots[0].refused["upstream_failed"]:
                await asyncio.sleep(0.01)
        for writer in (*opened, debugger):
            writer.close()


def _assert_few_wait() -> None:
    """They would all be gone after some seconds; what counts is how many there are before."""
    waiting = Counter(one.host for one in admission._waiting.get())
    assert waiting.total() <= MOST_WAITING
    assert max(waiting.values(), default=0) <= MOST_OF_ADDRESS


async def without_end(call: Call) -> None:
    call.writer.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"items": ["')
    while True:
        call.writer.write(b"x" * 65536)
        await call.writer.drain()


async def bomb(call: Call) -> None:
    body = gzip.compress(bytes(1 << 28), 9)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    call.writer.write(head.encode() + body)


async def never(call: Call) -> None:
    call.writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        call.writer.write(b" ")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("answer", [without_end, bomb])
async def test_a_body_without_end_or_a_gzip_bomb_of_an_api_server_is_not_read_to_its_end(answer: Any) -> None:
    import tracemalloc

    async with api_in_a_thread(_refused) as warm, Client(warm.settings) as client:
        with contextlib.suppress(Exception):
            await client.ask("GET", "/version")  # what the first connection takes is not the answer's
    async with api_in_a_thread(answer) as api, Client(api.settings) as client:
        tracemalloc.start()
        try:
            with watching_the_loop() as longest, pytest.raises(Unavailable):
                await client.ask("GET", "/api/v1/pods", timeout=60)
            assert tracemalloc.get_traced_memory()[1] < 8 * LONGEST or answer is bomb
        finally:
            tracemalloc.stop()
    assert longest.seconds < 2 * most_s()  # tracemalloc itself takes some of it


async def test_a_body_that_trickles_has_a_deadline() -> None:
    async with api_in_a_thread(never) as api, Client(api.settings) as client:
        with pytest.raises(Unavailable):
            await client.ask("GET", "/version", timeout=0.5)


async def test_pages_without_end_are_not_followed_for_ever() -> None:
    asked = 0

    async def pages(call: Call) -> None:
        nonlocal asked
        asked += 1
        call.json(200, {"metadata": {"resourceVersion": "1", "continue": f"c{asked}"}, "items": []})

    async with api_in_a_thread(pages) as api, Client(api.settings) as client:
        pace = Pace(first_wait=60.0)
        watch = Watch(client, "/api/v1/pods", name="p", page_size=10, selected={}, pace=pace, read=read_pod, held=tuple)
        task = asyncio.get_running_loop().create_task(watch.run(lambda change: None))
        async with asyncio.timeout(20):
            while watch.trouble is None:
                await asyncio.sleep(0.01)
        task.cancel()
        assert "without end" in watch.trouble
        assert asked < 5


async def _refused(call: Call) -> None:
    call.refuse(404, "no")
