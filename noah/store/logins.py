"""The statements about who is logged in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, insert, select, update

from noah.core.session.principal import Principal
from noah.store.database import Database
from noah.store.tables import logins

# Between two notes that a login is in use: a page asks every few seconds, and each note is a write.
NOTED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class KeptLogin:
    principal: Principal
    sealed: bytes | None


class LoginStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, id_hash: str, principal: Principal, *, lasts: timedelta, sealed: bytes | None) -> None:
        async with self._database.writing() as connection:
            now = await self._database.now(connection)
            row = {
                "id_hash": id_hash,
                "principal": principal.to_json(),
                "created_at": now,
                "used_at": now,
                "expires_at": now + lasts,
                "sealed": sealed,
            }
            await connection.execute(insert(logins).values(row))

    async def use(self, id_hash: str, *, idle: timedelta) -> KeptLogin | None:
        """Return the login if it lasts, and note that it is in use."""
        this = logins.c.id_hash == id_hash
        async with self._database.reading() as connection:
            row = (await connection.execute(select(logins).where(this))).mappings().first()
            now = await self._database.now(connection)
        if row is None or now >= row["expires_at"] or now >= row["used_at"] + idle:
            return None
        if now - row["used_at"] >= NOTED_EVERY:
            async with self._database.writing() as connection:
                await connection.execute(update(logins).where(this).values(used_at=now))
        return KeptLogin(Principal.from_json(row["principal"]), row["sealed"])

    async def change(self, id_hash: str, principal: Principal, sealed: bytes) -> None:
        values = {"principal": principal.to_json(), "sealed": sealed}
        async with self._database.writing() as connection:
            await connection.execute(update(logins).where(logins.c.id_hash == id_hash).values(values))

    async def remove(self, id_hash: str) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(logins).where(logins.c.id_hash == id_hash))

    async def remove_of(self, is_theirs: Callable[[Principal], bool]) -> int:
        """Remove all whose principal is one of those; return how many."""
        async with self._database.writing() as connection:
            rows = await connection.execute(select(logins.c.id_hash, logins.c.principal))
            theirs = [row.id_hash for row in rows if is_theirs(Principal.from_json(row.principal))]
            await connection.execute(delete(logins).where(logins.c.id_hash.in_(theirs)))
        return len(theirs)
