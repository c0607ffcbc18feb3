"""`noah environments`, and --env and NOAH_ENV of the other commands."""

import asyncio
import json
from typing import Any

import pytest

from tests.acceptance.cli.command import SESSION, TARGET, noah, start
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, event, refuses, says, streams

HELD = {"id": "s-1", "owner": "ada", "status": "suspended", "target": "local/a", "app": "a"}
SHOP: dict[str, Any] = {
    "name": "shop-test", "apps": 3, "targets": 5, "ready": 3, "unknown": 1, "pods": 4, "hosts": 1, "local": 0,
    "suspended": 1, "sessions": [HELD, {**HELD, "id": "s-2"}, {**HELD, "owner": "bob"}],
}  # fmt: skip
GONE = {**SHOP, "name": "old", "apps": 0, "targets": 0, "ready": 0, "unknown": 0, "pods": 0, "hosts": 0}


def _page(*items: object) -> Any:
    return says({"items": items, "continue": None, "total": len(items)})


def _narrowed_to(gateway: ScriptedGateway, path: str) -> list[str | None]:
    return [asked.query.get("environment") for asked in gateway.asked if asked.what == f"GET /api/v1{path}"]


async def test_environments_are_listed_with_who_debugs_there(gateway: ScriptedGateway) -> None:
    gateway.on("GET /environments", _page(SHOP, GONE))
    said = await noah(gateway.url, "environments", "-q", "o")
    header, shop, gone = said.out.splitlines()
    assert header.split() == ["ENVIRONMENT", "APPS", "PODS", "HOSTS", "LOCAL", "READY", "SUSPENDED", "DEBUGGED", "BY"]
    assert shop.split() == ["shop-test", "3", "4", "1", "0", "3/5", "(1", "not", "known)", "1", "ada,", "bob"]
    assert gone.split()[:6] == ["old", "0", "0", "0", "0", "gone"]
    assert gateway.asked[0].query == {"q": "o", "limit": "500"}
    assert json.loads((await noah(gateway.url, "environments", "-o", "json")).out)["items"] == [SHOP, GONE]


@pytest.mark.parametrize(
    ("argv", "path"),
    [(["targets"], "/targets"), (["sessions"], "/sessions"), (["release", "list"], "/releases")],
)
async def test_lists_are_narrowed_to_the_environment(gateway: ScriptedGateway, argv: list[str], path: str) -> None:
    gateway.on(f"GET {path}", _page())
    said = await noah(gateway.url, *argv, "--env", "shop-test")
    await noah(gateway.url, *argv, env={"NOAH_ENV": "shop-load"})
    await noah(gateway.url, *argv, "--env", "", env={"NOAH_ENV": "shop-load"})
    assert _narrowed_to(gateway, path) == ["shop-test", "shop-load", None]
    assert said.code == 0


@pytest.mark.parametrize("things", ["targets", "sessions", "releases"])
async def test_what_is_not_found_in_an_environment_is_said_with_its_name(gateway: ScriptedGateway, things: str) -> None:
    argv = ["release", "list"] if things == "releases" else [things]
    gateway.on(f"GET /{things}", _page())
    gateway.on("GET /environments/shop-test", says(SHOP), refuses(404, "There is none. Did you mean shop-test2?"))
    said = await noah(gateway.url, *argv, env={"NOAH_ENV": " shop-test "})
    assert said.err == f"No {things} found in environment shop-test: `noah environments` lists what there is.\n"
    said = await noah(gateway.url, *argv, "--env", "shop-test")
    assert (said.code, said.err) == (0, f"No {things} found. There is none. Did you mean shop-test2?\n")
    assert (await noah(gateway.url, *argv, env={"NOAH_ENV": ""})).err == f"No {things} found.\n"


@pytest.mark.parametrize(
    "argv", [["enable", "app=shop"], ["resume", "deploy/shop"], ["release", "watch", "deploy/shop"]]
)
async def test_a_name_that_is_looked_for_in_an_environment_that_there_is_not_is_answered_with_that(
    gateway: ScriptedGateway, argv: list[str]
) -> None:
    gateway.on("GET /sessions", _page())
    gateway.on("GET /targets", _page())
    gateway.on("GET /environments/shop-tset", refuses(404, "There is none. Did you mean shop-test?"))
    said = await noah(gateway.url, *argv, "--env", "shop-tset")
    assert (said.code, said.err) == (3, "Error: There is none. Did you mean shop-test?\n")


async def test_an_app_on_a_host_that_nobody_has_asked_is_neither_ready_nor_not(gateway: ScriptedGateway) -> None:
    gateway.on("GET /targets", _page({**TARGET, "target": "host/kvm-1/shop", "kind": "host", "phase": "Unknown"}))
    header, row = (await noah(gateway.url, "targets")).out.splitlines()
    assert row[header.index("READY") :].split()[:2] == ["-", "Unknown"]


async def test_who_waits_for_events_of_an_environment_that_there_is_not_is_told(gateway: ScriptedGateway) -> None:
    gateway.on("GET /environments/shop-tset", refuses(404, "There is none. Did you mean shop-test?"))
    gateway.on("GET /events", streams(event("e-1", "step", subject="local/a", text="on it"), forever=True))
    process = await start(gateway.url, "events", "-f", "--env", "shop-tset")
    try:
        await gateway.until_asked("GET /events")
        assert process.stderr is not None
        async with asyncio.timeout(20):
            said = await process.stderr.readline()
        assert said == b"There is none. Did you mean shop-test? Its events are shown once it is there.\n"
        assert gateway.asked[-1].query["environment"] == "shop-tset"
    finally:
        process.terminate()
        await process.wait()


async def test_sessions_of_an_environment_are_connected(gateway: ScriptedGateway) -> None:
    gateway.on("GET /sessions", _page())
    said = await noah(gateway.url, "connect", "--env", "shop-test")
    assert (said.code, "You have no session in environment shop-test" in said.err) == (3, True)
    await noah(gateway.url, "connect", env={"NOAH_ENV": "shop-load"})
    assert [one.query.get("environment") for one in gateway.asked] == ["shop-test", "shop-load"]
    said = await noah(gateway.url, "connect", "-n", "team-a")
    assert (said.code, "--cluster and -n go with the short name of a target." in said.err) == (2, True)


async def test_an_app_on_a_host_is_let_go_by_the_name_by_which_it_was_enabled(gateway: ScriptedGateway) -> None:
    on_host = {**SESSION, "target": "host/kvm-1/shop", "workload": None}
    gateway.on("GET /sessions", _page(on_host))
    gateway.on("DELETE /sessions/s-1", says(on_host))
    said = await noah(gateway.url, "end", "app=shop", "--env", "shop-test")
    assert said.code == 0, said


async def test_a_place_on_the_command_line_says_more_than_noah_env(gateway: ScriptedGateway) -> None:
    gateway.on("GET /targets", _page())
    await noah(gateway.url, "targets", "-n", "team-a", env={"NOAH_ENV": "shop-test"})
    await noah(gateway.url, "targets", "-n", "team-a", "--env", "shop-test")
    assert _narrowed_to(gateway, "/targets") == [None, "shop-test"]


async def test_a_short_name_is_looked_for_in_the_environment(gateway: ScriptedGateway) -> None:
    gateway.on("GET /targets/app=shop", says(TARGET))
    gateway.on("POST /sessions", says(SESSION, status=201))
    said = await noah(gateway.url, "enable", "app=shop", env={"NOAH_ENV": "shop-test"})
    assert said.code == 0, said
    looked, enabled = gateway.asked
    assert looked.query == {"environment": "shop-test"}
    assert enabled.body == {"target": TARGET["target"]}


async def test_of_two_environments_in_a_namespace_the_one_is_meant_that_is_named(gateway: ScriptedGateway) -> None:
    gateway.on("GET /targets/pod/dev/team-a/app=shop", says(TARGET))
    gateway.on("POST /sessions", says(SESSION, status=201))
    gateway.on("GET /sessions", _page(SESSION))
    gateway.on("POST /sessions/s-1/resume", says(SESSION))
    where = ("--cluster", "dev", "-n", "team-a", "--env", "blue")
    assert (await noah(gateway.url, "enable", "app=shop", *where)).code == 0
    assert (await noah(gateway.url, "resume", "app=shop", *where)).code == 0
    looked, enabled, listed, _ = gateway.asked
    assert (looked.query, listed.query["environment"]) == ({"environment": "blue"}, "blue")
    assert enabled.body == {"target": TARGET["target"]}


async def test_a_whole_name_is_what_it_says(gateway: ScriptedGateway) -> None:
    gateway.on("POST /sessions", says(SESSION, status=201))
    for name in ("host/kvm-1/shop", "local/shop", "pod/dev/team-a/shop-1/app"):
        assert (await noah(gateway.url, "enable", name, env={"NOAH_ENV": "shop-test"})).code == 0
    assert [asked.body["target"] for asked in gateway.asked] == [
        "host/kvm-1/shop", "local/shop", "pod/dev/team-a/shop-1/app",
    ]  # fmt: skip


async def test_a_session_is_found_by_a_short_name_in_the_environment(gateway: ScriptedGateway) -> None:
    gateway.on("GET /sessions", _page(SESSION))
    gateway.on("POST /sessions/s-1/resume", says(SESSION))
    said = await noah(gateway.url, "resume", "deploy/shop", "--env", "shop-test")
    assert said.code == 0, said
    assert gateway.asked[0].query["environment"] == "shop-test"


async def test_a_release_is_watched_where_its_environment_has_the_workload(gateway: ScriptedGateway) -> None:
    elsewhere = {**TARGET, "workload": "StatefulSet/shop", "namespace": "team-b"}
    gateway.on("GET /targets", _page(TARGET, elsewhere))
    gateway.on("GET /environments/shop-test", says(SHOP))
    gateway.on("POST /releases", says({"status": 404, "title": "x", "detail": "not here"}, status=404))
    await noah(gateway.url, "release", "watch", "deploy/shop", "--env", "shop-test")
    assert gateway.asked[-1].body == {"cluster": "dev", "namespace": "team-a", "workload": "shop", "kind": "deploy"}
    said = await noah(gateway.url, "release", "watch", "ds/shop", "--env", "shop-test")
    assert (said.code, "There is no ds/shop with pods in environment shop-test" in said.err) == (3, True)


async def test_targets_of_several_environments_say_of_which_they_are(gateway: ScriptedGateway) -> None:
    one, other = ({**TARGET, "environment": name} for name in ("shop-test", "shop-load"))
    gateway.on("GET /targets", _page(one), _page(one, other))
    assert "ENVIRONMENT" not in (await noah(gateway.url, "targets")).out
    said = await noah(gateway.url, "targets")
    assert [line.split()[1] for line in said.out.splitlines()] == ["ENVIRONMENT", "shop-test", "shop-load"]
