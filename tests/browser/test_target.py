"""A target's page: from a click to a breakpoint and back, alone and with others."""

import asyncio
import json
import re
import signal
from xml.etree import ElementTree

import pytest
from playwright.async_api import Page, Request, Route, expect

from tests.browser.conftest import SCREENS, SOON, Opened
from tests.gateway import Api, Process
from tests.jdwp import Debugger
from tests.sample_process import App

pytestmark = [pytest.mark.browser, pytest.mark.jvm, pytest.mark.asyncio(loop_scope="session")]


async def test_from_a_click_to_a_breakpoint_and_back(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    page = await opened(f"{process.url}/targets?q={app.name}")
    await page.get_by_role("link", name=f"local/{app.name}").click()
    async with page.expect_request("**/api/v1/sessions") as asked:
        await page.get_by_role("button", name="Enable debug").click()
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", (await asked.value).headers["traceparent"])
    await expect(page.locator("#address")).to_have_text(re.compile(r":\d+$"), timeout=SOON)
    await expect(page.get_by_label("Steps")).to_contain_text("Ready", timeout=SOON)
    [session] = (await api.ask("GET", "sessions"))["items"]
    async with app.at_a_breakpoint(session["host"], session["port"]):
        await expect(page.locator("#state code")).to_have_text(re.compile(r"OrderService\.price:\d+"), timeout=SOON)
        await expect(page.locator("#state")).to_contain_text("the probe is being answered for you. Thread orders")
        await page.screenshot(path=SCREENS / "breakpoint-light.png")
        await page.emulate_media(color_scheme="dark")
        await page.screenshot(path=SCREENS / "breakpoint-dark.png")
        await page.get_by_role("button", name="Resume now").click()
        await expect(page.locator("#debug .chip")).to_have_text("ready", timeout=SOON)
        assert await app.answers()
    await page.get_by_role("button", name="End", exact=True).click()
    await expect(page.get_by_role("button", name="Enable debug")).to_be_visible(timeout=SOON)
    past = page.get_by_role("region", name="Past sessions").get_by_role("row").nth(1)
    await expect(past).to_contain_text("closed")
    await past.get_by_role("link", name=session["id"]).click()
    await expect(page.get_by_role("region", name="Connections")).to_contain_text("resumed by ada")


async def test_a_click_before_the_scripts_have_come_is_not_lost(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets/local/{app.name}")
    clicked = asyncio.Event()

    async def late(route: Route, _: Request) -> None:
        await clicked.wait()
        await route.continue_()

    await page.route("**/static/actions.js", late)
    await page.reload(wait_until="commit")
    await page.get_by_role("button", name="Enable debug").click()
    clicked.set()
    await expect(page.get_by_label("Steps")).to_contain_text("Ready", timeout=SOON)


async def test_who_was_refused_is_seen_as_it_happens(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    page = await opened(f"{process.url}/targets/local/{app.name}")
    await page.add_init_script("window.setInterval = () => 0")  # so that nothing is seen by asking now and then
    await page.reload()
    await page.locator("body[data-stream=open]").wait_for(state="attached")
    with Debugger(session["port"]):
        await expect(page.get_by_label("Steps")).to_contain_text("A debugger attached from 127.0.0.1", timeout=SOON)
        with pytest.raises(ConnectionError):
            Debugger(session["port"])
        await expect(page.get_by_label("Steps")).to_contain_text("A second debugger, from 127.0.0.1", timeout=SOON)
    await expect(page.get_by_label("Steps")).to_contain_text("is gone", timeout=SOON)


async def test_one_asks_and_the_other_reads_it_even_after_a_reload(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, api = gateway
    await api.ready(f"local/{app.name}", user="ada")
    hers = await opened(f"{process.url}/sessions")
    his = await opened(f"{process.url}/targets/local/{app.name}", user="bob")
    await his.get_by_label("What you need it for").fill("my order hangs")
    await his.get_by_role("button", name="Ask to resume").click()
    await expect(his.locator("#notices")).to_contain_text("ada has been asked", timeout=SOON)
    await expect(his.get_by_label("What you need it for")).to_have_value("")
    await expect(hers.locator("#notices")).to_contain_text("bob asks you to resume local/orders: my order hangs")
    await hers.get_by_role("link", name="Go there").click()
    for _ in range(2):
        await expect(hers.get_by_label("Steps")).to_contain_text("bob asks to resume: my order hangs", timeout=SOON)
        await hers.reload()


async def test_what_is_being_typed_outlives_what_happens_meanwhile(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    page = await opened(f"{process.url}/targets/local/{app.name}", user="bob")
    await page.get_by_label("What you need it for").press_sequentially("please, ")
    await api.ask("POST", f"sessions/{session['id']}/ask", {"text": "me first"}, user="cy")
    await expect(page.get_by_label("Steps")).to_contain_text("cy asks to resume: me first", timeout=SOON)
    await page.keyboard.type("my order hangs")
    await expect(page.get_by_label("What you need it for")).to_have_value("please, my order hangs")


async def test_two_people_see_each_other(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, _ = gateway
    url = f"{process.url}/targets/local/{app.name}"
    hers, his = await opened(url), await opened(url, user="bob")
    await hers.get_by_role("button", name="Enable debug").click()
    await expect(his.locator("#debug")).to_contain_text("ada is debugging this", timeout=SOON)
    await his.get_by_role("button", name="Take over").click()
    await his.get_by_role("button", name="Go on").click()
    await expect(his.locator("#debug")).to_contain_text("You are debugging this", timeout=SOON)
    await expect(hers.locator("#debug")).to_contain_text("bob is debugging this", timeout=SOON)


async def test_extending_moves_the_countdown(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    await api.ready(f"local/{app.name}", **{"for": "10m"})
    page = await opened(f"{process.url}/targets/local/{app.name}")
    await expect(page.locator("[data-until]")).to_have_text(re.compile(r"in 9 min \d\d s"))
    await page.get_by_role("button", name="Extend to 2h").click()
    await expect(page.locator("[data-until]")).to_have_text("in 1 h 59 min", timeout=SOON)
    await expect(page.locator("#notices")).to_contain_text("Extended")


async def test_the_address_and_the_ides_files_are_copied_and_downloaded(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, api = gateway
    session = await api.ready(f"local/{app.name}")
    page = await opened(f"{process.url}/targets/local/{app.name}", permissions=["clipboard-read", "clipboard-write"])
    address = f"{session['host']}:{session['port']}"
    await page.get_by_role("button", name="Copy", exact=True).click()
    await expect(page.locator("#said")).to_have_text("Copied.", timeout=SOON)
    assert await page.evaluate("navigator.clipboard.readText()") == address
    files = {kind: await _downloaded(page, kind) for kind in ("intellij", "vscode", "eclipse", "jdb")}
    intellij, eclipse = (ElementTree.fromstring(files[kind][1]) for kind in ("intellij", "eclipse"))
    port = str(session["port"])
    assert {one.get("name"): one.get("value") for one in intellij.iter("option")}["PORT"] == port
    assert {one.get("key"): one.get("value") for one in eclipse.iter("mapEntry")}["port"] == port
    vscode = json.loads(files["vscode"][1])
    assert (vscode["request"], vscode["hostName"], vscode["port"]) == ("attach", session["host"], session["port"])
    assert files["jdb"] == ("orders.txt", f"jdb -attach {address}\n")
    assert [name for name, _ in files.values()] == ["orders.run.xml", "orders.json", "orders.launch", "orders.txt"]
    await page.locator("#copy-eclipse").click()
    await expect(page.locator("#copy-eclipse")).to_contain_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == files["eclipse"][1]


async def _downloaded(page: Page, kind: str) -> tuple[str, str]:
    async with page.expect_download() as download:
        await page.get_by_role("link", name=f"download for {kind}").click()
    file = await download.value
    return file.suggested_filename, (await file.path()).read_text()


async def test_who_comes_second_reads_who_was_first(gateway: tuple[Process, Api], app: App, opened: Opened) -> None:
    process, api = gateway
    page = await opened(f"{process.url}/targets/local/{app.name}")

    async def bob_was_faster(route: Route, _: Request) -> None:
        await api.ready(f"local/{app.name}", user="bob")
        await route.continue_()

    await page.route("**/api/v1/sessions", bob_was_faster)
    await page.get_by_role("button", name="Enable debug").click()
    await expect(page.locator("#refusal")).to_contain_text("bob is already debugging local/orders", timeout=SOON)
    await expect(page.locator("#debug")).to_contain_text("bob is debugging this")


async def test_what_is_forbidden_is_said_beside_the_button(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets/local/{app.name}")

    async def as_from_elsewhere(route: Route, request: Request) -> None:
        answer = await route.fetch(headers={**await request.all_headers(), "sec-fetch-site": "cross-site"})
        await route.fulfill(response=answer)

    await page.route("**/api/v1/sessions", as_from_elsewhere)
    await page.get_by_role("button", name="Enable debug").click()
    await expect(page.locator("#refusal")).to_have_text("Another site's page may not change anything here.")


async def test_a_gateway_that_is_gone_is_said_beside_the_button(
    gateway: tuple[Process, Api], app: App, opened: Opened
) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets/local/{app.name}")
    await process.stop(signal.SIGKILL)
    try:
        await page.get_by_role("button", name="Enable debug").click()
        await expect(page.locator("#refusal")).to_contain_text("The gateway does not answer")
    finally:
        await process.start()


async def test_a_target_that_nobody_knows_is_said(gateway: tuple[Process, Api], opened: Opened) -> None:
    process, _ = gateway
    page = await opened(f"{process.url}/targets/local/nobody")
    await expect(page.locator("#live")).to_contain_text("nobody")
    await expect(page.get_by_role("heading", name="That did not work")).to_be_visible()
