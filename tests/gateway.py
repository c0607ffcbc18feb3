"""A real gateway for tests: `noah serve` as its own process, and its HTTP API as a developer's tools speak it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from noah.access.tokens import TokenFile
from noah.core.session.principal import OPERATORS
from tests.databases import make_database
from tests.forked import Forked, can_fork
from tests.ports import free_port, some_ports
from tests.processes import output_of

COMES_UP_WITHIN = 60.0  # seconds, on a busy machine


class Refused(Exception):
    """The API's answer was a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail')}")
        self.status = status
        self.problem = problem
        self.detail = str(problem.get("detail"))


class Api:
    """Speaks for everybody whom a test names, each with a token that is made when it is first needed."""

    def __init__(self, http: aiohttp.ClientSession, url: str, tokens: Path) -> None:
        self.http = http
        self.url = url
        self._file = TokenFile(tokens)
        self._tokens: dict[str, str] = {}

    def token(self, user: str) -> str:
        if user not in self._tokens:
            now = datetime.now(UTC)
            self._tokens[user] = self._file.create(user, groups=[OPERATORS], now=now, expires_at=None)
        return self._tokens[user]

    def admit(self, user: str) -> None:
        """Make a token for *user*, who is not an operator."""
        self._tokens[user] = self._file.create(user, groups=[], now=datetime.now(UTC), expires_at=None)

    def know(self, user: str, token: str) -> None:
        """Use a token that was made before."""
        self._tokens[user] = token

    def revoke(self, user: str) -> None:
        """Make the token of *user* invalid; the next that is asked for is a new one."""
        self._file.revoke(user)
        self._tokens.pop(user, None)

    def headers(self, user: str = "ada") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}"}

    async def ask(self, method: str, path: str, body: Any = None, *, user: str = "ada") -> Any:
        async with self.http.request(
            method, f"{self.url}/api/v1/{path}", json=body, headers=self.headers(user)
        ) as answer:
            got = json.loads(await answer.text())
            if answer.status >= 400:
                raise Refused(answer.status, got)
            return got

    async def enable(self, target: str, *, user: str = "ada", wait: float = 60, **more: Any) -> dict[str, Any]:
        body = {"target": target, "allow": ["127.0.0.0/8"], **more}
        session: dict[str, Any] = await self.ask("POST", f"sessions?wait={wait}", body, user=user)
        return session

    async def ready(self, target: str, *, user: str = "ada", **more: Any) -> dict[str, Any]:
        session = await self.enable(target, user=user, **more)
        assert session["status"] == "ready", session
        return session

    async def show(self, session: Mapping[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = await self.ask("GET", f"sessions/{session['id']}")
        return shown

    async def end(self, session: Mapping[str, Any], *, user: str = "ada", wait: float = 60) -> dict[str, Any]:
        ended: dict[str, Any] = await self.ask("DELETE", f"sessions/{session['id']}?wait={wait}", user=user)
        return ended

    async def trail(self, query: str, *, has: set[str]) -> list[dict[str, Any]]:
        """Return these rows of the trail once they have all of those codes: they are written a moment later."""
        async with asyncio.timeout(60):
            while True:
                rows: list[dict[str, Any]] = (await self.ask("GET", f"trail?{query}"))["items"]
                if has <= {row["code"] for row in rows}:
                    return rows
                await asyncio.sleep(0.05)

    async def until(self, session: Mapping[str, Any], *statuses: str, within: float = 60) -> dict[str, Any]:
        """The session once its status is one of *statuses*."""
        shown: dict[str, Any] = {}
        try:
            async with asyncio.timeout(within):
                while (shown := await self.show(session))["status"] not in statuses:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never was {' or '.join(statuses)} within {within} s: {shown}") from None
        return shown


class Process:
    """`noah serve`, which a test may kill and start again on the same database and port."""

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        host: str = "127.0.0.1",
        database: str | None = None,
        debug_ports: str | None = None,
        tokens: Path | None = None,
    ) -> None:
        """*database*: a URL; a file in *folder* unless given. *host*: one of loopback, also of the debug ports."""
        self.port = port or free_port()
        self.host = host
        self.url = f"http://{host}:{self.port}"
        self.log = folder / "gateway.log"
        self.database = folder / "noah.db"
        self.file = folder / "noah.toml"
        self.tokens = tokens or folder / "tokens.json"
        self.env = {**os.environ, **(env or {})}
        head = (
            f'[gateway]\nlisten = "{host}:{self.port}"\ndebug_ports = "{debug_ports or some_ports()}"\n'
            f'database = "{database or f"sqlite:///{self.database}"}"\n'
        )
        access = f'[access]\ntokens = "{self.tokens}"\n'
        has_access = "[access]\n" in config
        self.file.write_text(head + (config.replace("[access]\n", access) if has_access else f"{config}\n{access}"))
        self.process: asyncio.subprocess.Process | Forked | None = None

    async def noah(self, *argv: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "noah",
            *argv,
            env=self.env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await output_of(process)
        return process.returncode or 0, out.decode()

    async def start(self) -> None:
        argv = "serve", "--config", str(self.file)
        if can_fork(self.env):
            self.process = Forked(*argv, env=self.env, output=self.log)
        else:
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "noah", *argv, env=self.env, stdout=log, stderr=log
                )
        try:
            async with asyncio.timeout(COMES_UP_WITHIN):
                while not await self.is_ready():
                    assert self.process.returncode is None, self.log.read_text()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.process.kill()  # nobody else would
            await self.process.wait()
            raise AssertionError(f"the gateway is not ready: {self.log.read_text()}") from None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.send(number)
        return await self.process.wait()

    async def is_ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as http, http.get(f"{self.url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def serving(
    folder: Path, config: str, *, env: Mapping[str, str] | None = None, port: int | None = None
) -> AsyncIterator[tuple[Process, Api]]:
    """A gateway on a fresh SQLite database in *folder*; *config* is what follows its [gateway]."""
    process = Process(folder, config, env=env, port=port)
    make_database(process.database)
    await process.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=180)) as http:
            yield process, Api(http, process.url, process.tokens)
    finally:
        if process.is_running:
            await process.stop()
