"""The statements about gateways: which of them are there. core/lease.py says what a row of theirs means."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Interval, cast, delete, extract, func, insert, literal, select, update

from noah.clock import machine_clock
from noah.core.lease import LEASE_S
from noah.store.database import Database
from noah.store.hints import Channel, send
from noah.store.tables import gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutGateway:
    """A gateway as it describes itself to the others."""

    name: str  # of its machine or pod
    version: str
    peer_host: str | None = None  # where other gateways reach it
    peer_port: int | None = None
    certificate: str | None = None  # PEM; by which they recognize it
    is_draining: bool = False  # it takes no sessions any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A gateway as the others see it."""

    id: str
    about: AboutGateway
    left_s: float  # of its lease, by the database's clock

    @property
    def has_expired(self) -> bool:
        return self.left_s <= 0


class GatewayStore:
    """Each statement is a transaction of its own, on a connection that is kept for it: a renewal waits for nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, id: str, about: AboutGateway) -> None:
        now = self._now()
        values = {"id": id, "started_at": now, "lease_until": now + self._lease(), **_values(about)}
        async with self._database.at_once() as connection:
            if self._database.is_sqlite:  # no other gateway is there (lease.py)
                await connection.execute(delete(gateways))
            await connection.execute(insert(gateways).values(values))

    async def renew(self, id: str, about: AboutGateway) -> bool:
        """Let the lease last from now on. Return False if the gateway has been declared dead."""
        values = {"lease_until": self._now() + self._lease(), **_values(about)}
        statement = update(gateways).where(gateways.c.id == id).values(values)
        async with self._database.at_once() as connection:
            return (await connection.execute(statement)).rowcount == 1

    async def all(self) -> Sequence[Peer]:
        left: ColumnElement[Any] = extract("epoch", gateways.c.lease_until - self._now())
        if self._database.is_sqlite:
            left = literal(LEASE_S)
        async with self._database.at_once() as connection:
            found = await connection.execute(select(gateways, left.label("left_s")).order_by(gateways.c.id))
            return [
                Peer(
                    id=row["id"],
                    about=AboutGateway(**{name: row[name] for name in AboutGateway.__slots__}),
                    left_s=float(row["left_s"]),
                )
                for row in found.mappings()
            ]

    async def declare_dead(self) -> Sequence[str]:
        """Delete the gateways whose lease has ended; return their IDs. Their sessions are nobody's from now on."""
        statement = delete(gateways).where(gateways.c.lease_until <= self._now()).returning(gateways.c.id)
        async with self._database.at_once() as connection:
            dead = (await connection.scalars(statement)).all()
            await send(connection, Channel.SESSIONS)  # for those who take them over
            return dead

    async def leave(self, id: str) -> None:
        async with self._database.at_once() as connection:
            await connection.execute(delete(gateways).where(gateways.c.id == id))

    def _now(self) -> Any:
        return machine_clock() if self._database.is_sqlite else func.clock_timestamp()

    def _lease(self) -> timedelta | ColumnElement[timedelta]:
        lease = timedelta(seconds=LEASE_S)
        return lease if self._database.is_sqlite else cast(lease, Interval)


def _values(about: AboutGateway) -> dict[str, Any]:
    return {name: getattr(about, name) for name in AboutGateway.__slots__}
