"""The database's revision: which one it is at, which one this gateway needs, and the way there (migrations/)."""

import sysconfig
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import OperationalError

from noah.errors import BadSettings, Unavailable
from noah.store.database import plain_url


def upgrade(url: str, revision: str = "head") -> None:
    _run(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    _run(url, command.downgrade, revision)


def check(connection: Connection) -> None:
    """BadSettings, with what to run, unless the database is at the revision that this gateway was made for."""
    needed = ScriptDirectory.from_config(_config()).get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    if found != needed:
        at = f"at revision {found}" if found else "empty"
        raise BadSettings(f"The database is {at}, this gateway needs revision {needed}: run `noah db upgrade`.")


def _run(url: str, what: object, revision: str) -> None:
    engine = create_engine(plain_url(url))
    try:
        # The one transaction of all steps: a migration that fails leaves the database as it was.
        with engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            what(config, revision)  # type: ignore[operator]
    except OperationalError as e:
        raise Unavailable(f"The database does not answer: {str(e.orig).strip().splitlines()[0]}.") from e
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


def _migrations() -> Path:
    """Beside the package in a checkout; under the installation's share/ when it was installed from a wheel."""
    checkout = Path(__file__).parents[2] / "migrations"
    return checkout if (checkout / "env.py").exists() else Path(sysconfig.get_path("data")) / "share/noah/migrations"
