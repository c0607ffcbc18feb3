"""The page of a release under 1,000 lines per second, in a real browser: python -m benchmarks.release_page

First 20,000 lines at once, then 1,000 per second, and what people do meanwhile: reading further up, typing a filter.
The site's handlers and the release's stream are the gateway's; only the cluster is missing.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from aiohttp import web
from playwright.async_api import Page, async_playwright

from noah.broker.release import Stream
from noah.broker.releases import Releases
from noah.core.journal import Journal, Told, timestamp
from noah.core.release import Release
from noah.settings import Settings
from noah.store import Store
from noah.web import health, pages
from noah.web.keys import CLOCK, CLUSTERS, RELEASES, SETTINGS
from noah.web.patience import PATIENCE, Patience
from noah.web.site import ROUTES
from tests.browser.conftest import CHROMIUM, QUIET

AT_ONCE, PER_SECOND, SECONDS = 20_000, 1000, 20
PODS = [f"shop-7d9f8b6c5d-{name}" for name in ("x2kq9", "b7wlm", "t4hzc", "n8dpv")]
WATCH = """
window.long = [];
new PerformanceObserver((list) => window.long.push(...list.getEntries().map((one) => one.duration)))
  .observe({ type: "longtask", buffered: true });
window.frames_drawn = 0;
(function frame() { window.frames_drawn += 1; requestAnimationFrame(frame); })();
"""


async def main() -> None:
    stream = Stream(_release(), Journal())
    print_lines(stream, AT_ONCE)
    async with serving(stream) as url, async_playwright() as playwright, asyncio.TaskGroup() as group:
        printing = group.create_task(print_for_ever(stream), name="1,000 lines per second")
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        page = await chromium.new_page(viewport={"width": 1280, "height": 900})
        await page.add_init_script(WATCH)
        await page.goto(url)
        await measured(page, "begins, with 20,000 lines", 5)
        await measured(page, "follows 1,000 lines per second", SECONDS)
        await page.hover("#log")
        await page.mouse.wheel(0, -50_000)
        await measured(page, "scrolls up and stays there", 5)
        await page.get_by_label("Filter").press_sequentially("orders/12", delay=150)
        await measured(page, "types a filter", 5)
        await page.get_by_label("Filter").fill("")
        await measured(page, "takes it away", 5)
        await chromium.close()
        printing.cancel()


async def measured(page: Page, what: str, seconds: float) -> None:
    before = await page.evaluate("window.frames_drawn")
    await asyncio.sleep(seconds)
    long, frames, rows = await page.evaluate(
        "[window.long.splice(0), window.frames_drawn, document.querySelectorAll('#log .line').length]"
    )
    heap = await page.evaluate("performance.memory.usedJSHeapSize")
    tasks = f"longest task {max(long):.0f} ms, {len(long)} over 50 ms" if long else "no task over 50 ms"
    print(
        f"{what:32} {tasks}; {(frames - before) / seconds:.0f} frames/s; "
        f"{await page.locator('#count').inner_text()} kept, {rows} drawn; heap {heap / 1e6:.0f} MB",
        flush=True,
    )


def print_lines(stream: Stream, count: int) -> None:
    for _ in range(count):
        n = stream.journal.count + 1
        pod, words = random.choice(PODS), "of some length " * random.randint(0, 12)
        where = {"pod": pod, "container": "app", "restart": 0}
        stream.tell(Told(timestamp(_now()), "log", f"GET /orders/{n} 200 {n % 97} ms {words}", where))


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
    site[CLUSTERS], site[CLOCK], site[PATIENCE], site[SETTINGS] = {}, _now, Patience(), Settings()
    site[health.HEALTH] = health.Health(store=cast(Store, None), stopping=lambda: False)
    pages.add_pages(site)
    [events] = [route for route in ROUTES if route.path == "/api/v1/releases/{id}/events"]
    site.router.add_get(events.path, events.serve)
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
        kind="Deployment",
        workload="shop",
        revision="7",
        started_at=_now(),
    )


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    asyncio.run(main())
