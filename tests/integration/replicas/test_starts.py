"""Gateways that start: all at once on an empty database, or on one that is away, or may not be used."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noah.store import upgrade
from tests.postgres import Postgres
from tests.replicas import Replica, as_config, jvms, replicas

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]
WITHIN_S = 60.0  # on a busy machine
NOTHING = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public'"


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with jvms(tmp_path_factory.mktemp("classes"), "Orders") as ports:
        yield ports


async def upgraded(gateway: Replica) -> tuple[int, str]:
    return await gateway.noah("db", "upgrade", "--config", str(gateway.file))


async def served(gateway: Replica) -> tuple[int, str]:
    async with asyncio.timeout(WITHIN_S):
        return await gateway.noah("serve", "--config", str(gateway.file))


def one_sentence(said: str) -> str:
    """What a program said, which is one line of words for people."""
    lines = said.strip().splitlines()
    assert len(lines) == 1, said
    assert lines[0].endswith((".", "`.")), said
    assert "Traceback" not in said
    assert "(psycopg" not in said
    return lines[0]


async def test_three_gateways_that_start_at_once_make_one_database_of_an_empty_one(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path
) -> None:
    async with replicas(
        postgres, postgres_url, tmp_path, config=as_config(targets), start=False, is_empty=True
    ) as three:

        async def come_up(gateway: Replica) -> None:
            """As the unit of systemd and the chart's pod do."""
            code, said = await upgraded(gateway)
            assert (code, said) == (0, "The database is up to date.\n")
            await gateway.start()

        await asyncio.gather(*map(come_up, three.gateways))
        for table in ("alembic_version", "served_from", "feed_counter"):
            assert postgres.ask(f"SELECT count(*) FROM {table}", url=postgres_url) == [(1,)]
        assert postgres.ask("SELECT count(*) FROM gateways", url=postgres_url) == [(3,)]
        asked = await asyncio.gather(*(one.api.ready("local/orders") for one in three.gateways))
        assert len({session["id"] for session in asked}) == 1
        assert len({shown["port"] for shown in await three.shown_alike(asked[0])}) == 1
        assert (await three.gateways[0].api.end(asked[0]))["status"] == "ended"


async def test_a_user_of_the_database_who_may_not_make_tables_is_named(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    user = f"reader_{time.monotonic_ns()}"
    postgres.execute(f"CREATE USER {user}")
    postgres.ask("REVOKE CREATE ON SCHEMA public FROM PUBLIC", url=postgres_url)
    try:
        url = postgres_url.replace("//noah@", f"//{user}@")
        async with replicas(postgres, url, tmp_path, count=1, start=False, is_empty=True) as one:
            (gateway,) = one.gateways
            code, said = await upgraded(gateway)
            assert code == 5, said
            assert "permission denied for schema public: give the gateway's user" in one_sentence(said)
            assert postgres.ask(NOTHING, url=postgres_url) == []
            code, said = await served(gateway)
            assert code == 2
            assert "run `noah db upgrade`" in one_sentence(said)
            # Another user has made the tables, and this one may not use them.
            await asyncio.to_thread(upgrade, postgres_url)
            code, said = await served(gateway)
            assert code == 5, said
            assert "permission denied for table alembic_version: give the gateway's user" in one_sentence(said)
            assert postgres.ask("SELECT count(*) FROM gateways", url=postgres_url) == [(0,)]
    finally:
        postgres.execute(f"DROP USER {user}")


async def test_a_gateway_whose_database_is_away_says_so_and_serves_once_it_is_there(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path
) -> None:
    async with replicas(postgres, postgres_url, tmp_path, count=1, config=as_config(targets), start=False) as one:
        (gateway,) = one.gateways
        await gateway.to_database.cut()
        for ask in (upgraded, served):
            code, said = await ask(gateway)
            assert code == 5, said
            assert "database" in one_sentence(said)
        await gateway.to_database.mend()
        gateway.to_database.freeze()
        for ask in (upgraded, served):
            code, said = await ask(gateway)
            assert code == 5, said
            assert "database" in one_sentence(said)
        gateway.to_database.thaw()
        await gateway.start()
        assert (await gateway.api.ready("local/orders"))["port"]
