"""Attacks beside the ones that were found on the code: on streams, slots, times, queries and files."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noah.errors import NoahError
from noah.kube.client import Client
from noah.kube.clusters import Cluster
from noah.kube.exec.commands import Container, Exec
from noah.kube.exec.held import HeldExec
from noah.kube.logs import LONGEST, line_of
from noah.proxy.slot import MOST_AT_ONCE, Slot
from noah.releases.notice import Noticing
from noah.releases.revision import _selector
from noah.settings import ClusterSettings
from noah.web.api.route import Raw
from noah.web.api.routes import ROUTES
from noah.web.pages.routes import PAGES
from tests.integration.web.conftest import Gateway, serving
from tests.ports import free_port
from tests.security.hostile_api import api_in_a_thread
from tests.security.loop_time import cpu_of, most_s, watching_the_loop
from tests.unit.kube.fake_api import Call, frame


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with serving(free_port(), tmp_path) as gateway:
        yield gateway


NONSENSE = ("", "-1", "1e999", "nan", "9" * 400, "\x00", "\x1b[2J", "../../etc/passwd", "%", "{}", "ä" * 200, "'\"--")


async def test_no_query_and_no_name_is_more_than_a_refusal(site: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    for route in (*ROUTES, *PAGES):
        streams = isinstance(route, Raw) and "text/event-stream" in route.content_types
        if route.method != "GET" or streams or "/clusters/" in route.path or "login" in route.path:
            continue
        names = [one.alias or name for name, one in route.query.model_fields.items()]
        for value in NONSENSE:
            path = route.path
            for part in [piece for piece in path.split("/") if piece.startswith("{")]:
                path = path.replace(part, "%2e%2e%2f" + value.encode().hex() or "x")
            params = {name: value for name in names if name != "wait_s"}
            async with site.http.get(site.url + path, params=params, allow_redirects=False) as answer:
                assert answer.status < 500 or answer.status == 503, (path, value, answer.status)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../site.py", "/static/%2e%2e/%2e%2e/site.py", "/static/..%2f..%2fsite.py", "/static//etc/passwd",
        "/static/%2fetc%2fpasswd", "/static/..%5c..%5csite.py", "/static/%00", "/static/%252e%252e/site.py",
    ],
)  # fmt: skip
async def test_no_path_leads_out_of_the_static_files(site: Gateway, path: str) -> None:
    reader, writer = await asyncio.open_connection(site.server.host, site.server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    got = await reader.read()
    writer.close()
    assert b" 200 " not in got.split(b"\r\n", 1)[0]
    assert b"root:" not in got
    assert b"import" not in got.split(b"\r\n\r\n", 1)[-1][:20]


async def test_a_debuggers_address_that_opens_hundreds_of_connections_has_a_few_of_them_held() -> None:
    dialled = asyncio.Event()

    async def hangs(factory: object) -> asyncio.Transport:
        dialled.set()
        await asyncio.Event().wait()
        raise AssertionError

    slot = Slot(
        session_id="s",
        dial=hangs,
        allow_exit=False,
        clock=lambda: datetime.now(UTC),
        changed=lambda: None,
        noticed=lambda kind, data: None,
    )

    class Ends(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.ended = 0

        def abort(self) -> None:
            self.ended += 1

    await slot.open()
    transports = [Ends() for _ in range(500)]
    for number, transport in enumerate(transports):
        slot.admit(transport, f"127.0.0.1:{number + 1}")
    await dialled.wait()
    assert slot.refused["too_many"] == 500 - MOST_AT_ONCE
    assert sum(not one.ended for one in transports) <= MOST_AT_ONCE
    await slot.close("over")
    assert all(one.ended for one in transports)


CONTAINER = Container("n", "p", "app", None)


@contextlib.asynccontextmanager
async def execs(answer: Any) -> AsyncIterator[Exec]:
    async with api_in_a_thread(answer) as api, Client(api.settings) as client:
        yield Exec(client)


async def hold(execs: Exec, lines: list[str]) -> HeldExec:
    return await execs.hold(
        CONTAINER, ["sh"], until="done", first_line_timeout=30, on_end=lambda how: None, on_line=lines.append
    )


async def test_a_container_that_floods_the_held_stream_is_cut_off_and_holds_nobody_up() -> None:
    async def flood(call: Call) -> None:
        call.upgrade()
        call.writer.write(frame(b"\x01done\n"))
        for _ in range(200):
            call.writer.write(frame(b"\x01" + b"over\n" * 13_000))
        with contextlib.suppress(ConnectionError):
            await call.writer.drain()
        await call.reader.read()

    lines: list[str] = []
    async with execs(flood) as made:
        held = await hold(made, lines)
        with watching_the_loop() as longest:
            async with asyncio.timeout(60):
                await held.ended.wait()
        assert isinstance(held.how, NoahError)
        assert len(lines) < 20_000
        assert longest.seconds < most_s()
        await held.close()


async def test_a_peer_that_sends_pings_and_reads_nothing_does_not_fill_the_memory() -> None:
    async def pings(call: Call) -> None:
        call.upgrade()
        call.writer.write(frame(b"\x01done\n"))
        for _ in range(40):
            call.writer.write((b"\x89\x7d" + bytes(125)) * 2000)
            await call.writer.drain()
        call.writer.write(frame(b"\x01" + b"last\n"))
        await call.writer.drain()
        await asyncio.sleep(3600)

    lines: list[str] = []
    async with execs(pings) as made:
        held = await hold(made, lines)
        async with asyncio.timeout(120):
            while not lines:
                await asyncio.sleep(0.01)
                assert held._stream.transport.get_write_buffer_size() < 1 << 20
        await held.close()


@pytest.mark.parametrize(
    "text",
    [
        b"0001-01-01T00:00:00.000000000+14:00 x", b"9999-12-31T23:59:59.999999999-14:00 x", b"\xff\xfe\x00", b"",
        b"Z", b" ", b"x" * (LONGEST * 3), b"2026-13-45T99:99:99.000000000+01:00 x",
    ],
)  # fmt: skip
def test_no_line_of_a_log_is_more_than_a_line(text: bytes) -> None:
    line = line_of(text)
    assert len(line.text) <= LONGEST + 2


@pytest.mark.parametrize("at", ["x", "", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", 5, None, [], {"a": 1}])
def test_an_event_with_a_strange_time_ends_no_watch_of_releases(at: Any) -> None:
    theirs = Cluster(ClusterSettings(name="theirs", url="http://127.0.0.1:1"))
    noticing = Noticing(theirs, live_in=lambda *_: [], clock=lambda: datetime.now(UTC))
    event = {
        "metadata": {"uid": "u"},
        "involvedObject": {"kind": "ReplicaSet", "name": "a/../b?x", "namespace": "n"},
        "lastTimestamp": at,
    }
    noticing._refused(event)


def test_a_label_selector_of_thousands_of_terms_is_written_in_time() -> None:
    terms = [{"key": f"k{i}", "operator": "In", "values": ["v"] * 10} for i in range(5000)]
    assert cpu_of(lambda: _selector({"matchExpressions": terms})) < most_s()


async def test_a_refusal_of_megabytes_is_a_sentence() -> None:
    async def refuses(call: Call) -> None:
        call.refuse(403, "\x1b[2J" + "no " * 300_000)

    async with api_in_a_thread(refuses) as api, Client(api.settings) as client:
        with pytest.raises(NoahError) as refused:
            await client.ask("GET", "/api/v1/pods")
        assert len(refused.value.sentence) < 4000
