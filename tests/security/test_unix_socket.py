"""A gateway at a UNIX socket: the kernel says who asks, and nobody of the machine is taken for somebody else."""

import asyncio
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from noah.access.tokens import TokenFile
from noah.client.gateway_client import GatewayClient
from noah.errors import BadSettings, NoahError, Unauthenticated
from noah.settings import parse_settings
from noah.web.unix_socket import listening_at
from tests.databases import make_database
from tests.gateway import Process
from tests.processes import output_of

FRIEND, STRANGER = 61234, 61235
as_root = pytest.mark.skipif(os.getuid() != 0, reason="other users take root")


class UnixProcess(Process):
    """`noah serve` at a UNIX socket."""

    def __init__(self, folder: Path, config: str) -> None:
        super().__init__(folder, config)
        self.socket = folder / "noah.sock"
        self.url = f"unix:{self.socket}"
        self.env = {**self.env, "NOAH_URL": self.url}
        self.file.write_text(re.sub('listen = ".*"', f'listen = "{self.url}"', self.file.read_text()))

    async def is_ready(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.socket))) as http,
                http.get("http://localhost/readyz") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def asked(self, uid: int, path: str, *more: str) -> tuple[int, dict[str, Any]]:
        """The status and the JSON that another user of the machine gets."""
        argv = ["curl", "-s", "-m", "60", "--unix-socket", str(self.socket), "-w", "\n%{http_code}", *more]
        curl = await asyncio.create_subprocess_exec(
            *argv, f"http://localhost{path}", stdout=asyncio.subprocess.PIPE, user=uid, group=uid
        )
        out, _ = await output_of(curl)
        body, _, status = out.decode().rpartition("\n")
        return int(status), json.loads(body)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users may enter."""
    made = Path(tempfile.mkdtemp(prefix="noah-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@asynccontextmanager
async def serving(folder: Path, config: str) -> AsyncIterator[UnixProcess]:
    process = UnixProcess(folder, config)
    make_database(process.database)
    await process.start()
    try:
        yield process
    finally:
        await process.stop()
    assert not process.socket.exists()


@as_root
async def test_each_user_of_the_machine_is_who_they_are(folder: Path) -> None:
    config = f'[[local]]\nname = "shop"\njdwp_port = 1\n[access]\nlocal_users = ["{FRIEND}"]\n'
    async with serving(folder, config) as process:
        for uid in (0, FRIEND):
            status, me = await process.asked(uid, "/api/v1/me")
            assert status == 200, me
            assert (me["principal"]["kind"], me["proof"]) == ("local", f"uid {uid} of this machine")
        status, refused = await process.asked(STRANGER, "/api/v1/me")
        assert status == 401
        assert "local_users" in refused["detail"]
        claims = ("X-Forwarded-User: root", "Impersonate-User: root", "Noah-User: root", "X-Forwarded-For: 127.0.0.1")
        for claim in claims:
            assert (await process.asked(STRANGER, "/api/v1/me", "-H", claim))[0] == 401
        assert (await process.asked(STRANGER, "/api/v1/me", "-H", "Host: evil.example"))[0] == 421
        # What came through a proxy was not sent by the program at the other end.
        assert (await process.asked(0, "/api/v1/me", "-H", "X-Forwarded-For: 10.0.0.1"))[0] == 401
        assert (await process.asked(STRANGER, "/livez"))[0] == 200
        token = TokenFile(process.tokens).create("ada", groups=[], now=datetime.now(UTC), expires_at=None)
        bearer = f"Authorization: Bearer {token}"
        status, me = await process.asked(STRANGER, "/api/v1/me", "-H", bearer)
        assert (status, me["principal"]["name"]) == (200, "ada")


async def test_the_command_line_and_a_debugger_of_the_machine_use_it(folder: Path) -> None:
    async with serving(folder, '[[local]]\nname = "shop"\njdwp_port = 1\n') as process:
        code, said = await process.noah("targets")
        assert code == 0, said
        assert "local/shop" in said
        client = GatewayClient(process.url)
        status, session = await asyncio.to_thread(client.post, "/sessions", {"target": "local/shop"})
        assert (status, session["allow"], session["host"]) == (201, ["127.0.0.1/32"], "127.0.0.1")
        events = await asyncio.to_thread(lambda: client.stream("/events", {}, last_id="x-1"))
        assert b"reload" in await asyncio.to_thread(lambda: next(events) + next(events))
        code, said = await process.noah("login")
        assert (code, "asks you for no login" in said) == (0, True), said
        code, said = await process.noah("end", session["id"])
        assert code == 0, said
        code, said = await process.noah("serve", "--config", str(process.file))
        assert (code, "Traceback" in said) == (2, False), said
    with pytest.raises(NoahError, match="does not answer"):
        await asyncio.to_thread(client.get, "/me")


def test_only_a_socket_that_was_left_behind_is_replaced(folder: Path) -> None:
    path = folder / "noah.sock"
    with listening_at(path):
        assert path.stat().st_mode & 0o777 == 0o666
        with pytest.raises(BadSettings, match="another program does"), listening_at(path):
            pass
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with listening_at(path):
        pass
    for make in (path.write_text, lambda text: path.symlink_to(folder / text)):
        make("else")
        with pytest.raises(BadSettings, match="something else at that path"), listening_at(path):
            pass
        path.unlink()
    folder.chmod(0o777)
    with pytest.raises(BadSettings, match="Others may write"), listening_at(path):
        pass
    with pytest.raises(BadSettings, match="No such file"), listening_at(folder / "none" / "noah.sock"):
        pass


@pytest.mark.parametrize(
    ("gateway", "said"),
    [
        ({"listen": "unix:noah.sock"}, "absolute path"),
        ({"listen": "unix:/" + "a" * 107}, "at most 107 bytes"),
        ({"listen": "unix:/a", "tls_certificate": "a", "tls_key": "b"}, "crosses no network"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused(gateway: dict[str, str], said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        parse_settings({"gateway": gateway}, origin="noah.toml")


def test_a_wrong_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoahError, match="no such file or directory") as caught:
        GatewayClient(f"unix:{tmp_path}/none").get("/me")
    assert not isinstance(caught.value, Unauthenticated)
