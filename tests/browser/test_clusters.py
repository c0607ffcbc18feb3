"""The clusters: what is in them, which of them answers, and what the doctor finds."""

import pytest
from playwright.async_api import expect

from tests.browser.conftest import APPS, LACKS, PODS, SOON, Opened
from tests.gateway import Api, Process

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]


async def test_a_cluster_says_what_is_in_it_and_whether_it_answers(
    gateway: tuple[Process, Api], opened: Opened
) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/clusters")
    many, away = page.get_by_role("region", name="many"), page.get_by_role("region", name="away")
    await expect(many).to_contain_text(f"{APPS * PODS + 1:,}, {APPS * (PODS - 1):,} ready")
    await expect(many.locator("h2")).to_contain_text("reachable since")
    await expect(many).to_contain_text("Watch last heard")
    await expect(away.locator("h2")).to_contain_text("not reachable since")
    await expect(away).to_contain_text("does not answer")
    await away.get_by_role("link", name="away").click()
    await expect(page.locator(".empty")).to_contain_text("Nothing matches")


async def test_the_doctors_findings_stay_in_place(gateway: tuple[Process, Api], opened: Opened) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/clusters")
    many, away = page.get_by_role("region", name="many"), page.get_by_role("region", name="away")
    await many.get_by_role("button", name="Ask the doctor").click()
    await expect(many.locator(".findings")).to_contain_text(f"The gateway lacks the right to get {LACKS}", timeout=SOON)
    await away.get_by_role("button", name="Ask the doctor").click()
    await expect(away.locator(".findings")).to_contain_text("reachable: Cluster", timeout=SOON)
    before = await many.locator("[data-since]").get_attribute("datetime")
    age = many.get_by_text("ago", exact=False)
    was = await age.inner_text()
    await expect(age).not_to_have_text(was, timeout=SOON)  # the page has been brought up to date
    assert await many.locator("[data-since]").get_attribute("datetime") == before
    await expect(many.locator(".findings")).to_contain_text(LACKS)
