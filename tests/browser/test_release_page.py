"""Releases of a real cluster as people watch them, in a real browser."""

import asyncio
import json
import re
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, expect

from noah.core.inject.manifest import inject
from tests.browser.conftest import SCREENS, visit
from tests.cluster.conftest import Kubectl, until
from tests.cluster.test_release_hooks import shop
from tests.faults import link
from tests.gateway import Process, serving

pytestmark = [pytest.mark.browser, pytest.mark.cluster]
SOON = 60_000  # ms
EVIL = "<script>window.ran=1</script><img src=x onerror=window.ran=1>"
HOOKS = {
    "prestart.sh": "#!/bin/sh\nprintf 'the database is \\033[1;32mmigrated\\033[0m\\007\\n'\n",
    "preonline.sh": f"#!/bin/sh\necho '{EVIL}'; sleep 2; echo warmed up\n",
}
TICKS = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done"
NOTE_WHAT_IS_REPLACED = """() => {
  const body = document.querySelector("[data-replaced]");
  window.replaced = [];
  const note = () => window.replaced.push(...[...body.rows].slice(1).map((row) => row.cells[0].textContent));
  new MutationObserver(note).observe(body, { childList: true });
  note();
}"""
NEVER = {"exec": {"command": ["false"]}}


def config(kubectl: Kubectl) -> str:
    return f'[[clusters]]\nname = "c"\nkubeconfig = "{kubectl.kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Of a gateway that lasts for all of these stories."""
    async with serving(tmp_path_factory.mktemp("gateway"), config(kubectl)) as (process, _):
        yield process.url


@pytest.fixture
async def process(kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Process]:
    """A gateway to be killed."""
    async with serving(tmp_path, config(kubectl)) as (process, _):
        yield process


@pytest.fixture(scope="module")
def hooks(kubectl: Kubectl) -> None:
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hooks"}, "data": HOOKS})


@pytest.fixture(scope="module")
def released(kubectl: Kubectl, hooks: None, url: str) -> str:
    """The address of a release that is over."""
    kubectl.apply(inject(shop("old", replicas=2)).manifest)

    def done() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{url}/api/v1/releases?workload=old&result=done") as answer:
            found: list[dict[str, Any]] = json.load(answer)["items"]
        return found

    until(done, within=90)
    return f"{url}/releases/{done()[0]['id']}"


@pytest.fixture(scope="module")
def ticking(kubectl: Kubectl) -> str:
    """A Deployment that prints numbered lines and never comes online."""
    kubectl.apply(of_shell("ticking", TICKS, readinessProbe=NEVER))
    return "ticking"


def of_shell(name: str, script: str, **container: Any) -> dict[str, Any]:
    made = shop(name, replicas=1)
    app = {"name": "app", "image": "noah.test/java17:1", "imagePullPolicy": "Never", "command": ["sh", "-c", script]}
    made["spec"]["template"]["spec"] = {"terminationGracePeriodSeconds": 1, "containers": [{**app, **container}]}
    return made


async def watching(browser: Browser, url: str, kubectl: Kubectl, workload: str) -> Page:
    page = await visit(browser, f"{url}/releases", user=None)
    await page.get_by_text("Follow a workload's release").click()
    asked = page.locator("form[data-go-to]")
    await asked.get_by_label("Namespace").fill(kubectl.namespace)
    await asked.get_by_label("Name", exact=True).fill(workload)
    await asked.get_by_role("button").click()
    await expect(page).to_have_url(re.compile("/releases/r-"))
    await expect(page.locator("#log .line").first).to_be_visible(timeout=SOON)
    return page


async def ended(page: Page) -> None:
    await page.locator("body[data-stream=ended]").wait_for(state="attached", timeout=SOON)


async def test_a_release_is_seen_from_its_first_pod_to_its_end(
    kubectl: Kubectl, hooks: None, url: str, browser: Browser
) -> None:
    page = await visit(browser, f"{url}/releases?workload=shop", user=None)
    await expect(page.locator("#live")).to_contain_text("No release is like that")
    kubectl.apply(inject(shop("shop", replicas=2)).manifest)
    await expect(page.get_by_role("row", name="Deployment shop")).to_contain_text("running", timeout=SOON)
    await page.get_by_role("link", name="Deployment shop, revision 1").click()
    await page.evaluate(NOTE_WHAT_IS_REPLACED)
    hook = page.locator(".line.of-hook", has_text="window.ran=1").first
    await expect(hook).to_have_text(re.compile(r"noah-preonline.*preOnline"), timeout=SOON)
    await expect(hook.locator(".said")).to_have_text(EVIL)
    await expect(page.locator("[data-result]")).to_have_text("running")  # and yet all is seen
    await ended(page)
    await expect(page.locator("[data-result]")).to_have_text("done")
    await expect(page.locator("#progress")).to_have_text("2 of 2 online")
    await expect(page.get_by_role("region", name="Pods").get_by_text("✓ there")).to_have_count(2)
    assert await page.evaluate("window.replaced") == [], "it replaces nothing, and never looked as if it did"
    await expect(page.locator("#log .line").last).to_contain_text("2 of 2 online")
    await page.get_by_label("Filter").fill("MIGRATED")
    await expect(page.locator("#log .line .said")).to_have_text(["the database is migrated\u2407"] * 2)
    await expect(page.locator("#log .bold.sgr-2").first).to_have_text("migrated")
    assert await page.evaluate("window.ran") is None
    await page.get_by_role("link", name="Releases").click()
    await expect(page.get_by_role("row", name="Deployment shop")).to_contain_text("done")
    await _examine(page, "releases-light")
    await page.emulate_media(color_scheme="dark")
    await _examine(page, "releases-dark")


async def test_lines_are_filtered_linked_and_downloaded(released: str, browser: Browser) -> None:
    page = await visit(browser, released, user=None)
    await ended(page)
    lines = page.locator("#log .line")
    pod = await page.get_by_label("Pod", exact=True).locator("option").nth(1).get_attribute("value")
    assert pod is not None
    await page.get_by_label("Pod", exact=True).select_option(pod)
    await page.get_by_label("Filter").fill("Warmed")
    await page.get_by_label("Since").fill("1h")
    await page.get_by_label("Since").press("Enter")
    await expect(page).to_have_url(re.compile("since=1h"))
    await expect(lines).to_have_count(1)
    async with page.expect_download() as coming:
        await page.get_by_role("link", name="Download").click()
    text = (await (await coming.value).path()).read_text()
    assert [line for line in text.splitlines() if "[preOnline]" in line] == [
        line for line in text.splitlines() if f"{pod} noah-preonline  [preOnline] warmed up" in line
    ]
    await lines.locator(".at").click()
    assert f"filter=Warmed&pod={pod}&since=1h#" in page.url

    again = await visit(browser, page.url, user=None)
    await expect(again.locator("#log .line[aria-current=true] .said")).to_have_text("warmed up")
    await expect(again.get_by_label("Filter")).to_have_value("Warmed")
    await again.get_by_label("hooks").uncheck()
    await expect(again.locator("#log .line")).to_have_count(0)
    await expect(again).to_have_url(re.compile("hide=hooks"))


async def test_pausing_keeps_receiving_and_end_follows(
    kubectl: Kubectl, ticking: str, url: str, browser: Browser
) -> None:
    page = await watching(browser, url, kubectl, ticking)
    await expect(page.locator("#log .line", has_text=re.compile(r"tick \d\d\d$")).last).to_be_visible(timeout=SOON)
    await page.locator("#log").focus()
    await page.keyboard.press("PageUp")
    await page.get_by_role("button", name=re.compile(r"Follow \([12]\d new lines")).wait_for()
    seen = await _top(page)
    await page.get_by_role("button", name=re.compile(r"Follow \([34]\d new lines")).wait_for()
    assert await _top(page) == seen
    await page.keyboard.press("Shift+ArrowDown")
    await expect(page.locator("#log [aria-current=true] .said")).to_have_text(seen)
    await page.keyboard.press("Shift+ArrowDown")
    await expect(page.locator("#log [aria-current=true] .said")).not_to_have_text(seen)
    await page.keyboard.press("End")
    await page.get_by_role("button", name="Pause").wait_for()
    assert await page.evaluate("log.scrollHeight - log.clientHeight - log.scrollTop < 2")


async def test_a_lost_stream_goes_on_without_gaps_and_doubles(
    kubectl: Kubectl, ticking: str, process: Process, browser: Browser
) -> None:
    async with link(to=process.port) as cable:
        page = await watching(browser, f"http://127.0.0.1:{cable.port}", kubectl, ticking)
        await page.get_by_label("Filter").fill("tick ")
        await _all_ticks(page, beyond=0)
        await cable.cut()
        await expect(page.locator("#lost")).to_be_visible(timeout=SOON)
        before = _number(await page.locator("#count").inner_text())
        await cable.mend()
        await expect(page.locator("#lost")).to_be_hidden(timeout=SOON)
        last = await _all_ticks(page, beyond=before)

        await process.stop(signal.SIGKILL)
        await expect(page.locator("#lost")).to_be_visible(timeout=SOON)
        await process.start()
        await expect(page.locator("#lost")).to_be_hidden(timeout=SOON)
        await _all_ticks(page, beyond=last)
        await expect(page.get_by_label("Filter")).to_have_value("tick ")


async def test_a_crash_is_shown_with_what_the_earlier_runs_printed(
    kubectl: Kubectl, url: str, browser: Browser
) -> None:
    kubectl.apply(of_shell("crashing", "echo begins; sleep 1; echo boom >&2; exit 3", readinessProbe=NEVER))
    page = await watching(browser, url, kubectl, "crashing")
    await ended(page)
    await expect(page.locator("[data-result]")).to_have_text("failed")
    await expect(page.locator("[data-sentence]")).to_contain_text("boom")
    await page.get_by_label("Filter").fill("begins")
    runs = page.locator("#log .line.of-log")
    await expect(runs.filter(has=page.locator(".mark", has_text="↻1"))).to_have_count(1)
    earlier = await runs.count()
    assert earlier > 1
    await page.get_by_label("earlier runs").uncheck()
    await expect(runs).to_have_count(1)
    await expect(page).to_have_url(re.compile("previous=false"))
    kubectl("delete", "deployment", "crashing")


async def test_an_unknown_workload_is_said_to_be_so(kubectl: Kubectl, url: str, browser: Browser) -> None:
    page = await visit(browser, f"{url}/releases", user=None)
    await page.get_by_text("Follow a workload's release").click()
    asked = page.locator("form[data-go-to]")
    await asked.get_by_label("Namespace").fill(kubectl.namespace)
    await asked.get_by_label("Name", exact=True).fill("nobody")
    await asked.get_by_role("button").click()
    await expect(page.locator(".refusal")).to_contain_text("nobody")
    await expect(page).to_have_url(re.compile("/releases$"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_axe_finds_nothing_serious(released: str, browser: Browser, dark: bool) -> None:
    page = await visit(browser, released, user=None, dark=dark)
    await ended(page)
    await _examine(page, f"release-{'dark' if dark else 'light'}")
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await page.screenshot(path=SCREENS / f"release-narrow-{'dark' if dark else 'light'}.png")


async def _examine(page: Page, name: str) -> None:
    await page.screenshot(path=SCREENS / f"{name}.png")
    found = (await Axe().run(page)).response["violations"]
    assert [(one["id"], one["help"]) for one in found if one["impact"] in ("serious", "critical")] == []


async def _top(page: Page) -> str:
    """The first line that one sees."""
    return str(
        await page.evaluate("""() => [...document.querySelectorAll("#log .line")]
        .find((one) => one.getBoundingClientRect().bottom > log.getBoundingClientRect().top + 1)
        .querySelector(".said").textContent""")
    )


async def _all_ticks(page: Page, *, beyond: int) -> int:
    """Waits for a tick beyond that one; as many lines are then shown as there were ticks, the last of them last."""
    shown, drawn = "", list[str]()
    async with asyncio.timeout(60):
        while " of " not in shown or not drawn or _number(drawn[-1]) <= beyond:
            await asyncio.sleep(0.1)
            shown, drawn = await page.evaluate(
                "[count.textContent, [...log.querySelectorAll('.line .said')].map((one) => one.textContent)]"
            )
    assert len(set(drawn)) == len(drawn)
    assert _number(shown) == _number(drawn[-1])
    return _number(shown)


def _number(text: str) -> int:
    """The first that is in it."""
    return int(re.findall(r"\d+", text.replace(",", ""))[0])
