"""The database's revision: which one it is at, which one this gateway needs, and the way there (migrations/)."""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, column, func, inspect, select, table

if TYPE_CHECKING:
    from alembic.config import Config

from noah.errors import BadSettings
from noah.store.database import open_plain_engine, translated

# Alembic is imported by those who migrate only: it takes a tenth of a gateway's memory.
_REVISION = re.compile(r'^(?:down_)?revision = (?:"(\w+)"|None)$', re.MULTILINE)
MIGRATIONS = Path(__file__).with_name("migrations")
UPGRADING = 0x6E6F6168_00000001  # PostgreSQL's advisory lock for who migrates; "noah" and a number


def upgrade(url: str, revision: str = "head") -> None:
    _run(url, "upgrade", revision)


def downgrade(url: str, revision: str) -> None:
    _run(url, "downgrade", revision)


def check(connection: Connection) -> None:
    """Raise BadSettings, with what to do, unless the database is at the revision that this gateway was made for."""
    needed, *older = _known()
    found = _current(connection)
    if found == needed:
        return
    if found is not None and found not in older:
        raise BadSettings(
            f"The database is at revision {found}, which this gateway does not know (it needs {needed}): "
            "a newer gateway made it, so run that one."
        )
    at = f"at revision {found}" if found else "empty"
    raise BadSettings(f"The database is {at}, this gateway needs revision {needed}: run `noah db upgrade`.")


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
            config = _config()
            config.attributes["connection"] = connection
            run = command.upgrade if what == "upgrade" else command.downgrade
            run(config, revision)
    except CommandError as e:
        raise BadSettings(f"The database cannot be brought to revision {revision}: {e}.") from e
    finally:
        engine.dispose()


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
