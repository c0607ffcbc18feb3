"""<noah-debug> on a page of another site, with assertions that the portal signs."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey
from playwright.async_api import Browser, expect

from tests.browser.conftest import SOON
from tests.gateway import Process, serving
from tests.ports import free_port
from tests.sample_process import App

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]


class Portal:
    """A site of its own origin, whose pages know who is logged in there."""

    def __init__(self, key: ECKey, gateway: str, target: str) -> None:
        self.key = key
        self.person = "ada"
        self.page = (
            f'<!doctype html><title>Portal</title><script type="module" src="{gateway}/static/noah-debug.js"></script>'
            f'<h1>My app</h1><noah-debug target="{target}"></noah-debug><script type="module">'
            'document.querySelector("noah-debug").getToken = async () => (await fetch("/assertion")).text();</script>'
        )

    def assertion(self) -> str:
        now = int(time.time())
        claims = {"iss": "paas", "sub": self.person, "aud": "noah", "iat": now, "exp": now + 60}
        return jwt.encode({"alg": "ES256"}, claims, self.key)


@asynccontextmanager
async def _portal(port: int, portal: Portal) -> AsyncIterator[str]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text=portal.page, content_type="text/html")

    async def assertion(_: web.Request) -> web.Response:
        return web.Response(text=portal.assertion())

    site = web.Application()
    site.router.add_get("/", page)
    site.router.add_get("/assertion", assertion)
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://localhost:{port}"
    finally:
        await runner.cleanup()


def _config(folder: Path, key: ECKey, origin: str, app: App) -> str:
    (folder / "paas.pub").write_bytes(key.as_pem(private=False))
    return (
        f'{app.config}\n[access]\norigins = ["{origin}"]\nframe_ancestors = ["{origin}"]\n'
        '[[access.oidc]]\nname = "company"\nissuer = "https://login.example.com"\nclient_id = "noah"\n'
        f'[[access.portals]]\nname = "paas"\npublic_key_file = "{folder}/paas.pub"\npeople_of = "company"\n'
        '[[grants]]\nusers = ["ada", "bob"]\nrights = ["debug", "free"]\n'
    )


async def test_a_portals_page_debugs_for_the_person_who_is_logged_in_there(
    chromium: Browser, app: App, tmp_path: Path
) -> None:
    port, key = free_port(), ECKey.generate_key("P-256")
    origin, target = f"http://localhost:{port}", f"local/{app.name}"
    async with serving(tmp_path, _config(tmp_path, key, origin, app)) as (process, api):
        portal = Portal(key, process.url, target)
        async with _portal(port, portal) as url:
            context = await chromium.new_context()
            page = await context.new_page()
            page.set_default_timeout(SOON)
            await page.goto(url)
            await page.get_by_role("button", name="Debug").click()
            await expect(page.get_by_role("status")).to_have_text("ready", timeout=SOON)
            [session] = (await api.ask("GET", "sessions"))["items"]
            assert session["owner_principal"]["issuer"] == "https://login.example.com"
            assert session["owner"] == "ada"
            await expect(page.locator(".address")).to_have_text(f"127.0.0.1:{session['port']}")
            await expect(page.locator(".left")).to_have_text("1 h 59 min left", timeout=SOON)
            portal.person = "bob"
            await expect(page.get_by_role("status")).to_have_text("ada is debugging this", timeout=SOON)
            portal.person = "eve"
            await expect(page.get_by_role("alert")).to_contain_text("There is no", timeout=SOON)
            portal.person = "ada"
            await page.get_by_role("button", name="End").click()
            await expect(page.get_by_role("button", name="Debug")).to_be_visible(timeout=SOON)
            assert await context.cookies(process.url) == []
            await context.close()
        await _only_that_origin(process, portal, origin)


async def _only_that_origin(process: Process, portal: Portal, origin: str) -> None:
    token = {"Authorization": f"Bearer {portal.assertion()}"}

    async def asked(method: str, headers: dict[str, str], path: str = "/api/v1/me") -> Any:
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                method, process.url + path, headers=headers, json={"target": "local/x"} if method == "POST" else None
            ) as answer,
        ):
            return answer.status, answer.headers

    status, headers = await asked("OPTIONS", {"Origin": origin, "Access-Control-Request-Method": "POST"})
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, origin)
    assert "Access-Control-Allow-Credentials" not in headers
    for other in ("https://evil.example", "null", origin + ".evil.example", origin.upper(), "http://localhost"):
        status, headers = await asked("OPTIONS", {"Origin": other, "Access-Control-Request-Method": "POST"})
        assert (status, "Access-Control-Allow-Origin" in headers) == (405, False)
        _, headers = await asked("GET", {"Origin": other, **token})
        assert "Access-Control-Allow-Origin" not in headers
    cross = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    assert (await asked("POST", {**cross, **token}, "/api/v1/sessions"))[0] == 404  # ada's, and there is no such target
    assert (await asked("POST", cross, "/api/v1/sessions"))[0] == 403  # without a token it is like any other site
    _, headers = await asked("GET", token, "/")
    assert f"frame-ancestors 'self' {origin}" in headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in headers
    _, headers = await asked("GET", {}, "/login")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    # What a portal signs is for one call: it is not a login that lasts.
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{process.url}/login", data={"token": portal.assertion()}, allow_redirects=False) as answer,
    ):
        assert (answer.status, "Set-Cookie" in answer.headers) == (401, False)
    assert json.dumps(portal.assertion()) not in process.log.read_text()
