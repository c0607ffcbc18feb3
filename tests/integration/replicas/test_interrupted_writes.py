"""PostgreSQL restarts in the middle of writes: nothing is lost or done twice, and one sentence says what happened."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from noah.store import Store
from tests.chaos import Watcher
from tests.gateway import Refused
from tests.postgres import Postgres
from tests.replicas import Replica, Replicas, as_config, jvms, replicas, until

pytestmark = pytest.mark.postgres
WITHIN_S = 90.0  # on a busy machine
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND (query LIKE 'INSERT INTO sessions%' OR query LIKE 'UPDATE sessions SET%expires_at%')"
)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with jvms(tmp_path_factory.mktemp("classes"), "Orders", "Stock", "Basket", "Mail") as ports:
        yield ports


async def refused(gateway: Replica, method: str, path: str, body: Any = None) -> None:
    """Ask for something that the database does not answer; it is one sentence that says so."""
    with pytest.raises(Refused, match=r"^503: The database does not answer: [^\n]+\.$"):
        await gateway.api.ask(method, path, body)


async def serve_again(two: Replicas) -> None:
    async def are_ready() -> bool:
        return all([await gateway.is_ready() for gateway in two.gateways])

    await until(are_ready, WITHIN_S)


async def test_a_restart_in_the_middle_of_writes_does_none_of_them(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path
) -> None:
    async with (
        replicas(postgres, postgres_url, tmp_path, count=2, config=as_config(targets)) as two,
        asyncio.TaskGroup() as group,
    ):
        one, other = two.gateways
        watcher = Watcher(two)
        watching = group.create_task(watcher.run(), name="watch events at each of them in turn")
        orders, stock = await one.api.ready("local/orders"), await other.api.ready("local/stock")
        basket = {"target": "local/basket", "allow": ["127.0.0.0/8"]}
        before = sorted(two.sessions("id, gateway, fence, expires_at, end_reason"))

        # Each is in its transaction, and waits for what another one has locked.
        with closing(psycopg.connect(postgres_url)) as locked:
            locked.execute("LOCK TABLE sessions IN SHARE ROW EXCLUSIVE MODE")
            asked = [
                group.create_task(refused(one, "POST", "sessions", basket)),
                group.create_task(refused(other, "POST", f"sessions/{orders['id']}/extend", {"for": "5h"})),
                group.create_task(refused(one, "DELETE", f"sessions/{stock['id']}")),
            ]
            async with asyncio.timeout(WITHIN_S):
                while (await asyncio.to_thread(postgres.ask, WAITING, url=postgres_url))[0][0] < len(asked):
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(postgres.kill)
        await asyncio.gather(*asked)
        await asyncio.to_thread(postgres.start)
        await serve_again(two)
        assert sorted(two.sessions("id, gateway, fence, expires_at, end_reason")) == before

        # Who asks again has it, once.
        made = await one.api.ready("local/basket")
        extended = await other.api.ask("POST", f"sessions/{orders['id']}/extend", {"for": "5h"})
        assert extended["expires_at"] > orders["expires_at"]
        assert (await one.api.end(stock))["end_reason"] == "closed"

        # The commit is done, and its answer lost, with the connection.
        for gateway in two.gateways:
            gateway.to_database.loses_answer_to = b"\x0bCOMMIT\0"  # not BEGIN ISOLATION LEVEL READ COMMITTED
        mail = {"target": "local/mail", "allow": ["127.0.0.0/8"]}
        await refused(one, "POST", "sessions", mail)
        await refused(other, "POST", f"sessions/{orders['id']}/extend", {"for": "6h"})
        await refused(one, "DELETE", f"sessions/{made['id']}")
        for gateway in two.gateways:
            gateway.to_database.loses_answer_to = None
        assert one.to_database.answers_lost >= 2
        assert other.to_database.answers_lost >= 1
        await serve_again(two)
        again = await other.api.ready("local/mail")
        assert (await other.api.until(made, "ended", within=WITHIN_S))["end_reason"] == "closed"
        assert (await two.shown_alike(orders))[0]["expires_at"] > extended["expires_at"]

        rows = two.sessions("id, fence", where="true")
        assert {id for id, _ in rows} == {one["id"] for one in (orders, stock, made, again)}
        assert all(fence == 1 for _, fence in rows), rows
        assert postgres.ask("SELECT source FROM feed GROUP BY source HAVING count(*) > 1", url=postgres_url) == []
        noted = "SELECT session, count(*) FROM trail WHERE entry LIKE '%was closed.%' GROUP BY session"
        assert dict(postgres.ask(noted, url=postgres_url)) == {stock["id"]: 1, made["id"]: 1}
        watching.cancel()
    store = Store.open(postgres_url)
    assert (await store.trail.verify()).verdict() == []
    await store.close()
