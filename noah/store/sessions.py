"""The statements about sessions. Constraints judge what several writers have to agree on; times are the database's."""

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    RowMapping,
    Select,
    String,
    bindparam,
    case,
    cast,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from noah.core.lease import Fence
from noah.core.page import Page
from noah.core.printable import storable
from noah.core.session.principal import Principal
from noah.core.session.session import EndReason, Session, Share
from noah.core.session.target import Target
from noah.core.session.trail import Entry, TrailCode
from noah.errors import AlreadyDebugged, BadInput, Conflict, LostSession, NotFound, Unavailable
from noah.store.database import Database, violated
from noah.store.hints import Channel, send
from noah.store.ports import choose_port, give_up_port, keep_port, place_of, touch_port
from noah.store.tables import ONE_PER_PORT, ONE_PER_TARGET, gateways, is_live, row_of, session_of, sessions
from noah.store.trail import append

FIRST = 1  # number of the fence by which a session is made
ROUNDS = 3  # of a race that is lost: the second sees who won, the third is for a winner who has ended meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The part of a row that shows whether it has changed, and who runs its session."""

    id: str
    version: int
    gateway: str | None  # None: no gateway ever had it, or the last one gave it back
    number: int  # of the last fence

    @property
    def fence(self) -> Fence | None:
        return None if self.gateway is None else Fence(self.gateway, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """All that the database has of a session."""

    session: Session
    head: Head
    live: Mapping[str, Any] | None  # what its gateway last saw (sessions/live_state.py)
    audit: Mapping[str, Any] | None


class SessionStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._heads: dict[str, Head] = {}  # of the last time, by their lines

    async def add(
        self,
        *,
        id: str,
        target: Target,
        workload: str | None,
        app: str,
        environment: str,
        owner: Principal,
        length: timedelta,
        allow: tuple[str, ...],
        allow_exit: bool,
        pause_budget: timedelta | None,
        may_restart: bool = False,
        ports: range,
        gateway: str,
    ) -> Session:
        """Make a session of *gateway*, by its first fence, with the port that this person had for this app.

        Raises AlreadyDebugged if the target is held, by the same person or another; PortsUsedUp.
        """
        for _ in range(ROUNDS):
            try:
                async with self._database.writing() as connection:
                    await _raise_if_held(connection, target)
                    place = place_of(target, workload)
                    port = await choose_port(connection, owner.id, app, place, ports=ports, avoid=frozenset())
                    now = await self._database.now(connection)
                    session = Session(
                        id=id,
                        target=target,
                        workload=workload,
                        app=app,
                        environment=environment,
                        owner=owner,
                        port=port,
                        created_at=now,
                        expires_at=now + length,
                        allow=allow,
                        allow_exit=allow_exit,
                        may_restart=may_restart,
                        pause_budget=pause_budget,
                    )
                    await connection.execute(
                        insert(sessions).values({**row_of(session), "gateway": gateway, "fence": FIRST, "version": 1})
                    )
                    await keep_port(connection, port, owner.id, app, now)
                    await send(connection, Channel.SESSIONS)
                    return session
            except IntegrityError as e:
                if violated(e) not in (ONE_PER_TARGET, ONE_PER_PORT):
                    raise
                # Another session was faster: the next round sees which.
        raise Unavailable(f"{target} is wanted by many at the same time: try again.")

    async def get(self, id: str) -> Session | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(sessions).where(sessions.c.id == id))).mappings().first()
        return session_of(row) if row else None

    async def known(self, id: str) -> Session:
        """Return a session that is known to be there. Raises NotFound if it is not."""
        session = await self.get(id)
        if session is None:
            raise NotFound(f"There is no session {id[:40]!r}.")
        return session

    async def audits(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any] | None]:
        """Return the audit that was kept of each of these sessions, by its ID."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(sessions.c.id, sessions.c.audit).where(sessions.c.id.in_(ids)))
            return {row.id: row.audit for row in rows}

    async def heads(self) -> list[Head]:
        """Return the head of each live session.

        Every gateway asks every second: all heads come as one text, and only those that are new are read from it.
        """
        async with self._database.at_once() as connection:
            lines = (await connection.scalar(select(func.aggregate_strings(_LINE, "\n")).where(is_live))) or ""
        known = self._heads
        self._heads = {line: known.get(line) or _head_in(line) for line in lines.splitlines()}
        return list(self._heads.values())

    async def rows(self, ids: Collection[str]) -> list[SessionRow]:
        """Return the rows that there are, the oldest first, ended ones included."""
        statement = select(sessions).where(sessions.c.id.in_(ids)).order_by(sessions.c.created_at)
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).mappings()
            return [
                SessionRow(session=session_of(row), head=_head_of(row), live=row["live"], audit=row["audit"])
                for row in rows
            ]

    async def find(
        self,
        *,
        owner: str | None = None,
        owner_id: str | None = None,
        environment: str | None = None,
        target_prefix: str | None = None,
        state: str = "live",
        end_reason: EndReason | None = None,
        ids: Collection[str] | None = None,
        seen_by: tuple[str, Collection[str]] | None = None,
        limit: int,
        after: str | None = None,
    ) -> Page[Session]:
        """Return a page, newest first. *owner*: a name; *state*: live, ended or all; *ids*: none but these.

        *seen_by*: an owner's ID and areas; none but those of this owner, or in one of these areas.
        """
        wanted: list[ColumnElement[bool]] = []
        if owner is not None:
            wanted.append(sessions.c.owner_name == owner)
        if owner_id is not None:
            wanted.append(sessions.c.owner_id == owner_id)
        if environment is not None:
            wanted.append(sessions.c.environment == environment)
        if target_prefix is not None:
            wanted.append(sessions.c.target.startswith(target_prefix, autoescape=True))
        if state != "all":
            wanted.append(is_live if state == "live" else ~is_live)
        if end_reason is not None:
            wanted.append(sessions.c.end_reason == end_reason)
        if ids is not None:
            wanted.append(sessions.c.id.in_(ids))
        if seen_by is not None:
            wanted.append(or_(sessions.c.owner_id == seen_by[0], sessions.c.area.in_(seen_by[1])))
        async with self._database.reading() as connection:
            total = await connection.scalar(select(func.count()).select_from(sessions).where(*wanted)) or 0
            rows = (await connection.execute(_page(select(sessions).where(*wanted), limit, after))).mappings().all()
            found = [session_of(row) for row in rows[:limit]]
            before = await _before(connection, wanted, limit, found) if after is not None else None
        return Page(found, _token(found[-1]) if len(rows) > limit else None, total, before)

    async def areas(self) -> Collection[str]:
        async with self._database.reading() as connection:
            return (await connection.scalars(select(sessions.c.area).distinct())).all()

    async def extend(self, id: str, *, until_from_now: timedelta) -> Session:
        async with self._database.writing() as connection:
            session = await _there(connection, id)
            if session.is_over:
                raise Conflict(f"Session {id} is over: enable debugging again.")
            until = max(session.expires_at, await self._database.now(connection) + until_from_now)
            return await _change(connection, replace(session, expires_at=until))

    async def share(self, id: str, *, who: str, share: Share | None) -> Session:
        """Share the session with the principal of that ID; None: not any more."""
        async with self._database.writing() as connection:
            session = await _there(connection, id)
            shares = {**session.shares, who: share} if share else {**session.shares}
            if share is None:
                shares.pop(who, None)
            return await _change(connection, replace(session, shares=shares))

    async def allow(self, id: str, *, network: str) -> Session:
        """Let a debugger come from one network more."""
        async with self._database.writing() as connection:
            session = await _there(connection, id)
            return await _change(connection, replace(session, allow=tuple(dict.fromkeys((*session.allow, network)))))

    async def give(self, id: str, *, owner: Principal) -> Session:
        """Make somebody else the session's owner; the one before may still join."""
        async with self._database.writing() as connection:
            session = await _there(connection, id)
            shares = {**session.shares, session.owner.id: Share.JOIN}
            shares.pop(owner.id, None)
            return await _change(connection, replace(session, owner=owner, shares=shares))

    async def ask_end(
        self, id: str, *, reason: EndReason, detail: str | None, by: Principal | None, fence: Fence | None = None
    ) -> Session:
        """Note that the session is over, and why; the first reason stays. *fence*: of a gateway that decides it."""
        async with self._database.writing() as connection:
            session = await _there(connection, id, fence)
            if session.is_over:
                return session
            detail = detail and storable(detail)[:2000]
            return await _change(connection, replace(session, end_reason=reason, end_detail=detail, ended_by=by))

    async def finish(self, id: str, *, audit: Mapping[str, Any] | None, fence: Fence) -> Session:
        """Note that the session has ended, once."""
        async with self._database.writing() as connection:
            session = await _there(connection, id, fence)
            if session.ended_at is not None:
                return session
            if audit is not None:
                await connection.execute(update(sessions).where(sessions.c.id == id).values(audit=audit))
            now = await self._database.now(connection)
            await touch_port(connection, session.port, now)
            await append(connection, [_end_of(session, audit, at=now)])
            return await _change(connection, replace(session, ended_at=now))

    async def save_audits(self, audits: Mapping[str, tuple[Fence, Mapping[str, Any]]]) -> None:
        """Keep audits by session ID; one that has ended, or has another gateway, keeps the one that it has."""
        mine = (is_live, sessions.c.gateway == bindparam("by"), sessions.c.fence == bindparam("number"))
        one = update(sessions).where(sessions.c.id == bindparam("of"), *mine)
        one = one.values(audit=bindparam("seen"), version=sessions.c.version + 1)
        rows = [
            {"of": id, "by": fence.gateway, "number": fence.number, "seen": audit}
            for id, (fence, audit) in sorted(audits.items())
        ]
        async with self._database.writing() as connection:
            await connection.execute(one, rows)

    async def save_live(self, live: Mapping[str, tuple[Fence, Mapping[str, Any]]]) -> Mapping[str, int]:
        """Keep what is true of these sessions now; return the versions of the rows that still have these fences."""
        if not live:
            return {}
        states = {id: literal(state, JSON) for id, (_, state) in sorted(live.items())}
        mine = [(id, fence.gateway, fence.number) for id, (fence, _) in live.items()]
        statement = (
            update(sessions)
            .where(is_live, tuple_(sessions.c.id, sessions.c.gateway, sessions.c.fence).in_(mine))
            .values(live=case(states, value=sessions.c.id), version=sessions.c.version + 1)
            .returning(sessions.c.id, sessions.c.version)
        )
        async with self._database.writing() as connection:
            versions = {row.id: row.version for row in await connection.execute(statement)}
            await send(connection, Channel.SESSIONS)
            return versions

    # -- which gateway has it

    async def take_over(self, *, gateway: str, most: int, ids: Collection[str] | None = None) -> list[str]:
        """Make *gateway* that of sessions that have none which is there; return their IDs. *ids*: none but these."""
        is_there = exists().where(gateways.c.id == sessions.c.gateway)
        free = select(sessions.c.id, sessions.c.fence).where(is_live, or_(sessions.c.gateway.is_(None), ~is_there))
        if ids is not None:
            free = free.where(sessions.c.id.in_(ids))
        async with self._database.writing() as connection:
            # Two steps: of a row that changes meanwhile only its own columns are compared again, not the gateways.
            found = (await connection.execute(free.order_by(sessions.c.created_at).limit(most))).all()
            if not found:
                return []
            unchanged = tuple_(sessions.c.id, sessions.c.fence).in_([(row.id, row.fence) for row in found])
            locked = select(sessions.c.id).where(is_live, unchanged).with_for_update(skip_locked=True)
            taken = list((await connection.scalars(locked)).all())
            changed = {"gateway": gateway, "fence": sessions.c.fence + 1, "version": sessions.c.version + 1}
            await connection.execute(update(sessions).where(sessions.c.id.in_(taken)).values(changed))
            await send(connection, Channel.SESSIONS)  # for those who hold debuggers that came to their ports
            return taken

    async def hand_over(
        self,
        id: str,
        *,
        to: str | None,
        fence: Fence,
        live: Mapping[str, Any] | None,
        audit: Mapping[str, Any] | None,
    ) -> None:
        """Make *to* the session's gateway; None: whichever takes it. What the one before saw is kept for it.

        Raises LostSession, and Conflict if the gateway *to* is not there.
        """
        async with self._database.writing() as connection:
            await _there(connection, id, fence)
            if to is not None and not await connection.scalar(select(exists().where(gateways.c.id == to))):
                raise Conflict(f"There is no gateway {to!r}.")
            changed = {"gateway": to, "fence": fence.number + 1, "version": sessions.c.version + 1}
            seen = {"live": live, "audit": audit}
            await connection.execute(update(sessions).where(sessions.c.id == id).values({**changed, **seen}))
            await send(connection, Channel.SESSIONS)

    async def move(self, id: str, *, target: Target, fence: Fence) -> Session:
        """Change the session's target. AlreadyDebugged if another session is on it."""
        for _ in range(ROUNDS):
            try:
                async with self._database.writing() as connection:
                    return await _change(connection, replace(await _there(connection, id, fence), target=target))
            except IntegrityError as e:
                if violated(e) != ONE_PER_TARGET:
                    raise
                async with self._database.reading() as connection:
                    await _raise_if_held(connection, target)
        raise Unavailable(f"{target} is wanted by many at the same time: try again.")

    async def place(self, id: str, *, environment: str, fence: Fence) -> Session:
        """Note in which environment the session's target is now."""
        async with self._database.writing() as connection:
            return await _change(connection, replace(await _there(connection, id, fence), environment=environment))

    async def move_port(self, id: str, *, ports: range, avoid: Set[int], fence: Fence) -> Session:
        """Give the session another port, which is kept from now on; *avoid*: ports that another program has."""
        async with self._database.writing() as connection:
            session = await _there(connection, id, fence)
            owner, app, place = session.owner.id, session.app, place_of(session.target, session.workload)
            port = await choose_port(connection, owner, app, place, ports=ports, avoid=avoid | {session.port})
            now = await self._database.now(connection)
            await give_up_port(connection, session.port, now)
            await keep_port(connection, port, owner, app, now)
            return await _change(connection, replace(session, port=port))


def _end_of(session: Session, audit: Mapping[str, Any] | None, *, at: datetime) -> Entry:
    """Return the trail's row: why it ended, by whom, and what its debuggers did."""
    reason = str(session.end_reason).replace("_", " ")
    return Entry(
        code=TrailCode.ENDED,
        at=at,
        who=session.ended_by,
        target=str(session.target),
        session=session.id,
        sentence=f"The session of {session.owner.name} was {reason}.",
        more={"reason": session.end_reason, "owner": session.owner.id, "commands": audit["commands"] if audit else {}},
    )


async def _raise_if_held(connection: AsyncConnection, target: Target) -> None:
    holding = select(sessions.c.owner_name, sessions.c.id).where(is_live, sessions.c.target == str(target))
    row = (await connection.execute(holding)).first()
    if row is not None:
        raise AlreadyDebugged(target=str(target), holder=row.owner_name, session_id=row.id)


async def _there(connection: AsyncConnection, id: str, fence: Fence | None = None) -> Session:
    # FOR UPDATE: what is written afterwards is a function of what is read here. SQLite has locked everything already.
    row = (await connection.execute(select(sessions).where(sessions.c.id == id).with_for_update())).mappings().first()
    if row is None:
        raise NotFound(f"There is no session {id[:40]!r}.")
    if fence is not None and (row["gateway"], row["fence"]) != (fence.gateway, fence.number):
        raise LostSession(f"Session {id} is another gateway's by now.")
    return session_of(row)


async def _change(connection: AsyncConnection, session: Session) -> Session:
    values = {**row_of(session), "version": sessions.c.version + 1}
    await connection.execute(update(sessions).where(sessions.c.id == session.id).values(values))
    await send(connection, Channel.SESSIONS)
    return session


_LINE = (
    sessions.c.id
    + " "
    + cast(sessions.c.version, String)
    + " "
    + cast(sessions.c.fence, String)
    + " "
    + func.coalesce(sessions.c.gateway, "")
)


def _head_in(line: str) -> Head:
    id, version, number, gateway = line.split(" ")
    return Head(id=id, version=int(version), gateway=gateway or None, number=int(number))


def _head_of(row: RowMapping) -> Head:
    return Head(id=row["id"], version=row["version"], gateway=row["gateway"], number=row["fence"])


def _page(statement: Select[Any], limit: int, after: str | None) -> Select[Any]:
    key = tuple_(sessions.c.created_at, sessions.c.id)
    if after is not None:
        statement = statement.where(key < tuple_(*_read_token(after)))
    return statement.order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(limit + 1)


async def _before(
    connection: AsyncConnection, wanted: Sequence[ColumnElement[bool]], limit: int, found: Sequence[Session]
) -> str | None:
    """Return the token of the page that ends where *found* begins."""
    if not found:
        return ""
    key = tuple_(sessions.c.created_at, sessions.c.id)
    newer = select(sessions).where(*wanted, key > tuple_(found[0].created_at, found[0].id))
    oldest_first = newer.order_by(sessions.c.created_at, sessions.c.id).limit(limit + 1)
    rows = (await connection.execute(oldest_first)).mappings().all()
    if len(rows) > limit:
        return _token(session_of(rows[limit]))
    return "" if rows else None


def _token(last: Session) -> str:
    return base64.urlsafe_b64encode(f"{last.created_at.isoformat()} {last.id}".encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[datetime, str]:
    try:
        at, _, id = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(" ")
        return datetime.fromisoformat(at).astimezone(UTC), id
    except (ValueError, OverflowError):
        raise BadInput("Unknown token: to continue, use the one that the page before gave.") from None
