"""The pages behind a real nginx, as people write its configuration: they work, or say which setting is missing.

To the browser noah.example.test is a site on plain http, for which it sends no Sec-Fetch-Site: only then does it matter
which headers the proxy passes on.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Error, Page, Response, expect

from tests.browser.conftest import SOON, launched
from tests.gateway import Api, serving
from tests.ports import free_port
from tests.reverse_proxies import nginx
from tests.sample_process import App

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]

NAME = "noah.example.test"
# {to} is the gateway, and {name} what browsers call the proxy.
AS_ONE_WRITES_IT_AT_FIRST = "location / {{ proxy_pass {to}; }}"
UNDER_A_PATH = "location /noah/ {{ proxy_pass {to}/; }}"
PATH_LEFT_IN = "location /noah/ {{ proxy_pass {to}; }}"
HOST_PASSED_ON = "location / {{ proxy_pass {to}; proxy_set_header Host $http_host; }}"
HOST_WITHOUT_PORT = "location / {{ proxy_pass {to}; proxy_set_header Host $host; }}"
# As Apache's mod_proxy sends it.
FORWARDED_HOST = (
    "location / {{ proxy_pass {to}; proxy_set_header X-Forwarded-Host $http_host; "
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}"
)
# As proxies that know RFC 7239 do.
FORWARDED = 'location / {{ proxy_pass {to}; proxy_set_header Forwarded "for=$remote_addr;host=\\"$http_host\\""; }}'
PUBLIC = 'public_url = "http://{name}{path}"'
TRUSTED = 'trusted_proxies = ["127.0.0.0/8"]'


@asynccontextmanager
async def proxied(
    folder: Path, app: App, location: str, *settings: str, path: str = "/", tls: bool = False
) -> AsyncIterator[tuple[Page, str, Api]]:
    """A page that is at its beginning, the proxy's URL, and the gateway's own API."""
    port = free_port()
    lines = "".join(line.format(name=f"{NAME}:{port}", path=path) + "\n" for line in settings)
    async with (
        serving(folder, lines + app.config) as (process, api),
        nginx(folder, location.format(to=process.url), port=port, name=NAME if tls else None),
        launched(f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as browser,
    ):
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        page.set_default_timeout(SOON)
        yield page, f"{'https' if tls else 'http'}://{NAME}:{port}{path}", api


async def _goto(page: Page, url: str) -> Response | None:
    """Go there, again if an interface of this machine came or went meanwhile: other tests make and remove some."""
    for _ in range(10):
        try:
            return await page.goto(url)
        except Error as e:
            if "ERR_NETWORK_CHANGED" not in e.message:
                raise
    raise AssertionError("the machine's network never rests")


async def _log_in(page: Page, api: Api) -> None:
    await page.get_by_label("Token").fill(api.token("ada"))
    await page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize(
    ("location", "settings", "path", "tls"),
    [
        pytest.param(AS_ONE_WRITES_IT_AT_FIRST, (PUBLIC,), "/", False, id="as one writes it at first"),
        pytest.param(HOST_WITHOUT_PORT, (PUBLIC,), "/", False, id="Host without its port"),
        pytest.param(UNDER_A_PATH, (PUBLIC,), "/noah/", False, id="under a path"),
        pytest.param(PATH_LEFT_IN, (PUBLIC,), "/noah/", False, id="under a path that it leaves in"),
        pytest.param(FORWARDED_HOST, (TRUSTED,), "/", False, id="X-Forwarded-Host of a trusted proxy"),
        pytest.param(FORWARDED, (TRUSTED,), "/", False, id="Forwarded of a trusted proxy"),
        pytest.param(UNDER_A_PATH, (), "/noah/", True, id="https, under a path, without a setting"),
    ],
)
async def test_pages_buttons_and_the_event_stream_work_behind_a_proxy(
    tmp_path: Path, app: App, location: str, settings: tuple[str, ...], path: str, tls: bool
) -> None:
    async with proxied(tmp_path, app, location, *settings, path=path, tls=tls) as (page, url, api):
        refused: list[str] = []

        def note(response: Response) -> None:
            if response.status >= 400:
                refused.append(f"{response.status} {response.url}")

        page.on("response", note)
        await page.add_init_script("window.setInterval = () => 0")  # so that the stream alone tells of changes
        await _goto(page, url)
        await _log_in(page, api)
        await expect(page.get_by_role("button", name="Log out")).to_be_visible()
        assert page.url == url
        await page.get_by_label("Search").fill(app.name)
        await expect(page.get_by_role("link", name=f"local/{app.name}")).to_be_visible(timeout=SOON)
        await page.get_by_role("link", name=f"local/{app.name}").click()
        await page.locator("body[data-stream=open]").wait_for(state="attached")
        await page.get_by_role("button", name="Enable debug").click()
        await expect(page.get_by_label("Steps")).to_contain_text("Ready", timeout=SOON)
        [session] = (await api.ask("GET", "sessions"))["items"]
        await api.ask("POST", f"sessions/{session['id']}/ask", {"text": "my order hangs"}, user="bob")
        await expect(page.locator("#notices")).to_contain_text("bob asks you to resume", timeout=SOON)
        async with page.expect_download() as downloaded:
            await page.get_by_role("link", name="download for jdb").click()
        assert (await (await downloaded.value).path()).read_text()
        await page.get_by_role("link", name="Go there").click()
        await expect(page).to_have_url(f"{url}sessions/{session['id']}")
        await page.get_by_role("button", name="End", exact=True).click()
        await expect(page.locator("#debug .chip")).to_have_text("ended", timeout=SOON)
        for name in ("Releases", "Clusters", "Sessions"):
            await page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(name)
        await expect(page.get_by_role("row").nth(1)).to_contain_text(session["id"])
        assert refused == []


async def test_without_the_setting_one_sentence_names_it(tmp_path: Path, app: App) -> None:
    async with proxied(tmp_path, app, AS_ONE_WRITES_IT_AT_FIRST) as (page, url, api):
        await _goto(page, url)
        await _log_in(page, api)
        said = page.locator("main .refusal")
        await expect(said).to_contain_text("let it pass the Host header on (nginx: proxy_set_header Host $http_host)")
        await expect(said).to_contain_text("public_url")


async def test_a_name_that_a_gateway_on_loopback_does_not_know_names_the_setting(tmp_path: Path, app: App) -> None:
    async with proxied(tmp_path, app, HOST_PASSED_ON) as (page, url, _):
        response = await _goto(page, url)
        assert response is not None
        assert response.status == 421
        await expect(page.locator("main .refusal")).to_contain_text("set public_url of [gateway]")


async def test_a_path_that_the_proxy_leaves_in_names_the_setting(tmp_path: Path, app: App) -> None:
    location = PATH_LEFT_IN.replace("; }}", "; proxy_set_header X-Forwarded-For $remote_addr; }}")
    async with proxied(tmp_path, app, location, path="/noah/") as (page, url, _):
        await _goto(page, url)
        await expect(page.locator("main .refusal")).to_contain_text("There is no page at /noah/. If a reverse proxy")


async def test_a_session_admits_the_address_that_a_trusted_proxy_tells(tmp_path: Path, app: App) -> None:
    location = "location / {{ proxy_pass {to}; proxy_set_header X-Forwarded-For $http_x_test; }}"
    async with proxied(tmp_path, app, location, TRUSTED) as (_, url, api), aiohttp.ClientSession() as http:
        through = url.rstrip("/").replace(NAME, "127.0.0.1")
        for forwarded_for in ("198.51.100.1, 192.0.2.7", "192.0.2.7, 127.0.0.9"):
            headers = {**api.headers(), "X-Test": forwarded_for}
            async with http.post(
                f"{through}/api/v1/sessions", json={"target": f"local/{app.name}"}, headers=headers
            ) as answer:
                session = await answer.json()
            assert session["allow"] == ["192.0.2.7/32"]
            await api.end(session)
