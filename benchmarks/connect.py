"""`noah connect` at a distance: jdb's story by the plain port, by the line, and by the line with its accelerator.

    python -m benchmarks.connect [--repeat 5] [--plain 2] [--round-trip 100] [--json build/connect.json]

The gateway's slot, listener and tunnel run in one process, the laptop's lines in another. The network between them is a
relay that holds every byte for half of the round trip. Then, without it: the round trip of a 32-byte command and bulk
against the plain port (load.c is debugger and JVM), and what 200 idle lines cost the gateway.
"""

import argparse
import asyncio
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.relay import BUILD, LOAD, build_load, cpu_seconds, load, resident_kib
from noah.connect.session_line import Gateway, LineStatus, SessionLine
from noah.proxy.listener import Listener
from noah.proxy.slot import Slot
from noah.proxy.tunnel import Tunnel
from noah.web.api.line import carry
from tests.jdb import Jdb
from tests.ports import free_port, free_ports

SHOP = Path(__file__).parents[1] / "tests" / "apps" / "Shop.java"
THREADS = 100
STEPS = 5
LINES = 200
AT_THE_STOP = r"main\[1\] "
IDLE_FOR_S = 20.0
LAN_S = 0.0002  # a round trip on a LAN, which is added to both sides of the comparison


# The two processes


async def serve(http_port: int, first: int, count: int, jvm_port: int) -> None:
    loop = asyncio.get_running_loop()
    tunnels: dict[str, Tunnel] = {}

    async def dial(protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        return (await loop.create_connection(protocol, "127.0.0.1", jvm_port))[0]

    async def line(request: web.Request) -> web.StreamResponse:
        return await carry(request, tunnels[request.match_info["id"]], address="192.0.2.1")

    def clock() -> datetime:
        return datetime.now(UTC)

    async with AsyncExitStack() as stack:
        for port in range(first, first + count):
            slot = Slot(
                session_id=f"s{port}",
                dial=dial,
                allow_exit=False,
                clock=clock,
                changed=lambda: None,
                noticed=lambda kind, data: None,
            )
            listener = Listener(slot, host="127.0.0.1", port=port, admits=lambda _: True)
            await slot.open()
            await listener.open()
            stack.push_async_callback(slot.close, "the benchmark is over")
            stack.callback(listener.close)
            held = timedelta(minutes=1)
            tunnels[f"s{port}"] = Tunnel(
                session_id=f"s{port}",
                admit=slot.admit,
                stands=lambda: False,
                clock=clock,
                changed=lambda: None,
                held_running=held,
                held_suspended=held,
            )
        site = web.Application()
        site.router.add_get("/api/v1/sessions/{id}/line", line)
        runner = web.AppRunner(site, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", http_port).start()
        print("serves", flush=True)
        await _until_ended()


async def laptop(http_port: int, first: int, count: int, local: int, accelerates: bool) -> None:
    """Connect *count* lines to the sessions from *first* on, with the local ports from *local* on."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        gateway = Gateway(http=http, url=f"http://127.0.0.1:{http_port}", headers=dict, proxy=None)
        lines = []
        for n in range(count):
            line = SessionLine(
                {"id": f"s{first + n}", "port": local + n}, gateway, take_over=False, accelerate=accelerates
            )
            await line.open()
            lines.append((line, group.create_task(line.run())))
        while any(line.status is not LineStatus.CONNECTED for line, _ in lines):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        print("connected", lines[0][0].port, flush=True)
        await _until_ended()
        for _, task in lines:
            task.cancel()


async def _until_ended() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


@asynccontextmanager
async def process(*arguments: object, core: str | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    argv = [sys.executable, "-m", "benchmarks.connect", *map(str, arguments)]
    argv = ["taskset", "-c", core, *argv] if core else argv
    child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        yield child
    finally:
        child.terminate()
        await child.communicate()


@asynccontextmanager
async def serving(jvm_port: int, *, count: int = 1, core: str | None = None) -> AsyncIterator[tuple[int, int, int]]:
    """Yield the HTTP port, the first plain port and the process of the gateway's part."""
    http_port, first = free_port(), free_ports(count)
    async with process("serve", http_port, first, count, jvm_port, core=core) as child:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"serves\n"
        yield http_port, first, child.pid


@asynccontextmanager
async def connected(
    http_port: int, first: int, *, count: int = 1, accelerates: bool, core: str | None = None
) -> AsyncIterator[int]:
    """Yield the first local port once the lines are there."""
    async with process("laptop", http_port, first, count, free_ports(count), int(accelerates), core=core) as child:
        assert child.stdout is not None
        word, port = (await child.stdout.readline()).split()
        assert word == b"connected"
        yield int(port)


# The network


class Delay(asyncio.Protocol):
    """One end of a connection that holds every byte for a while."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.other: Delay
        self.transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting.append(data)
        asyncio.get_running_loop().call_later(self.delay_s, self._pass_on)

    def _pass_on(self) -> None:
        data = self._waiting.popleft()
        if self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other.transport is not None:
            asyncio.get_running_loop().call_later(self.delay_s, self.other.transport.close)


@asynccontextmanager
async def far_away(port: int, round_trip_s: float) -> AsyncIterator[int]:
    """Yield a port from which *port* is as far away as that."""
    loop = asyncio.get_running_loop()
    connecting: set[asyncio.Task[object]] = set()

    class Near(Delay):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.other = Delay(round_trip_s / 2)
            self.other.other = self
            # A TCP connection takes a round trip.
            task = loop.create_task(loop.create_connection(lambda: self.other, "127.0.0.1", port))
            connecting.add(task)
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            task.add_done_callback(lambda _: loop.call_later(round_trip_s, transport.resume_reading))

    server = await loop.create_server(lambda: Near(round_trip_s / 2), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


# The story


async def story(port: int) -> dict[str, float]:
    """Return the seconds until jdb is attached, and from the stop to the last of the steps."""
    began = time.perf_counter()
    child = await asyncio.create_subprocess_exec(
        "jdb", "-attach", f"127.0.0.1:{port}",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    jdb = Patient(child)
    try:
        await jdb.said(r"Initializing jdb \.\.\.\s+> ")
        attached = time.perf_counter() - began
        await jdb.ask("stop in Shop$OrderService.price", until=AT_THE_STOP)
        stopped = time.perf_counter()
        await jdb.ask("threads", until=AT_THE_STOP)
        await jdb.ask("where all", until=AT_THE_STOP)
        await jdb.ask("locals", until=AT_THE_STOP)
        for _ in range(STEPS):
            await jdb.ask("next", until=AT_THE_STOP)
        finished = time.perf_counter() - stopped
        await jdb.ask("clear Shop$OrderService.price", until=AT_THE_STOP)
        await jdb.quit()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return {"attach": attached, "stop to last step": finished}


class Patient(Jdb):
    async def said(self, until: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(300):
            while (found := re.search(until, self._said)) is None:
                piece = await self.process.stdout.read(65536)
                assert piece, f"jdb ended before {until!r}: {self._said!r}"
                self._said += piece.decode()
        said, self._said = self._said[: found.end()], self._said[found.end() :]
        return said


@contextmanager
def shop(folder: Path) -> Iterator[int]:
    port = free_port()
    subprocess.run(["javac", "-g", "-d", folder, SHOP], check=True)
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{port}"
    child = subprocess.Popen(["java", agent, "-cp", folder, "Shop", str(THREADS)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        yield port
    finally:
        child.kill()
        child.communicate()


async def stories(repeat: int, plain: int, round_trip_s: float) -> dict[str, dict[str, list[float]]]:
    seen: dict[str, dict[str, list[float]]] = {}

    async def tell(name: str, port: int) -> None:
        for what, seconds in (await story(port)).items():
            seen.setdefault(name, {}).setdefault(what, []).append(seconds)
            print(f"{name}, {what}: {seconds:.2f} s", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder, shop(Path(folder)) as jvm:
        async with (
            serving(jvm) as (http_port, first, _),
            far_away(first, round_trip_s) as far_port,
            far_away(http_port, round_trip_s) as far_http,
        ):
            for _ in range(repeat):
                await tell("plain port, without delay", first)
                async with connected(far_http, first, accelerates=True) as port:
                    await tell("line, accelerated", port)
            for _ in range(plain):
                await tell("plain port", far_port)
                async with connected(far_http, first, accelerates=False) as port:
                    await tell("line", port)
    return seen


async def on_lan(rounds: int) -> dict[str, float]:
    """Return medians of the line beside the plain port, without delay; debugger and JVM are load.c's."""
    seen: dict[str, list[float]] = {}
    jvm_port = free_port()
    jvm = await asyncio.create_subprocess_exec(str(LOAD), "serve", str(jvm_port))
    try:
        async with serving(jvm_port) as (http_port, first, _):
            for accelerates, name in ((False, "line"), (True, "line, accelerated")):
                async with connected(http_port, first, accelerates=accelerates) as port:
                    for _ in range(rounds):
                        for way, at in (("plain port", first), (name, port)):
                            trip, _ = await asyncio.to_thread(load, "trip", at, 5000)
                            (bulk,) = await asyncio.to_thread(load, "bulk", at, 512, 256 << 10)
                            seen.setdefault(f"{way}: round trip, µs", []).append(trip)
                            seen.setdefault(f"{way}: bulk, MiB/s", []).append(bulk)
    finally:
        jvm.terminate()
        await jvm.wait()
    return {name: statistics.median(values) for name, values in seen.items()}


async def idle() -> dict[str, float]:
    """Return what idle lines cost the gateway."""
    async with serving(free_port(), count=LINES) as (http_port, first, pid):
        before = resident_kib(pid)
        async with connected(http_port, first, count=LINES, accelerates=False):
            after, began = resident_kib(pid), cpu_seconds(pid)
            await asyncio.sleep(IDLE_FOR_S)
            spent = cpu_seconds(pid) - began
    return {"KiB per idle line": (after - before) / LINES, f"CPU of {LINES} idle lines, %": 100 * spent / IDLE_FOR_S}


async def measure(arguments: argparse.Namespace) -> dict[str, object]:
    lan = await on_lan(arguments.repeat)
    for way in ("line", "line, accelerated"):
        trip, plain = (lan[f"{one}: round trip, µs"] for one in (way, "plain port"))
        lan[f"{way}: round trip with {LAN_S * 1e6:.0f} µs of network, × plain"] = (trip + LAN_S * 1e6) / (
            plain + LAN_S * 1e6
        )
        lan[f"{way}: bulk, × plain"] = lan[f"{way}: bulk, MiB/s"] / lan["plain port: bulk, MiB/s"]
    idles = await idle()
    measured = await stories(arguments.repeat, arguments.plain, arguments.round_trip / 1000)
    medians = {
        name: {what: statistics.median(all_) for what, all_ in whats.items()} for name, whats in measured.items()
    }
    return {"lan": lan, "idle": idles, "medians": medians, "all": measured}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--plain", type=int, default=1, help="how often without the accelerator: 1.5 minutes each")
    parser.add_argument("--round-trip", type=float, default=100.0, help="milliseconds")
    parser.add_argument("--json", type=Path, default=BUILD / "connect.json")
    match sys.argv[1:]:
        case ["serve", *ports]:
            http_port, first, count, jvm_port = map(int, ports)
            run(serve(http_port, first, count, jvm_port))
            return
        case ["laptop", *rest]:
            http_port, first, count, local, accelerates = map(int, rest)
            asyncio.run(laptop(http_port, first, count, local, bool(accelerates)))  # as `noah connect` does
            return
    arguments = parser.parse_args()
    if missing := [tool for tool in ("cc", "java", "javac", "jdb", "taskset") if not shutil.which(tool)]:
        raise SystemExit(f"{', '.join(missing)}: not installed")
    build_load()
    found = asyncio.run(measure(arguments))
    for part in ("lan", "idle", "medians"):
        print(json.dumps(found[part], indent=2, ensure_ascii=False))
    arguments.json.write_text(json.dumps(found, indent=2, ensure_ascii=False))


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on the loop that the gateway has, where that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)


if __name__ == "__main__":
    main()
