"""The tables. A row and a Session are functions of each other; there is no third shape of the same thing."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)

from noah.core.session.principal import Principal
from noah.core.session.rights import area_of
from noah.core.session.session import EndReason, Session, Share
from noah.core.session.target import parse_target

# Names of constraints must not depend on the database: SQLite changes a table by copying it, and drops by name.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMES)


class Instant(TypeDecorator[datetime]):
    """A point in time. PostgreSQL keeps the zone; SQLite has none, so it is kept as UTC there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


sessions = Table(
    "sessions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("target", String(1000), nullable=False),
    Column("area", String(700), nullable=False),  # of the target: on what rights are given (core/session/rights.py)
    Column("workload", String(300)),
    Column("app", String(300), nullable=False),
    Column("environment", String(300), nullable=False, server_default=""),
    Column("owner", JSON, nullable=False),  # the principal
    Column("owner_id", String(2000), nullable=False),  # by which it is compared
    Column("owner_name", String(200), nullable=False),  # by which people look for it
    Column("port", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("allow", JSON, nullable=False),
    Column("shares", JSON, nullable=False),
    Column("allow_exit", Boolean, nullable=False),
    Column("may_restart", Boolean, nullable=False, server_default=false()),
    Column("pause_budget", Float),  # seconds
    Column("end_reason", String(20)),
    Column("end_detail", String(2000)),
    Column("ended_by", JSON(none_as_null=True)),  # the principal
    Column("ended_at", Instant),
    Column("audit", JSON(none_as_null=True)),
    Column("gateway", String(40)),  # that runs the session's task; null: none does
    Column("fence", BigInteger, nullable=False, server_default="0"),  # higher with each gateway that it gets
    Column("version", BigInteger, nullable=False, server_default="0"),  # higher with each write of the row
    Column("live", JSON(none_as_null=True)),  # what is true now, as its gateway says (core/session/live_state.py)
)
is_live = sessions.c.ended_at.is_(None)
# The database judges who was first: one session per target, one per port, as long as it has not ended.
ONE_PER_TARGET, ONE_PER_PORT = "ux_sessions_live_target", "ux_sessions_live_port"
Index(ONE_PER_TARGET, sessions.c.target, unique=True, sqlite_where=is_live, postgresql_where=is_live)
Index(ONE_PER_PORT, sessions.c.port, unique=True, sqlite_where=is_live, postgresql_where=is_live)
Index("ix_sessions_area", sessions.c.area)
Index("ix_sessions_created_at_id", sessions.c.created_at, sessions.c.id)

debug_ports = Table(
    "debug_ports",
    metadata,
    Column("port", Integer, primary_key=True, autoincrement=False),
    Column("owner_id", String(2000), nullable=False),  # a principal's; "": another program of the machine
    Column("app", String(300), nullable=False),
    Column("used_at", Instant, nullable=False),
)

host_edits = Table(
    "host_edits",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("target", String(1000), nullable=False),
    Column("session", String(40), nullable=False),
    Column("file", String(1000), nullable=False),
    Column("before", LargeBinary, nullable=False),
    Column("after", LargeBinary, nullable=False),
    Column("mode", String(40), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("state", String(20), nullable=False),
    Column("why", String(2000)),
    Column("created_at", Instant, nullable=False),
)
# One edit per target at a time, as long as it is not over (core/host/edits.py).
ONE_OPEN_EDIT = "ux_host_edits_open_target"
is_open = host_edits.c.state.in_(["planned", "applied", "undoing", "rolling-back"])
Index(ONE_OPEN_EDIT, host_edits.c.target, unique=True, sqlite_where=is_open, postgresql_where=is_open)
Index("ix_host_edits_session", host_edits.c.session)

# Who is logged in. A browser's cookie, or a command line, has the ID; a row has only its hash.
logins = Table(
    "logins",
    metadata,
    Column("id_hash", String(64), primary_key=True),
    Column("principal", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("used_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("sealed", LargeBinary),  # what only the cookie opens: a provider's tokens
)
Index("ix_logins_expires_at", logins.c.expires_at)

releases = Table(
    "releases",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("cluster", String(300), nullable=False),
    Column("namespace", String(300), nullable=False),
    Column("environment", String(300), nullable=False, server_default=""),
    Column("kind", String(40), nullable=False),
    Column("workload", String(300), nullable=False),
    Column("revision", String(300), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("result", String(20), nullable=False),
    Column("online", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("sentence", String(2000), nullable=False),
    Column("events", LargeBinary, nullable=False),  # store/releases.py says how
)
Index("ix_releases_started_at_id", releases.c.started_at, releases.c.id)


trail = Table(
    "trail",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    # What rows are found by; the text has it too.
    Column("at", Instant, nullable=False),
    Column("code", String(40), nullable=False),
    Column("who", String(200), nullable=False),
    Column("target", String(1000), nullable=False),
    Column("session", String(40), nullable=False),
    Column("entry", Text, nullable=False),  # core/session/trail.py says what is in it
    Column("hash", String(64), nullable=False),
)
Index("ix_trail_at", trail.c.at)
Index("ix_trail_session", trail.c.session)


# Gateways that are there: each has its row for as long as it renews its lease (store/gateways.py).
gateways = Table(
    "gateways",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(300), nullable=False),
    Column("peer_host", String(300)),  # where the others reach it
    Column("peer_port", Integer),
    Column("certificate", Text),  # by which they recognize it
    Column("version", String(40), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("lease_until", Instant, nullable=False),  # by the database's clock
    Column("is_draining", Boolean, nullable=False, server_default=false()),
)

# What only a session's gateway can do, and is asked for at another one.
wishes = Table(
    "wishes",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("session", String(40), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("by", JSON(none_as_null=True)),  # the principal
    Column("text", Text),
    Column("at", Instant, nullable=False),
)
Index("ix_wishes_session", wishes.c.session)

# What else is owned by lease: a release that is followed, a revert on a host, the renewal of a certificate, tidying.
claims = Table(
    "claims",
    metadata,
    Column("kind", String(40), primary_key=True),
    Column("key", String(1000), primary_key=True),
    Column("gateway", String(40)),
    Column("fence", BigInteger, nullable=False, server_default="0"),
)

feed = Table(
    "feed",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("subject", String(1000), nullable=False),
    Column("data", JSON, nullable=False),
    Column("source", String(60)),  # the gateway's number for it: an append that is tried again doubles nothing
)
Index("ix_feed_at", feed.c.at)

# One row: the last number that was given, and the epoch that the numbers are of.
feed_counter = Table(
    "feed_counter",
    metadata,
    Column("epoch", String(40), primary_key=True),
    Column("last", BigInteger, nullable=False),
)


# What a release that is followed has published, for the gateways that do not follow it (store/releases.py).
release_chunks = Table(
    "release_chunks",
    metadata,
    Column("release", String(40), primary_key=True),
    Column("last", BigInteger, primary_key=True, autoincrement=False),  # number of its last event
    Column("run", String(20), nullable=False),  # in which the numbers count
    Column("is_over", Boolean, nullable=False),
    Column("at", Instant, nullable=False),
    Column("events", LargeBinary, nullable=False),
)

# One row: the oldest revision whose gateway can serve the database as it is (revisions.py).
served_from = Table("served_from", metadata, Column("revision", String(40), primary_key=True))


def row_of(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "target": str(session.target),
        "area": area_of(session.target),
        "workload": session.workload,
        "app": session.app,
        "environment": session.environment,
        "owner": session.owner.to_json(),
        "owner_id": session.owner.id,
        "owner_name": session.owner.name,
        "port": session.port,
        "created_at": session.created_at,
        "expires_at": session.expires_at,
        "allow": list(session.allow),
        "shares": dict(session.shares),
        "allow_exit": session.allow_exit,
        "may_restart": session.may_restart,
        "pause_budget": session.pause_budget and session.pause_budget.total_seconds(),
        "end_reason": session.end_reason,
        "end_detail": session.end_detail,
        "ended_by": session.ended_by and session.ended_by.to_json(),
        "ended_at": session.ended_at,
    }


def session_of(row: RowMapping) -> Session:
    return Session(
        id=row["id"],
        target=parse_target(row["target"]),
        workload=row["workload"],
        app=row["app"],
        environment=row["environment"],
        owner=Principal.from_json(row["owner"]),
        port=row["port"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        allow=tuple(row["allow"]),
        shares={who: Share(share) for who, share in row["shares"].items()},
        allow_exit=row["allow_exit"],
        may_restart=row["may_restart"],
        pause_budget=None if row["pause_budget"] is None else timedelta(seconds=row["pause_budget"]),
        end_reason=row["end_reason"] and EndReason(row["end_reason"]),
        end_detail=row["end_detail"],
        ended_by=row["ended_by"] and Principal.from_json(row["ended_by"]),
        ended_at=row["ended_at"],
    )
