"""Several gateways with very many sessions on one PostgreSQL: what grows with what.

    python -m benchmarks.simulate run --gateways 3 --sessions 5000
    python -m benchmarks.simulate model

The gateways are real. The API server is scale_api.py, in a process of its own: 100 clusters, one pod for each session
and, in each, a forwarder that is held and answers words. `run` measures one point and adds it to build/simulate.json:
taking over sessions that no gateway has, rest, debuggers that are attached, changes of sessions, the end of one gateway
by kill -9, and its start. It takes two to three minutes. `model` fits what grows with what to all points there are, and
prints it beside them and for sizes that no machine here can hold.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import insert

from benchmarks.relay import BUILD, running
from benchmarks.replicas import cpu_s, server
from benchmarks.scale import FakeApi, MeasuredGateway
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.session.session import Session
from noah.core.session.target import PodTarget
from noah.store import upgrade
from noah.store.database import Database
from noah.store.tables import row_of, sessions
from tests.ports import free_port
from tests.postgres import Postgres
from tests.principals import person

CLUSTERS = 100
FIRST_PORT = 33_000  # for debuggers: those below are other programs' here, and each gateway has an address of its own
PAGES = (
    "/api/v1/sessions?limit=100", "/api/v1/sessions?status=ready", "/api/v1/targets?limit=100", "/api/v1/apps",
    "/api/v1/environments", "/", "/targets", "/sessions", "/metrics",
)  # fmt: skip
ASKED = 20  # times, each of them
WITHIN_S = 90.0  # whatever is waited for
ATTACHED_SETTLES_S = 10.0  # of those who attached; what a takeover has cost is over after 35 s, with its first audits
AT_ONCE = 8  # clients that change sessions
POINTS = BUILD / "simulate.json"


class Fleet:
    """Gateways on one database, and an API server that is every cluster."""

    def __init__(self, folder: Path, postgres: Postgres, api: FakeApi, http: aiohttp.ClientSession, count: int) -> None:
        self.gateways: dict[str, MeasuredGateway] = {}  # by their addresses
        self.api, self._folder, self._http, self._postgres = api, folder, http, postgres
        self._url = postgres.url("simulated")
        self._sessions = count
        self._forgotten = ""

    async def start(self, host: str) -> float:
        """Start the gateway of that address; return after how many seconds it serves."""
        config = self._folder / f"{host}.toml"
        clusters = (
            f'[[clusters]]\nname = "c{n}"\nurl = "http://127.0.0.1:{self.api.port}/c{n}"\nreach = "api-server"\n'
            for n in range(CLUSTERS)
        )
        last = FIRST_PORT + self._sessions + 10
        config.write_text(
            f'[gateway]\nlisten = "{host}:{free_port()}"\ndatabase = "{self._url}"\n'
            f'debug_ports = "{FIRST_PORT}-{last}"\n' + "".join(clusters)
        )
        argv = [sys.executable, "-m", "benchmarks.scale", "--serve", str(config), str(free_port()), "1"]
        began = time.monotonic()
        self.gateways[host] = await asyncio.to_thread(_started, argv, self._folder / f"{host}.log")
        return time.monotonic() - began

    async def kill(self, host: str) -> None:
        gateway = self.gateways.pop(host)
        gateway.process.kill()
        await asyncio.to_thread(gateway.process.wait)

    def forget(self, host: str) -> None:
        """Count sessions of that gateway as those of none, though its lease lasts."""
        self._forgotten = host

    async def ask(self, host: str, method: str, path: str, body: Any = None) -> Any:
        url, headers = f"{self.gateways[host].url}/api/v1/{path}", {"Connection": "close"}
        async with self._http.request(method, url, json=body, headers=headers) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def have_listed(self) -> bool:
        totals = [int((await self.ask(host, "GET", "targets?limit=1"))["total"]) for host in self.gateways]
        return min(totals) >= self._sessions

    async def have_owners(self) -> bool:
        """True if each session has a gateway that is there."""
        return await asyncio.to_thread(self._without_gateway) == 0

    def _without_gateway(self) -> int:
        ((count,),) = self._postgres.ask(
            "SELECT count(*) FROM sessions s WHERE ended_at IS NULL"
            f" AND NOT EXISTS (SELECT FROM gateways g WHERE g.id = s.gateway AND g.peer_host != '{self._forgotten}')",
            url=self._url,
        )
        return int(count)

    async def are_held(self) -> bool:
        """True if each session's forwarder is held, so that a debugger can come."""
        return int(self.api.counts()["held"]) == self._sessions

    def owned(self) -> Mapping[str, Sequence[tuple[str, int]]]:
        """Return the sessions and their ports by their gateways' addresses."""
        found: dict[str, list[tuple[str, int]]] = {host: [] for host in self.gateways}
        rows = self._postgres.ask(
            "SELECT g.peer_host, s.id, s.port FROM sessions s JOIN gateways g ON g.id = s.gateway"
            " WHERE s.ended_at IS NULL",
            url=self._url,
        )
        for host, id, port in rows:
            found[host].append((id, port))
        return found

    async def add(self) -> None:
        """Add sessions as a gateway that has died leaves them."""
        now, database = datetime.now(UTC), Database(self._url)
        try:
            async with database.writing() as connection:
                rows = [
                    {**row_of(_session(number, now)), "gateway": "g-gone", "fence": 1, "version": 1}
                    for number in range(self._sessions)
                ]
                if rows:
                    await connection.execute(insert(sessions), rows)
        finally:
            await database.close()

    async def cost(self, seconds: float) -> dict[str, float]:
        """Return what all of it takes a second, and the most that each gateway's event loop was held."""
        pids = [one.process.pid for one in self.gateways.values()]
        for gateway in self.gateways.values():
            gateway.lag()
        self._postgres.execute("SELECT pg_stat_statements_reset()")
        requests = self.api.counts()["requests"]
        began, before = time.monotonic(), (cpu_s(pids), cpu_s(self._postgres.family))
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        after = cpu_s(pids), cpu_s(self._postgres.family)
        asked = self.api.counts()["requests"]
        ((calls,),) = self._postgres.ask(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
            " WHERE d.datname = 'simulated' AND query NOT IN ('BEGIN', 'COMMIT', 'ROLLBACK')"
        )
        ((connections,),) = self._postgres.ask("SELECT count(*) FROM pg_stat_activity WHERE datname = 'simulated'")
        lags = [one.lag() for one in self.gateways.values()]
        return {
            "% of a core, each": 100 * (after[0] - before[0]) / took / len(pids),
            "% of a core, PostgreSQL": 100 * (after[1] - before[1]) / took,
            "statements/s": float(calls) / took,
            "connections": float(connections),
            "requests/s": (sum(asked.values()) - sum(requests.values())) / took,
            "MiB, each": sum(one.memory_mib() for one in self.gateways.values()) / len(pids),
            "loop held, ms": max(busiest for _, _, busiest, _ in lags),
        }

    async def pages(self) -> dict[str, float]:
        """Return how many ms of processor time a request takes that shows some of very many sessions: the median."""
        gateway, found = next(iter(self.gateways.values())), dict[str, float]()
        for path in PAGES:
            spent = []
            for _ in range(ASKED):
                before = gateway.loop_cpu_ms
                async with self._http.get(gateway.url + path) as answer:
                    await answer.read()
                    answer.raise_for_status()
                spent.append(gateway.loop_cpu_ms - before)
            found[path] = statistics.median(spent)
        return found

    def holds(self, what: str) -> float:
        """Return the most processor time at once since this was asked last; print what took more than 15 ms."""
        most = 0.0
        for host, gateway in self.gateways.items():
            _, _, busiest, stacks = gateway.lag()
            most = max(most, busiest)
            for stack, times in stacks[:2]:
                print(f"    {what}: {host} held {times} times by {stack}", flush=True)
        return most


def _started(argv: Sequence[str], log: Path) -> MeasuredGateway:
    with log.open("a") as file:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True)
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise SystemExit(log.read_text())
    return MeasuredGateway(process, json.loads(line))


def _session(number: int, now: datetime) -> Session:
    cluster, place = f"c{number % CLUSTERS}", number // CLUSTERS
    app = f"scale-{cluster}-{place:05d}-app-0"
    return Session(
        id=f"s-{number:08x}",
        target=PodTarget(cluster, f"scale-{cluster}-{place:05d}", f"{app}-7d9c5b8f6-x", "app"),
        workload=None,
        app=app,
        environment=f"scale-{cluster}-{place:05d}",
        owner=person(f"person-{number // 2}"),
        port=FIRST_PORT + number,
        created_at=now,
        expires_at=now + timedelta(hours=2),
        allow=("127.0.0.0/8",),
        allow_exit=False,
        may_restart=False,
        pause_budget=None,
    )


async def took(what: str, true: Callable[[], Awaitable[bool]], began: float) -> float:
    """Return after how many seconds it is true."""
    async with asyncio.timeout(WITHIN_S):
        while not await true():  # noqa: ASYNC110 - what is asked for is in other processes
            await asyncio.sleep(0.1)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)
    return time.monotonic() - began


@asynccontextmanager
async def attached(fleet: Fleet, count: int) -> AsyncIterator[None]:
    """Have *count* debuggers attached, each at the gateway of its session."""
    owned = fleet.owned()
    places = [(host, port) for host, some in owned.items() for _, port in some[: -(-count // len(owned))]][:count]
    writers: list[asyncio.StreamWriter] = []
    try:
        for host, port in places:
            async with asyncio.timeout(WITHIN_S):
                reader, writer = await asyncio.open_connection(host, port)
                writers.append(writer)
                writer.write(HANDSHAKE)
                await reader.readexactly(len(HANDSHAKE))
        yield
    finally:
        for writer in writers:
            writer.close()


async def changes(fleet: Fleet, seconds: float) -> dict[str, float]:
    """Extend sessions, as fast as a few clients can, at all gateways; return how many a second, and their cost."""
    ids = [(host, id) for host, some in fleet.owned().items() for id, _ in some]
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        hosts = list(fleet.gateways)
        while True:
            _, id = ids[(number + done * AT_ONCE) % len(ids)]
            await fleet.ask(hosts[done % len(hosts)], "POST", f"sessions/{id}/extend", {"for": "3h"})
            done += 1

    async with asyncio.TaskGroup() as group:
        clients = [group.create_task(client(number)) for number in range(AT_ONCE)]
        figures = await fleet.cost(seconds)
        rate = done / seconds
        for one in clients:
            one.cancel()
    return {"changes/s": rate, **figures}


async def run(options: argparse.Namespace) -> None:
    """Measure one point, and add it to those that there are."""
    count, hosts = options.sessions, [f"127.0.0.{n + 2}" for n in range(options.gateways)]
    point: dict[str, Any] = {"gateways": options.gateways, "sessions": count, "load": os.getloadavg()[0]}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="noah-simulate-")))
        postgres = stack.enter_context(server())
        postgres.execute("CREATE DATABASE simulated")
        await asyncio.to_thread(upgrade, postgres.url("simulated"))
        port, namespaces = free_port(), max(1, -(-count // CLUSTERS))
        argv = [sys.executable, "-m", "benchmarks.scale_api", str(port), str(namespaces), "1"]
        process = stack.enter_context(running(argv, stdin=subprocess.PIPE))
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WITHIN_S)))
        fleet = Fleet(folder, postgres, FakeApi(process, port), http, count)
        try:
            await measure(fleet, hosts, options, point)
        finally:
            for host in list(fleet.gateways):
                await fleet.kill(host)
            if "rest" in point:  # also of one that was cut short
                points = json.loads(POINTS.read_text()) if POINTS.exists() else []
                POINTS.write_text(json.dumps([*points, point], indent=2))


async def measure(fleet: Fleet, hosts: Sequence[str], options: argparse.Namespace, point: dict[str, Any]) -> None:
    for host in hosts:
        await fleet.start(host)
    began = time.monotonic()
    await took("all pods are listed", fleet.have_listed, began)
    fleet.holds("listing")
    began = time.monotonic()
    await fleet.add()
    if options.sessions:
        point["taken over, s"] = await took("all sessions have a gateway", fleet.have_owners, began)
        point["held, s"] = await took("all forwarders are held", fleet.are_held, began)
        point["taking over: loop held, ms"] = fleet.holds("taking over")
    await asyncio.sleep(options.settles_s)
    fleet.holds("settling")
    point["rest"] = await fleet.cost(options.measured_s)
    fleet.holds("at rest")
    print(point["rest"], flush=True)
    if not options.sessions:
        return
    point["pages, ms of processor time"] = await fleet.pages()
    fleet.holds("pages")
    async with attached(fleet, options.attached):
        await asyncio.sleep(min(options.settles_s, ATTACHED_SETTLES_S))
        fleet.holds("attaching")
        point["attached"] = {"debuggers": options.attached, **await fleet.cost(options.measured_s)}
        print(point["attached"], flush=True)
    point["changes"] = await changes(fleet, options.measured_s)
    fleet.holds("changes")
    print(point["changes"], flush=True)
    if options.gateways > 1:
        killed, began = hosts[-1], time.monotonic()
        lost = len(fleet.owned()[killed])
        await fleet.kill(killed)
        fleet.forget(killed)
        point["killed"] = {
            "sessions": lost,
            "s": await took(f"{lost} sessions have another gateway", fleet.have_owners, began),
            "held, s": await took("all forwarders are held again", fleet.are_held, began),
            "loop held, ms": fleet.holds("after the kill"),
        }
        point["start, s"] = await fleet.start(killed)
        print(f"a gateway starts beside {options.sessions} sessions: {point['start, s']:.1f} s", flush=True)


# -- the model

# What a gateway costs by what it has and sees; for figures of all gateways, their sum.
SIZES = ((1, 5000), (2, 5000), (3, 5000), (5, 5000), (10, 5000), (5, 10_000))  # gateways, sessions
FIGURES = ("% of a core, each", "MiB, each", "statements/s", "% of a core, PostgreSQL")
OF_ALL = frozenset(FIGURES[2:])  # of the database, to which a debugger that is attached is nothing


def grows_with(gateways: int, count: int, debuggers: int) -> Sequence[float]:
    """Return what a gateway's figures are taken to be a sum of, each times something that is fitted."""
    own = count / gateways
    return 1.0, own, count - own, debuggers / gateways


TERMS = ("a gateway", "a session of its own", "a session of another one", "a debugger of its own")


def model(points: Sequence[Mapping[str, Any]]) -> None:
    measured = [
        (point, point[kind], grows_with(point["gateways"], point["sessions"], point[kind].get("debuggers", 0)))
        for point in points
        for kind in ("rest", "attached")
        if kind in point
    ]
    fitted: dict[str, Sequence[float]] = {}
    for figure in FIGURES:
        values = [of[figure] / (point["gateways"] if figure in OF_ALL else 1) for point, of, _ in measured]
        used = len(TERMS) - (figure in OF_ALL)
        fitted[figure] = least_squares([terms[:used] for _, _, terms in measured], values)
        print(f"{figure}: " + ", ".join(f"{c:.5f} for {t}" for c, t in zip(fitted[figure], TERMS, strict=False)))
    print(f"\n{'gateways':>8} {'sessions':>8} {'debuggers':>9}  " + "  ".join(f"{one:>24}" for one in FIGURES))

    def line(gateways: int, count: int, debuggers: int, of: Mapping[str, float] | None) -> None:
        terms, cells = grows_with(gateways, count, debuggers), []
        for figure in FIGURES:
            value = sum(c * t for c, t in zip(fitted[figure], terms, strict=False))
            value *= gateways if figure in OF_ALL else 1
            cells.append(f"{value:11.1f} by model" if of is None else f"{value:8.1f} of {of[figure]:8.1f} seen")
        print(f"{gateways:8} {count:8} {debuggers:9}  " + "  ".join(f"{cell:>24}" for cell in cells))

    for point, of, _ in measured:
        line(point["gateways"], point["sessions"], int(of.get("debuggers", 0)), of)
    for gateways, count in SIZES:
        for debuggers in (0, count):
            line(gateways, count, debuggers, None)


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Return by what to multiply the terms of each row, for their sums to be nearest to *values*."""
    size = len(rows[0])
    system = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)]
        + [sum(row[i] * value for row, value in zip(rows, values, strict=True))]
        for i in range(size)
    ]
    for i in range(size):
        pivot = max(range(i, size), key=lambda n: abs(system[n][i]))
        if abs(system[pivot][i]) < 1e-9:
            raise SystemExit("There are too few points: measure more numbers of gateways and sessions.")
        system[i], system[pivot] = system[pivot], system[i]
        for n in range(size):
            if n != i:
                factor = system[n][i] / system[i][i]
                system[n] = [a - factor * b for a, b in zip(system[n], system[i], strict=True)]
    return [system[i][size] / system[i][i] for i in range(size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measured = commands.add_parser("run")
    for name, default in (("gateways", 3), ("sessions", 5000), ("attached", 200)):
        measured.add_argument(f"--{name}", type=int, default=default)
    for name, seconds in (("settles-s", 35.0), ("measured-s", 15.0)):
        measured.add_argument(f"--{name}", type=float, default=seconds)
    commands.add_parser("model")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    BUILD.mkdir(exist_ok=True)
    if options.command == "run":
        asyncio.run(run(options))
    model(json.loads(POINTS.read_text()))


if __name__ == "__main__":
    main()
