"""From enable to ready on a real pod, beside a bare `kubectl exec POD -- true`; and beside a black-holed cluster.

    python -m benchmarks.enable KUBECONFIG

Makes a namespace with one sample pod, and removes it.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.conftest import Kubectl
from tests.gateway import Api, serving

ROUNDS = 20
REQUESTS = 300  # listings, for a p99


async def main(kubeconfig: Path) -> None:
    kubectl = Kubectl(kubeconfig, f"noah-bench-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    try:
        await asyncio.sleep(1)  # for the namespace's service account
        kubectl.run("shop")
        alone = await measured(kubectl, "")
        async with black_hole() as port:
            beside = await measured(kubectl, f'[[clusters]]\nname = "hole"\nurl = "http://127.0.0.1:{port}"\n')
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
    report(alone, beside)


async def measured(kubectl: Kubectl, other: str) -> dict[str, list[float]]:
    """Milliseconds, by what took them."""
    took: dict[str, list[float]] = {"enable to ready": [], "kubectl exec POD -- true": [], "a listing": []}
    config = f'[[clusters]]\nname = "dev"\nkubeconfig = "{kubectl.kubeconfig}"\n{other}'
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), config) as (_, api):
            target = f"pod/dev/{kubectl.namespace}/shop"
            for _ in range(ROUNDS):
                session = await timed(took["enable to ready"], lambda: api.ready(target))
                await api.end(session)
                await timed(took["kubectl exec POD -- true"], lambda: asyncio.to_thread(bare, kubectl))
            for _ in range(REQUESTS):
                await timed(took["a listing"], lambda: listed(api))
    return took


async def timed(into: list[float], act: Callable[[], Awaitable[Any]]) -> Any:
    began = time.perf_counter()
    result = await act()
    into.append((time.perf_counter() - began) * 1000)
    return result


def bare(kubectl: Kubectl) -> None:
    argv = ["kubectl", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace]
    subprocess.run([*argv, "exec", "shop", "--", "true"], check=True, capture_output=True)


async def listed(api: Api) -> None:
    await api.ask("GET", "targets?limit=100")


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A port that takes connections and requests, and never answers."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def report(alone: dict[str, list[float]], beside: dict[str, list[float]]) -> None:
    print(f"{'milliseconds':28} {'median':>8} {'p99':>8} {'beside a black hole':>22} {'p99':>8}")
    figures = {}
    for what, took in alone.items():
        row = [*summary(took), *summary(beside[what])]
        figures[what] = dict(zip(("median", "p99", "median beside", "p99 beside"), row, strict=True))
        print(f"{what:28} {row[0]:8.1f} {row[1]:8.1f} {row[2]:22.1f} {row[3]:8.1f}")
    ratio = figures["enable to ready"]["median"] / figures["kubectl exec POD -- true"]["median"]
    print(f"enable to ready takes {ratio:.2f} x a bare exec")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-enable.json").write_text(json.dumps(figures, indent=2))


def summary(milliseconds: list[float]) -> tuple[float, float]:
    return statistics.median(milliseconds), statistics.quantiles(milliseconds, n=100)[98]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
