"""A reverse proxy that says who asks: nginx with a secret, and those who would like to be taken for it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from noah.errors import BadSettings
from noah.settings import parse_settings
from tests.gateway import free_port
from tests.integration.web.conftest import Gateway, serving

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

SECRET = "0123456789abcdef-of-the-proxy"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("proxied")
    (folder / "secret").write_text(SECRET + "\n")
    proxy = {"networks": ["127.0.0.0/8"], "secret_file": str(folder / "secret")}
    async with serving(jvm, folder, access={"proxy": proxy}) as gateway:
        yield gateway


async def _me(url: str, gateway: Gateway, headers: Any, method: str = "GET") -> tuple[int, dict[str, Any]]:
    path = "/api/v1/me" if method == "GET" else "/api/v1/sessions/s-none/resume"
    async with gateway.http.request(method, url + path, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


@asynccontextmanager
async def _nginx(folder: Path, to: str) -> AsyncIterator[str]:
    """Names ada and her groups, whatever the client says."""
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; events {{}}\n"
        "http { access_log off; "
        + "".join(
            f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {to}; proxy_set_header Host $http_host;"
        f" proxy_set_header X-Forwarded-User ada; proxy_set_header X-Forwarded-Groups 'team-a, team-b';"
        f" proxy_set_header Noah-Proxy-Secret '{SECRET}'; }} }} }}\n"
    )
    process = await asyncio.create_subprocess_exec("nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/nginx.log")
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def test_the_proxy_says_who_asks_and_a_client_cannot(gateway: Gateway, tmp_path: Path) -> None:
    async with _nginx(tmp_path, gateway.url) as url:
        for claimed in ({}, {"X-Forwarded-User": "root", "X-Forwarded-Groups": "noah:operators"}):
            status, me = await _me(url, gateway, claimed)
            assert status == 200, me
            assert (me["principal"]["kind"], me["principal"]["name"]) == ("proxy", "ada")
            assert me["groups"] == ["team-a", "team-b"]
        assert (await _me(url, gateway, OWN_PAGE, "POST"))[0] == 404  # it is ada's call, and there is no such session
        for other_page in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
            assert (await _me(url, gateway, other_page, "POST"))[0] in (401, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-User": "ada"},
        {"X-Forwarded-User": "ada", "Noah-Proxy-Secret": ""},
        {"X-Forwarded-User": "ada", "Noah-Proxy-Secret": SECRET[:-1]},
        {"X-Forwarded-User": "ada", "Noah-Proxy-Secret": SECRET + "x"},
        [("X-Forwarded-User", "ada"), ("Noah-Proxy-Secret", SECRET), ("Noah-Proxy-Secret", "x")],
        [("X-Forwarded-User", "ada"), ("X-Forwarded-User", "root"), ("Noah-Proxy-Secret", SECRET)],
        {"X_Forwarded_User": "ada", "Noah-Proxy-Secret": SECRET},
        {"X-Forwarded-User": "", "Noah-Proxy-Secret": SECRET},
        {"X-Forwarded-User": "system:admin", "Noah-Proxy-Secret": SECRET},
        {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "a,system:masters", "Noah-Proxy-Secret": SECRET},
        {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "noah:operators", "Noah-Proxy-Secret": SECRET},
    ],
    ids=range(11),
)
async def test_what_the_proxy_has_not_said_is_nobody(gateway: Gateway, headers: Mapping[str, str]) -> None:
    status, answer = await _me(gateway.url, gateway, headers)
    assert status in (401, 403), answer


async def test_a_proxy_elsewhere_is_known_by_its_network(jvm: int, tmp_path: Path) -> None:
    async with serving(jvm, tmp_path, access={"proxy": {"networks": ["192.0.2.0/24"]}}) as gateway:
        assert (await _me(gateway.url, gateway, {"X-Forwarded-User": "ada"}))[0] == 401


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ({}, "is known by its networks"),
        ({"networks": ["127.0.0.1"]}, "needs a secret_file as well"),
        ({"networks": ["::1"]}, "needs a secret_file as well"),
    ],
)
async def test_a_proxy_that_anybody_could_be_is_refused(proxy: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        parse_settings({"access": {"proxy": proxy}}, origin="noah.toml")
