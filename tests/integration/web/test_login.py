"""Who is let in, and as whom: by a token, by a browser's cookie, by the kernel's word for a user of this machine."""

import asyncio
import logging
import os
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from noah.access.tokens import TokenFile
from noah.core.session.rights import Right
from noah.web.api.route import AnyRoute
from noah.web.api.routes import ROUTES
from noah.web.pages.page import PageRoute
from noah.web.pages.routes import PAGES
from tests.integration.web.conftest import Gateway, serving

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

CHANGE = "/api/v1/sessions/s-none/resume"
NOBODY = 65534
NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be somebody else")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway that asks everybody for a login, as it does beyond loopback."""
    folder: Path = tmp_path_factory.mktemp("network")
    async with serving(jvm, folder, listen="0.0.0.0:7070", plain_http_from=["192.0.2.0/24"]) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def loopback(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """A gateway of one's own machine."""
    async with serving(jvm, tmp_path_factory.mktemp("loopback")) as gateway:
        yield gateway


async def _ask(gateway: Gateway, path: str, headers: Mapping[str, str], method: str = "GET") -> tuple[int, str]:
    async with gateway.http.request(method, gateway.url + path, headers=headers, allow_redirects=False) as answer:
        return answer.status, await answer.text()


async def _cookie(gateway: Gateway, user: str) -> dict[str, str]:
    form = {"token": gateway.api.token(user)}
    async with gateway.http.post(f"{gateway.url}/login", data=form, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    gateway.http.cookie_jar.clear()
    return {"Cookie": cookie.partition(";")[0]}


def _path(route: AnyRoute) -> str:
    return re.sub(r"{[^{}]*(?:{[^{}]*}[^{}]*)*}", "x", route.path)


@pytest.mark.parametrize("route", [*ROUTES, *PAGES], ids=lambda route: f"{route.method} {route.path}")
async def test_nobody_gets_in_without_a_login(network: Gateway, route: AnyRoute) -> None:
    status, text = await _ask(network, _path(route), {}, route.method)
    if route.right is Right.ANYBODY:
        assert status != 401 or route.path == "/login"
    elif isinstance(route, PageRoute):
        assert (status, text) == (303, "")
    else:
        assert (status, "does not know who you are" in text) == (401, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Noah-User": "ada"},
        {"Cookie": "noah_user=ada; noah-login=ada; __Host-noah=ada"},
        {"X-Forwarded-User": "ada", "X-Remote-User": "ada", "Impersonate-User": "ada"},
        {"Authorization": "Basic YWRhOg=="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer noah_" + "A" * 43},
        {"Authorization": "Bearer " + "a" * 9_000},
        {"Authorization": "Bearer a\tb"},
    ],
)
async def test_a_name_is_not_a_login(network: Gateway, headers: dict[str, str]) -> None:
    status, text = await _ask(network, "/api/v1/targets", headers)
    assert (status, "shop" in text) == (401, False)


async def test_a_token_says_who_asks_until_it_is_revoked_or_over(network: Gateway) -> None:
    headers = network.api.headers("eve")
    session = await network.api.ready("local/shop", user="eve")
    owner = {"id": '["token","","eve"]', "kind": "token", "issuer": "", "subject": "eve", "name": "eve"}
    assert (session["owner"], session["owner_principal"], session["mine"]) == ("eve", owner, True)
    assert (await network.api.ask("GET", f"sessions/{session['id']}", user="ada"))["mine"] is False
    [mine] = (await network.api.ask("GET", "sessions?mine=true", user="eve"))["items"]
    assert mine["id"] == session["id"]
    assert (await network.api.ask("GET", "sessions?mine=true", user="ada"))["items"] == []
    await network.api.end(session, user="eve")
    file, now = TokenFile(network.tokens), datetime.now(UTC)
    over = file.create("brief", groups=[], now=now, expires_at=now - timedelta(seconds=1))
    file.revoke("eve")
    for lost in (headers, {"Authorization": f"Bearer {over}"}):
        assert (await _ask(network, "/api/v1/targets", lost))[0] == 401


async def test_a_browser_is_logged_in_by_a_token_and_out_again(network: Gateway) -> None:
    cookie = await _cookie(network, "ada")
    status, text = await _ask(network, "/", cookie)
    assert (status, "You are <b>ada</b>" in text) == (200, True)
    from_our_page = cookie | {"Sec-Fetch-Site": "same-origin"}
    assert (await _ask(network, "/logout", from_our_page, "POST"))[0] == 303
    assert (await _ask(network, "/", cookie))[0] == 303


@pytest.mark.parametrize(
    ("back", "leads_to"),
    [("/sessions?q=1", "./sessions?q=1"), ("//evil.example", "./"), ("/\\evil", "./"), ("https://evil.example", "./")],
)
async def test_a_login_leads_back_into_this_site(network: Gateway, back: str, leads_to: str) -> None:
    form = {"token": network.api.token("ada"), "next": back}
    async with network.http.post(f"{network.url}/login", data=form, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, leads_to)
    network.http.cookie_jar.clear()


async def test_a_page_leads_to_the_login_and_back(network: Gateway) -> None:
    async with network.http.get(f"{network.url}/sessions?owner=ada", allow_redirects=False) as answer:
        assert answer.headers["Location"] == "./login?next=/sessions?owner%3Dada"
    status, _ = await _ask(network, "/", {"Noah-Part": "1"})
    assert status == 401  # the script of a page keeps what it shows


async def test_a_wrong_token_is_said_on_the_page(network: Gateway) -> None:
    async with network.http.post(f"{network.url}/login", data={"token": "noah_x"}) as answer:
        assert (answer.status, "was revoked" in await answer.text()) == (401, True)
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("browser", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 404),  # it is ada's call, and there is no such session
        ({"Origin": "HERE"}, 404),
        ({}, 401),
        ({"Sec-Fetch-Site": "none"}, 401),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_cookie_changes_things_from_our_own_pages_only(
    network: Gateway, browser: dict[str, str], status: int
) -> None:
    sent = await _cookie(network, "ada")
    sent |= {name: network.url if value == "HERE" else value for name, value in browser.items()}
    assert (await _ask(network, CHANGE, sent, "POST"))[0] == status


async def test_a_login_by_a_token_ends_with_the_token(network: Gateway) -> None:
    cookie = await _cookie(network, "carol")
    assert (await _ask(network, "/", cookie))[0] == 200
    TokenFile(network.tokens).revoke("carol")
    assert (await _ask(network, "/", cookie))[0] == 303


async def test_a_persons_logins_are_ended_by_themselves_and_by_operators(network: Gateway) -> None:
    async def still_in(*cookies: dict[str, str]) -> list[bool]:
        return [(await _ask(network, "/", cookie))[0] == 200 for cookie in cookies]

    first, second, other = (
        await _cookie(network, "dora"),
        await _cookie(network, "dora"),
        await _cookie(network, "emil"),
    )
    login = {"Authorization": f"Bearer {first['Cookie'].partition('=')[2]}"}
    status, text = await _ask(network, "/api/v1/logins/mine?everywhere=true", login, "DELETE")
    assert (status, text) == (200, '{"ended":1}')  # beside the one that asked
    assert await still_in(first, second, other) == [False, False, True]
    stranger = TokenFile(network.tokens).create("stranger", groups=[], now=datetime.now(UTC), expires_at=None)
    by_stranger = {"Authorization": f"Bearer {stranger}"}
    assert (await _ask(network, "/api/v1/logins/emil", by_stranger, "DELETE"))[0] == 403
    assert await still_in(other) == [True]
    status, text = await _ask(network, "/api/v1/logins/emil", network.api.headers("ada"), "DELETE")
    assert (status, text) == (200, '{"ended":1}')
    assert await still_in(other) == [False]


@pytest.mark.parametrize("column", ["used_at", "expires_at"])
async def test_a_login_that_is_over_is_over(network: Gateway, column: str) -> None:
    cookie = await _cookie(network, "late")
    await network.execute(f"UPDATE logins SET {column} = '2026-01-01 00:00:00.000000'")
    assert (await _ask(network, "/", cookie))[0] == 303


async def test_a_database_that_is_away_logs_nobody_out(network: Gateway) -> None:
    cookie = await _cookie(network, "ada")
    assert (await _ask(network, "/", cookie))[0] == 200
    await network.execute("ALTER TABLE logins RENAME TO away")
    try:
        assert (await _ask(network, "/", cookie))[0] == 200
        assert (await _ask(network, "/", {"Cookie": "noah-login=noah_login_" + "x" * 43}))[0] == 503
    finally:
        await network.execute("ALTER TABLE away RENAME TO logins")


async def test_no_secret_of_a_login_is_in_the_log_or_stored(network: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cookie, secret = await _cookie(network, "ada"), network.api.token("ada")
    await _ask(network, "/api/v1/targets", network.api.headers("ada"))
    await _ask(network, f"/login?code={secret}&state={secret}", {})
    await _ask(network, f"/login/back?code={secret}", cookie)
    stored = b"".join(file.read_bytes() for file in network.database.parent.glob("*") if file.is_file())
    for hidden in (secret, cookie["Cookie"].partition("=")[2]):
        assert hidden not in caplog.text
        assert hidden.encode() not in stored


async def test_the_user_of_a_gateway_on_loopback_is_the_kernels_word(loopback: Gateway) -> None:
    async with loopback.http.post(f"{loopback.url}/api/v1/sessions", json={"target": "local/nobody"}) as answer:
        mine = await answer.json()
    assert (mine["owner_principal"]["kind"], mine["mine"]) == ("local", True)
    hers = await loopback.api.enable("local/shop", user="ada")  # a token counts here as well
    assert hers["owner_principal"]["kind"] == "token"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"X-Real-IP": "192.0.2.1"},
        {"Via": "1.1 proxy"},
        {"Host": "192.0.2.1:7070"},
    ],
)
async def test_what_came_through_a_proxy_is_not_the_local_users(loopback: Gateway, headers: dict[str, str]) -> None:
    assert (await _ask(loopback, "/api/v1/targets", headers))[0] == 401


@NEEDS_ROOT
async def test_another_user_of_the_machine_is_refused_whatever_they_say(loopback: Gateway) -> None:
    ask = (
        "import sys, urllib.request as u\n"
        "from urllib.error import HTTPError\n"
        "try: print(u.urlopen(u.Request(sys.argv[1], headers=dict([sys.argv[2].split('=')]))).status)\n"
        "except HTTPError as e: print(e.code, e.read().decode())"
    )

    def asked_by(uid: int, header: str) -> str:
        argv = ["/usr/bin/python3", "-c", ask, f"{loopback.url}/api/v1/targets", header]
        return subprocess.run(argv, user=uid, check=True, capture_output=True, text=True, cwd="/").stdout

    for header in ("X=1", "Noah-User=root", "Cookie=noah_user"):
        said = await asyncio.to_thread(asked_by, NOBODY, header)
        assert said.startswith("401")
        assert "serves only its own user" in said
    assert (await asyncio.to_thread(asked_by, 0, "X=1")).startswith("200")


@NEEDS_ROOT
async def test_a_setting_admits_other_users_of_the_machine(jvm: int, tmp_path: Path) -> None:
    async with serving(jvm, tmp_path, access={"local_users": [str(NOBODY)]}) as gateway:
        argv = ["curl", "-s", f"{gateway.url}/api/v1/targets"]
        run = await asyncio.to_thread(subprocess.run, argv, user=NOBODY, check=True, capture_output=True, text=True)
        assert "local/shop" in run.stdout
