"""One gateway per database, on SQLite and on PostgreSQL alike."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from noah.store import upgrade
from noah.store.lease import AnotherGateway, serving_alone
from tests.postgres import Postgres

# A gateway as far as the database sees it.
HOLDS = """
import asyncio, sys
from noah.store.lease import serving_alone
async def main():
    async with serving_alone(sys.argv[1]):
        print("holds", flush=True)
        await asyncio.sleep(300)
asyncio.run(main())
"""

HOLDERS = "FROM pg_locks JOIN pg_database ON oid = database WHERE locktype = 'advisory' AND granted"


@asynccontextmanager
async def another_gateway(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDS, url, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"holds\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_second_gateway_is_refused_with_what_to_do(url: str) -> None:
    async with another_gateway(url):
        with pytest.raises(AnotherGateway, match=r"stop it, or give this one a database of its own"):
            await _serve_a_moment(url, patience=0.5)
        await asyncio.to_thread(upgrade, url)  # which serves nobody


async def test_a_file_is_the_same_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("noah.db")
    async with serving_alone(f"sqlite:///{tmp_path}/noah.db"):
        with pytest.raises(AnotherGateway):
            await _serve_a_moment(f"sqlite:///{tmp_path}/link.db", patience=0)


async def test_a_killed_gateway_is_waited_for_and_lets_go_at_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with another_gateway(url) as other, asyncio.timeout(20), asyncio.TaskGroup() as group:
        # It would be waited for longer than this test lasts.
        second = group.create_task(_serve_a_moment(url, patience=60))
        while "waiting" not in caplog.text:
            await asyncio.sleep(0.01)
        other.kill()
        await second
    await _serve_a_moment(url, patience=0)  # who ends in good order lets go too


async def _serve_a_moment(url: str, *, patience: float) -> None:
    async with serving_alone(url, patience=patience):
        pass


@pytest.mark.postgres
async def test_a_postgresql_that_restarts_ends_no_gateway(postgres: Postgres, postgres_url: str) -> None:
    async with serving_alone(postgres_url):
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)
        await _until_held(postgres_url)
        _cut_off(postgres, postgres_url)
        await _until_held(postgres_url)
        with pytest.raises(AnotherGateway):
            await _serve_a_moment(postgres_url, patience=0)


@pytest.mark.postgres
async def test_a_gateway_stops_when_another_took_its_database_meanwhile(postgres: Postgres, postgres_url: str) -> None:
    with pytest.RaisesGroup(AnotherGateway):
        async with serving_alone(postgres_url, patience=1), asyncio.timeout(30):
            _cut_off(postgres, postgres_url)
            async with another_gateway(postgres_url):
                await asyncio.sleep(300)


def _cut_off(postgres: Postgres, url: str) -> None:
    """Whoever holds the database."""
    postgres.execute(f"SELECT pg_terminate_backend(pid) {HOLDERS} AND datname = '{url.rpartition('/')[2]}'")


async def _until_held(url: str) -> None:
    async with asyncio.timeout(20), await psycopg.AsyncConnection.connect(url) as connection:
        while await (await connection.execute(f"SELECT {HOLDERS} AND datname = current_database()")).fetchone() is None:
            await asyncio.sleep(0.1)
