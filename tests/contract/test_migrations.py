"""The migrations lead to the tables that the store uses, up and down, on both databases."""

import asyncio
import time
from itertools import pairwise

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from noah.core.session.principal import PrincipalKind
from noah.errors import Unavailable
from noah.store import Store, downgrade, upgrade
from noah.store.database import open_engine, open_plain_engine
from noah.store.revisions import MIGRATIONS
from noah.store.tables import metadata
from tests.postgres import Postgres
from tests.principals import BOB


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


@pytest.mark.postgres
async def test_a_database_made_in_the_locale_c_serves(postgres: Postgres) -> None:
    name = f"t{time.monotonic_ns()}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    url = postgres.url(name)
    upgrade(url)
    assert tables(url) == {*metadata.tables, "alembic_version"}
    engine = open_engine(url, set())
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT :name"), {"name": "Zoë"}) == "Zoë"
    await engine.dispose()


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


def test_the_database_says_which_gateways_can_serve_it(url: str) -> None:
    upgrade(url)
    engine = open_plain_engine(url)
    with engine.connect() as connection:
        # Revisions 0007 and 0008 only add to what a gateway of 0006 uses.
        assert connection.exec_driver_sql("SELECT revision FROM served_from").scalars().all() == ["0006"]
    engine.dispose()


def test_an_additive_revision_leaves_what_older_gateways_use(url: str) -> None:
    files = sorted((MIGRATIONS / "versions").glob("*.py"))
    for before, file in pairwise(files):
        if "\nis_additive = True\n" not in file.read_text():
            continue
        upgrade(url, before.name[:4])
        old = shape(url)
        upgrade(url, file.name[:4])
        new = shape(url)
        for table, (columns, unique) in old.items():
            added = {name: column for name, column in new[table][0].items() if name not in columns}
            assert {name: column for name, column in new[table][0].items() if name in columns} == columns
            # An older gateway writes its rows without them.
            assert all(is_nullable or default is not None for _, is_nullable, default in added.values()), added
            assert new[table][1] == unique
        downgrade(url, "base")


Column = tuple[str, bool, str | None]  # type, whether it may be null, the server's default


def shape(url: str) -> dict[str, tuple[dict[str, Column], set[str | None]]]:
    """The columns and the unique indexes of each table."""
    engine = open_plain_engine(url)
    try:
        found = inspect(engine)
        return {
            table: (
                {one["name"]: (str(one["type"]), one["nullable"], one["default"]) for one in found.get_columns(table)},
                {index["name"] for index in found.get_indexes(table) if index["unique"]},
            )
            for table in found.get_table_names()
        }
    finally:
        engine.dispose()


async def test_names_that_were_only_claimed_stay_readable_and_nobody_has_them(url: str) -> None:
    upgrade(url, "0003")
    engine = open_plain_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO sessions (id, target, app, owner, port, created_at, expires_at, allow, allow_exit,"
            " may_restart, end_reason, ended_by, ended_at)"
            " VALUES ('s-1', 'local/a', 'a', 'ada', 20000, '2026-01-01 10:00:00+00', '2026-01-01 12:00:00+00', '[]',"
            " false, false, 'canceled', 'Åsa', '2026-01-01 11:00:00+00'),"
            " ('s-2', 'local/b', 'b', 'bob', 20001, '2026-01-01 10:00:00+00', '2026-01-01 12:00:00+00', '[]', false,"
            " false, NULL, NULL, NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO debug_ports (port, owner, app, used_at) VALUES (20001, 'bob', 'b', '2026-01-01 10:00:00+00'),"
            " (20002, '', '', '2026-01-01 10:00:00+00')"
        )
    upgrade(url)
    store = Store.open(url)
    over, live = await store.sessions.get("s-1"), await store.sessions.get("s-2")
    await store.close()
    assert over is not None
    assert live is not None
    assert (over.owner.name, over.ended_by and over.ended_by.name, live.ended_by) == ("ada", "Åsa", None)
    assert (live.owner.kind, live.owner == BOB) == (PrincipalKind.CLAIMED, False)
    downgrade(url, "0003")
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT owner, ended_by FROM sessions ORDER BY id").all()
        ports = connection.exec_driver_sql("SELECT port, owner FROM debug_ports ORDER BY port").all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [("ada", "Åsa"), ("bob", None)]
    assert [tuple(row) for row in ports] == [(20001, "bob"), (20002, "")]
