"""A row whose writer never learned that it was committed: its target is not locked, and everybody can work with it."""

import asyncio
import secrets
from typing import Any

import pytest
from sqlalchemy import event

from noah.core.lease import Fence
from noah.core.session.target import LocalTarget
from noah.errors import AlreadyDebugged
from noah.sessions.live_session import LiveSession
from noah.sessions.live_state import Step
from noah.sessions.ownership import SEEN_AT_ONCE
from noah.store.wishes import Wish, WishKind
from tests.contract.asking import add
from tests.integration.web.conftest import REFRESH_EVERY_S, Gateway
from tests.ports import free_ports
from tests.principals import BOB

pytestmark = pytest.mark.jvm
ADD_GATEWAY = (
    "INSERT INTO gateways (id, name, version, started_at, lease_until)"
    " VALUES ('g-1', 'other', '1', '2026-01-01 10:00:00', '2999-01-01 10:00:00')"
)
ADOPTED_WITHIN_S = 20.0  # with a JVM on a busy machine


async def committed(gateway: Gateway, *, owner: str = "ada") -> dict[str, Any]:
    """Leave a row behind as an enable does whose database goes away between the commit and its answer."""
    id = f"s-{secrets.token_hex(4)}"
    await add(gateway.store, id, LocalTarget("shop"), owner=owner, allow=("127.0.0.0/8",), ports=gateway.ports)
    return {"id": id}


async def has_none(gateway: Gateway) -> None:
    async with asyncio.timeout(ADOPTED_WITHIN_S):
        while gateway.broker.own():
            await asyncio.sleep(0.05)


async def test_such_a_row_is_ended_at_once(gateway: Gateway) -> None:
    session = await committed(gateway)
    assert (await gateway.api.end(session))["status"] == "ended"
    assert (await gateway.api.ready("local/shop", user="bob"))["owner"] == "bob"


async def test_the_owner_of_such_a_row_gets_it_by_enabling_again(gateway: Gateway) -> None:
    session = await committed(gateway)
    assert (await gateway.api.ready("local/shop"))["id"] == session["id"]


async def test_another_person_learns_who_has_such_a_row_and_can_ask_them(gateway: Gateway) -> None:
    session = await committed(gateway)
    with pytest.raises(AlreadyDebugged, match=f"ada is already debugging local/shop .session {session['id']}"):
        await gateway.broker.enable(await gateway.broker.resolve(LocalTarget("shop")), owner=BOB, allow=())
    asked = await gateway.api.ask("POST", f"sessions/{session['id']}/ask", {"text": "soon?"}, user="bob")
    assert asked["steps"][-1]["text"] == "bob asks to resume: soon?"


async def test_such_a_row_gets_its_task_without_being_asked_for(gateway: Gateway) -> None:
    session = await committed(gateway)
    async with asyncio.timeout(ADOPTED_WITHIN_S):
        while [live.session.id for live in gateway.broker.live() if live.status == "ready"] != [session["id"]]:
            await asyncio.sleep(0.05)


async def test_sessions_that_come_and_go_are_not_adopted_twice(gateway: Gateway) -> None:
    for _ in range(5):  # for longer than some rounds
        session = await gateway.api.ready("local/shop")
        assert [live.session.id for live in gateway.broker.live()] == [session["id"]]
        await gateway.api.end(session)
    await asyncio.sleep(3 * REFRESH_EVERY_S)
    assert gateway.broker.live() == []


async def test_a_session_that_ended_before_this_gateway_knew_that_it_was_added_is_given_up(gateway: Gateway) -> None:
    """The gateway stood still, so that another one took over what it had just added, and was declared dead."""
    session = await gateway.api.ready("local/shop")
    added = (await gateway.broker.get(session["id"])).session
    await gateway.api.end(session)
    await has_none(gateway)
    gateway.broker._ownership.start(LiveSession(added, fence=Fence("g-declared-dead", 0)))
    assert gateway.broker.own()
    await has_none(gateway)
    assert (await gateway.api.ready("local/shop"))["id"] != session["id"]


async def test_the_rows_of_very_many_sessions_are_read_a_few_at_a_time(gateway: Gateway) -> None:
    """A gateway that sees thousands at once, since another one died, has debuggers who wait for its event loop."""
    await gateway.execute(ADD_GATEWAY)
    count = 5 * SEEN_AT_ONCE
    first, asked = free_ports(count), list[int]()

    def notice(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if "live" in statement.partition("FROM sessions")[0]:  # whole rows
            asked.append(len(parameters))

    for number in range(count):
        await add(gateway.store, f"s-{number}", LocalTarget(f"app-{number}"), ports=range(first, first + count))
    engine = gateway.store.sessions._database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", notice)
    await gateway.broker.refresh()
    assert len(gateway.broker.live()) == count
    await gateway.execute("DELETE FROM sessions")
    await gateway.broker.refresh()
    assert gateway.broker.live() == []
    event.remove(engine, "before_cursor_execute", notice)
    assert asked
    assert max(asked) <= SEEN_AT_ONCE


async def test_a_step_of_another_gateway_s_session_is_passed_on_to_that_gateway(gateway: Gateway) -> None:
    await gateway.execute(ADD_GATEWAY)
    session = await committed(gateway)
    live = await gateway.broker.get(session["id"])
    assert gateway.broker.own() == []
    live.add_step(Step(live.session.created_at, "A release is about to replace this pod."))
    async with asyncio.timeout(ADOPTED_WITHIN_S):
        while not (wishes := await gateway.store.wishes.take([session["id"]])):
            await asyncio.sleep(0.05)
    assert wishes == [Wish(session=session["id"], kind=WishKind.NOTE, text="A release is about to replace this pod.")]
    await gateway.execute("DELETE FROM gateways WHERE id = 'g-1'")
    assert (await gateway.api.end(session))["status"] == "ended"  # by this gateway, which has it then
