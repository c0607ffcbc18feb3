"""The database's revision: which one it is at, which one this gateway needs, and the way there (migrations/)."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, func, select

from noah.errors import BadSettings
from noah.store.database import open_plain_engine, translated

UPGRADING = 0x6E6F6168_00000001  # PostgreSQL's advisory lock for who migrates; "noah" and a number


def upgrade(url: str, revision: str = "head") -> None:
    _run(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    _run(url, command.downgrade, revision)


def check(connection: Connection) -> None:
    """Raise BadSettings, with what to do, unless the database is at the revision that this gateway was made for."""
    needed, *older = _known()
    found = MigrationContext.configure(connection).get_current_revision()
    if found == needed:
        return
    if found is not None and found not in older:
        raise BadSettings(
            f"The database is at revision {found}, which this gateway does not know (it needs {needed}): "
            "a newer gateway made it, so run that one."
        )
    at = f"at revision {found}" if found else "empty"
    raise BadSettings(f"The database is {at}, this gateway needs revision {needed}: run `noah db upgrade`.")


@cache
def _known() -> tuple[str, ...]:
    """Return all revisions, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _run(url: str, what: Callable[[Config, str], None], revision: str) -> None:
    engine = open_plain_engine(url)
    try:
        # One transaction for all steps: a migration that fails leaves the database as it was.
        with translated(), engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # Of two that upgrade at once, the second finds the work done. SQLite lets one write at a time.
                connection.execute(select(func.pg_advisory_xact_lock(UPGRADING)))
            config = _config()
            config.attributes["connection"] = connection
            what(config, revision)
    except CommandError as e:
        raise BadSettings(f"The database cannot be brought to revision {revision}: {e}.") from e
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config
