"""The migrations lead to the tables that the store uses, up and down, on both databases."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from noah.errors import Unavailable
from noah.store import downgrade, upgrade
from noah.store.database import open_plain_engine
from noah.store.tables import metadata


def tables(url: str) -> set[str]:
    engine = open_plain_engine(url)
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
    engine = open_plain_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


async def test_two_who_upgrade_at_once_do_not_disturb_each_other(url: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(upgrade, url) for _ in range(4)))
    assert tables(url) == {*metadata.tables, "alembic_version"}


def test_a_migration_that_fails_leaves_the_database_as_it_was(url: str) -> None:
    engine = open_plain_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE debug_ports (x integer)")  # the second table that 0001 makes
    engine.dispose()
    with pytest.raises(Unavailable, match=r"debug_ports.* already exists"):
        upgrade(url)
    assert tables(url) == {"debug_ports"}
