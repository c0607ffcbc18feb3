"""The environment: thousands of targets, app by app."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import APPS, EVIL, PODS, SCREENS, SOON, Opened
from tests.gateway import Api, Process
from tests.sample_process import App

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]

ALL = APPS * PODS + 3  # the evil one, the host's and the local one too


def _app(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name)


async def _names(page: Page) -> list[str]:
    return await page.locator(".targets a").all_inner_texts()


async def test_an_apps_pods_and_hosts_stand_side_by_side(gateway: tuple[Process, Api], opened: Opened) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets?app=app-3&limit=1000")
    await expect(page.locator(".count")).to_have_text(f"{PODS + 1} targets of 1 app")
    await expect(_app(page, "app-3")).to_contain_text(
        "99 of 101 ready, 1 not known · 100 pods, 1 KVM host · version 1.4.2"
    )
    assert (await _names(page))[:2] == ["host/kvm-1/app-3", "pod/many/team-a/app-3-000/main"]
    rows = _app(page, "app-3").get_by_role("listitem")
    await expect(rows.nth(1)).to_have_text(re.compile(r"not ready\s+0 restarts\s+version 1.4.2\s+nobody debugs"))
    await expect(rows.nth(3)).to_contain_text("2 restarts")


async def test_search_narrows_while_one_types(gateway: tuple[Process, Api], opened: Opened) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets")
    await expect(page.locator(".count")).to_have_text(f"{ALL:,} targets of {APPS + 2} apps; 50 on this page")
    await page.get_by_label("Search").press_sequentially("team-a app-17-00", delay=20)
    await expect(page.locator(".count")).to_contain_text("10 targets of 1 app", timeout=SOON)
    assert page.url == f"{process.url}/targets?q=team-a+app-17-00"
    await page.get_by_label("Kind").select_option("KVM hosts")
    await expect(page.locator(".empty")).to_contain_text("Nothing matches", timeout=SOON)
    await page.get_by_label("Search").fill("")
    await expect(page.locator(".count")).to_have_text("1 target of 1 app", timeout=SOON)
    await page.reload()
    assert await _names(page) == ["host/kvm-1/app-3"]


async def test_pages_lead_on_and_back_and_can_be_linked_to(gateway: tuple[Process, Api], opened: Opened) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets?q=app-1&limit=60")
    pages = [await _names(page)]
    for _ in range(2):
        await page.get_by_role("link", name="Next").click()
        await expect(page.locator(".targets a").first).not_to_have_text(pages[-1][0])
        pages.append(await _names(page))
    await expect(_app(page, "app-10 continued")).to_contain_text("99 of 100 ready")
    assert sorted({name for one in pages for name in one}) == [name for one in pages for name in one]
    await page.goto(page.url)  # as somebody else who was sent the link
    for earlier in (1, 0):
        await page.get_by_role("link", name="Previous").click()
        await expect(page.locator(".targets a").first).to_have_text(pages[earlier][0])
        assert await _names(page) == pages[earlier]
    await expect(page.get_by_role("link", name="Previous")).to_have_count(0)
    assert page.url == f"{process.url}/targets?q=app-1&limit=60"


async def test_who_debugs_appears_by_itself(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    page = await opened(f"{process.url}/targets?kind=local")
    await expect(_app(page, app.name)).to_contain_text("nobody debugs")
    session = await api.ready(f"local/{app.name}", user="bob")
    await expect(_app(page, app.name)).to_contain_text("debugged by bob", timeout=SOON)
    await api.end(session, user="bob")
    await expect(_app(page, app.name)).to_contain_text("nobody debugs", timeout=SOON)


async def test_what_people_and_clusters_write_is_never_run(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}", user="ada")
    page = await opened(f"{process.url}/targets/local/{app.name}")
    await api.ask("POST", f"sessions/{session['id']}/ask", {"text": EVIL}, user=EVIL)
    await expect(page.locator("#notices")).to_contain_text(f"{EVIL} asks you to resume local/orders: {EVIL}")
    await expect(page.get_by_label("Steps")).to_contain_text(f"{EVIL} asks to resume: {EVIL}", timeout=SOON)
    await api.end(session)
    await api.ready(f"local/{app.name}", user=EVIL)
    await page.goto(f"{process.url}/targets/pod/many/team-a/evil-000/main")
    await page.get_by_text("2 labels").click()
    await expect(page.get_by_role("link", name=f"note={EVIL}")).to_be_visible()
    await expect(page.get_by_role("heading", level=1)).to_contain_text(EVIL)
    for path in ("?q=orders", "targets?q=evil", f"targets/local/{app.name}", "sessions"):
        await page.goto(f"{process.url}/{path}")
        await expect(page.locator("#live")).to_contain_text(EVIL)
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert await page.evaluate("window.ran") is None


async def test_environments_that_somebody_pins_or_has_used_come_first(
    gateway: tuple[Process, Api], opened: Opened
) -> None:
    process, _ = gateway
    page = await opened(process.url)
    await expect(page.get_by_role("region", name="3 environments")).to_be_visible()
    await expect(page.get_by_role("region", name="Yours")).to_have_count(0)
    await page.get_by_role("link", name="team-a").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("team-a")
    await page.wait_for_function("document.cookie.includes('team-a')")
    await page.go_back()
    yours = page.get_by_role("region", name="Yours").get_by_role("listitem")
    await expect(yours).to_have_count(1, timeout=SOON)
    await page.get_by_role("region", name="3 environments").get_by_role("button", name="Pin hosts").click()
    await expect(yours).to_have_count(2, timeout=SOON)
    await expect(yours.first).to_contain_text("hosts")
    await expect(yours.first.get_by_role("button")).to_have_attribute("aria-pressed", "true")
    await page.reload()
    await expect(yours.first).to_contain_text("hosts")


async def test_pins_of_what_is_gone_make_room_and_one_too_many_is_refused_with_a_sentence(
    gateway: tuple[Process, Api], opened: Opened
) -> None:
    process, _ = gateway
    page = await opened(process.url)
    cookie = quote(json.dumps({"pinned": [f"gone-{n}" for n in range(20)], "last": []}))
    await page.evaluate(f"document.cookie = 'noah-environments={cookie}; path=/'")
    await page.reload()
    yours = page.get_by_role("region", name="Yours").get_by_role("listitem")
    await expect(yours).to_have_count(20)
    pin = page.get_by_role("region", name="3 environments").get_by_role("button", name="Pin hosts")
    await pin.click()
    await expect(page.locator("#notices")).to_contain_text("You have pinned as many as your browser keeps")
    await expect(pin).to_have_attribute("aria-pressed", "false")
    await yours.get_by_role("button", name="Pin gone-0").click()
    await expect(yours).to_have_count(19, timeout=SOON)
    await pin.click()
    await expect(yours.first).to_contain_text("hosts", timeout=SOON)


async def test_the_first_page_searches_everything_while_one_types(gateway: tuple[Process, Api], opened: Opened) -> None:
    process, _ = gateway
    page = await opened(process.url)
    await page.get_by_label("Search everything").press_sequentially("app-17", delay=20)
    await expect(page.get_by_role("region", name="Apps")).to_contain_text("app-17", timeout=SOON)
    await expect(page.get_by_role("region", name="100 targets")).to_contain_text("pod/many/team-a/app-17-000/main")
    await page.get_by_role("link", name="All of them").click()
    await expect(page.locator(".count")).to_contain_text("100 targets of 1 app")
    await page.goto(f"{process.url}/?q=app-")  # more apps than are shown
    await page.get_by_role("region", name="Apps").get_by_role("link", name="more").click()
    await expect(page.locator(".count")).to_contain_text("match “app-”")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1180, 390])
async def test_the_pages_of_environments_fit_every_screen(
    gateway: tuple[Process, Api], opened: Opened, width: int, *, dark: bool
) -> None:
    process, _ = gateway
    page = await opened(process.url, dark=dark, viewport={"width": width, "height": 760})
    for path in ("", "?q=app-3", "environments/team-a"):
        await page.goto(f"{process.url}/{path}")
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(wide) == 0
        name = path.replace("/", "-").replace("?q=", "search-") or "home"
        await page.screenshot(path=SCREENS / f"environments-{name}-{width}{'-dark' if dark else ''}.png")
