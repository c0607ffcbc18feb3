"""PgBouncer in transaction mode, with three sessions of the server for everybody: the store and the feed work."""

import asyncio
import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import psycopg
import pytest

from noah.clock import machine_clock
from noah.core.session.event_kind import EventKind
from noah.store import Store, upgrade
from tests.contract.asking import add, live
from tests.ports import free_port
from tests.postgres import COMES_UP_WITHIN, Postgres, unprivileged

pytestmark = pytest.mark.postgres


@pytest.fixture
def pooled_url(postgres: Postgres, postgres_url: str) -> Iterator[str]:
    """The same database, by way of a PgBouncer that has not been configured for Noah."""
    if not Path("/usr/sbin/pgbouncer").exists():
        pytest.skip("PgBouncer is not installed (Debian: pgbouncer)")
    port = free_port()
    config = postgres.folder / f"pgbouncer-{port}.ini"
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres.port} user=noah\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\nunix_socket_dir =\n"
        "pool_mode = transaction\ndefault_pool_size = 3\n"
    )
    log = config.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(["/usr/sbin/pgbouncer", config], stdout=out, stderr=out, user=unprivileged())
    try:
        url = postgres_url.replace(str(postgres.port), str(port))
        deadline = time.monotonic() + COMES_UP_WITHIN
        while True:
            try:
                psycopg.connect(url).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


async def test_a_pooler_in_transaction_mode_is_enough(
    pooled_url: str, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await asyncio.gather(*(asyncio.to_thread(upgrade, pooled_url) for _ in range(3)))
    pooled, direct = Store.open(pooled_url), Store.open(postgres_url)
    await pooled.check()
    async with (
        pooled.hints() as polled,
        direct.hints() as heard,
        pooled.feed(polled, clock=machine_clock) as one,
        direct.feed(heard, clock=machine_clock) as other,
    ):
        # More at once, and more often, than there are sessions of the server: each statement meets each of them.
        for n in range(12):
            await asyncio.gather(*(add(pooled, f"s{n}-{m}", ports=range(20000, 20200)) for m in range(8)))
        assert len(await live(direct)) == 96
        begin, both = one.last_id, (one, other)
        for n in range(100):
            both[n % 2].publish(EventKind.STEP, "local/x", {"n": n})
        for feed in both:
            async with asyncio.timeout(60), aclosing(feed.watch(begin)) as watched:
                seen = [(await anext(watched)).data["n"] for _ in range(100)]
            assert sorted(seen) == list(range(100))
    await pooled.close()
    await direct.close()
    assert "ALTER ROLE noah SET idle_in_transaction_session_timeout = '10s'" in caplog.text
