"""All sessions, live and past: found, paged, exported."""

import csv
import io
import json
import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import SOON, Opened
from tests.gateway import Api, Process
from tests.integration.test_gateway import App

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
