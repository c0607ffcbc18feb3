"""Does what a kubelet does for one container: run it, probe it, kill and restart it when the probe fails."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from noah.demo.debugger import ANSWERS_WITHIN_S
from noah.errors import Unavailable

# A kubelet's defaults are 10 s, 1 s and 3; shorter here, so that the demonstration is.
PERIOD, TIMEOUT, FAILURES = 1.0, 2.0, 3  # seconds, seconds, probes in a row
STARTS_WITHIN = 30.0  # seconds


class Supervised:
    """Runs one app and counts how often it had to be killed."""

    def __init__(self, *, argv: Sequence[str], env: Mapping[str, str], probe: Sequence[str], log: Path) -> None:
        self._argv = argv
        self._env = {**os.environ, **env}
        self._probe = probe
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self.failures = 0  # in a row
        self.healthy = asyncio.Event()
        self.restarted = asyncio.Event()

    async def run(self) -> None:
        """Run it until cancelled; then its process is gone."""
        try:
            while True:
                with self._log.open("ab") as log:
                    self._process = await asyncio.create_subprocess_exec(
                        *self._argv, env=self._env, stdout=log, stderr=log, start_new_session=True
                    )
                await self._until_dead()
                self.restarts += 1
                self.restarted.set()
        finally:
            await self._kill()

    async def _until_dead(self) -> None:
        assert self._process is not None
        self.healthy.clear()
        began = asyncio.get_running_loop().time()
        self.failures = 0
        while self.failures < FAILURES and self._process.returncode is None:
            await asyncio.sleep(PERIOD)
            if await self._alive():
                self.failures = 0
                self.healthy.set()
            # As with a startupProbe: what never was healthy is given time.
            elif self.healthy.is_set() or asyncio.get_running_loop().time() > began + STARTS_WITHIN:
                self.failures += 1
        await self._kill()

    async def _alive(self) -> bool:
        probe = await asyncio.create_subprocess_exec(
            *self._probe, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                return await probe.wait() == 0
        except TimeoutError:
            return False
        finally:
            with suppress(ProcessLookupError):
                probe.kill()
            await probe.wait()

    async def _kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def supervised(*apps: Supervised) -> AsyncIterator[None]:
    """Run them as long as the context lasts; it begins when all are healthy."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(app.run(), name="supervise an app") for app in apps]
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                for app in apps:
                    await app.healthy.wait()
            yield
        except TimeoutError:
            raise Unavailable("The sample apps did not come up.") from None
        finally:
            for task in tasks:
                task.cancel()
