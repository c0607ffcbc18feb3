"""An app on a KVM host: what enabling takes is said, and asked."""

import shutil
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import SCREENS, SOON, Opened
from tests.gateway import serving
from tests.integration.hosts.machines import HostedOrders, Machine, classes_in, new_root, remove

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]


async def test_a_restart_is_asked_for_and_nothing_happens_before(tmp_path: Path, opened: Opened) -> None:
    if shutil.which("/usr/sbin/sshd") is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    root = new_root()
    machine = Machine(1, root)
    orders = HostedOrders(machine)
    try:
        await machine.install()
        await machine.start()
        await orders.install(classes_in(root))
        await orders.restart()
        await orders.has_settled()
        async with serving(tmp_path, machine.settings(orders.settings())) as (process, _):
            await _asked(f"{process.url}/targets/{orders.target}", orders, opened)
    finally:
        orders.kill()
        await machine.kill()
        remove(root)


async def test_an_app_that_was_started_just_now_is_asked_about_as_well(tmp_path: Path, opened: Opened) -> None:
    if shutil.which("/usr/sbin/sshd") is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    root = new_root()
    machine = Machine(1, root)
    orders = HostedOrders(machine)
    try:
        await machine.install()
        await machine.start()
        await orders.install(classes_in(root))
        await orders.restart()
        await orders.has_settled()
        async with serving(tmp_path, machine.settings(orders.settings())) as (process, api):
            page = await opened(f"{process.url}/targets/{orders.target}")
            await expect(page.locator(".note")).to_contain_text("needs a restart", timeout=SOON)
            await orders.restart()  # by somebody, a moment before the click
            was = orders.pid
            await page.get_by_role("button", name="Enable debug").click()
            await expect(page.locator("#question")).to_contain_text("needs a restart", timeout=SOON)
            await page.get_by_role("button", name="Cancel").click()
            assert orders.pid == was
            assert (await api.ask("GET", "sessions?state=all"))["items"] == []
    finally:
        orders.kill()
        await machine.kill()
        remove(root)


async def _asked(url: str, orders: HostedOrders, opened: Opened) -> None:
    was = orders.pid
    page = await opened(url)
    await expect(page.locator(".note")).to_contain_text("needs a restart", timeout=SOON)
    enable = page.get_by_role("button", name="Enable debug")
    await enable.click()
    await expect(page.locator("#question")).to_contain_text("needs a restart", timeout=SOON)
    await page.screenshot(path=SCREENS / "restart-light.png")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#debug")).to_have_text("Nobody is debugging this")
    assert orders.pid == was
    await enable.click()
    await page.get_by_role("button", name="Go on").click()
    await expect(page.get_by_label("Steps")).to_contain_text("Ready", timeout=SOON)
    await expect(page.get_by_label("Steps")).to_contain_text("starting orders")
    assert orders.pid != was
    await page.get_by_role("button", name="End", exact=True).click()
    await expect(enable).to_be_visible(timeout=SOON)
