"""What people do on the pages, in a real browser, with a real gateway, JVM and jdb."""

import re
import signal

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import SCREENS, visit
from tests.gateway import Api, Process
from tests.integration.test_gateway import App, at_a_breakpoint

pytestmark = [pytest.mark.browser, pytest.mark.jvm]
SOON = 30_000  # ms


async def test_from_a_click_to_a_breakpoint_and_back(gateway: tuple[Process, Api], app: App, browser: Browser) -> None:
    process, api = gateway
    page = await visit(browser, process.url, user="ada")
    await page.get_by_role("link", name=f"{app.name},").click()
    await page.get_by_role("button", name="Enable debug").click()
    await expect(page.locator("#address")).to_have_text(re.compile(r":\d+$"), timeout=SOON)
    await expect(page.get_by_label("Steps")).to_contain_text("Ready", timeout=SOON)
    [session] = (await api.ask("GET", "sessions"))["items"]
    async with at_a_breakpoint(app, session):
        await expect(page.locator("#state code")).to_have_text(re.compile(r"OrderService\.price:\d+"), timeout=SOON)
        await expect(page.locator("#state")).to_contain_text("the probe is being answered for you")
        await page.screenshot(path=SCREENS / "breakpoint-light.png")
        await page.emulate_media(color_scheme="dark")
        await page.screenshot(path=SCREENS / "breakpoint-dark.png")
        await page.get_by_role("button", name="Resume now").click()
        await expect(page.locator("#debug .chip")).to_have_text("ready", timeout=SOON)
        assert await app.answers()
    await page.get_by_role("button", name="End", exact=True).click()
    await expect(page.get_by_role("button", name="Enable debug")).to_be_visible(timeout=SOON)
    await expect(page.get_by_role("region", name="Past sessions")).to_contain_text("closed")


async def test_two_people_see_each_other(gateway: tuple[Process, Api], app: App, browser: Browser) -> None:
    process, _ = gateway
    url = f"{process.url}/targets/local/{app.name}"
    hers, his = await visit(browser, url, user="ada"), await visit(browser, url, user="bob")
    await hers.get_by_role("button", name="Enable debug").click()
    await expect(his.locator("#debug")).to_contain_text("ada is debugging this", timeout=SOON)
    await his.get_by_role("button", name="Ask to resume").click()
    await expect(hers.locator("#notices")).to_contain_text("bob asks you to resume", timeout=SOON)
    await his.get_by_role("button", name="Take over").click()
    await his.get_by_role("button", name="Go on").click()
    await expect(his.locator("#debug")).to_contain_text("You are debugging this", timeout=SOON)
    await expect(hers.locator("#debug")).to_contain_text("bob is debugging this", timeout=SOON)


async def test_a_lost_gateway_is_said_and_the_page_catches_up(
    gateway: tuple[Process, Api], app: App, browser: Browser
) -> None:
    process, api = gateway
    page = await visit(browser, f"{process.url}/targets/local/{app.name}", user="ada")
    await process.stop(signal.SIGKILL)
    await expect(page.locator("#lost")).to_be_visible(timeout=SOON)
    await process.start()
    await api.ready(f"local/{app.name}", user="bob")
    await expect(page.locator("#debug")).to_contain_text("bob is debugging this", timeout=SOON)
    await expect(page.locator("#lost")).to_be_hidden(timeout=SOON)


async def test_what_people_and_clusters_write_is_never_run(
    gateway: tuple[Process, Api], app: App, browser: Browser
) -> None:
    process, api = gateway
    evil = "<script>window.ran=1</script><img src=x onerror=window.ran=1>"
    session = await api.ready(f"local/{app.name}", user="ada")
    page = await visit(browser, f"{process.url}/targets/local/{app.name}", user="ada")
    await api.ask("POST", f"sessions/{session['id']}/ask", {"text": evil}, user=evil)
    await expect(page.locator("#notices")).to_contain_text(evil, timeout=SOON)
    await api.end(session)
    await api.ready(f"local/{app.name}", user=evil)
    for path in ("", f"targets/local/{app.name}", "sessions"):
        await page.goto(f"{process.url}/{path}")
        await expect(page.locator("#live")).to_contain_text(evil)
        assert await page.evaluate("window.ran") is None


async def test_the_keyboard_is_enough(gateway: tuple[Process, Api], app: App, browser: Browser) -> None:
    process, _ = gateway
    page = await visit(browser, process.url, user="ada")
    await _tab_to(page, "#q")
    await page.keyboard.type(app.name)
    await expect(page.locator("#live")).to_contain_text(f"match “{app.name}”")
    await _tab_to(page, f"a[aria-label^='{app.name}']")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/targets/**")
    await _tab_to(page, "#enable")
    await page.keyboard.press("Enter")
    await expect(page.locator("#end")).to_be_visible(timeout=SOON)
    await _tab_to(page, "#end")
    await page.keyboard.press("Enter")
    await expect(page.locator("#enable")).to_be_visible(timeout=SOON)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing_serious(gateway: tuple[Process, Api], app: App, browser: Browser, dark: bool) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    page = await visit(browser, process.url, user="ada", dark=dark)
    for name, path in {
        "environment": "",
        "target": f"targets/local/{app.name}",
        "sessions": "sessions",
        "session": f"sessions/{session['id']}",
        "clusters": "clusters",
        "error": "targets/local/nobody",
    }.items():
        await page.goto(f"{process.url}/{path}")
        await page.screenshot(path=SCREENS / f"{name}-{'dark' if dark else 'light'}.png")
        found = (await Axe().run(page)).response["violations"]
        assert [(name, one["id"], one["help"]) for one in found if one["impact"] in ("serious", "critical")] == []
    await page.set_viewport_size({"width": 380, "height": 720})
    await page.goto(f"{process.url}/targets/local/{app.name}")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 380
    await page.screenshot(path=SCREENS / f"narrow-{'dark' if dark else 'light'}.png")


async def _tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no number of tabs leads to {selector}")
