"""The trail in both databases: rows are chained, and a row that is missing or was changed shows."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from noah.access.trail import MOST_WAITING, Trail, open_trail
from noah.core.host.edits import EditState, HostEdit
from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.target import HostTarget
from noah.core.session.trail import Entry, Outcome, TrailCode
from noah.store import Store
from noah.store.database import open_plain_engine

ADA = Principal(kind=PrincipalKind.OIDC, issuer="https://id", subject="ada", name="Ada", groups=frozenset({"team"}))


def entry(code: TrailCode = TrailCode.ENABLED, *, at: datetime | None = None, target: str = "local/shop") -> Entry:
    return Entry(code=code, at=at or datetime.now(UTC), who=ADA, target=target, sentence="It is so.")


def tamper(url: str, statement: str) -> None:
    engine = open_plain_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


async def test_rows_come_back_newest_first_and_whole(store: Store) -> None:
    await store.trail.add([entry(), entry(TrailCode.DENIED), entry(TrailCode.ENDED, target="host/h/app")])
    rows = await store.trail.find(limit=10)
    assert [row.number for row in rows] == [3, 2, 1]
    assert [row.number for row in await store.trail.find(target_prefix="host/", limit=10)] == [3]
    assert [row.number for row in await store.trail.find(code=TrailCode.DENIED, who="Ada", limit=10)] == [2]
    chain = await store.trail.verify()
    assert chain.verdict() == []
    assert chain.last is not None
    assert chain.last.number == 3


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("DELETE FROM trail WHERE number = 2", "Rows 2 to 2 are missing."),
        ("DELETE FROM trail WHERE number = 1", "Rows 1 to 1 are missing."),
        ("UPDATE trail SET entry = REPLACE(entry, 'Ada', 'Bob') WHERE number = 1", "Row 1 has been changed."),
        ("UPDATE trail SET entry = REPLACE(entry, 'Ada', 'Bob') WHERE number = 3", "Row 3 has been changed"),
        ("UPDATE trail SET hash = REPLACE(hash, 'a', 'b') WHERE number = 2", "Row 3 has been changed"),
    ],
    ids=["a row taken out", "the first taken out", "the first changed", "another changed", "a hash changed"],
)
async def test_what_was_done_to_the_rows_shows(store: Store, url: str, statement: str, shown: str) -> None:
    await store.trail.add([entry() for _ in range(4)])
    await asyncio.to_thread(tamper, url, statement)
    verdict = (await store.trail.verify()).verdict()
    assert any(problem.startswith(shown) for problem in verdict), verdict


async def test_many_who_add_at_once_make_one_chain(store: Store) -> None:
    await asyncio.gather(*(store.trail.add([entry(), entry()]) for _ in range(20)))
    chain = await store.trail.verify()
    assert chain.verdict() == []
    assert chain.last is not None
    assert chain.last.number == 40


async def test_rows_older_than_the_retention_go_and_the_rest_is_whole(store: Store) -> None:
    old = datetime.now(UTC) - timedelta(days=400)
    await store.trail.add([entry(at=old), entry(at=old), entry()])
    assert await store.trail.forget_before(timedelta(days=365)) == 2
    rows = await store.trail.find(limit=10)
    assert [row.number for row in rows] == [4, 3]
    assert (await store.trail.verify()).verdict() == []
    assert await store.trail.forget_before(timedelta(days=365)) == 0


async def test_the_newest_row_stays_whatever_its_age(store: Store) -> None:
    old = datetime.now(UTC) - timedelta(days=400)
    await store.trail.add([entry(at=old), entry(at=old)])
    await store.trail.forget_before(timedelta(days=365))
    await store.trail.add([entry()])
    assert (await store.trail.verify()).verdict() == []


async def test_a_person_who_is_refused_all_the_time_fills_so_many_rows_and_no_more(store: Store) -> None:
    async with open_trail(store.trail, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as trail:
        for _ in range(MOST_WAITING):
            trail.record(TrailCode.DENIED, who=ADA, outcome=Outcome.DENIED)
        trail.record(TrailCode.ENABLED, who=ADA)
    rows = await store.trail.find(limit=1000)
    assert len(rows) == 62  # what one minute takes, the row that was done, and how many were lost
    assert '"rows":9940' in rows[0].text


async def test_rows_wait_for_a_database_that_is_away(store: Store) -> None:
    trail = Trail(store.trail, clock=lambda: datetime.now(UTC))
    trail.record(TrailCode.ENABLED, who=ADA)
    await trail.flush()
    trail.record(TrailCode.ENDED, who=ADA)
    await trail.flush()
    await trail.flush()
    assert [row.number for row in await store.trail.find(limit=10)] == [2, 1]


async def test_an_edit_on_a_host_is_in_the_trail_without_what_is_in_the_file(store: Store) -> None:
    secret = b'JAVA_OPTS="-Dpassword=hunter2"'
    edit = HostEdit(
        id="e-1",
        target=HostTarget("kvm-1", "orders"),
        session="s-1",
        file="/etc/default/orders",
        before=secret,
        after=secret,
        mode="640",
        owner="0:0",
        state=EditState.PLANNED,
    )
    await store.edits.record(edit)
    assert await store.edits.change(edit, EditState.ROLLING_BACK, why="It printed hunter2.")
    rows = [json.loads(row.text) for row in await store.trail.find(code=TrailCode.HOST_EDITED, limit=10)]
    said = [(row["target"], row["session"], row["sentence"]) for row in rows]
    assert said == [
        ("host/kvm-1/orders", "s-1", "/etc/default/orders: rolling back."),
        ("host/kvm-1/orders", "s-1", "/etc/default/orders: planned."),
    ]
    assert "hunter2" not in str(rows)


async def test_every_row_is_a_line_of_the_file_and_the_next_gateway_goes_on(store: Store, tmp_path: Path) -> None:
    lines = tmp_path / "trail.jsonl"
    for round_ in (1, 2):
        async with open_trail(store.trail, clock=lambda: datetime.now(UTC), lines_to=str(lines)) as trail:
            trail.record(TrailCode.ENABLED, who=ADA)
            async with asyncio.timeout(30):
                while not lines.exists() or lines.read_text().count("\n") < round_:
                    await asyncio.sleep(0.05)
    assert lines.read_text().count('"code": "session.enabled"') == 2


def test_a_row_has_no_more_of_a_text_than_a_terminal_can_show() -> None:
    written = Entry(code=TrailCode.DENIED, at=datetime.now(UTC), sentence="\x1b[2J\u202e\0" + "x" * 5000).text()
    assert "\\u001b" not in written
    assert "\u202e" not in written
    assert "\\u0000" not in written
    assert len(written) < 1500


async def test_what_was_confirmed_to_be_gone_is_named_for_as_long_as_that_counts(store: Store) -> None:
    now = datetime.now(UTC)
    for hours, named in ((2, "earlier"), (0, "lately")):
        at = now - timedelta(hours=hours)
        await store.trail.add([Entry(code=TrailCode.REMOVAL_CONFIRMED, at=at, more={"hosts": ["a"], "named": [named]})])
    await store.trail.add([Entry(code=TrailCode.REMOVAL_CONFIRMED, at=now, more={})])  # of a gateway of before
    trail = Trail(store.trail, clock=lambda: now)
    assert await trail.confirmed_removals(within=timedelta(hours=1)) == {"lately"}
