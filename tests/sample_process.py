"""The sample app as a process of this machine, for gateways whose tests end it and stop it at breakpoints."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from noah.demo.debugger import Jdb, jdb
from noah.inpod import script
from tests.ports import free_port
from tests.processes import output_of

COMES_UP_WITHIN_S = 60.0  # on a busy machine


class App:
    """The sample app as a process that a test may end and start again on the same ports."""

    def __init__(self, classes: Path, name: str) -> None:
        self.name = name
        self.port, self.jdwp = free_port(), free_port()
        self._classes = classes
        self._process: asyncio.subprocess.Process | None = None

    @property
    def config(self) -> str:
        return f'[[local]]\nname = "{self.name}"\njdwp_port = {self.jdwp}\ncheckurl = "{self.url}/checkurl"\n'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{self.jdwp},quiet=y"
        self._process = await asyncio.create_subprocess_exec(
            "java", agent, "-cp", str(self._classes), "OrderService", env={**os.environ, "PORT": str(self.port)}
        )
        async with asyncio.timeout(COMES_UP_WITHIN_S):
            while not await self.answers():
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def answers(self, path: str = "/checkurl", within: float = 1) -> bool:
        try:
            async with (
                asyncio.timeout(within),
                aiohttp.ClientSession() as http,
                http.get(self.url + path) as answer,
            ):
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def probe(self) -> tuple[int, str]:
        """What the liveness expression says."""
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", script("liveness"), "noah-liveness", f"{self.url}/checkurl", "1", self.name,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await output_of(process)
        return process.returncode or 0, out.decode()

    @asynccontextmanager
    async def at_a_breakpoint(self, host: str, port: int) -> AsyncIterator[Jdb]:
        """Have a jdb that came by that port at a breakpoint, in an order that waits for it."""
        async with jdb(host, port) as debugger, asyncio.TaskGroup() as group:
            debugger.type("stop in OrderService.price")
            await debugger.says("breakpoint")
            order = group.create_task(self.answers("/orders", within=300))
            await debugger.says("Breakpoint hit")
            yield debugger
            order.cancel()


@asynccontextmanager
async def running_app(classes: Path) -> AsyncIterator[App]:
    """Run the app for as long as the context; no other test process has one of its name."""
    app = App(classes, f"orders-{os.getpid()}")
    try:
        await app.start()
        yield app
    finally:
        await app.kill()
