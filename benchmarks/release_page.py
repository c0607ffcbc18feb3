"""The page of a release under 1,000 lines per second, in a real browser: python -m benchmarks.release_page

First 20,000 lines at once, then 1,000 per second, and what people do meanwhile: reading further up, typing a filter.
The site's handlers and the release's stream are the gateway's; only the cluster is missing.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from noah.core.release.journal import Journal
from noah.core.release.release import Release
from noah.core.release.release_event import ReleaseEvent, ReleaseEventKind, timestamp
from noah.core.workload import WorkloadKind
from noah.releases.releases import Releases
from noah.releases.stream import Stream
from noah.settings import Settings
from noah.store import Store
from noah.store.feed import Feed
from noah.store.lease import Lease
from noah.web.api import health
from noah.web.api.routes import ROUTES
from noah.web.keys import CLOCK, CLUSTERS, FEED, RELEASES, SETTINGS
from noah.web.pages.page import prepare_templates
from noah.web.pages.routes import PAGES
from noah.web.until_shutdown import UNTIL_SHUTDOWN, UntilShutdown
from tests.browser.conftest import CHROMIUM, QUIET

AT_ONCE, PER_SECOND, SECONDS = 20_000, 1000, 5
PODS = [f"shop-7d9f8b6c5d-{name}" for name in ("x2kq9", "b7wlm", "t4hzc", "n8dpv")]
FRAMES = """
window.drawn = 0;
(function frame() { window.drawn += 1; requestAnimationFrame(frame); })();
"""


async def main() -> None:
    stream = Stream(_release(), Journal())
    print_lines(stream, AT_ONCE)
    async with serving(stream) as url, async_playwright() as playwright, asyncio.TaskGroup() as group:
        printing = group.create_task(print_for_ever(stream), name="1,000 lines per second")
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        page = await chromium.new_page(viewport={"width": 1280, "height": 900})
        await page.add_init_script(FRAMES)
        log, text = page.locator("#log"), page.get_by_label("Filter")
        stories: dict[str, Callable[[], Awaitable[object]]] = {
            "begins with 20,000 lines": lambda: page.goto(url),
            "follows": lambda: asyncio.sleep(SECONDS),
            "scrolls up": lambda: log.evaluate("(log) => log.scrollBy(0, -50_000)"),
            "types a filter": lambda: text.press_sequentially("orders/12", delay=150),
            "takes it away": lambda: text.fill(""),
        }
        for what, act in stories.items():
            await measured(chromium, page, what, act)
        await chromium.close()
        printing.cancel()


async def measured(chromium: Browser, page: Page, what: str, act: Callable[[], Awaitable[object]]) -> None:
    await chromium.start_tracing(page=page, categories=["toplevel", "devtools.timeline"])
    await act()
    before = await page.evaluate("window.drawn")
    await asyncio.sleep(SECONDS)
    frames = (await page.evaluate("window.drawn") - before) / SECONDS
    tasks = tasks_of_page(json.loads(await chromium.stop_tracing())["traceEvents"])
    wall, cpu = max(wall for wall, _ in tasks), max(cpu for _, cpu in tasks)
    rows, heap = await page.evaluate(
        "[document.querySelectorAll('#log .line').length, performance.memory.usedJSHeapSize / 1e6]"
    )
    print(
        f"{what:24} longest task {cpu:3.0f} ms of CPU, {wall:3.0f} ms by the clock; {frames:.0f} frames/s; "
        f"{await page.locator('#count').inner_text()}, {rows} of them drawn; heap {heap:.0f} MB",
        flush=True,
    )


def tasks_of_page(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Milliseconds by the clock and of CPU, of each task of the busiest page's main thread.

    On a machine that has other things to do, too, only the latter says what the page itself costs.
    """
    mains = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "CrRendererMain"
    }
    tasks: dict[int, list[tuple[float, float]]] = {}
    for one in events:
        if (one["pid"], one["tid"]) in mains and one["ph"] == "X" and one["name"].endswith("RunTask"):
            tasks.setdefault(one["pid"], []).append((one["dur"] / 1000, one.get("tdur", 0) / 1000))
    return max(tasks.values(), key=lambda of_page: sum(cpu for _, cpu in of_page))


def print_lines(stream: Stream, count: int) -> None:
    for _ in range(count):
        n = stream.journal.count + 1
        pod, words = random.choice(PODS), "of some length " * random.randint(0, 12)
        where = {"pod": pod, "container": "app", "restart": 0}
        stream.publish(
            ReleaseEvent(timestamp(_now()), ReleaseEventKind.LOG, f"GET /orders/{n} 200 {n % 97} ms {words}", where)
        )


async def print_for_ever(stream: Stream) -> None:
    while True:
        await asyncio.sleep(0.05)
        print_lines(stream, PER_SECOND // 20)


@dataclass
class OneRelease:
    stream: Stream

    async def get(self, _: str) -> Stream:
        return self.stream


@asynccontextmanager
async def serving(stream: Stream) -> AsyncIterator[str]:
    site = web.Application()
    site[RELEASES] = cast(Releases, OneRelease(stream))
    site[CLUSTERS], site[CLOCK], site[UNTIL_SHUTDOWN], site[SETTINGS] = {}, _now, UntilShutdown(), Settings()
    site[health.HEALTH] = health.Health(
        cast(asyncio.TaskGroup, None),
        store=cast(Store, None),
        lease=cast(Lease, None),
        stopping=lambda: False,
        not_followed=lambda: None,
    )
    site[FEED] = Feed(epoch="bench", clock=_now)
    prepare_templates(site)
    [events] = [route for route in ROUTES if route.path == "/api/v1/releases/{id}/events"]
    for route in (events, *PAGES):
        site.router.add_route(route.method, route.path, route.serve)
    runner = web.AppRunner(site, shutdown_timeout=0.1)
    await runner.setup()
    try:
        served = web.TCPSite(runner, "127.0.0.1", 0)
        await served.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/releases/{stream.release.id}"
    finally:
        await runner.cleanup()


def _release() -> Release:
    return Release(
        id="r-bench",
        cluster="dev",
        namespace="orders",
        environment="orders",
        kind=WorkloadKind.DEPLOYMENT,
        workload="shop",
        revision="7",
        started_at=_now(),
    )


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    asyncio.run(main())
