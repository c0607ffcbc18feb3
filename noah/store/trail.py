"""The statements about the trail. Rows are added and, when they are old, forgotten; none is ever changed."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from noah.core.session.trail import Chain, Entry, TrailCode, TrailRow, next_row
from noah.store.database import Database
from noah.store.tables import trail

APPENDING = 0x6E6F6168_00000003  # PostgreSQL's advisory lock for who adds a row; "noah" and a number
AT_ONCE = 1000  # rows that are read at once


class TrailStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entries: Iterable[Entry]) -> None:
        async with self._database.writing() as connection:
            await append(connection, entries)

    async def find(
        self,
        *,
        code: str | None = None,
        who: str | None = None,
        target_prefix: str | None = None,
        session: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> Sequence[TrailRow]:
        """Return rows, the newest first. *who*: a principal's name; *before*: only rows with a smaller number."""
        wanted: list[ColumnElement[bool]] = []
        if code is not None:
            wanted.append(trail.c.code == code)
        if who is not None:
            wanted.append(trail.c.who == who)
        if target_prefix is not None:
            wanted.append(trail.c.target.startswith(target_prefix, autoescape=True))
        if session is not None:
            wanted.append(trail.c.session == session)
        if before is not None:
            wanted.append(trail.c.number < before)
        statement = select(trail).where(*wanted).order_by(trail.c.number.desc()).limit(limit)
        async with self._database.reading() as connection:
            return [_row_of(row) for row in (await connection.execute(statement)).mappings()]

    async def after(self, number: int, *, limit: int = AT_ONCE) -> Sequence[TrailRow]:
        """Return rows in their order, from the one after *number*."""
        statement = select(trail).where(trail.c.number > number).order_by(trail.c.number).limit(limit)
        async with self._database.reading() as connection:
            return [_row_of(row) for row in (await connection.execute(statement)).mappings()]

    async def last_number(self) -> int:
        async with self._database.reading() as connection:
            return await connection.scalar(select(func.max(trail.c.number))) or 0

    async def verify(self) -> Chain:
        """Read all rows, and check that none is missing and none was changed."""
        chain = Chain()
        async for rows in self._all():
            chain.check(rows)
        return chain

    async def _all(self) -> AsyncIterator[Sequence[TrailRow]]:
        last = 0
        while rows := await self.after(last):
            yield rows
            last = rows[-1].number

    async def forget_before(self, age: timedelta) -> int:
        """Delete rows older than *age*, and note in the trail up to which; return how many."""
        async with self._database.writing() as connection:
            now = await self._database.now(connection)
            through = await connection.scalar(select(func.max(trail.c.number)).where(trail.c.at < now - age))
            # The newest row stays whatever its age: the next one's hash is made from it.
            newest = await connection.scalar(select(func.max(trail.c.number)))
            if through is None or newest is None:
                return 0
            through = min(through, newest - 1)
            gone = (await connection.execute(delete(trail).where(trail.c.number <= through))).rowcount
            if gone:
                sentence = f"{gone} rows up to number {through} were older than the retention."
                more = {"through": through}
                await append(connection, [Entry(code=TrailCode.FORGOTTEN, at=now, sentence=sentence, more=more)])
            return gone


async def append(connection: AsyncConnection, entries: Iterable[Entry]) -> None:
    """Add rows in the transaction of *connection*, which is one for writing."""
    if connection.dialect.name == "postgresql":
        # Two that add at once would give their rows the same number.
        await connection.execute(select(func.pg_advisory_xact_lock(APPENDING)))
    newest = (
        await connection.execute(select(trail.c.number, trail.c.hash).order_by(trail.c.number.desc()).limit(1))
    ).first()
    before = (newest.number, newest.hash) if newest else None
    values: list[dict[str, Any]] = []
    for entry in entries:
        row = next_row(before, entry.text())
        before = (row.number, row.hash)
        values.append({"number": row.number, "entry": row.text, "hash": row.hash, **_indexed(row.text)})
    if values:
        await connection.execute(insert(trail), values)


def _indexed(text: str) -> dict[str, Any]:
    """Return the columns that rows are found by, from the text that the hash covers."""
    found = json.loads(text)
    return {
        "at": datetime.fromisoformat(found["at"]).astimezone(UTC),
        "code": found["code"],
        "who": found["who"]["name"] if found["who"] else "",
        "target": found["target"],
        "session": found["session"],
    }


def _row_of(row: Any) -> TrailRow:
    return TrailRow(row["number"], row["entry"], row["hash"])
