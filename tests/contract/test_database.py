"""A database that is away, slow, locked, at another revision or not one at all: a sentence, and then it works again."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from noah.core.session.session import EndReason
from noah.errors import BadInput, BadSettings, Unavailable
from noah.store import Store, downgrade, upgrade
from noah.store.database import open_plain_engine
from tests.contract.asking import add, live
from tests.postgres import Postgres


async def test_a_database_at_another_revision_is_refused_with_what_to_run(url: str) -> None:
    store = Store.open(url)
    with pytest.raises(BadSettings, match=r"is empty.*run `noah db upgrade`"):
        await store.check()
    await asyncio.to_thread(upgrade, url)
    await store.check()
    await asyncio.to_thread(downgrade, url, "base")
    with pytest.raises(BadSettings, match="run `noah db upgrade`"):
        await store.check()
    await store.close()


def made_by_a_newer_gateway(url: str, *, served_from: str) -> None:
    """Have the database be one that a revision has come to which nobody here knows."""
    engine = open_plain_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE sessions ADD COLUMN mood varchar(20) NOT NULL DEFAULT 'good'")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql(f"UPDATE served_from SET revision = '{served_from}'")
    engine.dispose()


async def test_a_database_that_a_newer_gateway_changed_is_refused(store: Store, url: str) -> None:
    made_by_a_newer_gateway(url, served_from="9999")
    with pytest.raises(BadSettings, match=r"revision 9999.*newer gateway"):
        await store.check()
    with pytest.raises(BadSettings, match="9999"):
        await asyncio.to_thread(upgrade, url)


async def test_a_database_that_a_newer_gateway_only_added_to_is_served(store: Store, url: str) -> None:
    made_by_a_newer_gateway(url, served_from="0008")
    await store.check()
    await asyncio.to_thread(upgrade, url)  # does nothing: the newer gateway has done it
    await add(store, "s1")
    assert (await store.sessions.ask_end("s1", reason=EndReason.CANCELED, detail=None, by=None)).is_over


async def test_text_that_no_database_holds_is_refused_or_mended(store: Store) -> None:
    # What a container said on its way down may be anything.
    await add(store, "s1")
    ended = await store.sessions.ask_end("s1", reason=EndReason.FAILED, detail="a\0b\udc80" + "c" * 5000, by=None)
    assert ended.end_detail is not None
    assert ended.end_detail.startswith("ab?c")
    assert await store.sessions.get("s1") == ended
    with pytest.raises(BadInput, match="cannot hold"):
        await store.sessions.find(owner="\udc80", limit=1)


@pytest.mark.postgres
async def test_a_nul_in_what_is_looked_for_is_bad_input(postgres_url: str) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    store = Store.open(postgres_url)
    with pytest.raises(BadInput, match="NUL"):
        await store.sessions.find(target_prefix="pod/\0", limit=1)
    await store.close()


@pytest.mark.postgres
async def test_a_postgresql_that_comes_back_is_used_again(postgres: Postgres, postgres_url: str) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    store = Store.open(postgres_url)
    await add(store, "s1")
    await asyncio.to_thread(postgres.kill)
    try:
        for _ in range(2):  # the connection that was open, and a new one
            with pytest.raises(Unavailable, match="database does not answer"):
                await live(store)
    finally:
        await asyncio.to_thread(postgres.start)
    assert [session.id for session in await live(store)] == ["s1"]
    await store.close()


@pytest.mark.postgres
async def test_a_postgresql_that_hangs_costs_no_more_than_the_deadline(postgres: Postgres, postgres_url: str) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    store = Store.open(postgres_url)
    await add(store, "s1")
    with postgres.hanging():
        async with asyncio.timeout(15):
            with pytest.raises(Unavailable, match="nothing came within 10 s"):
                await live(store)
    assert [session.id for session in await live(store)] == ["s1"]
    await store.close()


@pytest.mark.postgres
async def test_a_switchover_to_read_only_and_back_is_survived(postgres: Postgres, postgres_url: str) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store = Store.open(postgres_url)  # its connections are made now, to what has become a standby
    with pytest.raises(Unavailable, match="read-only"):
        await add(store, "s1")
    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await add(store, "s2")
    await store.close()


@pytest.mark.postgres
async def test_a_missing_right_is_said(postgres: Postgres, postgres_url: str) -> None:
    postgres.execute("DROP ROLE IF EXISTS eve", "CREATE ROLE eve LOGIN")
    url = postgres_url.replace("noah@", "eve@")
    with pytest.raises(Unavailable, match="refuses: permission denied for schema public"):
        await asyncio.to_thread(upgrade, url)
    await asyncio.to_thread(upgrade, postgres_url)
    store = Store.open(url)
    with pytest.raises(Unavailable, match="refuses: permission denied"):
        await live(store)
    await store.close()


async def test_a_database_that_is_not_there_is_said(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/nowhere/noah.db", "postgresql://noah@127.0.0.1:9/noah"):
        store = Store.open(url)
        with pytest.raises(Unavailable, match="The database does not answer"):
            await store.check()
        await store.close()
        with pytest.raises(Unavailable, match="The database does not answer"):
            await asyncio.to_thread(upgrade, url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:secret@host/noah",
        "postgresql://user:secret@host:port/noah",
        "postgresql",
        "",
        "noah.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://user:secret@host/file",
    ],
)
def test_what_is_no_url_of_a_database_is_refused_and_no_password_shown(url: str) -> None:
    with pytest.raises(BadSettings, match=r"sqlite:///FILE nor postgresql://USER") as caught:
        Store.open(url)
    assert "secret" not in caught.value.sentence


async def test_a_locked_file_is_waited_for_and_then_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/noah.db"
    await asyncio.to_thread(upgrade, url)
    store = Store.open(url)
    with closing(sqlite3.connect(tmp_path / "noah.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            await add(store, "s1")
        assert await live(store) == []  # readers do not wait for writers
        other.execute("ROLLBACK")
    await add(store, "s2")
    await store.close()


async def test_a_request_that_is_canceled_again_and_again_leaves_nothing_that_never_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/noah.db"
    await asyncio.to_thread(upgrade, url)
    store = Store.open(url)
    before = asyncio.all_tasks()
    for turns in range(100):
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(store.sessions.heads(), name="ask")
            for _ in range(turns % 25):
                await asyncio.sleep(0)
            for _ in range(4):
                asked.cancel()
                await asyncio.sleep(0)
    await store.close()
    if left := asyncio.all_tasks() - before:
        _, unending = await asyncio.wait(left, timeout=10)
        assert not unending
