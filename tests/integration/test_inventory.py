"""The gateway follows its configuration while it runs: what is new appears, what is gone ends its sessions."""

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from aiohttp import web

from tests.following import SECONDS, Following
from tests.gateway import Refused, serving
from tests.java import SAMPLE, compiled
from tests.ports import free_port


def jvm(name: str, port: int) -> str:
    return f'[[local]]\nname = "{name}"\njdwp_port = {port}\n'


def jvms(*names: str) -> str:
    return "".join(jvm(name, free_port()) for name in names)


@asynccontextmanager
async def running_app(classes: Path) -> AsyncIterator[int]:
    """The sample app; yields the port of its agent."""
    port = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y"
    env = {**os.environ, "PORT": str(free_port())}
    app = await asyncio.create_subprocess_exec("java", agent, "-cp", str(classes), "OrderService", env=env)
    try:
        yield port
    finally:
        app.kill()
        await app.wait()


@pytest.mark.jvm
async def test_what_is_new_appears_and_what_is_gone_ends_its_sessions_and_no_others(tmp_path: Path) -> None:
    classes = compiled(SAMPLE, tmp_path / "classes")
    async with running_app(classes) as kept, running_app(classes) as gone, serving(tmp_path, "") as (process, api):
        following = Following(process, api)
        assert await following.names() == set()
        following.write(jvm("kept", kept) + jvm("gone", gone))
        await following.until({"local/kept", "local/gone"})
        stays, ends = await api.ready("local/kept"), await api.ready("local/gone")
        following.write(jvm("kept", kept))
        ended = await api.until(ends, "ended")
        assert ended["end_reason"] == "target_gone"
        assert await following.names() == {"local/kept"}
        assert (await api.show(stays))["status"] == "ready"


@pytest.mark.jvm
async def test_grants_and_limits_of_a_person_are_followed(tmp_path: Path) -> None:
    classes = compiled(SAMPLE, tmp_path / "classes")
    async with running_app(classes) as port, serving(tmp_path, "") as (process, api):
        following, there = Following(process, api), jvm("one", port) + jvm("two", port)
        grant = '[[grants]]\nusers = ["grace"]\nrights = ["debug"]\ntargets = ["local/*"]\n'
        api.admit("grace")
        following.write(there)
        await following.until({"local/one", "local/two"})
        with pytest.raises(Refused, match="404"):
            await api.ready("local/one", user="grace")
        following.write(f"sessions_per_person = 1\n{there}{grant}")
        async with asyncio.timeout(SECONDS):
            while not await following.names(user="grace"):
                await asyncio.sleep(0.1)
        session = await api.ready("local/one", user="grace")
        with pytest.raises(Refused, match="at most 1"):
            await api.ready("local/two", user="grace")
        following.write(there)
        ended = await api.until(session, "ended", within=SECONDS)
        assert ended["end_reason"] == "right_lost"
        log = process.log.read_text()
        assert "counts from the gateway's next start on" not in log
        following.write(f'login_idle = "1h"\n{there}')
        await following.until_log("what has changed in [access] counts from the gateway's next start on")


async def test_a_configuration_that_cannot_be_read_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    async with serving(tmp_path, "") as (process, api):
        following = Following(process, api)
        kept = jvms("kept")
        following.write(kept)
        await following.until({"local/kept"})
        following.write(kept + "[[local]]\nname = 'half")
        await following.until_configuration(lambda check: not check["ok"])
        assert not await following.current()
        assert await following.names() == {"local/kept"}
        assert "is not TOML" in process.log.read_text()
        shown = {one["part"]: one for one in (await api.ask("GET", "inventory"))["items"]}
        assert [name for name, one in shown.items() if not one["current"]] == ["configuration file"]
        assert "is not TOML" in shown["configuration file"]["message"]
        following.write(kept + jvms("new"))
        await following.until_configuration(lambda check: check["ok"])
        assert await following.current()
        await following.until({"local/kept", "local/new"})


async def test_more_than_half_goes_at_once_only_when_that_is_confirmed(tmp_path: Path) -> None:
    async with serving(tmp_path, "") as (process, api):
        following = Following(process, api)
        following.write(jvms("a", "b", "c", "d", "e"))
        await following.until({f"local/{name}" for name in "abcde"})
        following.write(jvms("a", "b"))
        await following.until_configuration(lambda check: not check["ok"])
        assert len(await following.names()) == 5
        assert "3 of 5 JVMs of this machine are gone" in process.log.read_text()
        process.send(signal.SIGHUP)
        await following.until({"local/a", "local/b"})
        await following.until_configuration(lambda check: check["ok"])


async def test_hosts_of_a_command_come_and_go(tmp_path: Path) -> None:
    known = tmp_path / "hosts.json"
    pinned = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    host = (
        '{"name": "%s", "address": "127.0.0.1", "user": "noah", "key": "key", "host_key": "' + pinned + '", '
        '"apps": [{"name": "shop"}]}'
    )
    known.write_text(f"[{host % 'kvm-1'}]")
    config = f'hosts_command = ["cat", "{known}"]\nhosts_command_every = "1s"\n'
    async with serving(tmp_path, "") as (process, api):
        following = Following(process, api)
        following.write("", top=config)
        await following.until({"host/kvm-1/shop"})
        known.write_text(f"[{host % 'kvm-1'}, {host % 'kvm-2'}]")
        await following.until({"host/kvm-1/shop", "host/kvm-2/shop"})
        known.write_text(f"[{host % 'kvm-3'}, {host % 'kvm-4'}]".replace(pinned, "ssh-ed25519 AAAA"))
        await following.until_configuration(lambda check: not check["ok"])
        assert await following.names() == {"host/kvm-1/shop", "host/kvm-2/shop"}
        known.write_text("nonsense")
        await following.until_configuration(lambda check: not check["ok"])
        assert await following.names() == {"host/kvm-1/shop", "host/kvm-2/shop"}
        known.write_text(f"[{host % 'kvm-2'}]")
        await following.until({"host/kvm-2/shop"})


class Cmdb:
    """An HTTP API that lists hosts on pages of two, to those who have the token."""

    def __init__(self) -> None:
        self.hosts: list[Any] = []
        self.answers: list[int] = []
        self.says: str | None = None  # in place of hosts

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/hosts", self._serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port := free_port())
        await site.start()
        try:
            yield f"http://127.0.0.1:{port}/hosts"
        finally:
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        answer = self._answer(request)
        self.answers.append(answer.status)
        return answer

    def _answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer s3cret":
            return web.Response(status=401)
        if self.says is not None:
            return web.Response(text=self.says)
        begins = int(request.query.get("from", "0"))
        page = {"hosts": self.hosts[begins : begins + 2]}
        if begins + 2 < len(self.hosts):
            page["next"] = f"hosts?from={begins + 2}"  # type: ignore[assignment]
        etag = f'"{hashlib.sha256(json.dumps(page).encode()).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        return web.json_response(page, headers={"ETag": etag})


async def test_hosts_of_an_http_api_come_and_go_and_not_most_of_them_at_once(tmp_path: Path) -> None:
    pinned = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()

    def host(name: str) -> dict[str, Any]:
        known = {"address": "127.0.0.1", "user": "noah", "key": "key", "host_key": pinned}
        return {"name": name, **known, "apps": [{"name": "shop"}]}

    def targets(*names: str) -> set[str]:
        return {f"host/{name}/shop" for name in names}

    cmdb = Cmdb()
    (tmp_path / "token").write_text("s3cret\n")
    async with cmdb.open() as url:
        cmdb.hosts, cmdb.says = [host(name) for name in "abcde"], "<html>maintenance</html>"
        config = f'[[inventory]]\nurl = "{url}"\ntoken_file = "{tmp_path / "token"}"\nevery = "1s"\n'
        async with serving(tmp_path, config) as (process, api):
            following = Following(process, api)
            await following.until_configuration(lambda check: not check["ok"])  # at the start, too
            assert await following.names() == set()
            cmdb.answers, cmdb.says = [], None
            await following.until(targets(*"abcde"))
            assert cmdb.answers[:3] == [200, 200, 200]
            async with asyncio.timeout(SECONDS):
                while cmdb.answers[-3:] != [304, 304, 304]:
                    await asyncio.sleep(0.1)
            cmdb.says = "<html>maintenance</html>"
            await following.until_configuration(lambda check: not check["ok"])
            assert await following.names() == targets(*"abcde")
            cmdb.says, cmdb.hosts = None, [host(name) for name in "ax"]
            await following.until_configuration(lambda check: "has to confirm" in (check["message"] or ""))
            assert await following.names() == targets(*"abcde")
            [shown] = [one for one in (await api.ask("GET", "inventory"))["items"] if one["part"] == "hosts"]
            assert (shown["gone"], shown["removed"]) == (4, ["b", "c", "d", "e"])
            env = {"NOAH_URL": api.url, "NOAH_TOKEN": api.token("ada")}
            process.env |= env
            code, said = await process.noah("inventory", "confirm")
            assert code == 0, said
            assert await following.names() == targets(*"ax")
            await following.until_configuration(lambda check: check["ok"])
            code, said = await process.noah("inventory", "confirm")
            assert "Nothing waits to be confirmed" in said
            confirmed = "inventory.removal_confirmed"
            rows = await api.trail(f"code={confirmed}", has={confirmed})
            assert [row["who"]["name"] for row in rows] == ["ada"]
