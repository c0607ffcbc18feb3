"""A session's port: the one that this person had for this app, and never one that another session holds."""

import asyncio

import pytest

from noah.core.session.session import Session
from noah.core.session.target import PodTarget
from noah.errors import PortsUsedUp
from noah.store import Store
from tests.contract.asking import FENCE, PORTS, add, end


async def test_sessions_that_begin_at_once_get_ports_of_their_own(store: Store, url: str) -> None:
    other = Store.open(url)
    ports = range(20000, 20040)
    began = await asyncio.gather(*(add(one, f"s{n}", ports=ports) for n, one in enumerate([store, other] * 20)))
    await other.close()
    assert {session.port for session in began} == set(ports)
    with pytest.raises(PortsUsedUp, match="debug_ports"):
        await add(store, "one-too-many", ports=ports)


async def test_the_last_port_goes_to_one_of_two(store: Store, url: str) -> None:
    other = Store.open(url)
    last = range(20000, 20001)
    answers = await asyncio.gather(add(store, "s1", ports=last), add(other, "s2", ports=last), return_exceptions=True)
    await other.close()
    assert {type(one) for one in answers} == {Session, PortsUsedUp}


async def test_the_same_person_and_app_get_the_same_port_again(store: Store) -> None:
    mine = await end(store, await add(store, "s1"))
    theirs = await end(store, await add(store, "s2", owner="bob"))
    other = await end(store, await add(store, "s3", app="cart"))
    assert len({mine.port, theirs.port, other.port}) == 3
    assert (await add(store, "s4")).port == mine.port
    assert (await add(store, "s5", owner="bob")).port == theirs.port


async def test_one_app_in_two_environments_keeps_two_ports_that_do_not_change_places(store: Store) -> None:
    async def debug(id: str, namespace: str, pod: str) -> Session:
        return await add(store, id, PodTarget("dev", namespace, pod, "app"), workload="Deployment/shop")

    first, second = await debug("s1", "team-a", "shop-1"), await debug("s2", "team-b", "shop-1")
    await end(store, first)
    await end(store, second)
    # The other one first this time, and the pods have been replaced.
    again = [await debug("s3", "team-b", "shop-2"), await debug("s4", "team-a", "shop-2")]
    assert [session.port for session in again] == [second.port, first.port]


async def test_two_jvms_of_one_app_keep_two_ports(store: Store) -> None:
    first, second = await add(store, "s1"), await add(store, "s2")
    await end(store, first)
    await end(store, second)
    again = [await add(store, "s3"), await add(store, "s4")]
    assert [session.port for session in again] == [first.port, second.port]


async def test_when_all_ports_are_somebodys_the_one_unused_for_longest_is_taken(store: Store) -> None:
    began = [await add(store, f"s{n}", owner=f"user{n}") for n in range(len(PORTS))]
    for session in [*began[1:], began[0]]:
        await end(store, session)
    assert (await add(store, "new", owner="new")).port == began[1].port


async def test_a_port_that_another_program_has_is_left_to_it(store: Store) -> None:
    first = await add(store, "s1")
    moved = await store.sessions.move_port("s1", ports=PORTS, avoid={first.port}, fence=FENCE)
    assert moved.port != first.port
    assert await store.sessions.get("s1") == moved
    await end(store, moved)
    assert (await add(store, "s2")).port == moved.port
    others = [await add(store, f"other{n}", owner=f"user{n}") for n in range(len(PORTS) - 2)]
    assert first.port not in {session.port for session in others}
    # All others are in use: that program may have gone meanwhile.
    assert (await add(store, "last", owner="bob")).port == first.port


async def test_sessions_that_lose_their_ports_at_once_get_ports_of_their_own(store: Store) -> None:
    began = [await add(store, f"s{n}") for n in range(5)]
    taken = {session.port for session in began}
    moved = await asyncio.gather(
        *(store.sessions.move_port(session.id, ports=PORTS, avoid=taken, fence=FENCE) for session in began)
    )
    assert {session.port for session in moved} == set(PORTS) - taken
    with pytest.raises(PortsUsedUp):
        await store.sessions.move_port("s0", ports=PORTS, avoid=set(PORTS), fence=FENCE)


async def test_a_range_that_was_narrowed_is_kept_to(store: Store) -> None:
    await end(store, await add(store, "s1"))
    assert (await add(store, "s2", ports=range(20005, 20010))).port == 20005
