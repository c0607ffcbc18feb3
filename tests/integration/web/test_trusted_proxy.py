"""A reverse proxy that says who asks: nginx with a secret, and those who would like to be taken for it."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from noah.errors import BadSettings
from noah.http_limits import LIMITS, LimitedSite
from noah.settings import parse_settings
from noah.web.tls import Tls
from tests.integration.web.conftest import Gateway, serving
from tests.ports import free_port

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

SECRET = "0123456789abcdef-of-the-proxy"
SENDS_SECRET = f"proxy_set_header Noah-Proxy-Secret '{SECRET}';"
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
        return answer.status, await answer.json(content_type=None) if answer.status < 500 else {}


@asynccontextmanager
async def _nginx(folder: Path, to: str, shows: str = SENDS_SECRET) -> AsyncIterator[str]:
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
        f" {shows} }} }} }}\n"
    )
    process = await asyncio.create_subprocess_exec("nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/nginx.log")
    try:
        async with asyncio.timeout(60):
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
        ({"networks": ["127.0.0.1"]}, "needs a secret_file or a client_ca as well"),
        ({"networks": ["::1"]}, "needs a secret_file or a client_ca as well"),
        ({"client_ca": "ca.crt"}, "go together"),
        ({"client_names": ["proxy"], "secret_file": "secret"}, "go together"),
        ({"client_ca": "ca.crt", "client_names": ["proxy"]}, "needs the gateway's own TLS"),
    ],
)
async def test_a_proxy_that_anybody_could_be_is_refused(proxy: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        parse_settings({"access": {"proxy": proxy}}, origin="noah.toml")


async def test_a_proxy_is_known_by_its_client_certificate(jvm: int, tmp_path: Path) -> None:
    """A certificate that the same CA has signed for somebody else says nothing, and another CA's none is let in."""
    await asyncio.to_thread(_make_certificates, tmp_path)
    proxy = {"client_ca": str(tmp_path / "ca.crt"), "client_names": ["proxy.example"]}
    own: dict[str, Any] = {"tls_certificate": tmp_path / "gateway.crt", "tls_key": tmp_path / "gateway.key"}
    async with serving(jvm, tmp_path, access={"proxy": proxy}, **own) as gateway, _by_tls(gateway, tmp_path) as url:
        got = {}
        for name in ("proxy", "alt-proxy", "other", "stranger", None):
            shows = f"proxy_ssl_certificate {tmp_path}/{name}.crt; proxy_ssl_certificate_key {tmp_path}/{name}.key;"
            async with _nginx(tmp_path, url, shows if name else "") as proxied:
                status, me = await _me(proxied, gateway, {"X-Forwarded-User": "root"})
                got[name] = (status, me["principal"]["name"] if status == 200 else "")
        direct = await _me(gateway.url, gateway, {"X-Forwarded-User": "ada", "Noah-Proxy-Secret": SECRET})
    assert got == {
        "proxy": (200, "ada"),
        "alt-proxy": (200, "ada"),
        "other": (401, ""),
        "stranger": (502, ""),  # nginx's own: the handshake was refused
        None: (401, ""),
    }
    assert direct[0] == 401


@asynccontextmanager
async def _by_tls(gateway: Gateway, folder: Path) -> AsyncIterator[str]:
    """The same site by TLS, as the gateway itself would serve it."""
    tls = Tls(folder / "gateway.crt", folder / "gateway.key", client_ca=folder / "ca.crt")
    assert gateway.server.runner is not None
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site = LimitedSite(gateway.server.runner, listener, gateway.server.app[LIMITS], ssl_context=tls.context)
        await site.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        await site.stop()


def _make_certificates(folder: Path) -> None:
    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=folder)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    for ca in ("ca", "ca-of-strangers"):
        openssl("req", "-x509", *new, "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.crt")
    for name, subject, alternative, ca in (
        ("gateway", "gateway", "IP:127.0.0.1", "ca"),
        ("proxy", "proxy.example", "DNS:elsewhere.example", "ca"),
        ("alt-proxy", "a proxy", "DNS:proxy.example", "ca"),
        ("other", "other.example", "DNS:proxy.example.evil.example", "ca"),
        ("stranger", "proxy.example", "DNS:proxy.example", "ca-of-strangers"),
    ):
        signed = ("-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-addext", f"subjectAltName={alternative}")
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl("req", "-x509", *new, "-subj", f"/CN={subject}", *signed, *files)
