"""What the store promises, on SQLite and on PostgreSQL alike."""

import asyncio
import base64
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from noah.core.host.edits import EditState, HostEdit
from noah.core.lease import Fence
from noah.core.session.session import EndReason, Session
from noah.core.session.target import HostTarget, LocalTarget, PodTarget
from noah.errors import AlreadyDebugged, BadInput, Conflict, LostSession, NotFound
from noah.store import Store
from tests.contract.asking import FENCE, HOUR, add, end, live
from tests.principals import ADA, BOB


async def test_what_was_asked_for_comes_back_the_same(store: Store) -> None:
    target = PodTarget("dev", "team-a", "shop-1", "app")
    session = await add(
        store, "s1", target, workload="Deployment/shop", allow=("10.0.0.0/8", "::1"), allow_exit=True,
        pause_budget=timedelta(minutes=10),
    )  # fmt: skip
    assert await store.sessions.get("s1") == session
    assert await live(store) == [session]
    assert session.expires_at - session.created_at == HOUR
    assert abs(session.created_at - await store.now()) < timedelta(seconds=5)


async def test_of_twenty_clicks_at_once_one_wins(store: Store, url: str) -> None:
    other = Store.open(url)
    target = LocalTarget("x")
    clicks = [add(one, f"s{n}", target, owner=f"user{n}") for n, one in enumerate([store, other] * 10)]
    answers = await asyncio.gather(*clicks, return_exceptions=True)
    await other.close()
    won = [one for one in answers if isinstance(one, Session)]
    assert len(won) == 1
    lost = [one for one in answers if isinstance(one, AlreadyDebugged)]
    assert len(lost) == 19, answers
    assert {(one.holder, one.session_id) for one in lost} == {(won[0].owner.name, won[0].id)}


async def test_a_target_is_free_again_when_its_session_has_ended(store: Store) -> None:
    session = await add(store, "s1", LocalTarget("x"))
    await store.sessions.ask_end("s1", reason=EndReason.CLOSED, detail=None, by=ADA)
    with pytest.raises(AlreadyDebugged):  # it is still being cleared away
        await add(store, "s2", session.target)
    await store.sessions.finish("s1", audit=None, fence=FENCE)
    await add(store, "s3", session.target)


async def test_the_first_reason_stays_and_the_end_comes_once(store: Store) -> None:
    await add(store, "s1")
    await store.sessions.ask_end("s1", reason=EndReason.EXPIRED, detail=None, by=None)
    asked = await store.sessions.ask_end("s1", reason=EndReason.CANCELED, detail="x" * 5000, by=BOB)
    assert (asked.end_reason, asked.ended_by) == (EndReason.EXPIRED, None)
    await store.sessions.save_audits({"s1": (FENCE, {"commands": {"x": 0}}), "nobody": (FENCE, {})})
    assert await store.sessions.audits(["s1", "nobody"]) == {"s1": {"commands": {"x": 0}}}
    ended = await store.sessions.finish("s1", audit={"commands": {"x": 1}}, fence=FENCE)
    assert await store.sessions.finish("s1", audit={"commands": {}}, fence=FENCE) == ended
    await store.sessions.save_audits({"s1": (FENCE, {"commands": {}})})  # of a moment before the end, and late
    assert await store.sessions.audits(["s1", "nobody"]) == {"s1": {"commands": {"x": 1}}}
    with pytest.raises(Conflict, match="is over"):
        await store.sessions.extend("s1", until_from_now=HOUR)


async def test_extending_never_shortens(store: Store) -> None:
    session = await add(store, "s1")
    assert (await store.sessions.extend("s1", until_from_now=timedelta(minutes=1))).expires_at == session.expires_at
    longer = await store.sessions.extend("s1", until_from_now=2 * HOUR)
    assert longer.expires_at - session.created_at >= 2 * HOUR


async def test_a_session_moves_but_not_onto_somebody_elses_target(store: Store) -> None:
    await add(store, "s1", LocalTarget("a"))
    await add(store, "s2", LocalTarget("b"), owner="bob")
    assert (await store.sessions.move("s1", target=LocalTarget("c"), fence=FENCE)).target == LocalTarget("c")
    with pytest.raises(AlreadyDebugged) as caught:
        await store.sessions.move("s1", target=LocalTarget("b"), fence=FENCE)
    assert caught.value.holder == "bob"
    await add(store, "s3", LocalTarget("a"))


async def test_a_session_is_found_in_the_environment_in_which_its_target_is_now(store: Store) -> None:
    before = await add(store, "s1", LocalTarget("a"))
    assert (await store.sessions.place("s1", environment="load", fence=FENCE)).environment == "load"
    for environment, found in ((before.environment, 0), ("load", 1)):
        assert (await store.sessions.find(environment=environment, limit=9)).total == found
    with pytest.raises(LostSession):
        await store.sessions.place("s1", environment="test", fence=Fence("other", 1))


async def test_what_is_not_there_is_said(store: Store) -> None:
    assert await store.sessions.get("nothing") is None
    with pytest.raises(NotFound):
        await store.sessions.extend("nothing", until_from_now=HOUR)


@pytest.mark.parametrize("text", ["", "nonsense", "0001-01-01T00:00:00+14:00 s1", "\x80"])
async def test_a_token_that_no_page_gave_is_bad_input(store: Store, text: str) -> None:
    with pytest.raises(BadInput, match="token"):
        await store.sessions.find(limit=1, after=base64.urlsafe_b64encode(text.encode("latin-1")).decode())
    with pytest.raises(BadInput, match="token"):
        await store.sessions.find(limit=1, after=text + "!ü")


async def test_pages_have_no_gaps_and_no_doubles_while_sessions_come(store: Store) -> None:
    for n in range(7):
        await add(store, f"s{n}")
    seen: list[str] = []
    token: str | None = None
    for n in range(4):
        page, token, total, _ = await store.sessions.find(limit=2, after=token)
        seen += [session.id for session in page]
        assert total == 7 + min(n, 3)
        if n < 3:
            await add(store, f"new{n}")
    assert seen == [f"s{n}" for n in reversed(range(7))]
    assert token is None


@pytest.mark.parametrize("count", [1, 3, 4, 5, 6, 7])
async def test_pages_lead_back_to_where_one_came_from(store: Store, count: int) -> None:
    for n in range(count):
        await add(store, f"s{n}")
    pages = [await store.sessions.find(limit=2)]
    while token := pages[-1].after:
        pages.append(await store.sessions.find(limit=2, after=token))
    assert pages[0].before is None
    for earlier, later in pairwise(pages):
        assert later.before is not None
        assert (await store.sessions.find(limit=2, after=later.before or None)).items == earlier.items


async def test_a_page_that_became_empty_leads_to_the_first_one(store: Store) -> None:
    for n in range(3):
        await end(store, await add(store, f"s{n}"))
    token = (await store.sessions.find(limit=2, state="ended")).after
    await store.forget_before(-HOUR, trail=HOUR)
    assert await store.sessions.find(limit=2, state="ended", after=token) == ([], None, 0, "")


async def test_sessions_are_found_by_owner_target_and_state(store: Store) -> None:
    await add(store, "s1", PodTarget("dev", "a", "x", "c"))
    await add(store, "s2", PodTarget("dev", "b", "x", "c"), owner="bob")
    await end(store, await add(store, "s3", PodTarget("dev", "a", "y", "c")))

    async def found(**wanted: Any) -> set[str]:
        return {session.id for session in (await store.sessions.find(limit=10, **wanted))[0]}

    assert await found() == {"s1", "s2"}
    assert await found(state="all") == {"s1", "s2", "s3"}
    assert await found(state="ended") == {"s3"}
    assert await found(owner="bob") == {"s2"}
    assert await found(target_prefix="pod/dev/a/", state="all") == {"s1", "s3"}
    assert await found(target_prefix="pod/dev/%") == set()
    assert await found(end_reason=EndReason.CLOSED, state="all") == {"s3"}
    assert await found(end_reason=EndReason.FAILED, state="all") == set()
    assert await found(ids=["s1", "s3"]) == {"s1"}
    assert await found(ids=[]) == set()


async def test_a_row_that_is_wrong_is_not_taken_for_a_lost_race(store: Store) -> None:
    await add(store, "s1")
    with pytest.raises(IntegrityError):
        await add(store, "s1", LocalTarget("x"))  # the ID of another session
    with pytest.raises(IntegrityError):
        await add(store, "s2", app=None)
    await store.edits.record(edit("e1", "s1"))
    with pytest.raises(IntegrityError):
        await store.edits.record(edit("e1", "s1", app="cart"))


async def test_of_two_edits_of_one_target_the_second_is_refused_in_words(store: Store) -> None:
    await store.edits.record(edit("e1", "s1"))
    with pytest.raises(Conflict, match="being edited by somebody else"):
        await store.edits.record(edit("e2", "s2"))


async def test_ended_sessions_are_forgotten_in_time(store: Store) -> None:
    await end(store, await add(store, "s1"))
    await add(store, "s2")
    assert await store.forget_before(HOUR, trail=HOUR) == 0
    assert await store.forget_before(-HOUR, trail=HOUR) == 1
    assert [session.id for session in await live(store)] == ["s2"]


async def test_host_edits_that_are_over_are_forgotten_with_their_sessions(store: Store) -> None:
    for n in range(4):
        await add(store, f"s{n}")
    states = EditState.UNDONE, EditState.KEPT, EditState.UNDOING, EditState.UNDONE
    for n, state in enumerate(states):
        planned = edit(f"e{n}", f"s{n}", app=f"app{n}")
        await store.edits.record(planned)
        await store.edits.change(planned, state)
    for session in (await live(store))[:3]:
        await end(store, session)
    assert await store.forget_before(HOUR, trail=HOUR) == 0
    await store.forget_before(-HOUR, trail=HOUR)
    kept = [await store.edits.last_of(f"s{n}") for n in range(4)]
    # One is still to be undone; of the other the session lives, and may ask why it was rolled back.
    assert [one.id if one else None for one in kept] == [None, None, "e2", "e3"]


def edit(id: str, session: str, *, app: str = "shop") -> HostEdit:
    return HostEdit(
        id=id,
        target=HostTarget("kvm-1", app),
        session=session,
        file="/etc/default/shop",
        before=b"",
        after=b"JAVA_OPTS=x",
        mode="644",
        owner="0:0",
        state=EditState.PLANNED,
    )
