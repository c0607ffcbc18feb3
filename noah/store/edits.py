"""The statements about edits of options files on hosts."""

from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.exc import IntegrityError

from noah.core.host.edits import EditState, HostEdit
from noah.core.session.target import HostTarget, parse_target
from noah.core.session.trail import Entry, TrailCode
from noah.errors import Conflict
from noah.store.database import Database, violated
from noah.store.tables import ONE_OPEN_EDIT, host_edits, is_live, is_open, sessions
from noah.store.trail import append


class EditStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, edit: HostEdit) -> None:
        """Keep an edit. Conflict if another edit of the target is not over."""
        try:
            async with self._database.writing() as connection:
                row = {**_row_of(edit), "created_at": await self._database.now(connection)}
                await connection.execute(insert(host_edits).values(row))
                await append(connection, [_entry(edit, EditState.PLANNED, at=row["created_at"])])
        except IntegrityError as e:
            if violated(e) != ONE_OPEN_EDIT:
                raise
            raise Conflict(f"The options of {edit.target} are being edited by somebody else: try again soon.") from None

    async def open_of(self, target: HostTarget) -> HostEdit | None:
        return await self._first(is_open, host_edits.c.target == str(target))

    async def last_of(self, session: str) -> HostEdit | None:
        return await self._first(host_edits.c.session == session)

    async def change(
        self, edit: HostEdit, state: EditState, *, session: str | None = None, why: str | None = None
    ) -> bool:
        """Change the edit's state; return False if somebody else changed it since it was read."""
        values: dict[str, Any] = {"state": state, "session": session or edit.session, "why": why or edit.why}
        async with self._database.writing() as connection:
            unchanged = (host_edits.c.id == edit.id, host_edits.c.state == edit.state)
            changed = (await connection.execute(update(host_edits).where(*unchanged).values(values))).rowcount == 1
            if changed and state is not edit.state:
                await append(connection, [_entry(edit, state, at=await self._database.now(connection))])
            return changed

    async def left_over(self) -> list[HostEdit]:
        """Return the open ones whose session has ended."""
        live = select(sessions.c.id).where(is_live)
        async with self._database.reading() as connection:
            rows = await connection.execute(select(host_edits).where(is_open, host_edits.c.session.not_in(live)))
            return [_edit_of(row) for row in rows.mappings()]

    async def _first(self, *conditions: Any) -> HostEdit | None:
        statement = select(host_edits).where(*conditions).order_by(host_edits.c.created_at.desc())
        async with self._database.reading() as connection:
            row = (await connection.execute(statement)).mappings().first()
        return _edit_of(row) if row else None


def _entry(edit: HostEdit, state: EditState, *, at: datetime) -> Entry:
    """Return the trail's row: that a file is edited, and not what is in it."""
    return Entry(
        code=TrailCode.HOST_EDITED,
        at=at,
        target=str(edit.target),
        session=edit.session,
        sentence=f"{edit.file}: {str(state).replace('-', ' ')}.",
    )


def _row_of(edit: HostEdit) -> dict[str, Any]:
    return {
        "id": edit.id,
        "target": str(edit.target),
        "session": edit.session,
        "file": edit.file,
        "before": edit.before,
        "after": edit.after,
        "mode": edit.mode,
        "owner": edit.owner,
        "state": edit.state,
        "why": edit.why,
    }


def _edit_of(row: RowMapping) -> HostEdit:
    target = parse_target(row["target"])
    assert isinstance(target, HostTarget)
    return HostEdit(
        id=row["id"],
        target=target,
        session=row["session"],
        file=row["file"],
        before=bytes(row["before"]),
        after=bytes(row["after"]),
        mode=row["mode"],
        owner=row["owner"],
        state=EditState(row["state"]),
        why=row["why"],
    )
