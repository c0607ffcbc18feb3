"""Several gateways on one database: leases, fences, takeovers, wishes and claims, as the database judges them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta

import pytest
from sqlalchemy import Interval, cast, update

from noah.core.lease import LEASE_S, MARGIN_S, Fence
from noah.core.session.session import EndReason
from noah.core.session.target import LocalTarget
from noah.errors import Conflict, LostSession, Unavailable
from noah.store import Store, upgrade
from noah.store.database import Database
from noah.store.gateways import AboutGateway, GatewayStore
from noah.store.hints import Channel, open_hints
from noah.store.lease import Lease
from noah.store.tables import gateways
from noah.store.wishes import Wish, WishKind
from tests.contract.asking import FENCE, PORTS, add, end
from tests.contract.conftest import make_tables
from tests.principals import BOB

ABOUT = AboutGateway(name="machine", version="1")


class Clock:
    """A gateway's own clock, which a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    await make_tables(url)
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture
async def shared(postgres_url: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(upgrade, postgres_url)
    database = Database(postgres_url)
    yield database
    await database.close()


async def pass_by(database: Database, seconds: float) -> None:
    """Let all leases be so much older, by the database's clock."""
    async with database.writing() as connection:
        earlier = gateways.c.lease_until - cast(timedelta(seconds=seconds), Interval)
        await connection.execute(update(gateways).values(lease_until=earlier))


# -- leases


@pytest.mark.postgres
async def test_all_gateways_hear_at_once_that_one_is_dead_and_that_its_sessions_are_taken_over(
    shared: Database, postgres_url: str
) -> None:
    dead, store = GatewayStore(shared), Store.open(postgres_url)
    await dead.register("g-dead", ABOUT)
    await add(store, "s-1", LocalTarget("shop"), gateway="g-dead")
    async with open_hints(shared) as hints, hints.to(Channel.SESSIONS) as heard, asyncio.timeout(60):
        await heard.wait()  # it listens
        heard.clear()
        await pass_by(shared, LEASE_S)
        assert await dead.declare_dead() == ["g-dead"]
        await heard.wait()
        heard.clear()
        assert await store.sessions.take_over(gateway="g-2", most=5) == ["s-1"]
        await heard.wait()
    await store.close()


@pytest.mark.postgres
async def test_a_gateway_that_is_not_heard_of_is_declared_dead_and_comes_back_as_another(shared: Database) -> None:
    clock, store = Clock(), GatewayStore(shared)
    one, other = Lease(store, ABOUT, clock=clock), Lease(store, ABOUT, clock=clock)
    await one.renew()
    await other.renew()
    await one.renew()
    assert one.peers.keys() == other.peers.keys() | {one.gateway_id} == {one.gateway_id, other.gateway_id}
    for _ in range(4):  # *other* says nothing for as long as a lease lasts
        clock.now += LEASE_S / 4
        await pass_by(shared, LEASE_S / 4)
        await one.renew()
    assert one.peers.keys() == {one.gateway_id}
    assert not other.is_held
    before = other.gateway_id
    await other.renew()
    assert other.is_held
    assert other.gateway_id != before
    assert other.peers.keys() == {one.gateway_id, other.gateway_id}


@pytest.mark.postgres
async def test_when_the_database_was_away_for_all_nobody_is_declared_dead(shared: Database) -> None:
    clock, store = Clock(), GatewayStore(shared)
    leases = [Lease(store, ABOUT, clock=clock) for _ in range(3)]
    for lease in leases:
        await lease.renew()
    had = [lease.gateway_id for lease in leases]
    clock.now += 300
    await pass_by(shared, 300)
    assert not any(lease.is_held for lease in leases)
    for lease in leases:
        await lease.renew()
        clock.now += 1.5
    assert [lease.gateway_id for lease in leases] == had
    assert leases[-1].peers.keys() == set(had)
    assert all(lease.is_held for lease in leases)


@pytest.mark.postgres
async def test_an_act_is_cancelled_when_the_lease_ends(shared: Database) -> None:
    clock = Clock()
    lease = Lease(GatewayStore(shared), ABOUT, clock=clock)
    await lease.renew()
    clock.now += LEASE_S - MARGIN_S - 0.1
    with pytest.raises(Conflict, match="not this"):
        await act(lease, Conflict("not this"))
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable, match="no contact with its database"):
            await act(lease, None)
    clock.now += 0.1
    with pytest.raises(Unavailable, match="no contact with its database"):
        await act(lease, AssertionError("it was begun"))


@pytest.mark.postgres
async def test_an_act_of_a_gateway_that_was_declared_dead_is_cancelled(shared: Database) -> None:
    lease = Lease(GatewayStore(shared), ABOUT)
    await lease.renew()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        acting = group.create_task(_refused(act(lease, None)))
        await asyncio.sleep(0)
        await lease.renew()
        assert not acting.done()
        await pass_by(shared, LEASE_S)
        await GatewayStore(shared).declare_dead()
        await lease.renew()  # under another ID
        assert lease.is_held
        assert "no contact" in await acting


async def act(lease: Lease, error: Exception | None) -> None:
    async with lease.acting():
        if error is not None:
            raise error
        await asyncio.get_running_loop().create_future()


async def _refused(act: Awaitable[None]) -> str:
    try:
        await act
    except Unavailable as e:
        return e.sentence
    return ""


async def test_a_gateway_that_leaves_is_gone_at_once(database: Database) -> None:
    lease = Lease(GatewayStore(database), ABOUT, is_alone=database.is_sqlite)
    await lease.renew()
    await lease.publish(peer_host="10.1.2.3", peer_port=7071, is_draining=True)
    (seen,) = lease.peers.values()
    assert (seen.about.peer_host, seen.about.peer_port, seen.about.is_draining) == ("10.1.2.3", 7071, True)
    await lease.leave()
    assert not lease.is_held
    assert await GatewayStore(database).all() == []


# -- fences


async def test_only_the_session_s_gateway_writes_what_a_gateway_decides(store: Store) -> None:
    await add(store, "s1")
    (taken,) = await store.sessions.take_over(gateway="g-2", most=10)
    assert taken == "s1"
    for late in (
        store.sessions.finish("s1", audit=None, fence=FENCE),
        store.sessions.move("s1", target=LocalTarget("y"), fence=FENCE),
        store.sessions.move_port("s1", ports=PORTS, avoid=set(), fence=FENCE),
        store.sessions.ask_end("s1", reason=EndReason.EXPIRED, detail=None, by=None, fence=FENCE),
        store.sessions.hand_over("s1", to=None, fence=FENCE, live=None, audit=None),
    ):
        with pytest.raises(LostSession):
            await late
    await store.sessions.save_audits({"s1": (FENCE, {"commands": {}})})
    assert await store.sessions.save_live({"s1": (FENCE, {"x": 1})}) == {}
    (row,) = await store.sessions.rows(["s1"])
    assert (row.audit, row.live, row.head.fence) == (None, None, Fence("g-2", 2))
    versions = await store.sessions.save_live({"s1": (Fence("g-2", 2), {"x": 1}), "s9": (FENCE, {})})
    assert versions == {"s1": row.head.version + 1}


async def test_each_write_of_a_row_shows_in_its_version(store: Store) -> None:
    await add(store, "s1")
    seen = []
    for write in (
        store.sessions.extend("s1", until_from_now=timedelta(hours=9)),
        store.sessions.allow("s1", network="10.0.0.0/8"),
        store.sessions.save_live({"s1": (FENCE, {})}),
        store.sessions.save_audits({"s1": (FENCE, {"commands": {}})}),
        store.wishes.put(Wish(session="s1", kind=WishKind.ASK, by=BOB)),
        store.sessions.take_over(gateway="g-2", most=1),
        store.sessions.ask_end("s1", reason=EndReason.CLOSED, detail=None, by=BOB),
    ):
        await write
        seen += [head.version for head in await store.sessions.heads()]
    assert seen == sorted(set(seen))
    assert len(seen) == 7


async def test_heads_are_those_of_the_rows_whatever_was_read_before(store: Store) -> None:
    assert await store.sessions.heads() == []
    for id in ("s1", "s2"):
        await add(store, id)
    assert {head.fence for head in await store.sessions.heads()} == {FENCE}
    await store.sessions.extend("s1", until_from_now=timedelta(hours=9))
    await store.sessions.hand_over("s2", to=None, fence=FENCE, live=None, audit=None)
    heads = {head.id: head for head in await store.sessions.heads()}
    assert heads == {row.head.id: row.head for row in await store.sessions.rows(["s1", "s2"])}
    assert (heads["s2"].gateway, heads["s2"].fence) == (None, None)
    await store.sessions.ask_end("s1", reason=EndReason.CLOSED, detail=None, by=BOB)
    await store.sessions.finish("s1", audit=None, fence=FENCE)
    assert [head.id for head in await store.sessions.heads()] == ["s2"]


# -- takeovers


@pytest.mark.postgres
async def test_each_of_many_sessions_is_taken_over_once(shared: Database) -> None:
    stores = [Store(Database(shared.url)) for _ in range(3)]
    for n in range(40):
        await add(stores[0], f"s{n}", ports=range(20000, 20100))
    took: list[list[str]] = [[], [], []]

    async def take(n: int) -> None:
        while got := await stores[n].sessions.take_over(gateway=f"g-new{n}", most=5):
            await GatewayStore(shared).renew(f"g-new{n}", ABOUT)
            took[n] += got

    for n in range(3):
        await GatewayStore(shared).register(f"g-new{n}", ABOUT)
    await asyncio.gather(*(take(n) for n in range(3)))
    assert sorted(id for one in took for id in one) == sorted(f"s{n}" for n in range(40))
    assert {head.number for head in await stores[0].sessions.heads()} == {2}
    for store in stores:
        await store.close()


async def test_a_session_of_a_gateway_that_is_there_is_not_taken(store: Store, url: str) -> None:
    database = Database(url)
    await GatewayStore(database).register(FENCE.gateway, ABOUT)
    await add(store, "s1")
    ended = await add(store, "s2")
    await end(store, ended)
    assert await store.sessions.take_over(gateway="g-2", most=10) == []
    with pytest.raises(Conflict, match="no gateway 'g-2'"):
        await store.sessions.hand_over("s1", to="g-2", fence=FENCE, live=None, audit=None)
    await store.sessions.hand_over("s1", to=None, fence=FENCE, live={"steps": []}, audit={"commands": {}})
    assert await store.sessions.take_over(gateway="g-2", most=10) == ["s1"]
    (row,) = await store.sessions.rows(["s1"])
    assert (row.live, row.audit, row.head.fence) == ({"steps": []}, {"commands": {}}, Fence("g-2", 3))
    await database.close()


# -- wishes and claims


async def test_a_wish_is_taken_once_and_in_order(store: Store) -> None:
    await add(store, "s1")
    await add(store, "s2", owner="bob")
    wishes = [
        Wish(session="s1", kind=WishKind.ASK, by=BOB, text="soon?"),
        Wish(session="s2", kind=WishKind.HAND_OVER, text="g-9"),
        Wish(session="s1", kind=WishKind.RESUME, by=BOB),
    ]
    for wish in wishes:
        await store.wishes.put(wish)
    assert await store.wishes.take(["s1"]) == [wishes[0], wishes[2]]
    assert await store.wishes.take(["s1"]) == []
    assert await store.wishes.take(["s1", "s2"]) == [wishes[1]]


async def test_a_claim_is_one_gateway_s_as_long_as_that_is_there(store: Store, url: str) -> None:
    database = Database(url)
    await GatewayStore(database).register("g-1", ABOUT)
    takes = await asyncio.gather(*(store.claims.take("tidy", "", gateway="g-1") for _ in range(3)))
    claim = next(one for one in takes if one)
    assert all(one in (None, claim) for one in takes)
    assert await store.claims.take("tidy", "", gateway="g-2") is None
    assert await store.claims.is_held(claim)
    await store.claims.release(claim)
    assert not await store.claims.is_held(claim)
    second = await store.claims.take("tidy", "", gateway="g-2")  # whose gateway is not there
    assert second is not None
    third = await store.claims.take("tidy", "", gateway="g-1")
    assert third is not None
    assert (second.fence, third.fence) == (Fence("g-2", 2), Fence("g-1", 3))
    await store.claims.forget(second)  # it is not its own any more
    assert await store.claims.is_held(third)
    await store.claims.forget(third)
    assert not await store.claims.is_held(third)
    await database.close()
