"""Asking a store for sessions, in few words."""

from datetime import timedelta
from typing import Any

from noah.core.lease import Fence
from noah.core.session.session import EndReason, Session
from noah.core.session.target import LocalTarget, Target
from noah.store import Store
from tests.principals import person

HOUR = timedelta(hours=1)
PORTS = range(20000, 20010)
FENCE = Fence("g-1", 1)  # of each session that add() makes


async def add(store: Store, id: str, target: Target | None = None, *, owner: str = "ada", **changes: Any) -> Session:
    asked = {
        "workload": None,
        "app": "shop",
        "environment": "local",
        "owner": person(owner),
        "length": HOUR,
        "allow": ("127.0.0.1/32",),
        "allow_exit": False,
        "pause_budget": None,
        "ports": PORTS,
        "gateway": FENCE.gateway,
    }
    return await store.sessions.add(id=id, target=target or LocalTarget(id), **{**asked, **changes})


async def end(store: Store, session: Session) -> Session:
    await store.sessions.ask_end(session.id, reason=EndReason.CLOSED, detail=None, by=session.owner)
    return await store.sessions.finish(session.id, audit=None, fence=FENCE)


async def live(store: Store) -> list[Session]:
    """The sessions that have not ended, the oldest first."""
    return list(reversed((await store.sessions.find(limit=1000)).items))
