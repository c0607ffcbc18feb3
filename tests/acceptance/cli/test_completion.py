"""What the shell offers, by bash itself."""

import asyncio
import os

import pytest
from aiohttp import web

from tests.acceptance.cli.command import SCRIPTS, SESSION, TARGET, environment
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, says, streams
from tests.ports import free_port
from tests.processes import output_of


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("noah ena", ["enable"]),
        ("noah enable pod/d", ["pod/dev/team-a/shop-1/app"]),
        ("noah enable --cluster dev -n team-a d", ["deploy/shop"]),
        ("noah enable --cluster dev -n team-a p", ["pod/shop-1/app"]),
        ("noah end s", ["s-1"]),
        ("noah end pod/", ["pod/dev/team-a/shop-1/app"]),
        ("noah targets --cluster d", ["dev"]),
        ("noah targets --app s", ["shop"]),
        ("noah targets -n t", ["team-a"]),
        ("noah targets --env s", ["shop-test"]),
        ("noah enable --env s", ["shop-test"]),
        ("noah enable --env shop-test d", ["deploy/shop"]),
        ("noah enable --env shop-test app=s", ["app=shop"]),  # which may be on a host
        ("noah enable --env shop-test po", ["pod/dev/team-a/shop-1/app"]),
        ("noah release watch --env shop-test d", ["deploy/shop"]),
        ("noah release watch --env shop-test p", []),
        ("noah ide s-1 --format e", ["eclipse"]),
    ],
)
async def test_the_shell_completes_what_the_gateway_knows(
    gateway: ScriptedGateway, line: str, offered: list[str]
) -> None:
    gateway.on("GET /targets", says({"items": [TARGET], "continue": None, "total": 1}))

    async def names(request: web.Request) -> web.StreamResponse:
        return web.json_response({"items": {"apps": ["shop"], "namespaces": ["team-a"]}[request.query["of"]]})

    gateway.on("GET /names", names)
    gateway.on("GET /sessions", says({"items": [SESSION], "continue": None, "total": 1}))
    gateway.on("GET /clusters", says({"items": [{"name": "dev", "reachable": True}], "continue": None, "total": 1}))
    environment = {"name": "shop-test", "targets": 3}
    gateway.on("GET /environments", says({"items": [environment], "continue": None, "total": 1}))
    assert await completed(gateway.url, line) == (offered, "")


@pytest.mark.parametrize(
    ("workload", "offered"),
    [
        ("StatefulSet/shop", "sts/shop"),
        ("DaemonSet/shop", "ds/shop"),
        ("Job/shop", "job/shop"),
        ("Rollout/shop", "rollout/shop"),
    ],
)
async def test_the_shell_completes_every_kind_of_workload(
    gateway: ScriptedGateway, workload: str, offered: str
) -> None:
    gateway.on("GET /targets", says({"items": [{**TARGET, "workload": workload}], "continue": None, "total": 1}))
    assert await completed(gateway.url, f"noah enable --cluster dev -n team-a {offered[0]}") == ([offered], "")


@pytest.mark.parametrize(
    ("typed", "looked_for"),
    [("dep", None), ("deploy/sh", "sh"), ("deploy/" + "s" * 70, "s" * 58), ("pod/dev/team-a/shop-1/a", "a")],
)
async def test_of_a_short_name_what_its_pods_are_named_by_is_looked_for(
    gateway: ScriptedGateway, typed: str, looked_for: str | None
) -> None:
    gateway.on("GET /targets", says({"items": [TARGET], "continue": None, "total": 1}))
    await completed(gateway.url, f"noah enable --env shop-test {typed}")
    assert [asked.query.get("q") for asked in gateway.asked] == [looked_for]


async def test_completion_is_silent_and_quick_when_the_gateway_is_not_well(gateway: ScriptedGateway) -> None:
    assert await completed(f"http://127.0.0.1:{free_port()}", "noah enable p") == ([], "")
    assert await completed("not a url", "noah enable p") == ([], "")
    gateway.on("GET /targets", says({"items": [{"unheard": "of"}]}))
    assert await completed(gateway.url, "noah enable p") == ([], "")
    gateway.on("GET /targets", streams(forever=True))
    async with asyncio.timeout(15):
        assert await completed(gateway.url, "noah enable p") == ([], "")


async def completed(url: str, line: str) -> tuple[list[str], str]:
    """What bash would offer at the end of *line*, and what it would show as an error."""
    words = " ".join(f"'{word}'" for word in line.split(" "))
    program = (
        f"source <(noah completion bash); COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ));"
        'COMPREPLY=(); _noah_completion noah; for reply in "${COMPREPLY[@]}"; do echo "$reply"; done'
    )
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", program),
        env=environment(url, PATH=f"{SCRIPTS}:{os.environ['PATH']}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await output_of(process)
    return out.decode().split(), err.decode()
