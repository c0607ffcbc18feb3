"""What a page says when it is not up to date, and how it becomes so again."""

import signal
import sqlite3

import pytest
from playwright.async_api import Request, Route, expect

from tests.browser.conftest import SOON, Opened
from tests.gateway import Api, Process
from tests.sample_process import App

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]

# What a browser tells a page when another tab is chosen.
_SEEN = """
(seen) => {
  Object.defineProperty(document, "hidden", { value: !seen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


async def test_a_lost_gateway_is_said_and_the_page_catches_up(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, api = gateway
    page = await opened(f"{process.url}/targets/local/{app.name}")
    await process.stop(signal.SIGKILL)
    await expect(page.locator("#lost")).to_be_visible(timeout=SOON)
    await process.start()
    await api.ready(f"local/{app.name}", user="bob")
    await expect(page.locator("#debug")).to_contain_text("bob is debugging this", timeout=SOON)
    await expect(page.locator("#lost")).to_be_hidden(timeout=SOON)


async def test_a_database_that_is_away_is_said_and_the_page_comes_back_by_itself(
    gateway: tuple[Process, Api], opened: Opened
) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/sessions")
    other = sqlite3.connect(process.database, isolation_level=None)
    other.execute("ALTER TABLE sessions RENAME TO away")
    try:
        await page.get_by_label("Who").fill("ada")
        await expect(page.get_by_role("heading", name="That did not work")).to_be_visible(timeout=SOON)
        await expect(page.locator("#live")).to_contain_text("looks again by itself")
    finally:
        other.execute("ALTER TABLE away RENAME TO sessions")
        other.close()
    await page.get_by_label("Who").fill("")
    await expect(page.locator(".count")).to_be_visible(timeout=SOON)


async def test_an_answer_that_takes_long_or_is_no_page_is_said(gateway: tuple[Process, Api], opened: Opened) -> None:
    process, _ = gateway
    page = await opened(process.url)

    async def broken(route: Route, _: Request) -> None:
        await page.locator("#loading").wait_for(state="visible")
        await route.fulfill(status=502, content_type="text/plain", body="bad gateway")

    await page.route("**/?q=*", broken)
    await page.get_by_label("Search").fill("orders")
    await expect(page.locator("#stale")).to_have_text("This page cannot be brought up to date: the answer was 502.")
    await expect(page.locator("#loading")).to_be_hidden()
    await page.unroute("**/?q=*")
    await page.get_by_label("Search").fill("app-3-00")
    await expect(page.locator("#stale")).to_be_hidden(timeout=SOON)


async def test_a_tab_that_nobody_sees_gives_its_stream_back(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, api = gateway
    page = await opened(f"{process.url}/targets/local/{app.name}")
    await page.clock.install()
    await page.evaluate(_SEEN, False)
    await page.clock.fast_forward("00:11")
    await page.locator("body[data-stream=resting]").wait_for(state="attached")
    session = await api.ready(f"local/{app.name}", user="ada")
    await api.ask("POST", f"sessions/{session['id']}/ask", {"text": "now"}, user="bob")
    await page.evaluate(_SEEN, True)
    await expect(page.locator("#notices")).to_contain_text("bob asks you to resume local/orders: now", timeout=SOON)
    await expect(page.get_by_label("Steps")).to_contain_text("bob asks to resume: now", timeout=SOON)


async def test_without_scripts_a_page_can_be_read_and_says_what_it_cannot(
    gateway: tuple[Process, Api], opened: Opened
) -> None:
    process, _ = gateway
    context = (await opened(process.url)).context.browser
    assert context is not None
    plain = await context.new_context(java_script_enabled=False)
    page = await plain.new_page()
    await page.goto(f"{process.url}/targets?q=app-3-001")
    await expect(page.locator("noscript p")).to_be_visible()
    await expect(page.get_by_role("link", name="app-3-001")).to_be_visible()
    await plain.close()
