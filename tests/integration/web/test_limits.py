"""What one person may use, and from where a debugger may come."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noah.access.tokens import TokenFile
from noah.settings import GrantSettings
from tests.gateway import Refused
from tests.integration.web.conftest import serving

pytestmark = pytest.mark.jvm

NETWORKED: Mapping[str, Any] = {"listen": "0.0.0.0:7070", "plain_http_from": ["127.0.0.0/8"]}
LOOPBACK = ["127.0.0.0/8", "::1/128"]


async def test_a_person_has_so_many_sessions_at_a_time(jvm: int, tmp_path: Path) -> None:
    async with serving(jvm, tmp_path, access={"sessions_per_person": 1}) as gateway:
        session = await gateway.api.enable("local/shop", wait=0)
        assert (await gateway.api.enable("local/shop", wait=0))["id"] == session["id"]
        with pytest.raises(Refused, match="a person has at most 1") as refused:
            await gateway.api.enable("local/nobody", wait=0)
        assert refused.value.status == 409
        assert await gateway.api.enable("local/nobody", wait=0, user="bob")


async def test_a_session_cannot_be_extended_for_ever(jvm: int, tmp_path: Path) -> None:
    async with serving(jvm, tmp_path, sessions={"longest": "2h", "longest_in_all": "2h"}) as gateway:
        session = await gateway.api.enable("local/shop", wait=0, **{"for": "1h"})
        path = f"sessions/{session['id']}/extend"
        assert await gateway.api.ask("POST", path, {"for": "1h"})
        with pytest.raises(Refused, match="at most 2h in all"):
            await gateway.api.ask("POST", path, {"for": "2h"})


async def test_a_person_may_ask_so_often_in_a_minute(jvm: int, tmp_path: Path) -> None:
    grants = (GrantSettings(rights=("see",), users=("carol",)),)
    async with serving(jvm, tmp_path, access={"requests_per_minute": 60}, grants=grants) as gateway:
        token = TokenFile(gateway.tokens).create("carol", groups=[], now=datetime.now(UTC), expires_at=None)
        statuses = []
        for _ in range(125):  # more than two minutes take
            async with gateway.http.get(
                f"{gateway.url}/api/v1/targets", headers={"Authorization": f"Bearer {token}"}
            ) as answer:
                statuses.append(answer.status)
        assert set(statuses) == {200, 429}
        assert await gateway.api.ask("GET", "targets")  # another person's minute is their own


@pytest.mark.parametrize(
    ("allow", "status"),
    [(["0.0.0.0/0"], 403), (["::/0"], 403), (["8.8.8.8"], 403), (["10.1.0.0/16"], 201), (["127.0.0.1"], 201)],
    ids=str,
)
async def test_a_debugger_may_come_from_what_the_configuration_permits(
    jvm: int, tmp_path: Path, allow: list[str], status: int
) -> None:
    async with serving(jvm, tmp_path, **NETWORKED, debug_ports_beyond_loopback=True) as gateway:
        body = {"target": "local/shop", "allow": allow}
        async with gateway.http.post(
            f"{gateway.url}/api/v1/sessions", json=body, headers=gateway.api.headers()
        ) as answer:
            assert answer.status == status
            assert ("more than the gateway's configuration permits" in await answer.text()) is (status == 403)


async def test_debug_ports_of_a_gateway_on_a_network_are_on_its_loopback(jvm: int, tmp_path: Path) -> None:
    async with serving(jvm, tmp_path, **NETWORKED, advertised_host="noah.example.com") as gateway:
        session = await gateway.api.ask("POST", "sessions?wait=60", {"target": "local/shop"})
        assert (session["status"], session["host"], session["allow"]) == ("ready", "127.0.0.1", LOOPBACK)
        listener = next(live.listener for live in gateway.broker.live())
        assert listener is not None
        assert listener.host == "127.0.0.1"


async def test_a_group_that_is_gone_ends_the_session_that_it_allowed(jvm: int, tmp_path: Path) -> None:
    grants = (GrantSettings(rights=("debug",), groups=("team",), targets=("local/*",)),)
    async with serving(jvm, tmp_path, grants=grants) as gateway:
        tokens, now = TokenFile(gateway.tokens), datetime.now(UTC)

        async def ask(token: str, method: str, path: str, body: Any = None) -> Any:
            url, headers = f"{gateway.url}/api/v1/{path}", {"Authorization": f"Bearer {token}"}
            async with gateway.http.request(method, url, json=body, headers=headers) as answer:
                return await answer.json()

        before = tokens.create("carol", groups=["team"], now=now, expires_at=None)
        session = await ask(before, "POST", "sessions?wait=60", {"target": "local/shop"})
        assert session["status"] == "ready"
        after = tokens.create("carol", groups=[], now=now, expires_at=None)
        assert await ask(after, "GET", "targets") == {"items": [], "continue": None, "total": 0}
        ended = await ask(after, "GET", f"sessions/{session['id']}")  # one's own stays to be seen
        assert ended["end_reason"] == "right_lost"
        assert "[[grants]]" in ended["end_detail"]
