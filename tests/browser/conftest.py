"""Debian's Chromium before a real gateway, as people see it: one of each for all tests of a worker.

The gateway has a JVM that can be debugged, and a cluster that only lists and watches: thousands of pods, of which one
has a name that wants to be run.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.cluster.conftest import kubeconfig, kubectl, make_namespace
from tests.gateway import Api, Process, serving
from tests.java import SAMPLE, compiled
from tests.sample_process import App
from tests.unit.kube.fake_api import Call, FakeApi, fake_api

__all__ = ["kubeconfig", "kubectl", "make_namespace"]

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
SCREENS = Path(__file__).parents[2] / "build" / "screenshots"
SOON = 30_000  # ms; on a busy machine

APPS, PODS = 30, 100  # pods of each app
EVIL = "<script>window.ran=1</script><img src=x onerror=window.ran=1>"
LACKS = "pods/exec"  # what the gateway may not in the cluster

# A machine that is not there, with an app that the cluster has too.
HOST = """
[[hosts]]
name = "kvm-1"
address = "127.0.0.1"
port = 1
user = "nobody"
key = "/nowhere"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHq0zLYiHMRiq8nBAJgBzEXTOWZ0nJd1qgIgCGuJbTqU"
[[hosts.apps]]
name = "app-3"
"""

Opened = Callable[..., Awaitable[Page]]


@asynccontextmanager
async def launched(*more: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET.split(), *more])
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with launched() as chromium:
        yield chromium


@pytest_asyncio.fixture(loop_scope="session")
async def opened(chromium: Browser, running: tuple[Process, Api]) -> AsyncIterator[Opened]:
    """Opens a page as somebody who is logged in, each in a context of their own."""
    contexts: list[BrowserContext] = []

    async def open_page(url: str, *, user: str | None = "ada", dark: bool = False, **more: Any) -> Page:
        size = {"width": 1180, "height": 760}
        context = await chromium.new_context(**{"color_scheme": "dark" if dark else "light", "viewport": size, **more})
        contexts.append(context)
        if user is not None:
            await log_in(context, running[1], user)
        page = await context.new_page()
        page.set_default_timeout(SOON)
        await page.goto(url)
        await page.locator("body[data-stream=open]").wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        await context.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """For tests that have an event loop of their own."""
    async with launched() as chromium:
        yield chromium


async def log_in(context: BrowserContext, api: Api, user: str) -> None:
    """Log a browser in by the form of the login page."""
    answer = await context.request.post(f"{api.url}/login", form={"token": api.token(user)})
    assert answer.ok, await answer.text()


async def visit(browser: Browser, url: str, *, api: Api | None = None, user: str | None, dark: bool = False) -> Page:
    """A page in a browser of its own, whose user has said who they are."""
    context = await browser.new_context(
        color_scheme="dark" if dark else "light", viewport={"width": 1180, "height": 760}
    )
    if user is not None:
        assert api is not None
        await log_in(context, api, user)
    page = await context.new_page()
    page.set_default_timeout(SOON)
    await page.goto(url)
    if user is not None:
        await page.locator("body[data-stream=open]").wait_for(state="attached")
    return page


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    app = App(compiled(SAMPLE, tmp_path_factory.mktemp("classes")), "orders")
    await app.start()
    yield app
    await app.kill()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[FakeApi]:
    async with large_cluster() as kubernetes:
        yield kubernetes


@asynccontextmanager
async def large_cluster() -> AsyncIterator[FakeApi]:
    async with fake_api() as kubernetes:
        kubernetes.on_list, kubernetes.on_watch, kubernetes.on_anything = _list, _watch, _review
        yield kubernetes


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(
    app: App, cluster: FakeApi, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Process, Api]]:
    clusters = (
        f'[[clusters]]\nname = "many"\nurl = "{cluster.url}"\n[[clusters]]\nname = "away"\nurl = "http://127.0.0.1:1"\n'
    )
    async with serving(tmp_path_factory.mktemp("browser"), app.config + clusters + HOST) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(running: tuple[Process, Api]) -> AsyncIterator[tuple[Process, Api]]:
    """With nobody's session, before and after."""
    yield running
    for session in (await running[1].ask("GET", "sessions"))["items"]:
        await running[1].end(session)


async def _list(call: Call) -> None:
    pods = [pod(f"app-{app}", number) for app in range(APPS) for number in range(PODS)]
    evil = pod("evil", 0)
    evil["metadata"]["labels"] |= {"app": EVIL, "note": EVIL}
    call.json(200, {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [*pods, evil]})


async def _watch(call: Call) -> None:
    call.begin_watch()
    await call.hang()


async def _review(call: Call) -> None:
    if not call.path.endswith("/selfsubjectaccessreviews"):
        call.refuse(404, "the server could not find the requested resource")
        return
    asked = json.loads(call.body)["spec"]["resourceAttributes"]
    call.json(201, {"status": {"allowed": f"{asked['resource']}/{asked['subresource']}" != LACKS}})


def pod(app: str, number: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{app}-{number:03}",
            "namespace": "team-a",
            "uid": f"{app}-{number}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "1",
            "labels": {"app": app},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": "registry/app:1.4.2"}]},
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True" if number else "False"}],
            "containerStatuses": [{"name": "main", "restartCount": number % 3, "state": {"running": {}}}],
        },
    }
