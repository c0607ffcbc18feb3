"""The environment page with 3,000 targets: the server's time, and the browser's longest task.

    python -m benchmarks.pages

A task of the browser's is long from 50 ms on, as the Long Tasks API has it: for so long nobody can scroll or type. Each
visit is in a profile that has nothing in its cache.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page

from tests.browser.conftest import large_cluster, launched
from tests.gateway import Api, serving

REQUESTS, VISITS = 100, 10
COUNT_LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((task) => task.duration)))
  .observe({ type: "longtask", buffered: true });
"""


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with large_cluster() as cluster, launched() as browser:
            config = f'[[clusters]]\nname = "many"\nurl = "{cluster.url}"\n'
            async with serving(Path(folder), config) as (process, api):
                await _all_there(api)
                server = [await _served(api) for _ in range(REQUESTS)]
                visits = [await _visited(browser, process.url) for _ in range(VISITS)]
    _report(server, visits)


async def _all_there(api: Api) -> None:
    async with asyncio.timeout(60):
        while (await api.ask("GET", "targets?limit=1"))["total"] < 3000:  # noqa: ASYNC110  another process's doing
            await asyncio.sleep(0.1)


async def _served(api: Api) -> float:
    began = time.perf_counter()
    async with api.http.get(api.url) as answer:
        await answer.read()
        assert answer.status == 200
    return (time.perf_counter() - began) * 1000


async def _visited(browser: Browser, url: str) -> dict[str, float]:
    """The longest tasks of the page's main thread, in milliseconds, and how many the page saw that are long."""
    context = await browser.new_context(viewport={"width": 1180, "height": 760})
    page = await context.new_page()
    await page.add_init_script(COUNT_LONG_TASKS)
    found: dict[str, float] = {}
    async with _traced(browser, page, found, "first paint"):
        await page.goto(url)
        await page.locator("body[data-stream=open]").wait_for(state="attached")
        await page.wait_for_timeout(300)
    async with _traced(browser, page, found, "search"):
        await page.get_by_label("Search").press_sequentially("app-17", delay=100)
        await page.get_by_text("100 targets of 1 app").wait_for()
    async with _traced(browser, page, found, "all again"):
        await page.get_by_label("Search").fill("")
        await page.get_by_text("3,001 targets").wait_for()
        await page.wait_for_timeout(300)
    found["long tasks"] = await page.evaluate("longTasks.length")
    await context.close()
    return found


@asynccontextmanager
async def _traced(browser: Browser, page: Page, found: dict[str, float], what: str) -> AsyncIterator[None]:
    """Measure the longest task, and for how much of it it had a processor: this machine may be busy."""
    await browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    yield
    events = json.loads(await browser.stop_tracing())["traceEvents"]
    main = {(e["pid"], e["tid"]) for e in events if e.get("args", {}).get("name") == "CrRendererMain"}
    tasks = [e for e in events if e["name"].endswith("RunTask") and (e["pid"], e["tid"]) in main and "dur" in e]
    found[what] = max(task["dur"] for task in tasks) / 1000
    found[f"{what}, on a processor"] = max(task.get("tdur", 0) for task in tasks) / 1000


def _report(server: list[float], visits: list[dict[str, float]]) -> None:
    figures = {"server": {"median": statistics.median(server), "worst": max(server)}}
    for what in visits[0]:
        seen = [visit[what] for visit in visits]
        figures[what] = {"median": statistics.median(seen), "worst": max(seen)}
    for what, figure in figures.items():
        unit = "" if what == "long tasks" else " ms"
        print(f"{what:26} median {figure['median']:6.1f}{unit}   worst {figure['worst']:6.1f}{unit}")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-pages.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
