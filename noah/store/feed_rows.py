"""The statements about the feed that all gateways share.

Numbers are given in the transaction that adds the rows, under the lock of the counter's row: so they are in the order
of the commits and without gaps, and who has read up to one number misses none before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, delete, func, insert, select, update

from noah.core.session.event_kind import EventKind
from noah.store.database import Database
from noah.store.feed import KEPT
from noah.store.hints import Channel, hint
from noah.store.tables import feed, feed_counter

TRIM_EVERY = 100  # events
KEPT_FOR = timedelta(minutes=10)  # however many they are: a gateway that is slow for a while reads them all the same

_KINDS: dict[str, str] = {kind.value: kind for kind in EventKind}


@dataclass(frozen=True, slots=True)
class Unnumbered:
    """An event that is not in the feed yet. *source* is its gateway's own number for it."""

    source: str
    at: datetime
    kind: EventKind
    subject: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    at: datetime
    kind: str  # an EventKind, or one that only a newer gateway knows
    subject: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Read:
    epoch: str
    last: int  # the number that was given last
    rows: Sequence[Row]  # in order


class FeedRows:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, events: Sequence[Unnumbered], *, is_retry: bool) -> None:
        """Add the events. *is_retry*: an earlier attempt may have been committed without an answer."""
        async with self._database.writing() as connection:
            if is_retry:
                await connection.execute(select(feed_counter.c.last).with_for_update())
                sources = [event.source for event in events]
                there = set(await connection.scalars(select(feed.c.source).where(feed.c.source.in_(sources))))
                events = [event for event in events if event.source not in there]
                if not events:
                    return
            count = update(feed_counter).values(last=feed_counter.c.last + len(events)).returning(feed_counter.c.last)
            last: int = (await connection.execute(count)).scalar_one()
            rows = [_row_of(number, event) for number, event in enumerate(events, last - len(events) + 1)]
            await connection.execute(insert(feed), rows)
            if last // TRIM_EVERY != (last - len(events)) // TRIM_EVERY:
                is_old = feed.c.at < await self._database.now(connection) - KEPT_FOR
                await connection.execute(delete(feed).where(feed.c.number <= last - KEPT, is_old))
            await connection.execute(hint(Channel.FEED))

    async def after(self, number: int, *, epoch: str) -> Read:
        """Return the first KEPT events after *number*; if *epoch* is not the present one, the last KEPT of all."""
        async with self._database.reading() as connection:
            before = case((_epoch() == epoch, number), else_=feed_counter.c.last - KEPT)
            columns = (feed.c.number, feed.c.at, feed.c.kind, feed.c.subject, feed.c.data)
            joined = feed_counter.outerjoin(feed, feed.c.number > before)
            statement = select(_epoch(), feed_counter.c.last, *columns).select_from(joined).order_by(feed.c.number)
            found = (await connection.execute(statement.limit(KEPT))).all()
        epoch, last, *_ = found[0]
        return Read(epoch, last, [_row(*columns) for _, _, *columns in found if columns[0] is not None])


def _epoch() -> ColumnElement[str]:
    """The counter's epoch, and the server's timeline: a standby that takes over may lack the numbers given last.

    A promoted server begins another timeline, so nobody takes its numbers for those that they had already.
    """
    timeline = func.substr(func.pg_walfile_name(func.pg_current_wal_insert_lsn()), 1, 8)
    return feed_counter.c.epoch + func.ltrim(timeline, "0")


def _row(number: int, at: datetime, kind: str, subject: str, data: dict[str, Any]) -> Row:
    return Row(number, at, _KINDS.get(kind, kind), subject, data)


def _row_of(number: int, event: Unnumbered) -> dict[str, Any]:
    return {
        "number": number,
        "at": event.at,
        "kind": event.kind,
        "subject": event.subject,
        "data": event.data,
        "source": event.source,
    }
