"""The pages of releases before any script has run, and the end of those that no gateway can follow any more."""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from noah.core.release.release import Progress, Release, Result
from noah.core.workload import WorkloadKind
from noah.releases.releases import open_releases
from noah.store.hints import Hints
from tests.integration.web.conftest import Gateway

pytestmark = pytest.mark.jvm
EVIL = "<script>window.ran=1</script>"
BEGAN = datetime(2026, 1, 31, 8, tzinfo=UTC)
RUNNING = Release(
    id="r-1",
    cluster="gone",
    namespace="orders",
    environment="orders",
    kind=WorkloadKind.DEPLOYMENT,
    workload="shop",
    revision="1",
    started_at=BEGAN,
    progress=Progress(Result.RUNNING, 0, 1, "0 of 1 online"),
)
FAILED = replace(RUNNING, ended_at=BEGAN, progress=Progress(Result.FAILED, 0, 1, EVIL))


async def _get(gateway: Gateway, path: str) -> str:
    async with gateway.http.get(gateway.url + path) as answer:
        return await answer.text()


def _shown(page: str) -> list[str]:
    return re.findall(r'href="\./releases/(r-[^"]+)"', page)


async def test_releases_are_paged_the_newest_first(gateway: Gateway) -> None:
    for n in range(5):
        await gateway.store.releases.save(replace(FAILED, id=f"r-{n}", started_at=BEGAN + timedelta(hours=n)), ())
    first = await _get(gateway, "/releases?limit=2&namespace=orders&result=")
    assert _shown(first) == ["r-4", "r-3"]
    assert "Previous" not in first
    second = await _get(gateway, _link(first, "Next"))
    assert _shown(second) == ["r-2", "r-1"]
    assert _shown(await _get(gateway, _link(second, "Next"))) == ["r-0"]
    assert _shown(await _get(gateway, _link(second, "Previous"))) == ["r-4", "r-3"]
    assert "No release is like that" in await _get(gateway, "/releases?workload=other")


async def test_what_a_release_says_is_never_run(gateway: Gateway) -> None:
    await gateway.store.releases.save(FAILED, ())
    for path in ("/releases", "/releases/r-1"):
        text = await _get(gateway, path)
        assert EVIL not in text
        assert EVIL in unescape(text)


async def test_an_unknown_release_is_a_page_that_says_so(gateway: Gateway) -> None:
    assert "There is no release" in await _get(gateway, "/releases/r-none")


async def test_the_stream_of_a_release_that_was_lost_has_an_end(gateway: Gateway) -> None:
    await gateway.store.releases.save(RUNNING, ())
    async with open_releases(
        clusters={},
        store=gateway.store,
        lease=gateway.lease,
        hints=Hints(),
        feed=gateway.feed,
        live_in=lambda *_: [],
        clock=lambda: datetime.now(UTC),
    ):
        async with asyncio.timeout(60):
            while not (found := await gateway.store.releases.events("r-1")):
                await asyncio.sleep(0.02)
    [(number, event)] = found
    assert (number, event.kind, event.more["result"]) == (1, "end", "lost")
    assert "does not know cluster gone any more" in event.text


def _link(page: str, text: str) -> str:
    found = re.search(rf'href="([^"]+)">{text}<', page)
    assert found is not None
    return unescape(found[1]).removeprefix(".")
