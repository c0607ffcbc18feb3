"""The migrations lead to the tables that the store uses, up and down, on both databases."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from noah.store import downgrade, upgrade
from noah.store.database import plain_url
from noah.store.tables import metadata


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/noah.db"


def tables(url: str) -> set[str]:
    engine = create_engine(plain_url(url))
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_up_down_and_up_again(url: str) -> None:
    upgrade(url)
    assert tables(url) == {*metadata.tables, "alembic_version"}
    downgrade(url, "base")
    assert tables(url) == {"alembic_version"}
    upgrade(url)
    upgrade(url)  # there is nothing left to do
    assert tables(url) == {*metadata.tables, "alembic_version"}


def test_the_migrations_make_what_the_store_declares(url: str) -> None:
    upgrade(url)
    engine = create_engine(plain_url(url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
