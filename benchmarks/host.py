"""From enable to ready on a host: a real sshd on loopback as an ordinary user, a real JVM with onjcmd, no restart.

    python -m benchmarks.host

Each round has a JVM of its own, since jcmd wakes an agent once; it is as old as one that has been running for long.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.gateway import Api, serving
from tests.integration.hosts.machines import OPTIONS, HostedOrders, Machine, classes_in, new_root, remove

ROUNDS = 20
PROMISED = 2.0  # seconds


async def main() -> None:
    async with host() as orders:
        asleep = f'"{orders.agent},onjcmd=y '.encode()
        orders.file.write_bytes(OPTIONS.replace(b'"', asleep, 1))
        with tempfile.TemporaryDirectory() as folder:
            async with serving(Path(folder), orders.machine.settings(orders.settings())) as (_, api):
                woken, listening = await measured(api, orders)
    report({"onjcmd, by jcmd": woken, "listens already": listening})


@asynccontextmanager
async def host() -> AsyncIterator[HostedOrders]:
    root = new_root()
    machine = Machine(1, root)
    await machine.install()
    orders = HostedOrders(machine)
    try:
        await orders.install(classes_in(root))
        await machine.start()
        yield orders
    finally:
        orders.kill()
        await machine.kill()
        remove(root)


async def measured(api: Api, orders: HostedOrders) -> tuple[list[float], list[float]]:
    """Seconds; of an agent that sleeps, and then of the same one, awake."""
    woken, listening = [], []
    for _ in range(ROUNDS):
        await orders.restart()
        await orders.has_settled()
        pid = orders.pid
        woken.append(await enabled(api, orders))
        listening.append(await enabled(api, orders))
        assert orders.pid == pid
    return woken, listening


async def enabled(api: Api, orders: HostedOrders) -> float:
    began = time.perf_counter()
    session = await api.ready(orders.target)
    took = time.perf_counter() - began
    await api.end(session)
    return took


def report(took: dict[str, list[float]]) -> None:
    print(f"{'enable to ready, seconds':28} {'median':>8} {'p99':>8} {'longest':>8}   ({ROUNDS} rounds)")
    figures = {}
    for what, seconds in took.items():
        median, p99 = statistics.median(seconds), statistics.quantiles(seconds, n=100, method="inclusive")[98]
        figures[what] = {"median": median, "p99": p99, "longest": max(seconds)}
        print(f"{what:28} {median:8.3f} {p99:8.3f} {max(seconds):8.3f}")
    kept = max(max(seconds) for seconds in took.values()) <= PROMISED
    print(f"within {PROMISED:.0f} s: {'yes' if kept else 'NO'}")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-host.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
