"""The pages by keyboard, for screen readers, in a narrow window, in dark and light; and pictures to look at."""

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, expect

from tests.browser.conftest import SCREENS, SOON, Opened
from tests.gateway import Api, Process
from tests.sample_process import App

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]

NARROW = 360  # px


async def _pages(api: Api, app: App) -> dict[str, str]:
    past = await api.end(await api.ready(f"local/{app.name}"))
    await api.ready(f"local/{app.name}")
    return {
        "environment": "",
        "search": "?q=app-3",
        "nothing": "?q=nothing+of+this+name",
        "target": f"targets/local/{app.name}",
        "pod": "targets/pod/many/team-a/app-3-001/main",
        "sessions": "sessions",
        "session": f"sessions/{past['id']}",
        "clusters": "clusters",
        "error": "targets/local/nobody",
    }


async def test_the_keyboard_is_enough(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets")
    await _tab_to(page, "#q")
    await page.keyboard.type(app.name)
    await expect(page.locator("#live")).to_contain_text(f"match “{app.name}”", timeout=SOON)
    await _tab_to(page, f"a[href='./targets/local/{app.name}']")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/targets/**")
    await _tab_to(page, "#enable")
    await page.keyboard.press("Enter")
    await expect(page.locator("#end")).to_be_visible(timeout=SOON)
    await _tab_to(page, "#end")
    await page.keyboard.press("Enter")
    await expect(page.locator("#enable")).to_be_visible(timeout=SOON)


async def test_a_question_can_be_left_by_the_keyboard(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}", user="bob")
    page = await opened(f"{process.url}/targets/local/{app.name}")
    await _tab_to(page, "#end-other")
    await page.keyboard.press("Enter")
    await expect(page.locator("#question")).to_have_text("End the session of bob? Their debugger is disconnected.")
    await page.keyboard.press("Escape")
    await expect(page.locator("#question")).to_be_hidden()
    assert await page.evaluate("document.activeElement.id") == "end-other"
    assert (await api.show(session))["status"] == "ready"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing(gateway: tuple[Process, Api], app: App, opened: Opened, dark: bool) -> None:
    process, api = gateway
    page = await opened(process.url, dark=dark)
    for name, path in (await _pages(api, app)).items():
        await page.goto(f"{process.url}/{path}")
        await page.screenshot(path=SCREENS / f"{name}-{'dark' if dark else 'light'}.png")
        found = (await Axe().run(page)).response["violations"]
        assert [(name, one["id"], one["help"], one["nodes"][0]["html"]) for one in found] == []


async def test_no_page_is_wider_than_a_telephone(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    page = await opened(process.url, user="bob", viewport={"width": NARROW, "height": 740})
    for name, path in (await _pages(api, app)).items():
        await page.goto(f"{process.url}/{path}")
        assert (name, await page.evaluate("document.documentElement.scrollWidth")) == (name, NARROW)
        await page.screenshot(path=SCREENS / f"{name}-narrow.png")


async def _tab_to(page: Page, selector: str) -> None:
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no number of tabs leads to {selector}")
