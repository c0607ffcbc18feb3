"""The statements about releases. Their events are one compressed text: written often, read seldom and then whole."""

import asyncio
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, delete, insert, select, update

from noah.core.printable import storable
from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind
from noah.core.workload import WorkloadKind
from noah.store.claims import Claim, check
from noah.store.database import Database
from noah.store.hints import Channel, hint
from noah.store.tables import release_chunks, releases

KEPT = 500  # releases

_ALL_BUT_EVENTS = [column for column in releases.c if column.name != "events"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some events of a release, as the gateway that follows it has written them."""

    run: str  # in which they are numbered
    is_over: bool  # the last one is the end
    events: Sequence[Numbered]


class ReleaseStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, release: Release, events: Iterable[Numbered], *, by: Claim | None = None) -> None:
        """Keep it as it is now, in place of what was kept of it; forget the oldest ones beyond KEPT.

        Raises LostClaim, and keeps nothing, if another gateway follows the release.
        """
        # Thousands of lines: the event loop has others to serve meanwhile.
        values = {**_row_of(release), "events": await asyncio.to_thread(_packed, events)}
        async with self._database.writing() as connection:
            await check(connection, by)
            known = update(releases).where(releases.c.id == release.id).values(values)
            if (await connection.execute(known)).rowcount:
                return
            await connection.execute(insert(releases).values(values))
            newest = select(releases.c.id).order_by(releases.c.started_at.desc(), releases.c.id.desc()).limit(KEPT)
            ids = (await connection.execute(newest)).scalars().all()
            await connection.execute(delete(releases).where(releases.c.id.not_in(ids)))

    async def get(self, id: str) -> Release | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(*_ALL_BUT_EVENTS).where(releases.c.id == id))).mappings().first()
        return _release_of(row) if row else None

    async def events(self, id: str) -> list[Numbered]:
        """Return the events that are kept, in order; none of an unknown release."""
        async with self._database.reading() as connection:
            packed = await connection.scalar(select(releases.c.events).where(releases.c.id == id))
        return await asyncio.to_thread(_unpacked, packed) if packed else []

    async def append_chunk(
        self, release: str, run: str, events: Sequence[Numbered], *, is_over: bool, by: Claim
    ) -> None:
        """Let other gateways read *events*. Done again, it changes nothing. Raises LostClaim."""
        packed = await asyncio.to_thread(_packed, events)
        async with self._database.writing() as connection:
            await check(connection, by)
            key = {"release": release, "last": events[-1][0]}
            is_there = select(release_chunks.c.run).filter_by(**key)
            if (await connection.execute(is_there)).first() is None:
                now = await self._database.now(connection)
                values = {**key, "run": run, "is_over": is_over, "at": now, "events": packed}
                await connection.execute(insert(release_chunks).values(values))
                await connection.execute(hint(Channel.RELEASES))

    async def chunks(self, release: str, *, after: int) -> Sequence[Chunk]:
        """Return what the gateway that follows the release has written since the event of that number, in order."""
        columns = release_chunks.c
        wanted = select(columns.run, columns.is_over, columns.events).filter_by(release=release)
        async with self._database.reading() as connection:
            found = await connection.execute(wanted.where(columns.last > after).order_by(columns.last))
            rows = found.all()
        return [Chunk(run, is_over, await asyncio.to_thread(_unpacked, packed)) for run, is_over, packed in rows]

    async def forget_chunks(self, release: str, *, by: Claim) -> None:
        """Forget what was written; the release itself stays kept. Raises LostClaim."""
        async with self._database.writing() as connection:
            await check(connection, by)
            await connection.execute(delete(release_chunks).filter_by(release=release))

    async def find(
        self,
        *,
        cluster: str | None = None,
        namespace: str | None = None,
        environment: str | None = None,
        workload: str | None = None,
        result: Result | None = None,
    ) -> list[Release]:
        """Return all that match; there are never more than KEPT."""
        given = (
            (releases.c.cluster, cluster),
            (releases.c.namespace, namespace),
            (releases.c.environment, environment),
            (releases.c.workload, workload),
            (releases.c.result, result),
        )
        wanted: list[ColumnElement[bool]] = [column == value for column, value in given if value is not None]
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(*_ALL_BUT_EVENTS).where(*wanted))).mappings()
            return [_release_of(row) for row in rows]


def _packed(events: Iterable[Numbered]) -> bytes:
    lines = (json.dumps([n, one.at, one.kind, one.text, one.more], ensure_ascii=False) for n, one in events)
    return zlib.compress("\n".join(lines).encode(errors="replace"))


def _unpacked(packed: bytes) -> list[Numbered]:
    lines = zlib.decompress(packed).decode().split("\n")
    return [
        (n, ReleaseEvent(at, ReleaseEventKind(kind), text, more))
        for n, at, kind, text, more in map(json.loads, filter(None, lines))
    ]


def _row_of(release: Release) -> dict[str, Any]:
    progress = release.progress
    return {
        "id": release.id,
        "cluster": release.cluster,
        "namespace": release.namespace,
        "environment": release.environment,
        "kind": release.kind,
        "workload": release.workload,
        "revision": release.revision,
        "started_at": release.started_at,
        "ended_at": release.ended_at,
        "result": progress.result,
        "online": progress.online,
        "wanted": progress.wanted,
        # No NUL, no half of a surrogate pair: a container's last words are in it.
        "sentence": storable(progress.sentence)[:2000],
    }


def _release_of(row: RowMapping) -> Release:
    return Release(
        id=row["id"],
        cluster=row["cluster"],
        namespace=row["namespace"],
        environment=row["environment"],
        kind=WorkloadKind(row["kind"]),
        workload=row["workload"],
        revision=row["revision"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        progress=Progress(Result(row["result"]), row["online"], row["wanted"], row["sentence"]),
    )
