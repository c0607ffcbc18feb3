"""Logging in and out in a browser."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.acceptance.cli.command import ran, start
from tests.browser.conftest import SCREENS, SOON, log_in
from tests.gateway import serving
from tests.oidc.provider import SECRET, oidc_server
from tests.ports import free_port

pytestmark = pytest.mark.browser

ASKS_FOR_LOGIN = 'trusted_proxies = ["192.0.2.1"]\n'  # somebody else may come through a proxy: the kernel knows nothing


async def test_the_link_of_the_first_login_works_and_leaves_no_token_behind(browser: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, ASKS_FOR_LOGIN) as (process, api):
        printed = process.log.read_text()
        [link] = re.findall(r"http://\S+/login#token=noah_\S+", printed)
        page = await (await browser.new_context()).new_page()
        page.set_default_timeout(SOON)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{process.url}/sessions")
        await expect(page).to_have_url(re.compile(r"/login\?next=/sessions$"))
        await page.goto(link)
        await expect(page.locator(".who")).to_contain_text("You are operator")
        secret = link.partition("=")[2]
        assert not any(secret in url for url in [*asked, page.url])
        await page.locator("body[data-stream=open]").wait_for(state="attached")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        await page.get_by_label("Token").fill("noah_wrong")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not known here")
        assert secret not in process.log.read_text().replace(printed, "")
        # Once somebody can log in, a restart prints no other link.
        await process.stop()
        await process.start()
        assert process.log.read_text().count("/login#token=") == 1
        assert (await api.ask("GET", "targets", user="ada"))["items"] == []


async def test_somebody_logs_in_and_out_at_the_company(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with oidc_server([f"{url}/login/back/company"]) as provider:
        await provider.person("ada", "team-a")
        (tmp_path / "secret").write_text(SECRET)
        known = (
            f'[[access.oidc]]\nname = "company"\nissuer = "{provider.url}"\nclient_id = "noah"\n'
            f'client_secret_file = "{tmp_path}/secret"\n[access]\n'
        )
        async with serving(tmp_path, known, port=port):
            page = await (await browser.new_context(viewport={"width": 900, "height": 560})).new_page()
            page.set_default_timeout(SOON)
            await page.goto(f"{url}/sessions")
            await page.screenshot(path=SCREENS / "login.png")
            await page.get_by_role("link", name="Log in with company").click()
            await page.locator("[name=login]").fill("ada")
            await page.locator("[name=password]").fill("any")
            await page.locator("[type=submit]").click()
            await page.locator("[type=submit]").click()  # agrees
            await expect(page).to_have_url(f"{url}/sessions")
            await expect(page.locator(".who b")).to_have_text("ada")
            await _command_line(page, url, tmp_path)
            await page.goto(f"{url}/sessions")
            await page.get_by_role("button", name="Log out").click()
            await expect(page).to_have_url(re.compile(f"^{provider.url}/session/end"))
            await page.locator("[name=logout]").click()
            await expect(page).to_have_url(f"{url}/login")
            await page.goto(f"{url}/sessions")
            await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


async def _command_line(page: Page, url: str, folder: Path) -> None:
    """Let the command line log in through the browser, which has to be let go to the machine's loopback."""
    process = await start(url, "login", "--no-browser", env={"XDG_CONFIG_HOME": str(folder)})
    assert process.stderr is not None
    await process.stderr.readline()
    await page.goto((await process.stderr.readline()).decode().strip())
    await page.locator("[type=submit]").click()  # the provider asks again whether to agree
    await expect(page.locator("main")).to_contain_text("wants to act as ada")
    await page.screenshot(path=SCREENS / "allow.png")
    await page.get_by_role("button", name="Allow").click()
    await expect(page.locator("body")).to_contain_text("You are logged in on the command line")
    assert (await ran(process)).out.startswith("You are ada at ")


async def test_a_page_says_whose_it_is_and_a_name_cannot_run(browser: Browser, tmp_path: Path) -> None:
    name = "<script>window.ran=1</script>"
    async with serving(tmp_path, ASKS_FOR_LOGIN) as (process, api):
        context = await browser.new_context()
        await log_in(context, api, name)
        page = await context.new_page()
        await page.goto(process.url)
        await expect(page.locator(".who b")).to_have_text(name)
        assert await page.evaluate("window.ran") is None
