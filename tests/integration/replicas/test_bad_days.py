"""PostgreSQL's bad days: an attached debugger notices none of them, and afterwards everything goes on."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from noah.errors import Unavailable
from noah.store import upgrade
from noah.store.database import Database
from noah.store.gateways import AboutGateway, GatewayStore
from tests.faults import link
from tests.gateway import Refused
from tests.jdwp import CLASSES_BY_SIGNATURE, Debugger, string
from tests.postgres import Postgres, new_folder
from tests.replicas import Replica, Replicas, as_config, jvms, replicas, until

pytestmark = pytest.mark.postgres
WITHIN_S = 90  # on a busy machine: a lease, a grace, and what is tried again meanwhile
SLOW_FOR_S = 25  # longer than a lease, and than a look at the database may take
ABOUT = AboutGateway(name="one", version="1")
TMPFS_MIB = 120  # an empty server needs 40, and 16 for each further piece of its log


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with jvms(tmp_path_factory.mktemp("classes"), "Orders") as ports:
        yield ports


async def debugs(debugger: Debugger) -> None:
    """The debugger's connection still leads to its JVM."""
    found = await asyncio.to_thread(debugger.ask, CLASSES_BY_SIGNATURE, string("LOrders;"))
    assert found[:4] == b"\0\0\0\1"


async def attach(replicas: Replicas, session: dict[str, Any]) -> tuple[Debugger, Replica]:
    """Attach at the gateway that runs the session."""
    owner = await replicas.owner_of(session)
    assert owner is not None
    return await asyncio.to_thread(Debugger, session["port"], host=owner.host), owner


async def have_leases(replicas: Replicas) -> bool:
    lasting = "SELECT count(*) FROM gateways WHERE lease_until > clock_timestamp() + interval '5 s'"
    ((found,),) = await asyncio.to_thread(replicas.postgres.ask, lasting, url=replicas.url)
    return bool(found == len(replicas.gateways))


async def stays_ready(gateway: Replica, for_s: float) -> None:
    """It is asked all the time, as load balancers and kubelets do."""
    until_s = asyncio.get_running_loop().time() + for_s
    while asyncio.get_running_loop().time() < until_s:
        assert await gateway.is_ready(), f"{gateway} is not ready: {gateway.log.read_text()[-2000:]}"
        await asyncio.sleep(0.5)


async def works_again(replicas: Replicas, session: dict[str, Any]) -> None:
    """Each gateway takes a request for the session, and all show the same then."""
    async with asyncio.timeout(WITHIN_S):
        for gateway in replicas.gateways:
            while True:
                try:
                    await gateway.api.ask("POST", f"sessions/{session['id']}/extend", {"for": "2h"})
                    break
                except Refused as e:
                    if e.status != 503:
                        raise
                    await asyncio.sleep(0.2)
    await replicas.shown_alike(session)


async def test_gateways_that_are_stopped_without_their_database_end_and_go_on_later(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path
) -> None:
    async with replicas(postgres, postgres_url, tmp_path, config=as_config(targets)) as three:
        session = await three.gateways[0].api.ready("local/orders")
        await asyncio.to_thread(postgres.kill)
        async with asyncio.timeout(WITHIN_S):
            codes = await asyncio.gather(*(gateway.stop() for gateway in three.gateways))
        assert codes == [0, 0, 0]
        await asyncio.to_thread(postgres.start)
        await three.start()
        await works_again(three, session)
        for gateway in three.gateways:
            await gateway.api.until(session, "ready", within=WITHIN_S)


async def test_a_debugger_outlives_restarts_latency_and_a_failover(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path
) -> None:
    async with replicas(postgres, postgres_url, tmp_path, config=as_config(targets)) as three:
        session = await three.gateways[0].api.ready("local/orders")
        debugger, owner = await attach(three, session)
        with debugger:
            await asyncio.to_thread(postgres.kill)
            await asyncio.sleep(12)  # all leases end
            await debugs(debugger)
            await asyncio.to_thread(postgres.start)
            await works_again(three, session)
            await debugs(debugger)

            await until(lambda: have_leases(three), WITHIN_S, "the gateways have renewed their leases")
            for gateway in three.gateways:  # 2 s for a statement
                gateway.to_database.delay_s = 1.0
            async with asyncio.TaskGroup() as group:
                for gateway in three.gateways:
                    group.create_task(stays_ready(gateway, SLOW_FOR_S), name=f"readiness of {gateway}")
            await debugs(debugger)
            for gateway in three.gateways:
                gateway.to_database.delay_s = 0.0
            await works_again(three, session)

            folder = new_folder()
            standby = await asyncio.to_thread(postgres.standby, folder)
            try:
                await asyncio.to_thread(postgres.kill)
                await asyncio.to_thread(standby.promote)
                three.move_to(standby)
                await works_again(three, session)
                await debugs(debugger)
                assert await three.owner_of(session) is owner
            finally:
                await asyncio.to_thread(standby.stop)
                shutil.rmtree(folder, ignore_errors=True)
                await asyncio.to_thread(postgres.start)
                await asyncio.to_thread(postgres.forget_standby)


async def test_the_server_that_writes_are_for_is_found_among_several(postgres: Postgres, postgres_url: str) -> None:
    folder, name = new_folder(), postgres_url.rpartition("/")[2]
    await asyncio.to_thread(upgrade, postgres_url)
    standby = await asyncio.to_thread(postgres.standby, folder)
    try:
        both = f"127.0.0.1:{standby.port},127.0.0.1:{postgres.port}"
        url = f"postgresql://noah@{both}/{name}?target_session_attrs=read-write"
        await asyncio.to_thread(upgrade, url)  # the standby refuses it
        with pytest.raises(Unavailable):
            await asyncio.to_thread(upgrade, f"postgresql://noah@127.0.0.1:{standby.port}/{name}", "0007")
    finally:
        await asyncio.to_thread(standby.stop)
        await asyncio.to_thread(postgres.forget_standby)
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_server_that_is_gone_without_a_word_keeps_no_lease_from_the_next_one(
    postgres: Postgres, postgres_url: str
) -> None:
    async with link(to=postgres.port) as gone:
        gone.freeze()  # what connects there hears nothing
        await asyncio.to_thread(upgrade, postgres_url)
        name = postgres_url.rpartition("/")[2]
        database = Database(f"postgresql://noah@127.0.0.1:{gone.port},127.0.0.1:{postgres.port}/{name}")
        try:
            await GatewayStore(database).register("g-1", ABOUT)
        finally:
            await database.close()


async def test_a_lease_is_renewed_by_a_new_connection_when_each_round_trip_takes_2_s(
    postgres: Postgres, postgres_url: str
) -> None:
    async with link(to=postgres.port) as slow:
        await asyncio.to_thread(upgrade, postgres_url)
        database = Database(postgres_url.replace(f":{postgres.port}/", f":{slow.port}/"))
        try:
            gateways = GatewayStore(database)
            await gateways.register("g-1", ABOUT)
            await slow.cut()
            with pytest.raises(Unavailable):
                await gateways.renew("g-1", ABOUT)
            slow.delay_s = 1.0
            await slow.mend()
            assert await gateways.renew("g-1", ABOUT)
        finally:
            await database.close()


@contextmanager
def small_disk() -> Iterator[Path]:
    folder = new_folder()
    owner = folder.stat().st_uid
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m,mode=700,uid={owner}", "tmpfs", str(folder)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@pytest.fixture
async def small(postgres: Postgres) -> AsyncIterator[Postgres]:
    with small_disk() as folder:
        server = postgres.like(folder)
        await asyncio.to_thread(server.create)
        await asyncio.to_thread(server.start)
        yield server
        await asyncio.to_thread(server.stop)


async def test_a_full_disk_of_the_database_ends_nothing(
    small: Postgres, targets: dict[str, int], tmp_path: Path
) -> None:
    async with replicas(small, small.url(), tmp_path, count=2, config=as_config(targets)) as two:
        session = await two.gateways[0].api.ready("local/orders")
        debugger, _ = await attach(two, session)
        with debugger:
            filler = small.folder / "filler"
            with suppress(OSError):  # no space is left
                filler.write_bytes(bytes(TMPFS_MIB << 20))
            small.execute_if_possible("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 50000)")
            await asyncio.sleep(15)
            await debugs(debugger)
            filler.unlink()
            await asyncio.to_thread(small.start_again)
            await works_again(two, session)
            await debugs(debugger)
