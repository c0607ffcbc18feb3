"""Very many pods in three clusters: how fast they are listed, what they cost, and what a debugger feels of it.

    python -m benchmarks.scale [--namespaces 10000] [--each 3] [--clusters 3] [--churn-s 30] [--kubeconfig FILE]

The API server is scale_api.py, in a process of its own, unless a kubeconfig names a real one, which is then every
cluster (scale_real.py). Beside a session's relay (load.c: a JVM's agent and a debugger) runs in the gateway's event
loop.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.held import Held
from benchmarks.relay import BUILD, LOAD, build_load, running
from benchmarks.scale_real import App, RealApi
from noah.kube.clusters import STILL_USED_EVERY_S
from noah.store import upgrade
from tests.ports import free_port

TRIPS = 1000
IDLE_TRIPS = 21  # runs of so many
LAG_INTERVAL_S = 0.002
LONG_S = 0.015  # of processor time at once; what takes longer is shown
MOST_STACKS = 5
SETTLES_WITHIN_S = 5.0  # after the last change: a watch that was dropped just now is watched again
PAGE = 500  # targets
ASK_INTERVAL_S = 0.5  # each request holds the loop, as those of people do, for a millisecond
LISTED_WITHIN_S = 300.0  # or never
ONLY = "changes of pods; the API that misbehaves; a list beside a debugger that never stops, without a control"


class MeasuredGateway:
    """The gateway with a relay beside it, in a process that reports how long its event loop was held."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    def lag(self) -> tuple[float, float, float, list[tuple[str, int]]]:
        """Return what happened since this was asked last: see serve()."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("lag\n")
        self.process.stdin.flush()
        longest, blocked, busiest, stacks = json.loads(self.process.stdout.readline())
        return longest, blocked, busiest, stacks

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def loop_cpu_ms(self) -> float:
        """The processor time of the thread of its event loop."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e6

    def memory_mib(self, which: str = "VmRSS") -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition(f"{which}:")[2].split()[0]) / 1024


async def serve(config: str, relay_port: int, jvm_port: int) -> None:
    """Run the gateway and a relay until stdin ends.

    Each line is answered with the longest wait for the event loop since the last answer, the longest that is left when
    its thread's waits for a processor are taken off, and the most processor time that it took meanwhile, in ms. And
    with what took more than LONG_S.
    """
    from datetime import UTC, datetime

    from noah.app import gateway
    from noah.proxy.listener import Listener
    from noah.proxy.slot import Slot
    from noah.settings import read_settings

    loop, longest, blocked, busiest = asyncio.get_running_loop(), 0.0, 0.0, 0.0
    held = Held(longer_than_s=LONG_S)

    async def dial(protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await loop.create_connection(protocol, "127.0.0.1", jvm_port)
        return transport

    async def measure() -> None:
        nonlocal longest, blocked, busiest
        times = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        spent, waited = _schedule(times)
        while True:
            due = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            late, (spent_now, waited_now) = loop.time() - due, _schedule(times)
            longest, busiest = max(longest, late), max(busiest, spent_now - spent)
            blocked = max(blocked, late - (waited_now - waited))
            spent, waited = spent_now, waited_now
            held.beat()

    slot = Slot(
        session_id="relay",
        dial=dial,
        allow_exit=False,
        clock=lambda: datetime.now(UTC),
        changed=lambda: None,
        noticed=lambda kind, data: None,
    )
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncExitStack() as stack:
        measuring = asyncio.create_task(measure())  # noqa: TID251 - ends with the process
        listener = Listener(slot, host="127.0.0.1", port=relay_port, admits=lambda _: True)
        await slot.open()
        await listener.open()
        stack.push_async_callback(slot.close, "the benchmark is over")
        stack.callback(listener.close)
        file = Path(config)
        url = (await stack.enter_async_context(gateway(read_settings(file), file))).url
        print(json.dumps(url), flush=True)
        while await lines.readline():
            await asyncio.sleep(2 * LAG_INTERVAL_S)  # what happened before is measured before it is reported
            print(json.dumps([longest * 1000, blocked * 1000, busiest * 1000, held.report()]), flush=True)
            longest = blocked = busiest = 0.0
        measuring.cancel()


def _schedule(times: int) -> tuple[float, float]:
    """Return for how many seconds a thread has run, and has waited for a processor; *times* is its schedstat."""
    ran_ns, waited_ns, _ = os.pread(times, 100, 0).split()
    return int(ran_ns) / 1e9, int(waited_ns) / 1e9


class Figures(dict[str, float]):
    """Prints each figure when it is known."""

    def __setitem__(self, name: str, value: float) -> None:
        super().__setitem__(name, value)
        print(f"{name:60} {value:10,.2f}", flush=True)

    def hold(self, what: str, gateway: MeasuredGateway) -> None:
        longest, blocked, busiest, stacks = gateway.lag()
        self[f"{what}: longest wait for the loop, ms"] = longest
        self[f"{what}: the same without its waits for a processor, ms"] = blocked
        self[f"{what}: most processor time at once, ms"] = busiest
        for stack, times in stacks[:MOST_STACKS]:
            print(f"    held {times} times by {stack}", flush=True)


class FakeApi:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def counts(self) -> Any:
        assert self.process.stdout is not None
        self.say("counts")
        return json.loads(self.process.stdout.readline())


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path, http: aiohttp.ClientSession) -> None:
        self._options, self._folder, self._http = options, folder, http
        self.api: FakeApi | None = None
        self.gateway: MeasuredGateway
        self.configure: Callable[[int], None]  # have so many clusters
        self._relay_port, self._jvm_port, self._control_port = free_port(), free_port(), free_port()

    def start_api(self, stack: AsyncExitStack) -> None:
        options, port = self._options, free_port()
        argv = [sys.executable, "-m", "benchmarks.scale_api", *map(str, (port, options.namespaces, options.each))]
        process = stack.enter_context(running(argv, stdin=subprocess.PIPE))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.api = FakeApi(process, port)

    def start_jvm(self, stack: AsyncExitStack) -> None:
        """Start what answers, and beside it the relay of a process that does nothing else: the control."""
        stack.enter_context(running([str(LOAD), "serve", str(self._jvm_port)]))
        argv = [sys.executable, "-m", "benchmarks.gateway", str(self._control_port), "1", str(self._jvm_port)]
        stack.enter_context(running([*argv, "--uvloop"]))

    def start_gateway(self, stack: AsyncExitStack, clusters: int) -> MeasuredGateway:
        name = f"{len(list(self._folder.iterdir()))}"
        config = self._folder / f"{name}.toml"
        gateway = f'[gateway]\nlisten = "127.0.0.1:{free_port()}"\ndatabase = "sqlite:///{self._folder}/{name}.db"\n'

        def configure(clusters: int) -> None:
            parts = (f'[[clusters]]\nname = "c{n}"\n{self._way(n)}\n' for n in range(clusters))
            config.write_text(gateway + "".join(parts))

        configure(clusters)
        self.configure = configure
        upgrade(f"sqlite:///{self._folder}/{name}.db")
        argv = [sys.executable, "-m", "benchmarks.scale", "--serve", str(config)]
        argv += map(str, (self._relay_port, self._jvm_port))
        log = stack.enter_context((self._folder / f"{name}.log").open("w"))
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

        def end() -> None:
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()

        stack.callback(end)
        assert process.stdout is not None
        if not (line := process.stdout.readline()):
            raise SystemExit((self._folder / f"{name}.log").read_text())
        self.gateway = MeasuredGateway(process, json.loads(line))
        return self.gateway

    def _way(self, number: int) -> str:
        if self._options.kubeconfig:
            return f'kubeconfig = "{self._options.kubeconfig}"'
        assert self.api is not None
        return f'url = "http://127.0.0.1:{self.api.port}/c{number}"'

    async def trip(self, *, control: bool = False) -> float:
        """Return the 99th percentile of a debugger's round trips, in ms."""
        argv = (str(LOAD), "trip", str(self._control_port if control else self._relay_port), str(TRIPS))
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return float(out.split()[1]) / 1000

    async def total(self) -> int:
        async with self._http.get(f"{self.gateway.url}/api/v1/targets?limit=1") as answer:
            return int((await answer.json())["total"])

    async def until_listed(self, count: int, figures: Figures, what: str) -> None:
        """Wait until *count* targets are there, and measure what others feel meanwhile."""
        gateway, began, first = self.gateway, time.monotonic(), None
        cpu, trips, controls, waits = gateway.cpu_s, list[float](), list[float](), list[float]()
        gateway.lag()

        async def relays() -> None:
            while True:
                trips.append(await self.trip())
                if self._options.only != "talk":
                    controls.append(await self.trip(control=True))

        relaying = asyncio.create_task(relays())  # noqa: TID251 - ends below
        while True:
            asked = time.monotonic()
            total = await self.total()
            waits.append(time.monotonic() - asked)
            if total and first is None:
                first = time.monotonic() - began
                figures[f"{what}: to enable on one of the first page, ms"] = await self.enabled()
            if total >= count:
                break
            if time.monotonic() - began > LISTED_WITHIN_S:
                figures[f"{what}: not all listed, but"] = total
                break
            await asyncio.sleep(ASK_INTERVAL_S)
        figures[f"{what}: all listed, s"] = time.monotonic() - began
        figures[f"{what}: CPU, s"] = gateway.cpu_s - cpu
        figures[f"{what}: first targets, s"] = first or 0
        figures.hold(what, gateway)
        figures[f"{what}: longest wait for a request, ms"] = max(waits) * 1000
        relaying.cancel()
        figures[f"{what}: relay p99, ms"] = statistics.median(trips) if trips else -1
        figures[f"{what}: relay p99, worst run, ms"] = max(trips, default=-1)
        if controls:
            figures[f"{what}: control's p99, ms"] = statistics.median(controls)

    async def enabled(self) -> float:
        """Enable debugging of any target that is listed, and return after how many ms there is a session."""
        async with self._http.get(f"{self.gateway.url}/api/v1/targets?limit=1") as answer:
            target = (await answer.json())["items"][0]["target"]
        began = time.monotonic()
        async with self._http.post(f"{self.gateway.url}/api/v1/sessions", json={"target": target}) as answer:
            session = await answer.json()
            if answer.status != 201:
                raise SystemExit(f"{target}: {session}")
        took = time.monotonic() - began
        await self._http.delete(f"{self.gateway.url}/api/v1/sessions/{session['id']}")
        return took * 1000

    async def restarts(self, cluster: str) -> Mapping[App, int]:
        """Return how often each app of a cluster was started again, as the gateway shows it, page by page."""
        found, after = dict[App, int](), ""
        while after is not None:
            path = f"/api/v1/targets?cluster={cluster}&limit={PAGE}" + (f"&continue={after}" if after else "")
            async with self._http.get(self.gateway.url + path) as answer:
                page = await answer.json()
            found |= {App(one["namespace"], one["app"]): one["restarts"] for one in page["items"]}
            after = page["continue"]
        return found

    async def requests(self, figures: Figures, what: str) -> None:
        async with self._http.get(f"{self.gateway.url}/api/v1/targets?limit=100") as answer:
            page = await answer.json()
        one, after = page["items"][-1], page["continue"]
        label = next((f"{k}={v}" for k, v in one["labels"].items() if k == "team"), "app=none")
        paths = {
            "first page": "/api/v1/targets?limit=100",
            "second page": f"/api/v1/targets?limit=100&continue={after}",
            "q=part of few": f"/api/v1/targets?q={one['namespace']}",
            "q=part of all": "/api/v1/targets?q=app",
            "q=part of none": "/api/v1/targets?q=nowhere",
            "q of two words": "/api/v1/targets?q=scale+app-1",
            "label of few": f"/api/v1/targets?label={label}",
            "label of all": "/api/v1/targets?label=pod-template-hash%3D7d9c5b8f6",
            "one namespace": f"/api/v1/targets?namespace={one['namespace']}",
            "one cluster": "/api/v1/targets?cluster=c0",
            "an app by its name": f"/api/v1/targets/app={one['app']}",
            "completion of apps": f"/api/v1/names?of=apps&prefix={one['app'][:7]}",
            "completion of namespaces": f"/api/v1/names?of=namespaces&prefix={one['namespace'][:7]}",
            "clusters": "/api/v1/clusters",
            "page of clusters": "/clusters",
            "metrics": "/metrics",
            "one app": f"/api/v1/targets?app={one['app']}",
            "apps": "/api/v1/apps",
            "apps, q": "/api/v1/apps?q=app-1",
            "environments": "/api/v1/environments",
            "environments, q": "/api/v1/environments?q=7",
            "one environment": f"/api/v1/targets?environment={one['environment']}",
            "apps of one environment": f"/api/v1/apps?environment={one['environment']}",
            "first page of the site": "/",
            "search of everything": "/?q=app-1",
            "page of targets": "/targets",
            "page of targets, q": "/targets?q=app-1",
            "page of one environment": f"/environments/{one['environment']}",
        }
        self.gateway.lag()
        for name, path in paths.items():
            took, spent = [], []
            for _ in range(self._options.requests):
                began, cpu_ms = time.perf_counter(), self.gateway.loop_cpu_ms
                async with self._http.get(self.gateway.url + path) as answer:
                    await answer.read()
                took.append((time.perf_counter() - began) * 1000)
                spent.append(self.gateway.loop_cpu_ms - cpu_ms)
                if answer.status != 200:
                    raise SystemExit(f"{path}: {answer.status}")
            for kind, ms in (("", sorted(took)), (" of processor", sorted(spent))):
                figures[f"{what}: {name}, p50 ms{kind}"] = statistics.median(ms)
                figures[f"{what}: {name}, p99 ms{kind}"] = ms[int(len(ms) * 0.99) - 1]
        figures.hold(what, self.gateway)

    async def without_one(self, figures: Figures, count: int) -> None:
        """Take a cluster out of the configuration, and wait until *count* targets are left."""
        self.gateway.lag()
        cpu = self.gateway.cpu_s
        self.configure(self._options.clusters - 1)
        left = None
        while left != count:
            left = await self.total()
            await asyncio.sleep(0.1)
        await asyncio.sleep(STILL_USED_EVERY_S + 1)  # it is closed then
        figures["a cluster goes: CPU, s"] = self.gateway.cpu_s - cpu
        figures.hold("a cluster goes", self.gateway)

    async def churn(self, figures: Figures, real: RealApi | None, rate: int, seconds: float) -> None:
        """Let pods change, see that memory stays, and compare all that is listed with what there is in the end."""
        gateway, options = self.gateway, self._options
        if real is None:
            assert self.api is not None
            self.api.say(f"churn {rate}")
        else:  # each of its changes is one of each cluster
            await real.churn(rate / options.clusters)
        before, cpu = gateway.memory_mib(), gateway.cpu_s
        gateway.lag()
        began, trips, most, after_a_minute = time.monotonic(), list[float](), before, before
        while (lasts := time.monotonic() - began) < seconds:
            trips.append(await self.trip())
            most = max(most, gateway.memory_mib())
            if lasts < 60:
                after_a_minute = gateway.memory_mib()
            await asyncio.sleep(0.2)
        figures["churn: CPU, % of a core"] = 100 * (gateway.cpu_s - cpu) / (time.monotonic() - began)
        figures.hold("churn", gateway)
        figures["churn: relay p99, ms"] = statistics.median(trips)
        figures["churn: relay p99, worst run, ms"] = max(trips)
        if real is None:
            assert self.api is not None
            self.api.say("churn 0")
        else:
            await real.stop()
        await asyncio.sleep(SETTLES_WITHIN_S)
        figures["churn: memory grows by, MiB"] = gateway.memory_mib() - before
        figures["churn: of that after the first minute, MiB"] = gateway.memory_mib() - after_a_minute
        figures["churn: by at most, MiB"] = most - before
        if real is None:
            assert self.api is not None
            counts = self.api.counts()
            figures["churn: changes"], figures["churn: pods changed"] = counts["changes"], len(counts["changed"])
            there = {f"c{n}": self._there(counts["changed"], n) for n in range(options.clusters)}
        else:
            restarts = await real.restarts()
            figures["churn: changes"] = options.clusters * real.changes
            figures["churn: changes that were refused"] = options.clusters * real.refused
            figures["churn: pods changed"] = options.clusters * sum(map(bool, restarts.values()))
            there = {f"c{n}": restarts for n in range(options.clusters)}
        listed, lost = 0, 0
        for cluster, expected in there.items():
            shown = {place: many for place, many in (await self.restarts(cluster)).items() if place in expected}
            listed += len(shown)
            lost += len(expected) - sum(expected[place] == many for place, many in shown.items())
        figures["churn: pods compared"], figures["churn: pods shown otherwise"] = listed, lost
        if lost:
            raise SystemExit("Changes are lost.")

    def _there(self, changed: Sequence[tuple[str, int, int, int]], cluster: int) -> Mapping[App, int]:
        """Return how often each app of a cluster of scale_api.py was started again."""
        versions = {(m, n): version for name, m, n, version in changed if name == f"c{cluster}"}
        places = ((m, n) for m in range(self._options.namespaces) for n in range(self._options.each))
        named = ((f"scale-c{cluster}-{m:05d}", n, versions.get((m, n), 0)) for m, n in places)
        return {App(namespace, f"{namespace}-app-{n}"): version for namespace, n, version in named}


async def run(options: argparse.Namespace, folder: Path) -> Mapping[str, float]:
    figures = Figures()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        bench = Bench(options, folder, http)
        if not options.kubeconfig:
            bench.start_api(stack)
        bench.start_jvm(stack)
        async with AsyncExitStack() as idle:
            gateway = bench.start_gateway(idle, 0)
            await asyncio.sleep(2)
            figures["idle gateway, MiB"] = gateway.memory_mib()
            trips = [(await bench.trip(), await bench.trip(control=True)) for _ in range(IDLE_TRIPS)]
            for what, times in zip(("relay p99, ms", "control's p99, ms"), zip(*trips, strict=True), strict=True):
                figures[f"idle gateway: {what}"] = statistics.median(times)
        count = options.namespaces * options.each
        if options.only == "bad":
            assert bench.api is not None
            await _misbehave(bench, bench.api, count * options.clusters, figures)
            return figures
        async with AsyncExitStack() as steady:
            gateway = bench.start_gateway(steady, options.clusters)
            await bench.until_listed(count * options.clusters, figures, "list")
            figures["all listed, MiB"] = gateway.memory_mib()
            figures["all listed, peak MiB"] = gateway.memory_mib("VmHWM")
            if options.only == "talk":
                return figures
            if options.only != "churn":
                await bench.requests(figures, "request")
                cpu = gateway.cpu_s
                await asyncio.sleep(10)
                figures["at rest: CPU, % of a core"] = (gateway.cpu_s - cpu) * 10
            real = await stack.enter_async_context(RealApi(options.kubeconfig)) if options.kubeconfig else None
            await bench.churn(figures, real, 200, options.churn_s)
            figures["in the end, MiB"] = gateway.memory_mib()
            if options.clusters > 1:
                left = await bench.total() * (options.clusters - 1) // options.clusters
                await bench.without_one(figures, left)
        if bench.api is not None and options.bad and options.only != "churn":
            await _misbehave(bench, bench.api, count * options.clusters, figures)
    return figures


async def _misbehave(bench: Bench, api: FakeApi, count: int, figures: Figures) -> None:
    """List from an API that refuses a fifth with 429 and drops each watch after 5 s; in the end none can be resumed."""
    async with AsyncExitStack() as stack:
        before, began = api.counts()["requests"], time.monotonic()
        api.say("busy 0.2")
        api.say("drop 5")
        bench.start_gateway(stack, bench._options.clusters)
        await bench.until_listed(count, figures, "429 and drops")
        figures["429 and drops: all listed, MiB"] = bench.gateway.memory_mib()
        listed, minutes = api.counts()["requests"], (time.monotonic() - began) / 60
        asked = sum(listed.values()) - sum(before.values()) - listed.get("refused", 0) + before.get("refused", 0)
        figures["429 and drops: requests of the list"] = asked
        figures["429 and drops: requests per minute and cluster while listing"] = (
            asked / minutes / bench._options.clusters
        )
        figures["429 and drops: of which refused"] = listed["refused"] - before.get("refused", 0)
        await asyncio.sleep(30)
        after = api.counts()["requests"]
        figures["429 and drops: watches per minute and cluster"] = (
            2 * (after["watch"] - listed.get("watch", 0)) / bench._options.clusters
        )
        figures["429 and drops: lists in 30 s"] = after["list"] - listed["list"]
        api.say("busy 0")
        api.say("gone yes")
        await asyncio.sleep(30)
        gone = api.counts()["requests"]
        figures["410 always: lists per minute and cluster"] = (
            2 * (gone["list"] - after["list"]) / bench._options.clusters
        )
        figures.hold("410 always", bench.gateway)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("namespaces", 10_000), ("each", 3), ("clusters", 3), ("requests", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=["churn", "bad", "talk"], help=ONLY)
    parser.add_argument("--churn-s", type=float, default=30)
    parser.add_argument("--no-bad", dest="bad", action="store_false", help="leave out the API that misbehaves")
    parser.add_argument("--kubeconfig")
    parser.add_argument("--json", type=Path, default=BUILD / "scale.json")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        from noah.app import run_until_done

        config, relay, jvm = options.serve
        run_until_done(serve(config, int(relay), int(jvm)))
        return
    build_load()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(run(options, Path(folder)))
    options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
