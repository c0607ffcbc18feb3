"""`noah trail`, and the commands with which a session is shared."""

import pytest

from tests.acceptance.cli.command import noah
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, says

ROW = {
    "number": 7,
    "at": "2026-01-01T08:00:00.000000+00:00",
    "code": "denied",
    "who": {"name": "grace\x1b[2J"},
    "via": "api",
    "from": "10.0.0.1",
    "target": "pod/dev/team-a",
    "session": "",
    "outcome": "denied",
    "sentence": "You may not debug that.",
    "request": "r-1",
    "more": {},
    "hash": "0" * 64,
}
SESSION = {
    "id": "s-1",
    "target": "local/shop",
    "status": "ready",
    "host": "127.0.0.1",
    "port": 20000,
    "expires_at": "2030-01-01T08:00:00Z",
    "expires_in_seconds": 3600,
}


async def test_the_trail_is_a_table_that_no_name_can_take_over(gateway: ScriptedGateway) -> None:
    gateway.on("GET /trail", says({"items": [ROW], "continue": None}))
    said = await noah(gateway.url, "trail", "--code", "denied", "--who", "grace", "--limit", "5")
    assert said.code == 0
    header, row = said.out.splitlines()
    assert header.split()[:4] == ["ROW", "TIME", "WHAT", "WHO"]
    assert row.startswith("7     2026-01-01T08:00:00Z   denied   grace\ufffd[2J   10.0.0.1")
    assert gateway.asked[0].query == {"code": "denied", "who": "grace", "limit": "5"}


@pytest.mark.parametrize(
    ("verdict", "code", "out"),
    [
        (
            {"whole": True, "first": 1, "last": 9, "last_hash": "abc", "problems": []},
            0,
            "Rows 1 to 9 are whole. The last hash is abc.\n",
        ),
        (
            {"whole": False, "first": 1, "last": 9, "last_hash": "abc", "problems": ["Rows 3 to 4 are missing."]},
            1,
            "Rows 3 to 4 are missing.\n",
        ),
        ({"whole": True, "first": None, "last": None, "last_hash": None, "problems": []}, 0, "The trail is empty.\n"),
    ],
    ids=["whole", "a gap", "empty"],
)
async def test_a_trail_that_is_not_whole_is_an_exit_code(
    gateway: ScriptedGateway, verdict: dict[str, object], code: int, out: str
) -> None:
    gateway.on("GET /trail/verification", says(verdict))
    said = await noah(gateway.url, "trail", "--verify")
    assert (said.code, said.out) == (code, out)


@pytest.mark.parametrize(
    ("options", "to", "out"),
    [
        ([], "join", "local/shop: grace may join it: s-1.\n"),
        (["--hand-over"], "take", "local/shop: grace may take it over: s-1.\n"),
        (["--stop"], None, "local/shop: grace may not join it any more: s-1.\n"),
    ],
)
async def test_a_session_is_shared_handed_over_and_kept(
    gateway: ScriptedGateway, options: list[str], to: str | None, out: str
) -> None:
    gateway.on("POST /sessions/s-1/share", says(SESSION))
    said = await noah(gateway.url, "share", "s-1", "grace", *options)
    assert (said.code, said.out) == (0, out)
    assert gateway.asked[-1].body == {"with": "grace", "to": to}


async def test_a_colleague_who_joins_learns_where_to_attach(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions/s-1/join", says(SESSION))
    said = await noah(gateway.url, "join", "s-1")
    assert (said.code, said.out) == (0, "Point your debugger at 127.0.0.1:20000.\n")
