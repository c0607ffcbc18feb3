"""What the store promises, on SQLite and on PostgreSQL alike."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from noah.core.session import EndReason, Session
from noah.core.target import LocalTarget, PodTarget, Target
from noah.errors import AlreadyDebugged, BadInput, BadSettings, Conflict, NotFound, PortsUsedUp, Unavailable
from noah.store import Store, downgrade, upgrade
from tests.postgres import Postgres

HOUR = timedelta(hours=1)
PORTS = range(20000, 20010)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/noah.db"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    await asyncio.to_thread(upgrade, url)
    store = Store.open(url)
    yield store
    await store.close()


async def add(store: Store, id: str, target: Target | None = None, **changes: Any) -> Session:
    asked = {
        "workload": None,
        "app": "shop",
        "owner": "ada",
        "length": HOUR,
        "allow": ("127.0.0.1",),
        "allow_exit": False,
        "pause_budget": None,
        "ports": PORTS,
    }
    return await store.add(id=id, target=target or LocalTarget(id), **{**asked, **changes})


async def end(store: Store, session: Session) -> Session:
    await store.ask_end(session.id, reason=EndReason.CLOSED, detail=None, by=session.owner)
    return await store.finish(session.id, audit=None)


async def test_what_was_asked_for_comes_back_the_same(store: Store) -> None:
    target = PodTarget("dev", "team-a", "shop-1", "app")
    session = await add(
        store, "s1", target, workload="Deployment/shop", allow=("10.0.0.0/8", "::1"), allow_exit=True,
        pause_budget=timedelta(minutes=10),
    )  # fmt: skip
    assert await store.get("s1") == session
    assert await store.live() == [session]
    assert session.expires_at - session.created_at == HOUR
    assert abs(session.created_at - await store.now()) < timedelta(seconds=5)


async def test_of_twenty_clicks_at_once_one_wins(store: Store, url: str) -> None:
    other = Store.open(url)
    target = LocalTarget("x")
    clicks = [add(one, f"s{n}", target, owner=f"user{n}") for n, one in enumerate([store, other] * 10)]
    told = await asyncio.gather(*clicks, return_exceptions=True)
    await other.close()
    won = [one for one in told if isinstance(one, Session)]
    assert len(won) == 1
    lost = [one for one in told if isinstance(one, AlreadyDebugged)]
    assert len(lost) == 19, told
    assert {(one.holder, one.session_id) for one in lost} == {(won[0].owner, won[0].id)}


async def test_sessions_that_begin_at_once_get_ports_of_their_own(store: Store, url: str) -> None:
    other = Store.open(url)
    began = await asyncio.gather(*(add(one, f"s{n}") for n, one in enumerate([store, other] * 5)))
    await other.close()
    assert {session.port for session in began} == set(PORTS)
    with pytest.raises(PortsUsedUp, match="debug_ports"):
        await add(store, "one-too-many")


async def test_the_same_person_and_app_get_the_same_port_again(store: Store) -> None:
    mine = await end(store, await add(store, "s1"))
    theirs = await end(store, await add(store, "s2", owner="bob"))
    other = await end(store, await add(store, "s3", app="cart"))
    assert len({mine.port, theirs.port, other.port}) == 3
    assert (await add(store, "s4")).port == mine.port
    assert (await add(store, "s5", owner="bob")).port == theirs.port


async def test_two_targets_of_one_app_keep_two_ports(store: Store) -> None:
    first, second = await add(store, "s1"), await add(store, "s2")
    await end(store, first)
    await end(store, second)
    again = [await add(store, "s3"), await add(store, "s4")]
    assert [session.port for session in again] == [first.port, second.port]


async def test_when_all_ports_are_somebodys_the_one_unused_for_longest_is_taken(store: Store) -> None:
    for n in range(len(PORTS)):
        await end(store, await add(store, f"s{n}", owner=f"user{n}"))
    await end(store, await add(store, "again", owner="user0"))
    assert (await add(store, "new", owner="new")).port == PORTS[1]


async def test_a_port_that_another_program_has_is_left_to_it(store: Store) -> None:
    first = await add(store, "s1")
    moved = await store.move_port("s1", ports=PORTS, avoid={first.port})
    assert moved.port != first.port
    await end(store, moved)
    assert (await add(store, "s2")).port == moved.port


async def test_a_target_is_free_again_when_its_session_has_ended(store: Store) -> None:
    session = await add(store, "s1", LocalTarget("x"))
    await store.ask_end("s1", reason=EndReason.CLOSED, detail=None, by="ada")
    with pytest.raises(AlreadyDebugged):  # it is still being cleared away
        await add(store, "s2", session.target)
    await store.finish("s1", audit=None)
    await add(store, "s3", session.target)


async def test_the_first_reason_stays_and_the_end_comes_once(store: Store) -> None:
    await add(store, "s1")
    await store.ask_end("s1", reason=EndReason.EXPIRED, detail=None, by=None)
    asked = await store.ask_end("s1", reason=EndReason.CANCELED, detail="x" * 5000, by="bob")
    assert (asked.end_reason, asked.ended_by) == (EndReason.EXPIRED, None)
    ended = await store.finish("s1", audit={"commands": {"x": 1}})
    assert await store.finish("s1", audit={"commands": {}}) == ended
    assert await store.audit("s1") == {"commands": {"x": 1}}
    with pytest.raises(Conflict, match="is over"):
        await store.extend("s1", until_from_now=HOUR)


async def test_extending_never_shortens(store: Store) -> None:
    session = await add(store, "s1")
    assert (await store.extend("s1", until_from_now=timedelta(minutes=1))).expires_at == session.expires_at
    longer = await store.extend("s1", until_from_now=2 * HOUR)
    assert longer.expires_at - session.created_at >= 2 * HOUR


async def test_a_session_moves_but_not_onto_somebody_elses_target(store: Store) -> None:
    await add(store, "s1", LocalTarget("a"))
    await add(store, "s2", LocalTarget("b"), owner="bob")
    assert (await store.move("s1", target=LocalTarget("c"))).target == LocalTarget("c")
    with pytest.raises(AlreadyDebugged) as caught:
        await store.move("s1", target=LocalTarget("b"))
    assert caught.value.holder == "bob"
    await add(store, "s3", LocalTarget("a"))


async def test_what_is_not_there_is_said(store: Store) -> None:
    assert await store.get("nothing") is None
    with pytest.raises(NotFound):
        await store.extend("nothing", until_from_now=HOUR)
    with pytest.raises(BadInput, match="token"):
        await store.find(limit=1, after="!!")


async def test_pages_have_no_gaps_and_no_doubles_while_sessions_come(store: Store) -> None:
    for n in range(7):
        await add(store, f"s{n}")
    seen: list[str] = []
    token: str | None = None
    for n in range(4):
        page, token, total = await store.find(limit=2, after=token)
        seen += [session.id for session in page]
        assert total == 7 + min(n, 3)
        if n < 3:
            await add(store, f"new{n}")
    assert seen == [f"s{n}" for n in reversed(range(7))]
    assert token is None


async def test_sessions_are_found_by_owner_target_and_state(store: Store) -> None:
    await add(store, "s1", PodTarget("dev", "a", "x", "c"))
    await add(store, "s2", PodTarget("dev", "b", "x", "c"), owner="bob")
    await end(store, await add(store, "s3", PodTarget("dev", "a", "y", "c")))

    async def found(**wanted: Any) -> set[str]:
        return {session.id for session in (await store.find(limit=10, **wanted))[0]}

    assert await found() == {"s1", "s2"}
    assert await found(state="all") == {"s1", "s2", "s3"}
    assert await found(state="ended") == {"s3"}
    assert await found(owner="bob") == {"s2"}
    assert await found(target_prefix="pod/dev/a/", state="all") == {"s1", "s3"}
    assert await found(target_prefix="pod/dev/%") == set()


async def test_ended_sessions_are_forgotten_in_time(store: Store) -> None:
    await end(store, await add(store, "s1"))
    await add(store, "s2")
    assert await store.forget_before(HOUR) == 0
    assert await store.forget_before(-HOUR) == 1
    assert [session.id for session in await store.live()] == ["s2"]


async def test_a_database_at_another_revision_is_refused_with_what_to_run(url: str) -> None:
    store = Store.open(url)
    with pytest.raises(BadSettings, match=r"is empty.*noah db upgrade"):
        await store.check()
    await asyncio.to_thread(upgrade, url)
    await store.check()
    await asyncio.to_thread(downgrade, url, "base")
    with pytest.raises(BadSettings, match="noah db upgrade"):
        await store.check()
    await store.close()


@pytest.mark.postgres
async def test_a_postgresql_that_comes_back_is_used_again(postgres: Postgres, postgres_url: str) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    store = Store.open(postgres_url)
    await add(store, "s1")
    await asyncio.to_thread(postgres.kill)
    try:
        with pytest.raises(Unavailable, match="database does not answer"):
            await store.live()
    finally:
        await asyncio.to_thread(postgres.start)
    assert [session.id for session in await store.live()] == ["s1"]
    await store.close()


@pytest.mark.postgres
async def test_a_switchover_to_read_only_and_back_is_survived(postgres: Postgres, postgres_url: str) -> None:
    await asyncio.to_thread(upgrade, postgres_url)
    store = Store.open(postgres_url)
    await add(store, "s1")
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    other = Store.open(postgres_url)  # its connections are made now, to what has become a standby
    with pytest.raises(Unavailable, match="read-only"):
        await add(other, "s2")
    postgres.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await add(other, "s3")
    await other.close()
    await store.close()


async def test_a_database_that_is_not_there_is_said(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/nowhere/noah.db", "postgresql://noah@127.0.0.1:9/noah"):
        store = Store.open(url)
        with pytest.raises(Unavailable, match="The database does not answer"):
            await store.check()
        await store.close()
    with pytest.raises(BadSettings, match="postgresql://USER"):
        Store.open("mysql://user:secret@host/noah")


async def test_a_locked_file_is_waited_for_and_then_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/noah.db"
    await asyncio.to_thread(upgrade, url)
    store, other = Store.open(url), Store.open(url)
    async with other._database.writing():
        with pytest.raises(Unavailable, match="locked"):
            await add(store, "s1")
    await add(store, "s2")
    await store.close()
    await other.close()
