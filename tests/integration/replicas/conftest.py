"""Three real gateways on one PostgreSQL, each with an address of loopback and the same debug ports, and a JVM."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from sqlalchemy.engine import make_url

from noah.demo.sample_app import compile_sample
from tests.faults import Link
from tests.gateway import Api, Process
from tests.ports import some_ports
from tests.sample_process import App

TAKEN_OVER_WITHIN_S = 15.0  # of a killed gateway; the lease has 10 s of it
BUSY = 4.0  # how many times longer a busy machine may take


class Replica:
    def __init__(self, process: Process, http: aiohttp.ClientSession, to_database: Link) -> None:
        self.process = process
        self.to_database = to_database
        self.host = process.host
        self.api = Api(http, process.url, process.tokens)

    def send(self, number: signal.Signals) -> None:
        assert self.process.process is not None
        self.process.process.send_signal(number)

    async def kill(self) -> None:
        await self.process.stop(signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        return self.process.process is not None and self.process.process.returncode is None

    @property
    def log(self) -> str:
        return self.process.log.read_text()


class Replicas:
    """*all*: the three of them; a test that ends one starts it again."""

    def __init__(self, all_: list[Replica], url: str, app: App) -> None:
        self.all = all_
        self.url = url
        self.app = app

    async def row(self, session: Any) -> tuple[str, int]:
        """The session's gateway and the number of its fence."""
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            found = await connection.execute("SELECT gateway, fence FROM sessions WHERE id = %s", [session["id"]])
            row = await found.fetchone()
        assert row is not None
        return str(row[0]), int(row[1])

    async def owner_of(self, session: Any) -> Replica | None:
        """The gateway that has the session, as its row says."""
        gateway, _ = await self.row(session)
        return next((one for one in self.all if f"this is gateway {gateway} " in one.log), None)

    async def new_owner_of(self, session: Any, *, after: Replica) -> Replica:
        async def is_another() -> bool:
            return await self.owner_of(session) not in (None, after)

        await until(is_another, TAKEN_OVER_WITHIN_S * BUSY)
        owner = await self.owner_of(session)
        assert owner is not None
        return owner


async def until(true: Callable[[], Any], within: float = 60.0, what: str = "") -> None:
    try:
        async with asyncio.timeout(within):
            while not await true():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what or true}") from None


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    return asyncio.run(compile_sample(folder))


@pytest.fixture
async def three(tmp_path: Path, postgres_url: str, classes: Path) -> AsyncIterator[Replicas]:
    async with serving_three(tmp_path, postgres_url, classes) as replicas:
        yield replicas


@asynccontextmanager
async def serving_three(folder: Path, url: str, classes: Path) -> AsyncIterator[Replicas]:
    app, ports = App(classes, f"orders-{os.getpid()}", comes_up_within_s=60), some_ports()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(app.kill)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=180)))
        replicas = []
        for n in range(3):
            own = folder / f"gateway-{n}"
            own.mkdir()
            link = Link(make_url(url).port or 0)
            await link.mend()
            stack.push_async_callback(link.cut)
            process = Process(
                own,
                app.config,
                host=f"127.0.0.{n + 2}",
                database=make_url(url).set(port=link.port).render_as_string(),
                debug_ports=ports,
                tokens=folder / "tokens.json",
            )
            replicas.append(Replica(process, http, link))
        code, said = await replicas[0].process.noah("db", "upgrade", "--config", str(replicas[0].process.file))
        assert code == 0, said
        for one in replicas:
            stack.push_async_callback(_end, one)
        await asyncio.gather(app.start(), *(one.process.start() for one in replicas))
        yield Replicas(replicas, url, app)


async def _end(replica: Replica) -> None:
    if replica.is_running:
        replica.send(signal.SIGCONT)
        await replica.process.stop(signal.SIGINT)  # at once, whether or not there are others
