"""Sessions as files: all that a filter finds, whole or broken off, and nothing that a spreadsheet would run."""

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from noah.core.session.principal import Principal
from noah.web.api.export import AT_ONCE
from tests.integration.web.conftest import Gateway, serving
from tests.principals import person

pytestmark = [pytest.mark.jvm, pytest.mark.asyncio(loop_scope="module")]

COUNT = 8 * AT_ONCE + 1  # of ada; more, at their length, than sockets hold
SHOWN_AS = {
    "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\t=1": "'\t'=1", "\r=1": "'\r'=1",
    " =1": "' =1", "＝1": "'＝1", "a;=1": "a;'=1", "a=1": "a=1", "bob": "bob",
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(jvm: int, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("export")
    async with serving(jvm, folder) as gateway:
        await _keep(gateway, "ada", COUNT, end_detail="x" * 2000)
        for n, owner in enumerate(SHOWN_AS):
            await _keep(gateway, owner, 1, id=f"s-{n}", target="local/other", end_detail=owner)
        yield gateway


async def _keep(gateway: Gateway, owner: str, count: int, **more: Any) -> None:
    """Sessions that are over."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    row = {
        "target": "local/shop", "area": "local/shop", "shares": "{}", "app": "shop", "port": 21000,
        **_owned(person(owner)), "allow": "[]", "allow_exit": 0,
        "end_reason": "closed", "audit": json.dumps({"commands": {"VirtualMachine.Resume": 2}, "connections": []}),
    }  # fmt: skip
    rows = [
        {
            "id": f"{owner}-{n}",
            "created_at": _sql(began + timedelta(seconds=n)),
            "expires_at": _sql(began + timedelta(hours=2)),
            "ended_at": _sql(began + timedelta(hours=1)),
            **row,
            **more,
        }
        for n in range(count)
    ]
    names = list(rows[0])
    statement = f"INSERT INTO sessions ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
    await gateway.execute(statement, *rows)


def _owned(owner: Principal) -> dict[str, str]:
    return {"owner": json.dumps(owner.to_json()), "owner_id": owner.id, "owner_name": owner.name}


def _sql(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


async def _exported(gateway: Gateway, path: str) -> tuple[Mapping[str, str], str]:
    async with gateway.http.get(f"{gateway.url}/api/v1/{path}") as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers, await answer.text()


async def test_lines_are_all_sessions_of_the_filter_newest_first(running: Gateway) -> None:
    headers, text = await _exported(running, "sessions.jsonl?owner=ada&state=all")
    assert headers["Content-Disposition"] == 'attachment; filename="sessions.jsonl"'
    ids = [json.loads(line)["id"] for line in text.splitlines()]
    assert ids == [f"ada-{n}" for n in reversed(range(COUNT))]
    first = json.loads(text.partition("\n")[0]) | {"mine": True}  # root's question, and ada's
    assert first == (await running.api.ask("GET", "sessions?owner=ada&state=all&limit=1"))["items"][0]


async def test_a_table_has_a_row_for_each(running: Gateway) -> None:
    headers, text = await _exported(running, "sessions.csv?owner=ada&state=ended")
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == COUNT
    assert (rows[0]["end_reason"], rows[0]["commands"], rows[0]["bytes_in"]) == (
        "closed",
        "VirtualMachine.Resume:2",
        "0",
    )
    assert (await _exported(running, "sessions.csv"))[1].count("\n") == 1  # nobody debugs: the head alone


async def test_no_cell_is_a_formula(running: Gateway) -> None:
    _, text = await _exported(running, "sessions.csv?state=all&target=local/other")
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    expected = list(SHOWN_AS.values())
    assert [rows[f"s-{n}"]["owner"] for n in range(len(expected))] == expected
    assert [rows[f"s-{n}"]["end_detail"] for n in range(len(expected))] == expected


async def test_a_filter_that_cannot_be_is_refused(running: Gateway) -> None:
    async with running.http.get(f"{running.url}/api/v1/sessions.csv?state=both") as answer:
        assert (answer.status, answer.content_type) == (400, "application/problem+json")


async def test_an_export_that_breaks_off_does_not_look_whole(running: Gateway) -> None:
    async with running.http.get(f"{running.url}/api/v1/sessions.jsonl?owner=ada&state=all") as answer:
        await answer.content.readline()  # and no more for now: the gateway waits
        await running.execute("ALTER TABLE sessions RENAME TO away")
        try:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        finally:
            await running.execute("ALTER TABLE away RENAME TO sessions")
