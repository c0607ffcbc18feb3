"""All sessions, live and past: found, paged, exported."""

import csv
import io
import json
import re

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, expect

from tests.browser.conftest import SCREENS, SOON, Opened
from tests.gateway import Api, Process
from tests.sample_process import App

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]

FORMULA = '=HYPERLINK("http://evil.example")'


async def _exported(page: Page, name: str) -> str:
    async with page.expect_download() as download:
        await page.get_by_role("link", name=name).click()
    return (await (await download.value).path()).read_text()


async def test_a_filter_finds_and_exports_the_same(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    target = f"local/{app.name}"
    taken = await api.end(await api.ready(target, user=FORMULA), user="bob")
    await api.end(await api.ready(target, user="bob"), user="bob")
    await api.ready(target, user=FORMULA)
    page = await opened(f"{process.url}/sessions")
    await page.get_by_label("Who").fill(FORMULA)
    await expect(page.locator(".count")).to_contain_text("2 sessions", timeout=SOON)
    await page.get_by_label("Ended").select_option("ended by somebody else")
    await expect(page.locator(".count")).to_contain_text("1 session", timeout=SOON)
    await expect(page.get_by_role("region", name="Sessions")).to_contain_text("ended by somebody else: bob")
    [row] = csv.DictReader(io.StringIO(await _exported(page, "CSV")))
    assert (row["id"], row["owner"], row["ended_by"]) == (taken["id"], f"'{FORMULA}", "bob")
    [line] = (await _exported(page, "JSON lines")).splitlines()
    assert json.loads(line) == await api.show(taken)
    await page.get_by_label("Show").select_option("live")
    await expect(page.locator(".empty")).to_contain_text("No session is like that", timeout=SOON)


async def test_pages_lead_on_and_back(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    for _ in range(3):
        await api.end(await api.ready(f"local/{app.name}", user="cy"), user="cy")
    page = await opened(f"{process.url}/sessions?owner=cy&limit=2")
    rows = page.get_by_role("region", name="Sessions").get_by_role("row")
    await expect(rows).to_have_count(3)
    newest = page.get_by_role("region", name="Sessions").get_by_role("link", name=re.compile("^s-")).first
    first = await newest.inner_text()
    await page.get_by_role("link", name="Next").click()
    await expect(rows).to_have_count(2)
    await page.get_by_role("link", name="Previous").click()
    await expect(rows).to_have_count(3)
    assert await newest.inner_text() == first
    assert page.url == f"{process.url}/sessions?owner=cy&limit=2"


async def test_a_session_appears_by_itself(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    page = await opened(f"{process.url}/sessions?state=live")
    await expect(page.locator(".empty")).to_be_visible()
    session = await api.ready(f"local/{app.name}", user="bob")
    await expect(page.get_by_role("region", name="Sessions")).to_contain_text(session["id"], timeout=SOON)


async def test_a_session_is_shared_joined_and_handed_over_on_its_page(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    url = f"{process.url}/sessions/{session['id']}"
    ada, bob = await opened(url), await opened(url, user="bob")
    await expect(bob.get_by_role("button", name="Join")).to_have_count(0)
    await ada.get_by_text("Share with a colleague").click()
    await ada.get_by_label("Who").fill("bob")
    await ada.get_by_label("May").select_option("join, or take it over")
    await ada.get_by_role("button", name="Share").click()
    await expect(ada.get_by_label("Shared with")).to_contain_text("bob may join, or take it over.", timeout=SOON)
    await ada.screenshot(path=SCREENS / "sharing-owner.png")
    await bob.get_by_role("button", name="Join").click(timeout=SOON)
    await expect(bob.locator("#notices")).to_contain_text("Your debugger may attach now", timeout=SOON)
    await expect(bob.locator("#address")).to_have_text(f"{session['host']}:{session['port']}")
    await bob.screenshot(path=SCREENS / "sharing-colleague.png")
    found = (await Axe().run(bob)).response["violations"] + (await Axe().run(ada)).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []
    await bob.get_by_role("button", name="Become its owner").click()
    await expect(bob.locator("#question")).to_contain_text("It is ada's now.")
    await bob.get_by_role("button", name="Go on").click()
    await expect(bob.locator("#debug")).to_contain_text("You are debugging this", timeout=SOON)
    await expect(ada.locator("#debug")).to_contain_text("bob is debugging this", timeout=SOON)
    # The one who hands over may still join, until that is ended too.
    await expect(ada.get_by_role("button", name="Join")).to_be_visible(timeout=SOON)
    await expect(ada.get_by_role("button", name="Become its owner")).to_have_count(0)
    await bob.get_by_role("button", name="end sharing with ada").click()
    await expect(bob.get_by_label("Shared with")).to_have_count(0, timeout=SOON)
    await expect(ada.get_by_role("button", name="Join")).to_have_count(0, timeout=SOON)
    assert (await api.show(session))["shares"] == {}
