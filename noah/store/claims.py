"""The statements about claims: what besides sessions one gateway does for all, and which one does it.

A claim lasts as long as the lease of the gateway that took it; nothing renews it.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from noah.core.lease import Fence
from noah.errors import Conflict
from noah.store.database import Database
from noah.store.tables import claims, gateways


@dataclass(frozen=True, slots=True)
class Claim:
    kind: str
    key: str
    fence: Fence


class LostClaim(Conflict):
    """Another gateway has taken over what this one did for all of them."""


async def check(connection: AsyncConnection, claim: Claim | None) -> None:
    """Raise LostClaim unless the claim, if one is given, is held until the end of the transaction."""
    if claim is not None:
        is_held = select(claims.c.fence).where(_is(claim)).with_for_update(read=True)
        if (await connection.execute(is_held)).first() is None:
            raise LostClaim


class ClaimStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, kind: str, key: str, *, gateway: str) -> Claim | None:
        """Return the claim if it is free or the gateway's already; None if another gateway has it."""
        is_it = and_(claims.c.kind == kind, claims.c.key == key)
        try:
            async with self._database.writing() as connection:
                found = (await connection.execute(select(claims).where(is_it).with_for_update())).mappings().first()
                if found is None:
                    values = {"kind": kind, "key": key, "gateway": gateway, "fence": 1}
                    await connection.execute(insert(claims).values(values))
                    return Claim(kind, key, Fence(gateway, 1))
                if found["gateway"] == gateway:
                    return Claim(kind, key, Fence(gateway, found["fence"]))
                if await connection.scalar(select(gateways.c.id).where(gateways.c.id == found["gateway"])):
                    return None
                number = found["fence"] + 1
                await connection.execute(update(claims).where(is_it).values(gateway=gateway, fence=number))
                return Claim(kind, key, Fence(gateway, number))
        except IntegrityError:  # another one was faster
            return None

    async def is_held(self, claim: Claim) -> bool:
        """Return whether the claim is still the one that was taken."""
        async with self._database.reading() as connection:
            return await connection.scalar(select(func.count()).select_from(claims).where(_is(claim))) == 1

    async def release(self, claim: Claim) -> None:
        """Let another gateway take it."""
        async with self._database.writing() as connection:
            await connection.execute(update(claims).where(_is(claim)).values(gateway=None))

    async def forget(self, claim: Claim) -> None:
        """Delete it: there is nothing left to do."""
        async with self._database.writing() as connection:
            await connection.execute(delete(claims).where(_is(claim)))


def _is(claim: Claim) -> ColumnElement[bool]:
    return and_(
        claims.c.kind == claim.kind,
        claims.c.key == claim.key,
        claims.c.gateway == claim.fence.gateway,
        claims.c.fence == claim.fence.number,
    )
