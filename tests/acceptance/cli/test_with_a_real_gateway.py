"""A developer's day on the command line, with a real gateway, a real JVM and jdb."""

import asyncio
import getpass
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.cli.command import noah, start
from tests.gateway import serving
from tests.ports import free_port
from tests.processes import killed_after

SHOP = Path(__file__).parents[2] / "apps" / "Shop.java"
# What scripts read of `enable --wait -o json`.
KEYS = {"id", "target", "status", "owner", "host", "port", "created_at", "expires_at", "ended_at", "end_reason"}

pytestmark = pytest.mark.jvm


@asynccontextmanager
async def shop(port: int) -> AsyncIterator[None]:
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec("java", agent, str(SHOP), stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"open\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def test_from_the_first_command_to_a_breakpoint_and_back(tmp_path: Path) -> None:
    jdwp = free_port()
    async with (
        shop(jdwp),
        serving(tmp_path, f'[[local]]\nname = "shop"\njdwp_port = {jdwp}\n') as (process, api),
        killed_after(await start(process.url, "events", "-f", "-o", "json")) as watching,
    ):
        url = process.url
        assert (await noah(url, "targets", "-o", "name")).out == "local/shop\n"
        assert "asks you for no login" in (await noah(url, "login")).out
        enabled = await noah(url, "enable", "local/shop", "--wait", "-o", "json")
        assert enabled.code == 0, enabled.err
        session = json.loads(enabled.out)
        assert session.keys() >= KEYS
        assert (session["target"], session["status"], session["owner"]) == ("local/shop", "ready", getpass.getuser())

        refused = await noah(url, "enable", "local/shop", env={"NOAH_TOKEN": api.token("bob")})
        assert refused.code == 4
        assert getpass.getuser() in refused.err

        jdb = await stopped_at(session, "Shop$OrderService.price")
        stands_still = await noah(url, "sessions", "local/shop")
        assert "suspended: at Shop$OrderService.price:" in stands_still.out
        assert (await noah(url, "resume", "local/shop")).code == 0
        await asyncio.wait_for(jdb.wait(), 30)

        extended = await noah(url, "extend", "local/shop", "--for", "3h", "-o", "json")
        assert extended.code == 0, extended.err
        assert json.loads(extended.out)["expires_at"] > session["expires_at"]
        run_configuration = await noah(url, "ide", "local/shop", "--format", "intellij")
        assert f'value="{session["port"]}"' in run_configuration.out
        ended = await noah(url, "end", "local/shop", "--wait", "-o", "json")
        assert (json.loads(ended.out)["status"], json.loads(ended.out)["end_reason"]) == ("ended", "closed")
        assert (await noah(url, "sessions", "-o", "name")).out == ""
        assert (await noah(url, "sessions", "--ended", "-o", "name")).out == f"{session['id']}\n"
        assert (await noah(url, "end", "local/shop")).code == 3

        watching.terminate()
        assert watching.stdout is not None
        seen = [json.loads(line) for line in (await watching.stdout.read()).splitlines()]
        await watching.wait()
        statuses = [event["status"] for event in seen if event["kind"] == "session"]
        assert [status for status in ("ready", "suspended", "ended") if status in statuses] == [
            "ready",
            "suspended",
            "ended",
        ]


async def test_what_is_not_there_is_said_by_name(tmp_path: Path) -> None:
    async with serving(tmp_path, f'[[local]]\nname = "shop"\njdwp_port = {free_port()}\n') as (process, _):
        for argv, code, named in (
            (["enable", "local/nope"], 3, "nope"),
            (["enable", "deploy/shop"], 3, "cluster"),
            (["doctor", "nowhere"], 3, "nowhere"),
            (["sessions", "s-nope"], 3, "s-nope"),
            (["enable", "local/shop", "--allow", "everybody"], 2, "everybody"),
            (["extend", "s-nope"], 3, "s-nope"),
        ):
            said = await noah(process.url, *argv)
            assert (said.code, said.out, len(said.err.splitlines())) == (code, "", 1)
            assert named in said.err


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (None, "cannot be read"),
        ("[gateway\n", "is not TOML"),
        ("[gateway]\ncolour = 1\n", "gateway.colour"),
        ('[gateway]\nlisten = "0.0.0.0:7070"\n', "tls_certificate"),
        ('[gateway]\ndatabase = "sqlite:////proc/noah.db"\n', "database"),
    ],
)
async def test_a_gateway_that_cannot_be_started_says_why(tmp_path: Path, config: str | None, named: str) -> None:
    file = tmp_path / "noah.toml"
    if config is not None:
        file.write_text(config)
    said = await noah("", "serve", env={"NOAH_CONFIG": str(file)})
    assert said.code in (2, 5)
    assert len(said.err.splitlines()) == 1
    assert named in said.err


async def stopped_at(session: dict[str, object], method: str) -> asyncio.subprocess.Process:
    jdb = await asyncio.create_subprocess_exec(
        *("jdb", "-attach", f"{session['host']}:{session['port']}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert jdb.stdin is not None
    assert jdb.stdout is not None
    jdb.stdin.write(f"stop in {method}\n".encode())
    async with asyncio.timeout(60):
        assert b"Breakpoint hit" in await jdb.stdout.readuntil(b"Breakpoint hit")
    return jdb
