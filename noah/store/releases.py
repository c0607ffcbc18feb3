"""The statements about releases. Their events are one compressed text: written often, read seldom and then whole."""

import asyncio
import json
import zlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, delete, insert, select, update

from noah.core.release.release import Progress, Release, Result
from noah.core.release.release_event import Numbered, ReleaseEvent, ReleaseEventKind
from noah.core.workload import WorkloadKind
from noah.store.database import Database
from noah.store.tables import releases

KEPT = 500  # releases

_ALL_BUT_EVENTS = [column for column in releases.c if column.name != "events"]


class ReleaseStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, release: Release, events: Iterable[Numbered]) -> None:
        """Keep it as it is now, in place of what was kept of it; forget the oldest ones beyond KEPT."""
        # Thousands of lines: the event loop has others to serve meanwhile.
        values = {**_row_of(release), "events": await asyncio.to_thread(_packed, events)}
        async with self._database.writing() as connection:
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

    async def find(
        self,
        *,
        cluster: str | None = None,
        namespace: str | None = None,
        workload: str | None = None,
        result: Result | None = None,
    ) -> list[Release]:
        """Return all that match; there are never more than KEPT."""
        given = (
            (releases.c.cluster, cluster),
            (releases.c.namespace, namespace),
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
        "kind": release.kind,
        "workload": release.workload,
        "revision": release.revision,
        "started_at": release.started_at,
        "ended_at": release.ended_at,
        "result": progress.result,
        "online": progress.online,
        "wanted": progress.wanted,
        # No NUL, no half of a surrogate pair: a container's last words are in it.
        "sentence": progress.sentence.replace("\0", "").encode(errors="replace").decode()[:2000],
    }


def _release_of(row: RowMapping) -> Release:
    return Release(
        id=row["id"],
        cluster=row["cluster"],
        namespace=row["namespace"],
        kind=WorkloadKind(row["kind"]),
        workload=row["workload"],
        revision=row["revision"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        progress=Progress(Result(row["result"]), row["online"], row["wanted"], row["sentence"]),
    )
