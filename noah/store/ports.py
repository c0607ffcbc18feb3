"""Which port a session gets. People's run configurations hold it, so it should be the one that they had."""

from collections.abc import Sequence, Set
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, exists, func, insert, literal, select, union, update
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
    free = _free(ports, avoid)
    is_theirs = debug_ports.c.owner_id == owner_id, debug_ports.c.app == app
    theirs: Sequence[int] = (await connection.scalars(free.where(*is_theirs))).all()
    if theirs:
        places = await _last_places(connection, owner_id, app) if len(theirs) > 1 else {}
        return min(theirs, key=lambda port: (places.get(port) != place, port))
    port: int | None = await connection.scalar(_first_never_used(ports, avoid))
    if port is None:
        port = await connection.scalar(free.order_by(debug_ports.c.used_at).limit(1))
    if port is None:
        raise PortsUsedUp()
    return port


def _free(ports: range, avoid: Set[int]) -> Select[Any]:
    """Return the ports that somebody had and no session has."""
    port = debug_ports.c.port
    is_wanted = port.between(ports[0], ports[-1]), port.not_in(avoid)
    return select(port).where(*is_wanted, ~exists().where(is_live, sessions.c.port == port))


def _first_never_used(ports: range, avoid: Set[int]) -> Select[Any]:
    """Return the smallest port that nobody has, or had; thousands are not to be read for it."""
    taken = union(select(sessions.c.port).where(is_live), select(debug_ports.c.port)).subquery()
    follows = [select(literal(one)) for one in (ports[0], *(one + 1 for one in avoid))]
    after = union(select((taken.c.port + 1).label("port")), *follows).subquery()
    port = after.c.port
    is_wanted = port.between(ports[0], ports[-1]), port.not_in(avoid)
    return select(func.min(port)).where(*is_wanted, port.not_in(select(taken.c.port)))


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
