"""Health: does the gateway run, and should it be sent requests?"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from aiohttp import web
from typing_extensions import TypedDict

from noah.core.session.rights import Right
from noah.errors import NoahError, Unavailable
from noah.store import Store
from noah.store.lease import Lease
from noah.web.api.inventory import INVENTORY
from noah.web.api.route import Call, Reply, Routes
from noah.web.wire import Nothing

log = logging.getLogger(__name__)

ROUTES = Routes()

KEPT_S = 1.0  # that a look at the database is good for: many probes and scrapes ask
WAITS_S = 1.0  # for a look's result; HAProxy gives a check 2 s, a kubelet 1 s by default and 5 s in the chart
# A look that fails for so long while the lease is renewed is refused for good, and not slow: it has 10 s.
EXCUSED_S = 30.0
# The answer to anybody who asks: the database's address and user are for the log only.
AWAY = "The database does not answer: the gateway's log says why."
BEHIND = "The gateway goes by an earlier configuration: its log says why."
SILENT = f"The database does not answer: nothing came within {WAITS_S:.0f} s."


class CheckJson(TypedDict):
    check: str
    ok: bool
    message: str | None


class HealthJson(TypedDict):
    status: Literal["ok", "failing"]
    checks: list[CheckJson]


class Health:
    """The gateway's own view of whether it should be sent requests.

    A database that is slow, or away for a moment, is that for all gateways. If they became unready together, a load
    balancer would have none left and refuse everything, while debuggers go on, pages show what was seen last and
    the rest is answered late. So a gateway stays ready until its lease has ended by the database's clock, 10 s after
    the last renewal that succeeded: then others go on with its sessions if they can. Renewals succeed up to 3 s for a
    round trip. What the database refuses (it is at another revision) is not excused.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        *,
        store: Store,
        lease: Lease,
        stopping: Callable[[], bool],
        not_followed: Callable[[], str | None],
    ) -> None:
        """*not_followed* says why the gateway does not go by its configuration as it is now, if it does not."""
        self.not_followed = not_followed
        self.stopping = stopping
        self.database: str | None = None  # why it is away, as of the last look
        self._group = group
        self._store = store
        self._lease = lease
        self._logged: str | None = None
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = self._answered_at = float("-inf")
        self._is_refused = False

    async def look(self) -> None:
        """Look at the database, or wait for a look that has begun; not for longer than WAITS_S."""
        if self._looking is None and time.monotonic() - self._looked_at >= KEPT_S:
            self._looking = self._group.create_task(self._look(), name="look at the database")
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=WAITS_S)

    def unready(self) -> str | None:
        """Return why the gateway should be sent no requests because of its database, if it should not."""
        if self.database is None and self._looking is None:
            return None
        is_slow = not self._lease.has_ended and time.monotonic() < self._answered_at + EXCUSED_S
        return None if is_slow and not self._is_refused else self.database or SILENT

    async def _look(self) -> None:
        began = time.monotonic()
        try:
            await self._store.check()
        except Unavailable as e:
            self._note(e.sentence)
            self.database, self._is_refused = AWAY, self._lease.is_alone  # SQLite's file is there, or it is not
        except NoahError as e:
            self._note(e.sentence)
            self.database, self._is_refused = e.sentence, True
        except Exception:  # the task's outermost block
            log.exception("the database cannot be looked at")
            self.database, self._is_refused = AWAY, True
        else:
            self._note(None)
            self.database, self._answered_at, self._is_refused = None, began, False
        finally:
            self._looked_at, self._looking = time.monotonic(), None

    def _note(self, sentence: str | None) -> None:
        """Log the sentence if it has changed."""
        if sentence != self._logged:
            self._logged = sentence
            log.warning("%s", sentence or "The database answers again.")

    def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()


@asynccontextmanager
async def open_health(
    *, store: Store, lease: Lease, stopping: Callable[[], bool], not_followed: Callable[[], str | None]
) -> AsyncIterator[Health]:
    async with asyncio.TaskGroup() as group:
        health = Health(group, store=store, lease=lease, stopping=stopping, not_followed=not_followed)
        yield health
        health.stop()


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
    await health.look()
    away = health.unready()
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
    message = None if behind is None else BEHIND
    if waiting := [part.what for part in call.request.app[INVENTORY].parts if part.refused]:
        what = " and of the ".join(waiting)
        message = f"More than half of the {what} would be gone at once: an operator has to confirm that."
    checks.append({"check": "configuration", "ok": behind is None, "message": message})
    return Reply({"status": "ok" if ok else "failing", "checks": checks}, 200 if ok else 503)
