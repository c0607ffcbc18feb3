"""Which port a session gets. People's run configurations hold it, so it should be the one that they had."""

import itertools
from collections.abc import Set
from datetime import datetime

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from noah.core.session.target import PodTarget, Target
from noah.errors import PortsUsedUp
from noah.store.tables import debug_ports, is_live, session_of, sessions

CHOOSING = 0x6E6F6168_00000002  # PostgreSQL's advisory lock for who chooses a port; "noah" and a number


async def choose_port(
    connection: AsyncConnection, owner_id: str, app: str, place: str, *, ports: range, avoid: Set[int]
) -> int:
    """Return a port: one that they had for this app, preferably in this place; else one that was never used; else
    the one whose last use is longest ago."""
    if connection.dialect.name == "postgresql":
        # All choose by the same rule: those who choose at once would want the same port, again and again.
        await connection.execute(select(func.pg_advisory_xact_lock(CHOOSING)))
    busy = set((await connection.scalars(select(sessions.c.port).where(is_live))).all()) | avoid
    kept = (await connection.execute(select(debug_ports).order_by(debug_ports.c.used_at))).all()
    free: dict[int, tuple[str, str]] = {
        row.port: (row.owner_id, row.app) for row in kept if row.port in ports and row.port not in busy
    }
    theirs = [port for port, kept_for in free.items() if kept_for == (owner_id, app)]
    if theirs:
        places = await _last_places(connection, owner_id, app) if len(theirs) > 1 else {}
        return min(theirs, key=lambda port: (places.get(port) != place, port))
    taken = busy | {row.port for row in kept}
    never_used = (port for port in ports if port not in taken)
    port = next(itertools.chain(never_used, free), None)
    if port is None:
        raise PortsUsedUp()
    return port


async def keep_port(connection: AsyncConnection, port: int, owner_id: str, app: str, now: datetime) -> None:
    await connection.execute(delete(debug_ports).where(debug_ports.c.port == port))
    await connection.execute(insert(debug_ports).values(port=port, owner_id=owner_id, app=app, used_at=now))


async def give_up_port(connection: AsyncConnection, port: int, now: datetime) -> None:
    """Note that another program of the machine has the port: it is offered again when all others have been."""
    await keep_port(connection, port, "", "", now)


async def touch_port(connection: AsyncConnection, port: int, now: datetime) -> None:
    await connection.execute(update(debug_ports).where(debug_ports.c.port == port).values(used_at=now))


def place_of(target: Target, workload: str | None) -> str:
    """Return what stays the same when a pod is replaced by another one of its workload."""
    match target:
        case PodTarget(cluster=cluster, namespace=namespace, container=container) if workload is not None:
            return f"pod/{cluster}/{namespace}/{workload}/{container}"
        case _:
            return str(target)


async def _last_places(connection: AsyncConnection, owner_id: str, app: str) -> dict[int, str]:
    """Return where each of their ports led last: one app in two environments must not change its ports between them."""
    statement = (
        select(sessions).where(sessions.c.owner_id == owner_id, sessions.c.app == app).order_by(sessions.c.created_at)
    )
    rows = (await connection.execute(statement)).mappings()
    return {one.port: place_of(one.target, one.workload) for one in map(session_of, rows)}
