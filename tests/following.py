"""A gateway whose configuration a test changes while it runs."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.gateway import Api, Process

SECONDS = 60  # of a busy machine


class Following:
    def __init__(self, process: Process, api: Api) -> None:
        self.process, self.api = process, api
        self._head = process.file.read_text()

    def write(self, text: str, *, top: str = "") -> None:
        """Put *text* behind what the configuration had at first, as an editor does: by another file."""
        beside = self.process.file.with_suffix(".new")
        beside.write_text(top + self._head + text)
        beside.replace(self.process.file)

    async def names(self, *, user: str = "ada") -> set[str]:
        return {one["target"] for one in (await self.api.ask("GET", "targets", user=user))["items"]}

    async def until(self, there: set[str]) -> None:
        await self.until_names(lambda names: names == there)

    async def until_names(self, true: Callable[[set[str]], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not true(await self.names()):
                await asyncio.sleep(0.1)

    async def until_configuration(self, true: Callable[[Any], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not true(await self._check()):
                await asyncio.sleep(0.1)

    async def _check(self) -> Any:
        async with self.api.http.get(f"{self.api.url}/readyz") as answer:
            assert answer.status == 200
            return {one["check"]: one for one in (await answer.json())["checks"]}["configuration"]

    async def current(self) -> bool:
        async with self.api.http.get(f"{self.api.url}/metrics", headers=self.api.headers("ada")) as answer:
            return "noah_configuration_current 1.0" in await answer.text()

    async def until_log(self, words: str, *, times: int = 1) -> None:
        async with asyncio.timeout(SECONDS):
            while (await asyncio.to_thread(self.process.log.read_text)).count(words) < times:
                await asyncio.sleep(0.1)
