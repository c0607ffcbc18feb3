"""Several gateways: how long a session is without one after a kill -9, and what three cost against one.

    python -m benchmarks.replicas [--takeovers 50] [--jvms 8] [--sessions 300] [--measured-s 20] [--only takeover|cost]

Takeover: sessions on JVMs of this machine. The gateway that has most of them is killed, and a debugger that comes at
that moment to each session's port at another gateway waits for the JVM's handshake.

Cost: sessions on apps of a host that does not answer, so that what is measured is what gateways do to agree, and a look
at each app now and then, which fails at once. What they do in pods is not in it. It takes about 9 minutes in all.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh

from benchmarks.relay import BUILD
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.lease import GRACE_S
from noah.core.session.target import HostTarget
from noah.store import Store
from tests.ports import free_port, free_ports
from tests.postgres import Postgres, new_folder
from tests.principals import person
from tests.replicas import Replica, Replicas, as_config, jvms, replicas, until

SETTLED_WITHIN_S = 300.0
SETTLES_S = 35.0  # until what starting has cost is over; the audit of a new session is kept within 30 s
TAKEOVERS_WITHIN_S = 600.0


@contextmanager
def server() -> Iterator[Postgres]:
    """A PostgreSQL that counts statements."""
    folder = new_folder()
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin/initdb")).parent
    postgres = Postgres(binaries, folder, shared_preload_libraries="pg_stat_statements", autovacuum="on")
    try:
        postgres.create()
        postgres.start()
        postgres.execute("CREATE EXTENSION pg_stat_statements")
        yield postgres
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


# -- takeover


async def takeovers(
    postgres: Postgres, folder: Path, names: list[str], ports: dict[str, int], count: int
) -> list[float]:
    """Return for how long each of *count* sessions did not answer, in seconds."""
    took: list[float] = []
    access = f"sessions_per_person = {len(names)}\n"
    postgres.execute("CREATE DATABASE takeover")
    async with replicas(
        postgres, postgres.url("takeover"), folder, config=as_config(ports) + f"[access]\n{access}"
    ) as three:
        sessions = {}
        for number, name in enumerate(names):
            session = await three.gateways[number % 3].api.ready(f"local/{name.lower()}")
            sessions[session["id"]] = session["port"]
        async with asyncio.timeout(TAKEOVERS_WITHIN_S):
            while len(took) < count:
                # Who comes back declares nobody dead before that; and each session has a gateway and a JVM again.
                await asyncio.sleep(GRACE_S)
                for port in sessions.values():
                    await answer(three.gateways[0].host, port)
                owners = await asyncio.to_thread(owners_of, three)
                killed, _ = Counter(owners.values()).most_common(1)[0]
                others = [one for one in three.gateways if one is not killed]
                began = time.monotonic()
                await killed.stop(signal.SIGKILL)
                waits = [
                    asyncio.wait_for(answer(others[number % 2].host, sessions[id]), SETTLED_WITHIN_S)
                    for number, id in enumerate(id for id, owner in owners.items() if owner is killed)
                ]
                answered = [at - began for at in await asyncio.gather(*waits)]
                print(f"killed {killed}: {', '.join(f'{seconds:.1f}' for seconds in sorted(answered))} s", flush=True)
                took += answered
                await killed.start()
    return took[:count]


def owners_of(gateways: Replicas) -> dict[str, Replica]:
    found = ((id, gateways.named(gateway)) for id, gateway, _ in gateways.sessions())
    return {id: owner for id, owner in found if owner is not None}


async def answer(host: str, port: int) -> float:
    """Attach until the JVM answers, and detach; return when it answered, by the monotonic clock."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(HANDSHAKE)
                if await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE:
                    return time.monotonic()
            finally:
                writer.close()
        await asyncio.sleep(0.05)


# -- cost


def config(folder: Path, count: int) -> str:
    """A host that does not answer, with an app for each session."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "key")
    host = (
        f'[[hosts]]\nname = "kvm"\naddress = "127.0.0.1"\nport = {free_port()}\nuser = "root"\n'
        f'key = "{folder / "key"}"\nhost_key = "{key.export_public_key().decode().strip()}"\n'
    )
    return host + "".join(f'[[hosts.apps]]\nname = "app-{n}"\n' for n in range(count))


async def add(gateways: Replicas, count: int) -> None:
    """Add sessions as a gateway that has died leaves them; wait until others have taken them over."""
    store = Store.open(gateways.url)
    try:
        for number in range(count):
            await store.sessions.add(
                id=f"s-{number}",
                target=HostTarget("kvm", f"app-{number}"),
                workload=None,
                app=f"app-{number}",
                environment="",
                owner=person("ada"),
                length=timedelta(hours=2),
                allow=("127.0.0.1/32",),
                allow_exit=False,
                pause_budget=None,
                ports=gateways.ports,
                gateway="g-gone",
            )
    finally:
        await store.close()

    async def have_gateways() -> bool:
        return len(await asyncio.to_thread(owners_of, gateways)) == count

    await until(have_gateways, SETTLED_WITHIN_S)


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time of these processes, and of children of theirs that have ended."""
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError):  # it has ended, and is counted by its parent
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


async def cost(
    postgres: Postgres, folder: Path, *, gateways: int, sessions: int, ports: range, measured_s: float
) -> dict[str, Any]:
    """Return what these cost a second, at rest or with sessions."""
    postgres.execute("DROP DATABASE IF EXISTS cost", "CREATE DATABASE cost")
    settings = config(folder, max(sessions, 1))
    async with replicas(postgres, postgres.url("cost"), folder, count=gateways, config=settings, ports=ports) as all_:
        await add(all_, sessions)
        await asyncio.sleep(SETTLES_S)
        of_gateways = [one.process.pid for one in all_.gateways if one.process is not None]
        postgres.execute("SELECT pg_stat_statements_reset()")
        began, before = time.monotonic(), (cpu_s(of_gateways), cpu_s(postgres.family))
        await asyncio.sleep(measured_s)
        seconds = time.monotonic() - began
        used = [
            after - earlier for after, earlier in zip((cpu_s(of_gateways), cpu_s(postgres.family)), before, strict=True)
        ]
        ((calls,),) = postgres.ask(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid"
            " WHERE d.datname = 'cost' AND query NOT IN ('BEGIN', 'COMMIT', 'ROLLBACK')"
        )
        most = postgres.ask(
            "SELECT calls, left(regexp_replace(query, '\\s+', ' ', 'g'), 100) FROM pg_stat_statements s"
            " JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = 'cost' ORDER BY calls DESC LIMIT 8"
        )
    for number, query in most:
        print(f"    {number / seconds:6.1f}/s {query}")
    return {
        "gateways": gateways,
        "sessions": sessions,
        "statements/s": float(calls) / seconds,
        "gateways, % of a core": 100 * used[0] / seconds,
        "PostgreSQL, % of a core": 100 * used[1] / seconds,
    }


# -- both


def measure(options: argparse.Namespace) -> dict[str, Any]:
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "cost": []}
    print(f"load of the machine: {figures['load']:.1f} on {os.cpu_count()} cores")
    with server() as postgres:
        if options.only != "cost":
            names = [f"Takeover{number}" for number in range(options.jvms)]
            with tempfile.TemporaryDirectory(prefix="noah-replicas-") as folder, jvms(Path(folder), *names) as agents:
                took = asyncio.run(takeovers(postgres, Path(folder), names, agents, options.takeovers))
            figures["takeover"] = {"p50": statistics.median(took), "max": max(took), "of": len(took)}
            print(
                f"from kill -9 to the answer, of {len(took)}: p50 {statistics.median(took):.1f}, max {max(took):.1f} s"
            )
        if options.only != "takeover":
            first = free_ports(options.sessions)
            ports = range(first, first + options.sessions)
            for sessions in (0, options.sessions):
                for gateways in (1, 3):
                    with tempfile.TemporaryDirectory(prefix="noah-replicas-") as folder:
                        measuring = cost(
                            postgres,
                            Path(folder),
                            gateways=gateways,
                            sessions=sessions,
                            ports=ports,
                            measured_s=options.measured_s,
                        )
                        found = asyncio.run(measuring)
                    figures["cost"].append(found)
                    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()), flush=True)
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("takeovers", 50), ("jvms", 8), ("sessions", 300)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--measured-s", type=float, default=20)
    parser.add_argument("--only", choices=["takeover", "cost"])
    figures = measure(parser.parse_args())
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench-replicas.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
