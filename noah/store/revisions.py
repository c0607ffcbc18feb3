"""The database's revision: which one it is at, which one this gateway needs, and the way there (migrations/).

Old and new gateways run side by side while they are replaced. A revision that says `is_additive = True` changes nothing
that gateways of the revision before it use, so these go on with the database: it has in `served_from` the oldest
revision that can serve it. So expand first, and contract (without is_additive) a version later.
"""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, column, delete, func, insert, inspect, select, table

if TYPE_CHECKING:
    from alembic.config import Config

from noah.errors import BadSettings
from noah.store.database import open_plain_engine, translated
from noah.store.tables import served_from

# Alembic is imported by those who migrate only: it takes a tenth of a gateway's memory.
_REVISION = re.compile(r'^(?:down_)?revision = (?:"(\w+)"|None)$', re.MULTILINE)
_ADDITIVE = re.compile(r"^is_additive = True$", re.MULTILINE)
MIGRATIONS = Path(__file__).with_name("migrations")
UPGRADING = 0x6E6F6168_00000001  # PostgreSQL's advisory lock for who migrates; "noah" and a number


def upgrade(url: str, revision: str = "head") -> None:
    _run(url, "upgrade", revision)


def downgrade(url: str, revision: str) -> None:
    _run(url, "downgrade", revision)


def check(connection: Connection) -> None:
    """Raise BadSettings, with what to do, unless this gateway can serve the database as it is."""
    needed, *older = _known()
    found = _current(connection)
    if found == needed or _is_newer_and_served(connection, found):
        return
    if found is not None and found not in older:
        raise BadSettings(
            f"The database is at revision {found}, which this gateway does not know (it needs {needed}): "
            "a newer gateway made it, so run that one."
        )
    at = f"at revision {found}" if found else "empty"
    raise BadSettings(f"The database is {at}, this gateway needs revision {needed}: run `noah db upgrade`.")


def _is_newer_and_served(connection: Connection, found: str | None) -> bool:
    """Return whether a newer gateway made the database, and this one can serve it all the same."""
    known = _known()
    if found is None or found in known or not inspect(connection).has_table(served_from.name):
        return False
    return connection.scalar(select(served_from.c.revision)) in known


def _current(connection: Connection) -> str | None:
    """Return the revision that Alembic has noted in the database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(select(column("version_num")).select_from(table("alembic_version")))
    return found


@cache
def _known() -> tuple[str, ...]:
    """Return all revisions, the newest first."""
    after = {}
    for file in (MIGRATIONS / "versions").glob("*.py"):
        revision, before = _REVISION.findall(file.read_text(encoding="utf-8"))
        after[before] = revision
    known = [after[""]]
    while known[-1] in after:
        known.append(after[known[-1]])
    return tuple(reversed(known))


def _served_from(revision: str) -> str:
    """Return the oldest revision whose gateway can serve a database at *revision*."""
    known = _known()
    for one in known[known.index(revision) :]:
        (file,) = (MIGRATIONS / "versions").glob(f"{one}_*.py")
        if not _ADDITIVE.search(file.read_text(encoding="utf-8")):
            return one
    return known[-1]


def _note_served_from(connection: Connection) -> None:
    if inspect(connection).has_table(served_from.name):
        found = _current(connection)
        assert found is not None  # the table is there
        connection.execute(delete(served_from))
        connection.execute(insert(served_from).values(revision=_served_from(found)))


def _run(url: str, what: Literal["upgrade", "downgrade"], revision: str) -> None:
    from alembic import command
    from alembic.util import CommandError

    engine = open_plain_engine(url)
    try:
        # One transaction for all steps: a migration that fails leaves the database as it was.
        with translated(), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Of two that upgrade at once, the second finds the work done. SQLite lets one write at a time.
                connection.execute(select(func.pg_advisory_xact_lock(UPGRADING)))
            if what == "upgrade" and _is_newer_and_served(connection, _current(connection)):
                return  # an older gateway that is started once more while they are replaced
            config = _config()
            config.attributes["connection"] = connection
            run = command.upgrade if what == "upgrade" else command.downgrade
            run(config, revision)
            _note_served_from(connection)
    except CommandError as e:
        raise BadSettings(f"The database cannot be brought to revision {revision}: {e}.") from e
    finally:
        engine.dispose()


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
