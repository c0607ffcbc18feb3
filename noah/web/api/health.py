"""Health: does the gateway run, and should it be sent requests?"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Literal

from aiohttp import web
from typing_extensions import TypedDict

from noah.core.session.rights import Right
from noah.errors import NoahError, Unavailable
from noah.store import Store
from noah.web.api.inventory import INVENTORY
from noah.web.api.route import Call, Reply, Routes
from noah.web.wire import Nothing

log = logging.getLogger(__name__)

ROUTES = Routes()

KEPT = 1.0  # seconds that a look at the database is good for: many probes and scrapes ask
DATABASE_WITHIN = 2.0  # seconds; a kubelet's probe usually has about that
# The answer to anybody who asks: the database's address and user are for the log only.
AWAY = "The database does not answer: the gateway's log says why."


class CheckJson(TypedDict):
    check: str
    ok: bool
    message: str | None


class HealthJson(TypedDict):
    status: Literal["ok", "failing"]
    checks: list[CheckJson]


class Health:
    def __init__(self, *, store: Store, stopping: Callable[[], bool], not_followed: Callable[[], str | None]) -> None:
        """*not_followed* says why the gateway does not go by its configuration as it is now, if it does not."""
        self.not_followed = not_followed
        self.stopping = stopping
        self.database: str | None = None  # why it is away, as of the last look
        self._store = store
        self._logged: str | None = None
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def look(self) -> str | None:
        """Return why the database is away, if it is."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= KEPT:
                self.database = await self._ask()
                self._looked_at = time.monotonic()
            return self.database

    async def _ask(self) -> str | None:
        try:
            async with asyncio.timeout(DATABASE_WITHIN):
                await self._store.check()
        except TimeoutError:
            return self._noted(f"The database does not answer: nothing came within {DATABASE_WITHIN:.0f} s.")
        except Unavailable as e:
            self._noted(e.sentence)
            return AWAY
        except NoahError as e:
            return self._noted(e.sentence)
        return self._noted(None)

    def _noted(self, sentence: str | None) -> str | None:
        """Log the sentence if it has changed, and return it."""
        if sentence != self._logged:
            self._logged = sentence
            log.warning("%s", sentence or "The database answers again.")
        return sentence


HEALTH = web.AppKey("health", Health)


@ROUTES.get("/livez", right=Right.ANYBODY, summary="Whether the gateway lives.")
async def livez(_: Call[Nothing, Nothing]) -> Reply[HealthJson]:
    """Say that the event loop runs, and nothing else: a restart does not bring a database back."""
    return Reply({"status": "ok", "checks": []})


@ROUTES.get(
    "/readyz",
    right=Right.ANYBODY,
    summary="Whether the gateway should be sent requests: not while it stops or its database is away.",
    statuses=(200, 503),
)
async def readyz(call: Call[Nothing, Nothing]) -> Reply[HealthJson]:
    health = call.request.app[HEALTH]
    away = await health.look()
    checks: list[CheckJson] = [
        {
            "check": "serving",
            "ok": not health.stopping(),
            "message": "The gateway is stopping." if health.stopping() else None,
        },
        {"check": "database", "ok": away is None, "message": away},
    ]
    ok = all(check["ok"] for check in checks)
    # A gateway with an inventory of yesterday serves all the same.
    behind = health.not_followed()
    message = None if behind is None else "The gateway goes by an earlier configuration: its log says why."
    if waiting := [part.what for part in call.request.app[INVENTORY].parts if part.refused]:
        what = " and of the ".join(waiting)
        message = f"More than half of the {what} would be gone at once: an operator has to confirm that."
    checks.append({"check": "configuration", "ok": behind is None, "message": message})
    return Reply({"status": "ok" if ok else "failing", "checks": checks}, 200 if ok else 503)
