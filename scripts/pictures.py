#!/usr/bin/env python3
"""Take the pictures of README and docs from the product as it runs: `make pictures ARGS=KUBECONFIG`.

Each is a page in Debian's Chromium. The apps are the tests', in a namespace that is made for them; their images are the
test cluster's, by other names.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import SOON, launched, log_in
from tests.cluster.conftest import Kubectl, until
from tests.cluster.images import ctr
from tests.cluster.test_release_hooks import shop
from tests.gateway import Api, Process, serving
from tests.jdb import attached

DOCS = Path(__file__).parents[1] / "docs"
NAMESPACE, APP = "shop-test", "order-service"
APPS = {APP: (3, "1.4.1"), "mail": (1, "2.0.1"), "payments": (2, "3.1.0"), "stock": (1, "0.9.7")}
NEW_VERSION = "1.5.0"
HOOKS = {
    "prestart.sh": '#!/bin/sh\necho "the configuration of $(hostname) is there"\n',
    "preonline.sh": "#!/bin/sh\necho filling the caches; sleep 2; echo caches are warm\n",
}
STOPPED = r"Breakpoint hit[\s\S]*\[1\] "


async def main(kubeconfig: Path) -> None:
    kubectl = Kubectl(kubeconfig, NAMESPACE)
    socket = kubeconfig.parent / "run/containerd.sock"
    config = f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubeconfig}"\nnamespaces = ["{NAMESPACE}"]\n'
    with tempfile.TemporaryDirectory() as folder, images(socket), environment(kubectl):
        async with serving(Path(folder), config) as (process, api), launched() as chromium:
            await at_a_breakpoint(kubectl, process, api, chromium)
            await a_release(kubectl, process, api, chromium)


@contextmanager
def images(socket: Path) -> Iterator[None]:
    names = [image(app, version) for app, (_, version) in APPS.items()] + [image(APP, NEW_VERSION)]
    try:
        for name in names:
            ctr(socket, "tag", "--force", "noah.test/java17:1", name)
        yield
    finally:
        ctr(socket, "rm", *names)


def image(app: str, version: str) -> str:
    return f"noah.test/{app}:{version}"


@contextmanager
def environment(kubectl: Kubectl) -> Iterator[None]:
    kubectl("create", "namespace", NAMESPACE)
    try:
        until(lambda: "default" in kubectl("get", "serviceaccounts", "-o", "name"))
        kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hooks"}, "data": HOOKS})
        for app, (replicas, version) in APPS.items():
            deploy(kubectl, app, replicas, version)
        for app in APPS:
            kubectl("rollout", "status", f"deployment/{app}", "--timeout=300s", timeout=320)
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def deploy(kubectl: Kubectl, app: str, replicas: int, version: str) -> None:
    deployment: dict[str, Any] = shop(app, replicas=replicas)
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image(app, version)
    inject = [sys.executable, "-m", "noah", "inject", "-f", "-"]
    injected = subprocess.run(inject, input=json.dumps(deployment), capture_output=True, text=True, check=True)
    kubectl("apply", "-f", "-", stdin=injected.stdout)


async def opened(chromium: Browser, url: str, api: Api, width: int, height: int) -> Page:
    context = await chromium.new_context(viewport={"width": width, "height": height})
    await log_in(context, api, "ada")
    page = await context.new_page()
    page.set_default_timeout(SOON)
    await page.goto(url)
    return page


async def at_a_breakpoint(kubectl: Kubectl, process: Process, api: Api, chromium: Browser) -> None:
    async with asyncio.timeout(120):
        while len(targets := (await api.ask("GET", "targets"))["items"]) < sum(count for count, _ in APPS.values()):  # noqa: ASYNC110  another process's doing
            await asyncio.sleep(0.2)
    name = next(one["target"] for one in targets if APP in one["target"])
    session = await api.ready(name)
    async with attached(session["port"], deadline_s=120) as jdb, asyncio.TaskGroup() as group:
        await jdb.ask("stop in App.compute")
        curl = ("exec", name.split("/")[3], "-c", "app", "--", "curl", "-fsS", "http://127.0.0.1:8080/work")
        group.create_task(asyncio.to_thread(kubectl, *curl), name="a request for the breakpoint")
        await jdb.said(STOPPED)
        page = await opened(chromium, f"{process.url}/targets/{name}", api, 1180, 760)
        await expect(page.locator("#state code")).to_be_visible(timeout=SOON)
        await page.screenshot(path=DOCS / "target.png")
        await page.goto(f"{process.url}/environments/{NAMESPACE}")
        await expect(page.get_by_text("suspended").first).to_be_visible(timeout=SOON)
        await page.screenshot(path=DOCS / "environment.png")
        await jdb.ask("cont")
        await jdb.quit()
    await api.end(session)


async def a_release(kubectl: Kubectl, process: Process, api: Api, chromium: Browser) -> None:
    replicas, _ = APPS[APP]
    await asyncio.to_thread(deploy, kubectl, APP, replicas, NEW_VERSION)
    # The one before it is over, whose pods were all there.
    async with asyncio.timeout(120):
        while not (running := [one for one in await releases(api) if one["result"] == "running"]):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    page = await opened(chromium, f"{process.url}/releases/{running[0]['id']}", api, 1280, 800)
    await page.get_by_label("events").uncheck()
    await expect(page.get_by_text(f"{replicas - 1} of {replicas} online").first).to_be_visible(timeout=4 * SOON)
    await page.screenshot(path=DOCS / "release.png")


async def releases(api: Api) -> list[dict[str, Any]]:
    return [one for one in (await api.ask("GET", "releases"))["items"] if one["workload"] == APP]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
