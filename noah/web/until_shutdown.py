"""Requests that wait for something (`?wait=`) are let go when the gateway stops, so that they do not hold it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from aiohttp import web

_T = TypeVar("_T")


class Patience:
    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._over = False

    async def lasts(self, wait: Callable[[], Awaitable[_T]]) -> _T | None:
        """What *wait* gives; None when the gateway stops before."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self._over else None) as timeout:
                self._waiting.add(timeout)
                try:
                    return await wait()
                finally:
                    self._waiting.discard(timeout)
        return None

    def end(self) -> None:
        self._over = True
        for timeout in self._waiting:
            timeout.reschedule(asyncio.get_running_loop().time())


PATIENCE = web.AppKey("patience", Patience)
