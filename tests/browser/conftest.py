"""Debian's Chromium before a real gateway, as people see it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.cluster.conftest import kubeconfig, kubectl, make_namespace
from tests.integration.test_gateway import app, gateway

__all__ = ["app", "gateway", "kubeconfig", "kubectl", "make_namespace"]

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
SCREENS = Path(__file__).parents[2] / "build" / "screens"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield chromium
        await chromium.close()


async def visit(browser: Browser, url: str, *, user: str | None, dark: bool = False) -> Page:
    """A page in a browser of its own, whose user has said who they are."""
    context = await browser.new_context(
        color_scheme="dark" if dark else "light", viewport={"width": 1180, "height": 760}
    )
    page = await context.new_page()
    page.set_default_timeout(30_000)  # ms; on a busy machine
    await page.goto(url)
    if user is not None:
        await page.get_by_label("You are").fill(user)
        await page.get_by_role("button", name="Save").click()
        await page.locator(".who button", has_text="Change").wait_for()
        await page.locator("body[data-stream=open]").wait_for(state="attached")
    return page
