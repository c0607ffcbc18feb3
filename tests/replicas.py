"""Several real gateways on one PostgreSQL, each at a loopback address of its own, and JVMs of this machine."""

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from noah.store import upgrade
from tests.faults import Link, link
from tests.gateway import Api, Process, Refused
from tests.ports import free_port, free_ports
from tests.postgres import Postgres

PORTS = 60  # for debuggers
ANSWERED_WITHIN_S = 20.0  # by one gateway; then another one is asked
TAKEN_OVER_WITHIN_S = 15.0  # of a killed gateway; the lease has 10 s of it
BUSY = 4.0  # how many times longer a busy machine may take


class Replica(Process):
    """One gateway. Its way to the database is a link of its own, which a test cuts, freezes or slows down."""

    def __init__(
        self, number: int, http: aiohttp.ClientSession, *, folder: Path, to_database: Link, url: str, **more: Any
    ) -> None:
        """*more*: what Process takes."""
        own, tokens = folder / f"gateway-{number}", folder / "tokens.json"
        own.mkdir()
        host, database = f"127.0.0.{number + 2}", url.replace(f":{to_database.to}/", f":{to_database.port}/")
        database += f"?application_name={host}"  # by which the server knows who writes
        super().__init__(own, host=host, database=database, tokens=tokens, **more)
        self.to_database = to_database
        self.disturbed_at = float("-inf")  # by the monotonic clock: when a fault was over from which it recovers
        self.api = Api(http, self.url, self.tokens)

    def __repr__(self) -> str:
        return f"the gateway at {self.host}"


class Replicas:
    def __init__(self, gateways: list[Replica], *, postgres: Postgres, url: str, folder: Path, ports: range) -> None:
        self.gateways = gateways
        self.postgres = postgres
        self.url = url
        self.folder = folder
        self.ports = ports
        self.is_without_database = False
        self._hosts: dict[str, str] = {}  # by IDs of gateways

    async def start(self) -> None:
        await asyncio.gather(*(gateway.start() for gateway in self.gateways))

    def outages(self, gateway: Replica) -> bool:
        return self.is_without_database or not gateway.to_database.is_whole

    def move_to(self, server: Postgres) -> None:
        """Go on with another server, which has what this one had."""
        for gateway in self.gateways:
            gateway.to_database.to = server.port
        self.url = self.url.replace(f":{self.postgres.port}/", f":{server.port}/")
        self.postgres = server

    def sessions(self, columns: str = "id, gateway, fence", where: str = "ended_at IS NULL") -> list[tuple[Any, ...]]:
        return self.postgres.ask(f"SELECT {columns} FROM sessions WHERE {where}", url=self.url)

    async def row(self, session: Mapping[str, Any]) -> tuple[str, int]:
        """The session's gateway and the number of its fence."""
        ((gateway, fence),) = await asyncio.to_thread(self.sessions, "gateway, fence", f"id = '{session['id']}'")
        return gateway, fence

    async def owner_of(self, session: Mapping[str, Any]) -> Replica | None:
        """The gateway that has the session, as its row says."""
        return self.named((await self.row(session))[0])

    async def new_owner_of(self, session: Mapping[str, Any], *, after: Replica) -> Replica:
        async def is_another() -> bool:
            return await self.owner_of(session) not in (None, after)

        await until(is_another, TAKEN_OVER_WITHIN_S * BUSY)
        owner = await self.owner_of(session)
        assert owner is not None
        return owner

    async def shown_alike(self, session: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What each gateway shows of the session, once that is the same end: a busy one may be seconds behind."""
        shown: list[dict[str, Any]] = []

        async def are_alike() -> bool:
            shown[:] = [await gateway.api.show(session) for gateway in self.gateways]
            return len({one["expires_at"] for one in shown}) == 1

        await until(are_alike, what="all gateways show the same end of the session")
        return shown

    def ids_of(self, gateway: Replica) -> set[str]:
        """The IDs that a gateway has had."""
        return set(re.findall(r"this is gateway (g-[0-9a-f]+) by its lease", gateway.log.read_text(errors="replace")))

    def named(self, id: str) -> Replica | None:
        """The gateway that logged that it is *id*."""
        return next((one for one in self.gateways if one.log.exists() and id in self.ids_of(one)), None)

    def host_of(self, id: str | None) -> str | None:
        """The address of the gateway that logged that it is *id*."""
        if id is not None and id not in self._hosts and (gateway := self.named(id)):
            self._hosts[id] = gateway.host
        return self._hosts.get(id or "")

    async def ask(self, method: str, path: str, body: Any = None, *, user: str = "ada") -> Any:
        """Ask as a load balancer does: each gateway in turn until one answers."""
        async with asyncio.timeout(90):
            while True:
                for gateway in self.gateways:
                    with suppress(aiohttp.ClientError, TimeoutError):
                        async with asyncio.timeout(ANSWERED_WITHIN_S):
                            try:
                                return await gateway.api.ask(method, path, body, user=user)
                            except Refused as e:
                                if e.status not in (502, 503, 504):
                                    raise
                await asyncio.sleep(0.3)


class Requests:
    """Requests that go on all the time, and what failed of them."""

    def __init__(self, api: Api) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._api = api

    async def ask_for_ever(self, sessions: list[dict[str, Any]]) -> None:
        ids = {session["id"] for session in sessions}
        while True:
            try:
                items = (await self._api.ask("GET", "sessions?limit=100"))["items"]
                assert ids <= {item["id"] for item in items}
                self.answered += 1
            except Exception as e:  # noqa: BLE001 - whatever it is, it is counted
                self.failed.append(f"{type(e).__name__}: {e}")
            await asyncio.sleep(0.1)


async def until(true: Callable[[], Any], within: float = 60.0, what: str = "") -> None:
    try:
        async with asyncio.timeout(within):
            while not await true():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what or true}") from None


@asynccontextmanager
async def replicas(
    postgres: Postgres,
    url: str,
    folder: Path,
    *,
    count: int = 3,
    config: str = "",
    start: bool = True,
    is_empty: bool = False,
    ports: range | None = None,
) -> AsyncIterator[Replicas]:
    """*count* gateways that serve. Whatever a test did to them, they are gone afterwards.

    *is_empty*: the database stays so, and the test makes its tables.
    """
    (folder / "reports").mkdir(exist_ok=True)
    if not is_empty:
        await asyncio.to_thread(upgrade, url)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=180)))
        if ports is None:
            ports = range(first := free_ports(PORTS), first + PORTS)
        gateways = [
            Replica(
                number,
                http,
                folder=folder,
                to_database=await stack.enter_async_context(link(to=postgres.port)),
                url=url,
                config=config,
                debug_ports=f"{ports[0]}-{ports[-1]}",
                env={"NOAH_REPORTS": str(folder / "reports")},
            )
            for number in range(count)
        ]
        all_of_them = Replicas(gateways, postgres=postgres, url=url, folder=folder, ports=ports)
        try:
            if start:
                await all_of_them.start()
            yield all_of_them
        finally:
            for gateway in gateways:
                if gateway.is_running:
                    await gateway.stop(signal.SIGKILL)


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
