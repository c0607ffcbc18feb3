"""Who a cluster is asked as, and by which way: every request carries it, whatever kind of request it is."""

import asyncio
import base64
import contextlib
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from noah.errors import NoahError, Unavailable
from noah.kube.access import in_cluster
from noah.kube.client import Client
from noah.kube.exec.commands import Container, Exec
from noah.kube.informer import Informer
from noah.settings import ClusterSettings
from tests.unit.kube.authority import Authority
from tests.unit.kube.fake_api import Call, FakeApi, fake_api, frame, status

AUTHORITY = Authority()
EXEC_V1 = "client.authentication.k8s.io/v1"


@pytest.fixture
async def tls_api() -> AsyncIterator[FakeApi]:
    async with fake_api(AUTHORITY.server_context()) as api:
        api.on_anything = yes
        yield api


class Kubeconfig:
    """A file that a test rewrites."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._url = url

    def write(self, user: Any, **cluster: Any) -> None:
        trusted = {"server": self._url, "certificate-authority-data": encoded(AUTHORITY.pem), **cluster}
        tree = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {name: value for name, value in trusted.items() if value}}],
            "users": [{"name": "u", "user": user}],
        }
        self.path.write_text(json.dumps(tree))

    @property
    def settings(self) -> ClusterSettings:
        return ClusterSettings(name="fake", kubeconfig=self.path)


@pytest.fixture
def kubeconfig(tls_api: FakeApi, tmp_path: Path) -> Kubeconfig:
    return Kubeconfig(tmp_path / "kubeconfig", tls_api.url)


async def test_every_kind_of_request_acts_as_the_user_that_the_file_says(
    tls_api: FakeApi, kubeconfig: Kubeconfig
) -> None:
    async def hi(call: Call) -> None:
        call.upgrade(then=frame(b"\x01hi") + status())
        await call.until_closed()

    async def pods(call: Call) -> None:
        call.json(200, {"metadata": {"resourceVersion": "1"}, "items": []})

    async def watch(call: Call) -> None:
        call.begin_watch()
        await call.writer.drain()
        await call.hang()

    tls_api.on_exec, tls_api.on_list, tls_api.on_watch = hi, pods, watch
    kubeconfig.write(
        {
            "token": "admin",
            "as": "jane",
            "as-uid": "7",
            "as-groups": ["dev", "ops"],
            "as-user-extra": {"a/b": ["x", "y"]},
        },
        **{"disable-compression": True},
    )
    async with Client(kubeconfig.settings) as client, asyncio.TaskGroup() as group:
        await client.ask("GET", "/version")
        await client.ask("POST", "/api/v1/pods", body={})
        async with client.stream("/api/v1/namespaces/shop/pods/orders/log", {}) as stream:
            await stream.read()
        assert (await Exec(client).run(Container("shop", "orders", "app"), ["true"], timeout=30)).stdout == b"hi"
        informer = Informer(client)
        task = group.create_task(informer.run())
        await informer.wait_synced(5)
        while not any(call.param("watch") for call in tls_api.calls):
            await asyncio.sleep(0.005)
        task.cancel()
    kinds = {(call.method, call.path.rpartition("/")[2], bool(call.param("watch"))) for call in tls_api.calls}
    assert kinds == {
        ("GET", "version", False),
        ("POST", "pods", False),
        ("GET", "log", False),
        ("GET", "exec", False),
        ("GET", "pods", False),
        ("GET", "pods", True),
    }
    for call in tls_api.calls:
        who = [(name, value) for name, value in call.all_headers if name.startswith(("impersonate", "authorization"))]
        assert sorted(who) == [
            ("authorization", "Bearer admin"),
            ("impersonate-extra-a%2fb", "x"),
            ("impersonate-extra-a%2fb", "y"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-user", "jane"),
        ]
        assert call.headers["accept-encoding"] == "identity"


async def test_a_file_that_comes_to_be_refused_ends_the_rights_that_it_gave(
    tls_api: FakeApi, kubeconfig: Kubeconfig
) -> None:
    kubeconfig.write({"token": "admin"})
    async with Client(kubeconfig.settings, fresh_s=0) as client:
        await client.ask("GET", "/version")
        kubeconfig.write({"token": "admin", "as-groups": ["dev"]})
        with pytest.raises(Unavailable, match='its configuration cannot be used: user "u" has "as-uid", "as-groups"'):
            await client.ask("GET", "/version")
        kubeconfig.write({"token": "admin", "as": "jane"})
        await client.ask("GET", "/version")
        kubeconfig.path.unlink()  # as for a moment, when it is replaced
        await client.ask("GET", "/version")
        for half in ("clusters: [", " \n"):  # as for a moment, while it is written
            kubeconfig.path.write_text(half)
            await client.ask("GET", "/version")
        kubeconfig.path.unlink()
        os.mkfifo(kubeconfig.path)  # that nobody ever writes to
        await client.ask("GET", "/version")
    assert [call.headers.get("impersonate-user") for call in tls_api.calls] == [None, *["jane"] * 5]


async def test_a_tokens_file_counts_more_than_the_token_while_it_can_be_read(
    tls_api: FakeApi, kubeconfig: Kubeconfig, tmp_path: Path
) -> None:
    kubeconfig.write({"token": "written", "tokenFile": "token"})
    async with Client(kubeconfig.settings, fresh_s=0) as client:
        for content in ("first\n", "second", None):
            (tmp_path / "token").write_text(content) if content else (tmp_path / "token").unlink()
            await client.ask("GET", "/version")
    assert sent(tls_api, "authorization") == ["Bearer first", "Bearer second", "Bearer written"]


@pytest.mark.parametrize("token", ["a\nb", "ü", "\x1b[2J"])
async def test_a_token_that_no_header_can_hold_is_a_reason(kubeconfig: Kubeconfig, tmp_path: Path, token: str) -> None:
    for user in ({"token": token}, {"tokenFile": "token"}):
        (tmp_path / "token").write_text(token)
        kubeconfig.write(user)
        async with Client(kubeconfig.settings) as client:
            with pytest.raises(Unavailable, match="its token is not one line of ASCII"):
                await client.ask("GET", "/version")


@pytest.mark.parametrize("indent", [None, 2, "\t"])
async def test_a_kubeconfig_may_be_json(tls_api: FakeApi, kubeconfig: Kubeconfig, indent: int | str | None) -> None:
    kubeconfig.write({"token": "x", "as": "jane"})
    kubeconfig.path.write_text(json.dumps(json.loads(kubeconfig.path.read_text()), indent=indent))
    async with Client(kubeconfig.settings) as client:
        await client.ask("GET", "/version")
    assert sent(tls_api, "impersonate-user") == ["jane"]


async def test_a_user_name_and_a_password_are_basic_authentication(tls_api: FakeApi, kubeconfig: Kubeconfig) -> None:
    kubeconfig.write({"username": "jane", "password": "sécret:"})
    async with Client(kubeconfig.settings) as client:
        await client.ask("GET", "/version")
    (header,) = sent(tls_api, "authorization")
    assert base64.b64decode(str(header).removeprefix("Basic ")).decode() == "jane:sécret:"


async def test_certificates_come_from_files_or_from_data_which_counts_more(
    tls_api: FakeApi, kubeconfig: Kubeconfig, tmp_path: Path
) -> None:
    (certificate, key), (other, other_key) = AUTHORITY.issue("jane"), AUTHORITY.issue("joe")
    (tmp_path / "crt").write_bytes(certificate)
    (tmp_path / "key").write_bytes(key)
    files = {"client-certificate": "crt", "client-key": "key"}
    data = {"client-certificate-data": encoded(other), "client-key-data": encoded(other_key)}
    for user in (files, files | data, data):
        kubeconfig.write(user)
        async with Client(kubeconfig.settings) as client:
            await client.ask("GET", "/version")
    assert [call.client for call in tls_api.calls] == ["jane", "joe", "joe"]


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        (b"no certificate", b"no key", "client certificate and key cannot be used"),
        (*AUTHORITY.issue("jane", password=b"secret"), "client certificate and key cannot be used"),
        (AUTHORITY.issue("jane")[0], AUTHORITY.issue("joe")[1], "client certificate and key cannot be used"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_a_reason_and_asks_no_terminal(
    kubeconfig: Kubeconfig, certificate: bytes, key: bytes, reason: str
) -> None:
    kubeconfig.write({"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)})
    async with Client(kubeconfig.settings) as client:
        with pytest.raises(Unavailable, match=reason):
            await client.ask("GET", "/version")


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ({}, None),
        ({"certificate-authority-data": ""}, "its certificate is not trusted"),
        ({"certificate-authority-data": base64.b64encode(b"no PEM").decode()}, "is not a certificate in PEM form"),
        ({"certificate-authority-data": "", "insecure-skip-tls-verify": True}, None),
        ({"tls-server-name": "another.example"}, "its certificate is not trusted"),
    ],
)
async def test_a_server_is_trusted_as_the_file_says(
    kubeconfig: Kubeconfig, cluster: dict[str, Any], reason: str | None
) -> None:
    kubeconfig.write({"token": "x"}, **cluster)
    async with Client(kubeconfig.settings) as client:
        if reason is None:
            await client.ask("GET", "/version")
        else:
            with pytest.raises(Unavailable, match=reason):
                await client.ask("GET", "/version")


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
)
def test_a_pod_finds_its_cluster_by_its_environment_and_its_service_account(
    tmp_path: Path, host: str, server: str
) -> None:
    cluster, user = in_cluster({"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"}, tmp_path)
    assert (cluster.server, cluster.ca) == (URL(server), tmp_path / "ca.crt")
    assert user.token_file == tmp_path / "token"
    with pytest.raises(ValueError, match="does not run in a pod"):
        in_cluster({"KUBERNETES_SERVICE_HOST": host}, tmp_path)


# -- plugins


class Plugin:
    """A script that notes what it was given, and prints what *printed* holds."""

    def __init__(self, folder: Path) -> None:
        self.printed = folder / "printed"
        self.runs = folder / "runs"
        self.path = folder / "login"
        self.runs.touch()
        self.path.write_text(
            f"#!{sys.executable}\n"
            "import json, os, pathlib, sys\n"
            f"runs, printed = pathlib.Path({str(self.runs)!r}), pathlib.Path({str(self.printed)!r})\n"
            "given = {'args': sys.argv[1:], 'info': json.loads(os.environ['KUBERNETES_EXEC_INFO']),\n"
            "         'env': os.environ.get('LOGIN_AS'), 'path': os.environ.get('PATH'), 'stdin': sys.stdin.read()}\n"
            "runs.open('a').write(json.dumps(given) + '\\n')\n"
            "text = printed.read_text()\n"
            "text.startswith('!') and sys.exit(text[1:])\n"
            "print(text)\n"
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    def prints(self, *, version: str = EXEC_V1, **fields: str) -> None:
        self.printed.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": fields}))

    def given(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.runs.read_text().splitlines()]

    def user(self, **more: Any) -> dict[str, Any]:
        return {"exec": {"apiVersion": EXEC_V1, "command": "./login", "interactiveMode": "Never", **more}}


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


async def test_a_plugins_credentials_are_kept_until_they_expire_or_are_refused(
    tls_api: FakeApi, kubeconfig: Kubeconfig, plugin: Plugin
) -> None:
    accepted = "Bearer first"

    async def guarded(call: Call) -> None:
        if call.headers.get("authorization") == accepted:
            await yes(call)
        else:
            call.refuse(401, "Unauthorized")

    tls_api.on_anything = guarded
    kubeconfig.write(plugin.user())
    async with Client(kubeconfig.settings, fresh_s=0) as client:
        plugin.prints(token="first", expirationTimestamp="2099-01-01T00:00:00Z")
        for _ in range(3):
            await client.ask("GET", "/version")
        assert len(plugin.given()) == 1
        accepted = "Bearer second"  # as when it is taken back
        plugin.prints(token="second", expirationTimestamp="2001-01-01T00:00:00Z")
        for _ in range(3):
            await client.ask("GET", "/version")
        assert len(plugin.given()) == 1 + 3
        plugin.printed.write_text("!\x1b[31mlog in first\n")
        await client.ask("GET", "/version")  # the token before is still good
        accepted = "Bearer third"
        with pytest.raises(Unavailable, match=r"its exec plugin \S*/login ended with exit code 1: \?\[31mlog in first"):
            await client.ask("GET", "/version")


async def test_a_plugin_is_told_what_the_file_says(kubeconfig: Kubeconfig, plugin: Plugin) -> None:
    plugin.prints(token="x")
    env = [{"name": "LOGIN_AS", "value": "jane"}]
    kubeconfig.write(plugin.user(args=["a b", "$(id)"], env=env))
    async with Client(kubeconfig.settings) as client:
        await client.ask("GET", "/version")
    (given,) = plugin.given()
    assert given["args"] == ["a b", "$(id)"]
    assert given["env"] == "jane"
    assert given["path"], "the gateway's own environment is there too"
    assert given["stdin"] == ""
    assert given["info"] == {"kind": "ExecCredential", "apiVersion": EXEC_V1, "spec": {"interactive": False}}


async def test_a_plugin_is_told_of_the_cluster_only_when_the_file_says_so(
    tls_api: FakeApi, kubeconfig: Kubeconfig, plugin: Plugin
) -> None:
    plugin.prints(token="x")
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "06e3"}}
    kubeconfig.write(plugin.user(provideClusterInfo=True), extensions=[extension], **{"tls-server-name": "127.0.0.1"})
    async with Client(kubeconfig.settings) as client:
        await client.ask("GET", "/version")
    (given,) = plugin.given()
    assert given["info"]["spec"]["cluster"] == {
        "server": tls_api.url,
        "tls-server-name": "127.0.0.1",
        "certificate-authority-data": encoded(AUTHORITY.pem),
        "config": {"audience": "06e3"},
    }


async def test_a_plugin_may_give_a_certificate(tls_api: FakeApi, kubeconfig: Kubeconfig, plugin: Plugin) -> None:
    certificate, key = AUTHORITY.issue("jane")
    plugin.prints(clientCertificateData=certificate.decode(), clientKeyData=key.decode())
    kubeconfig.write(plugin.user())
    async with Client(kubeconfig.settings) as client:
        await client.ask("GET", "/version")
    assert [call.client for call in tls_api.calls] == ["jane"]


async def test_a_plugin_is_not_run_where_the_file_has_other_credentials(
    tls_api: FakeApi, kubeconfig: Kubeconfig, plugin: Plugin
) -> None:
    for other in ({"token": "x"}, {"username": "a", "password": "b"}):
        kubeconfig.write(plugin.user() | other)
        async with Client(kubeconfig.settings) as client:
            await client.ask("GET", "/version")
    assert plugin.given() == []


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("", "printed no credentials"),
        ("[]", "not an ExecCredential"),
        ("[" * 100_000, "printed no credentials"),
        ("[" + "{}," * 1_000_000 + "{}]", "printed no credentials: It sent more values at once"),
        (" " * (17 << 20), "printed more than 16 MiB"),
        ('{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1"}', "v1beta1' and not"),
        (f'{{"kind": "ExecCredential", "apiVersion": "{EXEC_V1}"}}', "there is no status"),
        (f'{{"kind": "ExecCredential", "apiVersion": "{EXEC_V1}", "status": {{}}}}', "neither a token"),
        (
            f'{{"kind": "ExecCredential", "apiVersion": "{EXEC_V1}", "status": {{"clientKeyData": "x"}}}}',
            "only one of clientCertificateData",
        ),
        (
            f'{{"kind": "ExecCredential", "apiVersion": "{EXEC_V1}",'
            '"status": {"token": "x", "expirationTimestamp": "soon"}}',
            "Invalid isoformat",
        ),
    ],
)
async def test_a_plugin_that_prints_something_else_is_the_reason(
    kubeconfig: Kubeconfig, plugin: Plugin, printed: str, reason: str
) -> None:
    plugin.printed.write_text(printed)
    kubeconfig.write(plugin.user())
    async with Client(kubeconfig.settings) as client:
        with pytest.raises(Unavailable, match=reason):
            await client.ask("GET", "/version")


async def test_a_plugin_that_hangs_is_ended(kubeconfig: Kubeconfig, tmp_path: Path) -> None:
    started = tmp_path / "started"
    (tmp_path / "login").write_text(f"#!/bin/sh\necho $$ > {started}\nexec sleep 300\n")
    (tmp_path / "login").chmod(0o700)
    kubeconfig.write({"exec": {"apiVersion": EXEC_V1, "command": "./login", "interactiveMode": "Never"}})
    async with Client(kubeconfig.settings, load_timeout_s=1) as client:
        with pytest.raises(Unavailable, match="its credentials did not come within 1 s"):
            await client.ask("GET", "/version")
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


async def test_a_plugin_that_is_missing_says_how_to_install_it(kubeconfig: Kubeconfig, plugin: Plugin) -> None:
    kubeconfig.write(plugin.user(command="no-such-login", installHint="brew install\n\x1b[1mlogin."))
    async with Client(kubeconfig.settings) as client:
        with pytest.raises(Unavailable) as raised:
            await client.ask("GET", "/version")
    assert raised.value.sentence == (
        'Cluster "fake": its configuration cannot be used: its exec plugin no-such-login was not found '
        "(brew install ?[1mlogin)."
    )


# -- proxies


@pytest.mark.parametrize("login", ["", "jane:s%20cret@"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_of_every_scheme_carries_requests_and_streams(tmp_path: Path, scheme: str, login: str) -> None:
    async with (
        fake_api(AUTHORITY.server_context(host="api.example")) as api,
        proxy(scheme, to=api.url) as (address, asked),
    ):

        async def hi(call: Call) -> None:
            call.upgrade(then=frame(b"\x01hi") + status())
            await call.until_closed()

        api.on_anything, api.on_exec = yes, hi
        kubeconfig = Kubeconfig(tmp_path / "kubeconfig", "https://api.example:6443")
        kubeconfig.write({"token": "x"}, **{"proxy-url": f"{scheme}://{login}{address}"})
        async with Client(kubeconfig.settings) as client:
            await client.ask("GET", "/version")
            assert (await Exec(client).run(Container("shop", "orders", "app"), ["true"], timeout=30)).stdout == b"hi"
    assert set(asked) == {("api.example:6443", "jane:s cret" if login else "")}, "the proxy resolves the name"
    assert len(asked) == 2, "requests and streams have connections of their own"


async def test_another_name_in_the_certificate_is_accepted_through_a_proxy_too(tmp_path: Path) -> None:
    async with fake_api(AUTHORITY.server_context(host="inner.example")) as api:
        api.on_anything = yes
        for scheme in ("http", "socks5"):
            async with proxy(scheme, to=api.url) as (address, _):
                kubeconfig = Kubeconfig(tmp_path / scheme, "https://api.example:6443")
                for name, trusted in (("inner.example", True), ("", False)):
                    kubeconfig.write({}, **{"proxy-url": f"{scheme}://{address}", "tls-server-name": name})
                    async with Client(kubeconfig.settings) as client:
                        with contextlib.nullcontext() if trusted else pytest.raises(Unavailable, match="not trusted"):
                            await client.ask("GET", "/version")


async def test_the_environments_proxy_is_used_where_the_file_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        fake_api(AUTHORITY.server_context(host="api.example")) as api,
        proxy("http", to=api.url) as (address, asked),
        proxy("socks5", to=api.url) as (other, asked_of_other),
    ):
        api.on_anything = yes
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        kubeconfig = Kubeconfig(tmp_path / "kubeconfig", "https://api.example:6443")
        for cluster in ({}, {"proxy-url": f"socks5://{other}"}):
            kubeconfig.write({}, **cluster)
            async with Client(kubeconfig.settings) as client:
                await client.ask("GET", "/version")
        assert (len(asked), len(asked_of_other)) == (1, 1)


async def test_a_proxy_that_refuses_is_the_reason(tmp_path: Path) -> None:
    async with proxy("socks5", to="http://127.0.0.1:1") as (address, _):
        kubeconfig = Kubeconfig(tmp_path / "kubeconfig", "https://api.example:6443")
        kubeconfig.write({}, **{"proxy-url": f"socks5://{address}"})
        async with Client(kubeconfig.settings) as client:
            with pytest.raises(NoahError, match="the SOCKS proxy refuses: connection refused"):
                await client.ask("GET", "/version")


@asynccontextmanager
async def proxy(scheme: str, *, to: str) -> AsyncIterator[tuple[str, list[tuple[str, str]]]]:
    """A proxy that connects to *to* whatever it is asked for: its address, and what it was asked for by whom."""
    asked: list[tuple[str, str]] = []
    host, _, port = to.partition("://")[2].partition(":")

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        logins = [line.split()[-1] for line in head if line.lower().startswith("proxy-authorization: basic ")]
        asked.append((head[0].split()[1], base64.b64decode(logins[0]).decode() if logins else ""))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return True

    async def socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        version, count = await reader.readexactly(2)
        (method,) = await reader.readexactly(count)
        writer.write(bytes((version, method)))
        login = ""
        if method == 2:
            words = []
            await reader.readexactly(1)
            for _ in range(2):
                (size,) = await reader.readexactly(1)
                words.append((await reader.readexactly(size)).decode())
            login = ":".join(words)
            writer.write(b"\x01\x00")
        assert await reader.readexactly(4) == b"\x05\x01\x00\x03", "a name and not an address"
        (size,) = await reader.readexactly(1)
        name = (await reader.readexactly(size)).decode()
        asked.append((f"{name}:{int.from_bytes(await reader.readexactly(2), 'big')}", login))
        refused = port == "1"
        writer.write(b"\x05" + (b"\x05" if refused else b"\x00") + b"\x00\x01" + bytes(6))
        return not refused

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            if await (socks if scheme == "socks5" else http)(reader, writer):
                up_reader, up_writer = await asyncio.open_connection(host, int(port))
                writers.append(up_writer)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(pump(reader, up_writer))
                    pumps.create_task(pump(up_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for one in writers:
                one.transport.abort()
            await asyncio.sleep(0)  # so that they are closed before the loop is

    tasks: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:
        tls = AUTHORITY.server_context() if scheme == "https" else None
        server = await asyncio.start_server(
            lambda r, w: tasks.append(group.create_task(serve(r, w))), "127.0.0.1", 0, ssl=tls
        )
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
        finally:
            server.close()
            for task in tasks:
                task.cancel()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def yes(call: Call) -> None:
    call.json(200, {"gitVersion": "v1.34"})


def sent(api: FakeApi, header: str) -> list[str | None]:
    return [call.headers.get(header) for call in api.calls]


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
