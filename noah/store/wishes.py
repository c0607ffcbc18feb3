"""The statements about wishes: what only a session's gateway can do, and was asked for at another one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, insert, update

from noah.core.session.principal import Principal
from noah.store.database import Database
from noah.store.hints import Channel, send
from noah.store.tables import sessions, wishes


class WishKind(StrEnum):
    RESUME = "resume"
    TAKE_OVER = "take_over"  # the next debugger ends the one that is attached
    ASK = "ask"  # the owner to resume
    NOTE = "note"  # the text, among the session's steps
    HAND_OVER = "hand_over"  # to the gateway with that ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    session: str
    kind: WishKind
    by: Principal | None = None
    text: str | None = None


class WishStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, wish: Wish) -> None:
        """Leave it to the session's gateway, which sees that the row has changed."""
        async with self._database.writing() as connection:
            at = await self._database.now(connection)
            by = wish.by and wish.by.to_json()
            values = {"session": wish.session, "kind": wish.kind, "by": by, "text": wish.text, "at": at}
            await connection.execute(insert(wishes).values(values))
            row = update(sessions).where(sessions.c.id == wish.session)
            await connection.execute(row.values(version=sessions.c.version + 1))
            await send(connection, Channel.SESSIONS)

    async def take(self, sessions_: Iterable[str]) -> Sequence[Wish]:
        """Delete the wishes that are about these sessions; return them in their order."""
        statement = delete(wishes).where(wishes.c.session.in_(sessions_)).returning(wishes)
        async with self._database.writing() as connection:
            rows = sorted((await connection.execute(statement)).mappings(), key=lambda row: row["number"])
        return [
            Wish(
                session=row["session"],
                kind=WishKind(row["kind"]),
                by=row["by"] and Principal.from_json(row["by"]),
                text=row["text"],
            )
            for row in rows
        ]
