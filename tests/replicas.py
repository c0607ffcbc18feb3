"""Several real gateways on one PostgreSQL, each at a loopback address of its own, and JVMs of this machine."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from noah.store import upgrade
from tests.faults import Link, link
from tests.gateway import COMES_UP_WITHIN, Api, Refused
from tests.ports import free_port, free_ports
from tests.postgres import Postgres

PORTS = 60  # for debuggers
ANSWERED_WITHIN_S = 20.0  # by one gateway; then another one is asked


class Replica:
    """One gateway. Its way to the database is a link of its own, which a test cuts, freezes or slows down."""

    def __init__(self, folder: Path, number: int, *, ports: range, database: Link, url: str, config: str) -> None:
        self.host = f"127.0.0.{number + 2}"
        self.name = f"gateway {number}"
        self.database = database
        self.url = f"http://{self.host}:{(port := free_port())}"
        self.log = folder / f"gateway-{number}.log"
        self.file = folder / f"noah-{number}.toml"
        self.process: asyncio.subprocess.Process | None = None
        self.env = {**os.environ, "NOAH_REPORTS": str(folder / "reports")}
        self.file.write_text(
            f'[gateway]\nlisten = "{self.host}:{port}"\ndebug_ports = "{ports[0]}-{ports[-1]}"\n'
            f'database = "{url}"\n[access]\ntokens = "{folder / "tokens.json"}"\n{config}'
        )

    def __repr__(self) -> str:
        return self.name

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "noah", "serve", "--config", str(self.file), env=self.env, stdout=log, stderr=log
            )

    async def ready(self) -> None:
        """Wait until it serves."""
        assert self.process is not None
        async with asyncio.timeout(COMES_UP_WITHIN), aiohttp.ClientSession() as http:
            while True:
                with suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                assert self.process.returncode is None, self.log.read_text()[-5000:]
                await asyncio.sleep(0.1)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.send(signal.SIGCONT)
        self.send(number)
        return await self.process.wait()


class Replicas:
    def __init__(self, postgres: Postgres, url: str, folder: Path, http: aiohttp.ClientSession, ports: range) -> None:
        self.postgres = postgres
        self.url = url
        self.folder = folder
        self.ports = ports
        self.is_without_database = False
        self.gateways: list[Replica] = []
        self.apis: dict[str, Api] = {}  # by the name of the gateway that is asked
        self._http = http

    def outages(self, gateway: Replica) -> bool:
        return self.is_without_database or not gateway.database.is_whole

    def move_to(self, server: Postgres) -> None:
        """Go on with another server, which has what this one had."""
        self.url = self.url.replace(f":{self.postgres.port}/", f":{server.port}/")
        self.postgres = server

    def add(self, gateway: Replica) -> None:
        self.gateways.append(gateway)
        api = Api(self._http, gateway.url, self.folder / "tokens.json")
        if self.apis:
            api.share_tokens_of(next(iter(self.apis.values())))
        self.apis[gateway.name] = api

    def api(self, gateway: Replica) -> Api:
        return self.apis[gateway.name]

    def sessions(self, columns: str = "id, gateway, fence", where: str = "ended_at IS NULL") -> list[tuple[Any, ...]]:
        return self.postgres.ask(f"SELECT {columns} FROM sessions WHERE {where}", url=self.url)

    async def owner_of(self, session: str) -> Replica:
        """The gateway that runs a session, as soon as one does that lives."""
        async with asyncio.timeout(60):
            while True:
                found = await asyncio.to_thread(
                    self.postgres.ask,
                    "SELECT g.id FROM sessions s JOIN gateways g ON g.id = s.gateway"
                    f" WHERE s.id = '{session}' AND g.lease_until > clock_timestamp()",
                    url=self.url,
                )
                if found and (owner := self.named(str(found[0][0]))):
                    return owner
                await asyncio.sleep(0.1)

    def ids_of(self, gateway: Replica) -> set[str]:
        """The IDs that a gateway has had."""
        return set(re.findall(r"this is gateway (g-[0-9a-f]+) by its lease", gateway.log.read_text(errors="replace")))

    async def owned_by(self, gateway: Replica) -> list[str]:
        ids = self.ids_of(gateway)
        return [id for id, owner, _ in await asyncio.to_thread(self.sessions) if owner in ids]

    def named(self, id: str) -> Replica | None:
        """The gateway that logged that it is *id*."""
        return next((one for one in self.gateways if id in self.ids_of(one)), None)

    async def ask(self, method: str, path: str, body: Any = None, *, user: str = "ada") -> Any:
        """Ask as a load balancer does: each gateway in turn until one answers."""
        async with asyncio.timeout(90):
            while True:
                for gateway in self.gateways:
                    with suppress(aiohttp.ClientError, TimeoutError):
                        async with asyncio.timeout(ANSWERED_WITHIN_S):
                            try:
                                return await self.api(gateway).ask(method, path, body, user=user)
                            except Refused as e:
                                if e.status not in (502, 503, 504):
                                    raise
                await asyncio.sleep(0.3)


@asynccontextmanager
async def replicas(
    postgres: Postgres,
    url: str,
    folder: Path,
    *,
    count: int = 3,
    config: str = "",
    start: bool = True,
    ports: int = PORTS,
) -> AsyncIterator[Replicas]:
    """*count* gateways that serve. Whatever a test did to them, they are gone afterwards."""
    (folder / "reports").mkdir(exist_ok=True)
    await asyncio.to_thread(upgrade, url)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)))
        first_port = free_ports(ports)
        all_of_them = Replicas(postgres, url, folder, http, range(first_port, first_port + ports))
        for number in range(count):
            database = await stack.enter_async_context(link(to=postgres.port))
            seen = url.replace(f":{postgres.port}/", f":{database.port}/")
            all_of_them.add(
                Replica(
                    folder,
                    number,
                    ports=all_of_them.ports,
                    database=database,
                    url=seen,
                    config=config,
                )
            )
        try:
            if start:
                for gateway in all_of_them.gateways:
                    await gateway.start()
                await asyncio.gather(*(gateway.ready() for gateway in all_of_them.gateways))
            yield all_of_them
        finally:
            for gateway in all_of_them.gateways:
                if gateway.runs:
                    await gateway.end(signal.SIGKILL)


@contextmanager
def jvms(folder: Path, *names: str) -> Iterator[dict[str, int]]:
    """A JVM for each name, whose main class has that name; yields the ports of their agents."""
    running, ports = [], {}
    try:
        for name in names:
            source = folder / f"{name}.java"
            source.write_text(
                f"class {name} {{ public static void main(String[] a) throws Exception {{ Thread.sleep(36000000); }} }}"
            )
        subprocess.run(["javac", "-d", folder, *(folder / f"{name}.java" for name in names)], check=True)
        for name in names:
            ports[name] = free_port()
            agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{ports[name]},quiet=y"
            argv = ["java", agent, "-Xshare:auto", "-Xmx32m", "-XX:+UseSerialGC", "-cp", str(folder), name]
            running.append(subprocess.Popen(argv))
        yield ports
    finally:
        for java in running:
            java.kill()
            java.wait()


def as_config(ports: dict[str, int]) -> str:
    return "".join(f'[[local]]\nname = "{name.lower()}"\njdwp_port = {port}\n' for name, port in ports.items())
