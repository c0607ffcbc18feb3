"""Requests that wait for something (`?wait=`) end early when the gateway stops, so that they do not hold it up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from aiohttp import web

_T = TypeVar("_T")


class UntilShutdown:
    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._over = False

    async def result_of(self, wait: Callable[[], Awaitable[_T]]) -> _T | None:
        """Return what *wait* gives, or None when the gateway stops first."""
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


UNTIL_SHUTDOWN = web.AppKey("until_shutdown", UntilShutdown)
