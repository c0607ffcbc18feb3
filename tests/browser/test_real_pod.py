"""The whole story on a real cluster: from a click to a line of a pod's code, back, and into the history."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from noah.demo.debugger import jdb
from tests.browser.conftest import SCREENS, SOON, visit
from tests.cluster.conftest import STARTS, Kubectl
from tests.cluster.test_enable import OURS, Shop, hit
from tests.gateway import serving

pytestmark = [pytest.mark.browser, pytest.mark.cluster, pytest.mark.jvm]


async def test_from_a_click_to_a_pods_line_and_back(kubectl: Kubectl, tmp_path: Path, browser: Browser) -> None:
    await asyncio.to_thread(kubectl.deploy, "shop", livenessProbe=OURS, startupProbe=STARTS)
    shop = Shop(kubectl, "shop")
    config = f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubectl.kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
    async with serving(tmp_path, config) as (process, api):
        page = await visit(browser, f"{process.url}/targets?app=shop", user="ada", api=api)
        await page.get_by_role("link", name="/shop-").click()
        await page.get_by_role("button", name="Ask the doctor").click()
        await expect(page.locator("#findings")).to_contain_text("The JDWP agent has port 50005", timeout=SOON)
        await page.get_by_role("button", name="Enable debug").click()
        await expect(page.get_by_label("Steps")).to_contain_text("Ready", timeout=SOON)
        [session] = (await api.ask("GET", "sessions"))["items"]
        async with jdb(session["host"], session["port"]) as debugger, asyncio.TaskGroup() as group:
            debugger.type("stop in App.compute")
            await debugger.says("Set breakpoint")
            working = group.create_task(hit(shop))
            await debugger.says("Breakpoint hit")
            await expect(page.locator("#state code")).to_have_text(re.compile(r"App\.compute:\d+"), timeout=SOON)
            await page.screenshot(path=SCREENS / "pod-at-a-breakpoint.png")
            await asyncio.sleep(10)  # longer than the plain probe would have let it live
            await page.get_by_role("button", name="Resume now").click()
            await expect(page.locator("#debug .chip")).to_have_text("ready", timeout=SOON)
            await working  # the request that stood still is answered
        await page.get_by_role("button", name="End", exact=True).click()
        await expect(page.get_by_role("button", name="Enable debug")).to_be_visible(timeout=SOON)
        past = page.get_by_role("region", name="Past sessions").get_by_role("row", name=session["id"])
        await expect(past).to_contain_text("closed")
        await past.get_by_role("link", name=session["id"]).click()
        await expect(page.get_by_role("region", name="Connections")).to_contain_text("resumed by ada")
        assert shop.restarts() == 0
