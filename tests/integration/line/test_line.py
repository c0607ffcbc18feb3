"""The line with a real gateway, a real JVM and a real jdb: `noah connect` as a process."""

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.gateway import Api, Process, serving
from tests.java import SHOP, compiled
from tests.jdb import attached
from tests.line import Relay
from tests.ports import free_port
from tests.processes import output_of
from tests.reverse_proxies import ConnectProxy, haproxy, nginx

pytestmark = pytest.mark.jvm

WITHIN_S = 60.0
STOPPED = r"main\[1\] "  # jdb's prompt at a breakpoint


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[int]:
    """A JVM whose app is open; the port of its agent."""
    port = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{port}"
    argv = ["java", "-XX:TieredStopAtLevel=1", agent, "-cp", str(compiled(SHOP, folder / "classes")), "Shop"]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            assert await process.stdout.readline() == b"open\n"
        yield port
    finally:
        process.kill()
        await process.wait()


@dataclass
class World:
    process: Process
    api: Api
    session: dict[str, Any]
    state: Path

    async def until(self, true: Any, within_s: float = WITHIN_S) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        try:
            async with asyncio.timeout(within_s):
                while not true(shown := await self.api.show(self.session)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never came to that: {shown}") from None
        return shown

    async def noah(self, *argv: str, url: str | None = None, **more: str) -> asyncio.subprocess.Process:
        mine = {"NOAH_URL": url or self.process.url, "NOAH_TOKEN": self.api.token("ada")}
        env = {**os.environ, **mine, "XDG_STATE_HOME": str(self.state)}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "noah", *argv, env={**env, **more},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def said(self, *argv: str, **more: str) -> tuple[int, str]:
        process = await self.noah(*argv, **more)
        out, _ = await output_of(process)
        return process.returncode or 0, out.decode()

    async def from_memory(self) -> str:
        """What the table says of the one line's answers from memory."""
        header, row = (await self.said("connect", "status"))[1].splitlines()
        return row[header.index("FROM MEMORY") :].split()[0]

    @asynccontextmanager
    async def connected(self, *argv: str, **more: str) -> AsyncIterator[int]:
        """`noah connect` for as long as the context; the local port."""
        process = await self.noah("connect", *argv, **more)
        try:
            shown = await self.until(lambda s: s["line"] and s["line"]["state"] == "connected")
            assert shown["host"] == "localhost"
            yield int(shown["port"])
        finally:
            if process.returncode is None:
                process.terminate()
            out, _ = await process.communicate()
            print(out.decode())

    @asynccontextmanager
    async def cuttable(self) -> AsyncIterator[tuple[Relay, int]]:
        """`noah connect` behind a relay that can be cut; the relay and the local port."""
        async with (
            Relay(self.process.port).open() as network,
            self.connected(url=f"http://127.0.0.1:{network.port}") as port,
        ):
            yield network, port


@asynccontextmanager
async def world(folder: Path, gateway: str = "", *, jdwp: int | None = None) -> AsyncIterator[World]:
    """A gateway with a session on a JVM of its own, or on the one whose agent is at *jdwp*."""
    async with AsyncExitStack() as stack:
        port = jdwp or await stack.enter_async_context(shop(folder))
        config = f'{gateway}[[local]]\nname = "shop"\njdwp_port = {port}\n'
        process, api = await stack.enter_async_context(serving(folder, config))
        yield World(process, api, await api.ready("local/shop"), folder)


async def test_jdb_attaches_through_the_line_and_stops(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.connected() as port, attached(port) as jdb:
        assert port != here.session["port"]
        await jdb.ask("stop in Shop$OrderService.price", until=STOPPED)
        shown = await here.until(lambda s: s["status"] == "suspended")
        assert shown["attached"]["debugger"] == "jdb"
        code, said = await here.said("connect", "status")
        assert code == 0
        assert "suspended" in said or "jdb" in said
        code, said = await here.said("ide", "local/shop", "--format", "jdb")
        assert said == f"jdb -attach localhost:{port}\n"
        await jdb.quit()
        await here.until(lambda s: s["status"] == "ready")


async def test_what_a_stop_shows_is_answered_from_memory_also_while_the_line_is_lost(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.cuttable() as (network, port), attached(port) as jdb:
        await jdb.ask("stop in Shop$OrderService.price", until=r"Breakpoint hit[\s\S]*main\[1\] ")
        assert "main" in await jdb.ask("threads", until=r"main\[1\] ")
        async with network.cut():
            await here.until(lambda s: s["line"]["state"] == "lost")
            assert "Shop.main" in await jdb.ask("where", until=r"\[1\] Shop[\s\S]*main\[1\] ")
        await jdb.ask("next", until=r"Step completed[\s\S]*main\[1\] ")
        assert int(await here.from_memory()) > 20
        await jdb.quit()


async def test_without_the_accelerator_the_jvm_answers_everything(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.connected("--no-accelerator") as port, attached(port) as jdb:
        await jdb.ask("stop in Shop$OrderService.price", until=r"Breakpoint hit[\s\S]*main\[1\] ")
        assert "Shop.main" in await jdb.ask("where", until=r"\[1\] Shop[\s\S]*main\[1\] ")
        assert await here.from_memory() == "-"
        await jdb.quit()


async def test_a_debugger_stays_at_its_breakpoint_while_the_line_is_lost(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.cuttable() as (network, port), attached(port) as jdb:
        await jdb.ask("stop in Shop$OrderService.price", until=STOPPED)
        async with network.cut():
            shown = await here.until(lambda s: s["line"]["state"] == "lost")
            assert shown["status"] == "suspended"
            assert "line lost" in (await here.said("sessions", "local/shop"))[1]
        await here.until(lambda s: s["line"]["state"] == "connected")
        async with here.api.http.get(f"{here.api.url}/metrics", headers=here.api.headers()) as answer:
            metrics = await answer.text()
        assert "\nnoah_lines_lost_total 1.0\n" in metrics
        assert re.search(r"^noah_suspended_seconds_total (?!0\.0$)", metrics, re.MULTILINE)
        assert "Shop$OrderService.price" in await jdb.ask("where", until=STOPPED)
        await jdb.quit()


async def test_a_laptop_that_stays_away_frees_the_jvm_and_its_debugger_is_closed(tmp_path: Path) -> None:
    lines = 'line_held = "2s"\nline_held_suspended = "4s"\n'
    async with world(tmp_path, gateway=lines) as here, here.cuttable() as (network, port), attached(port) as jdb:
        await jdb.ask("stop in Shop$OrderService.price", until=STOPPED)
        async with network.cut():
            lost = time.monotonic()
            await here.until(lambda s: s["status"] == "ready", within_s=30)
            assert time.monotonic() - lost > 3.5
        await asyncio.wait_for(jdb.process.wait(), WITHIN_S)  # its connection was closed when the line came back
        await here.until(lambda s: s["line"] and s["line"]["state"] == "connected")


async def test_a_gateway_that_starts_again_closes_the_debugger_and_takes_the_next(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.connected() as port:
        async with attached(port) as jdb:
            await jdb.ask("stop in Shop$OrderService.price", until=STOPPED)
            await here.process.stop()
            async with asyncio.timeout(WITHIN_S):
                while " does not answer: connection refused." not in (await here.said("connect", "status"))[1]:
                    await asyncio.sleep(0.1)
            await here.process.start()
            await asyncio.wait_for(jdb.process.wait(), WITHIN_S)
        await here.until(lambda s: s["line"] and s["line"]["state"] == "connected")
        async with attached(port) as jdb:
            await here.until(lambda s: s["status"] == "attached")
            await jdb.quit()


async def test_who_may_not_connect_reads_one_sentence(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        stranger = {"NOAH_TOKEN": here.api.token("bob")}
        code, said = await here.said("connect", here.session["id"], **stranger)
        assert (code, said.splitlines()[-1]) == (
            8, f"Error: Session {here.session['id']} is ada's, who has not shared it with you: ask them."
        )  # fmt: skip
        code, said = await here.said("connect", here.session["id"], NOAH_TOKEN="noah_" + "x" * 40)
        assert code == 8
        assert len(said.splitlines()) == 1, said
        async with here.connected():
            code, said = await here.said("connect")
            assert code == 4
            assert re.search(r"is connected from 127.0.0.1 since \d\d:\d\d UTC: stop `noah connect` there", said), said
            assert "localhost:" not in said  # a port that leads nowhere
            async with here.connected("--take-over"):
                pass
        assert (await here.said("connect", "status"))[1] == "Nothing is connected.\n"


async def test_a_colleague_connects_to_a_session_that_is_shared_with_them_until_it_is_not(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.connected() as port:
        session_id = here.session["id"]
        bob = {"NOAH_TOKEN": here.api.token("bob"), "XDG_STATE_HOME": str(tmp_path / "bob")}
        assert (await here.said("share", session_id, "bob"))[0] == 0
        code, said = await here.said("connect", session_id, "--detach", **bob)
        assert code == 0, said
        found = re.search(r"localhost:(\d+)", said)
        assert found is not None, said
        assert int(found[1]) != port
        async with attached(int(found[1])) as jdb:
            await here.until(lambda s: s["status"] == "attached")
            # Each has a line of their own.
            shown = await here.until(lambda s: s["line"]["state"] == "connected")
            assert (shown["host"], shown["port"]) == ("localhost", port)
            _, said = await here.said("ide", session_id, "--format", "jdb", **bob)
            assert said == f"jdb -attach localhost:{found[1]}\n"
            assert (await here.said("share", session_id, "bob", "--stop"))[0] == 0
            await here.until(lambda s: s["status"] == "ready")
            async with asyncio.timeout(WITHIN_S):
                await jdb.process.wait()
                while (await here.said("connect", "status", **bob))[1] != "Nothing is connected.\n":
                    await asyncio.sleep(0.2)
        _, trail = await here.said("trail", "--output", "json")
        assert "By a line of their own." in trail
        code, said = await here.said("connect", session_id, **bob)
        assert code == 8
        assert said.endswith(f"Error: Session {session_id} is ada's, who has not shared it with you: ask them.\n")


async def test_a_login_that_ends_is_said_and_the_debugger_stays_meanwhile(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.cuttable() as (network, port), attached(port) as jdb:
        await here.until(lambda s: s["status"] == "attached")
        here.api.revoke("ada")
        network.drop()
        shown = await here.until(lambda s: s["line"]["state"] == "lost")
        assert shown["status"] == "attached"
        async with asyncio.timeout(WITHIN_S):
            while "token" not in (said := (await here.said("connect", "status"))[1]):
                await asyncio.sleep(0.2)
        print(said)
        assert "lost" in said
        assert jdb.process.returncode is None


async def test_it_goes_to_the_background_is_found_and_stopped(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        code, said = await here.said("connect", "--detach")
        assert code == 0, said
        shown = await here.until(lambda s: s["line"] and s["line"]["state"] == "connected")
        assert f"localhost:{shown['port']}" in said
        assert f"localhost:{shown['port']}" in (await here.said("connect", "status"))[1]
        code, said = await here.said("connect", "--detach")
        assert code == 4, said
        assert (await here.said("connect", "stop"))[1] == "Stopped.\n"
        shown = await here.until(lambda s: s["line"] is None)
        assert (shown["host"], shown["port"]) == (here.session["host"], here.session["port"])


async def test_without_plain_ports_the_line_is_the_only_way_in(tmp_path: Path) -> None:
    async with world(tmp_path, gateway="plain_ports = false\n") as here:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", here.session["port"])
        async with here.connected("local/shop") as port:
            assert port == here.session["port"]
            async with attached(port) as jdb:
                await here.until(lambda s: s["status"] == "attached")
                await jdb.quit()


async def test_the_same_port_is_there_the_next_time(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.connected() as port:
            pass
        await here.until(lambda s: s["line"] is None, within_s=30)  # it was closed, and not lost: that is held for 45 s
        async with here.connected() as again:
            assert again == port


async def test_a_page_may_not_open_a_line(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        headers = {**here.api.headers(), "Origin": "http://evil.example"}
        url = f"{here.process.url}/api/v1/sessions/{here.session['id']}/line"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await here.api.http.ws_connect(url, headers=headers)
        assert refused.value.status == 403


NGINX = """location /noah/ {{ proxy_pass {to}/; proxy_http_version 1.1; proxy_read_timeout 8s; proxy_send_timeout 8s;
    proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}"""
HAPROXY = """  timeout client 8s
  timeout server 8s
  timeout tunnel 8s
  option forwardfor
  server noah {to}
"""


@pytest.mark.skipif(not all(map(shutil.which, ["nginx", "haproxy", "openssl"])), reason="no nginx, HAProxy or openssl")
@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
async def test_the_line_goes_through_proxies_under_a_path_with_a_private_ca(tmp_path: Path, kind: str) -> None:
    port = free_port()
    url = f"https://localhost:{port}/noah"
    settings = f'public_url = "{url}/"\ntrusted_proxies = ["127.0.0.0/8"]\n'
    async with world(tmp_path, gateway=settings) as here, ConnectProxy().open() as connect_proxy:
        to = here.process.url
        before = (
            nginx(tmp_path, NGINX.format(to=to), port=port, name="localhost")
            if kind == "nginx"
            else haproxy(tmp_path, HAPROXY.format(to=to.removeprefix("http://")), port=port, name="localhost")
        )
        env = {
            "HTTPS_PROXY": f"http://127.0.0.1:{connect_proxy.port}",
            "NO_PROXY": "",
            "SSL_CERT_FILE": str(tmp_path / "proxy.crt"),
        }
        async with before, here.connected("local/shop", url=url, **env) as local, attached(local) as jdb:
            await jdb.ask("stop in Shop$OrderService.price", until=STOPPED)
            lines = len(connect_proxy.asked)
            shown = await here.api.show(here.session)
            await asyncio.sleep(10)  # longer than the proxies bear silence, but for the heartbeat
            assert (await here.api.show(here.session))["line"] == shown["line"]
            assert len(connect_proxy.asked) == lines
            assert set(connect_proxy.asked) == {f"localhost:{port}"}
            await jdb.ask("where", until=STOPPED)
