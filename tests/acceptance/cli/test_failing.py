"""How failures look: one sentence, one exit code, never a traceback."""

from typing import Any

import pytest

from tests.acceptance.cli.command import SESSION, TARGET, noah
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, refuses, says
from tests.ports import free_port


@pytest.mark.parametrize(
    ("status", "code"), [(400, 2), (403, 8), (404, 3), (409, 4), (413, 2), (422, 6), (500, 1), (503, 5)]
)
async def test_a_kind_of_failure_is_an_exit_code_and_one_sentence(
    gateway: ScriptedGateway, status: int, code: int
) -> None:
    gateway.on("POST /sessions", refuses(status, "bob is already debugging it: ask them to end it."))
    said = await noah(gateway.url, "enable", "local/orders")
    assert (said.code, said.out) == (code, "")
    assert said.err == "Error: bob is already debugging it: ask them to end it.\n"


async def test_a_gateway_that_is_not_there_is_said_with_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = await noah(url, "targets")
    assert said.code == 5
    assert said.err == (
        f"Error: The gateway at {url} does not answer (connection refused): is `noah serve` running? "
        "Set NOAH_URL if it is elsewhere.\n"
    )


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (says("<h1>It works!</h1>", content_type="text/html"), 1),
        (says("<h1>Not found</h1>", 404, content_type="text/html"), 1),
        (says("<h1>Sign in</h1>", 302, content_type="text/html"), 1),
        (says([1, 2]), 1),
        (says({"kind": "Status"}), 1),
        (says({"items": 5}), 1),
        (says("<h1>Bad gateway</h1>", 502, content_type="text/html"), 5),
    ],
)
async def test_something_else_at_that_address_is_no_traceback(gateway: ScriptedGateway, answer: Any, code: int) -> None:
    gateway.on("GET /targets", answer)
    said = await noah(gateway.url, "targets")
    assert (said.code, said.out) == (code, "")
    assert len(said.err.splitlines()) == 1
    assert gateway.url in said.err


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        (["enable", "no-such-form"], {}),
        (["enable", "pod/dev/team-a/../secrets"], {}),
        (["enable", "local/$(reboot)"], {}),
        (["enable", "local/" + "x" * 10_000], {}),
        (["enable", "local/orders", "--for", "-5m"], {}),
        (["enable", "local/orders", "--for", "yesterday"], {}),
        (["enable", "local/orders", "--for", "0"], {}),
        (["enable", "local/orders", "--pause-budget", "never"], {}),
        (["enable", "deploy/shop", "--cluster", "dev"], {}),
        (["end", "../../livez"], {}),
        (["end", ""], {}),
        (["targets", "-l", "app"], {}),
        (["doctor", "local/orders"], {}),
        (["events"], {}),
        (["sesions"], {}),
        (["ide", "s-1", "--format", "emacs"], {}),
        (["targets"], {"NOAH_URL": "gateway:7070"}),
        (["targets"], {"NOAH_URL": "http://127.0.0.1:port"}),
        (["targets"], {"NOAH_TOKEN": "x\nX-Admin: yes"}),
        (["targets"], {"NOAH_TOKEN": "x" * 9000}),
    ],
)
async def test_bad_input_is_one_sentence_and_asks_no_gateway(
    gateway: ScriptedGateway, argv: list[str], env: dict[str, str]
) -> None:
    said = await noah(gateway.url, *argv, env=env)
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()[-1]) < 300
    assert gateway.asked == []


NASTY = "a\x1b[31m\x1b[2J\x1b]0;title\x07\x9b31m\u202eb\u2066\r\x08"


@pytest.mark.parametrize(
    ("argv", "answers"),
    [
        (["targets"], {"GET /targets": says({"items": [{**TARGET, "app": NASTY, "phase": NASTY}], "total": 1})}),
        (["targets", "-o", "name"], {"GET /targets": says({"items": [{**TARGET, "target": NASTY}], "total": 1})}),
        (["targets", "-o", "yaml"], {"GET /targets": says({"items": [{**TARGET, "app": NASTY}], "total": 1})}),
        (["targets", "-o", "json"], {"GET /targets": says({"items": [{**TARGET, "app": NASTY}], "total": 1})}),
        (["clusters"], {"GET /clusters": says({"items": [{"name": "dev", "reason": NASTY}], "total": 1})}),
        (
            ["sessions"],
            {
                "GET /sessions": says(
                    {"items": [{**SESSION, "owner": NASTY, "reason": NASTY}], "continue": None, "total": 1}
                )
            },
        ),
        (
            ["sessions", "s-1"],
            {"GET /sessions/s-1": says({**SESSION, "attached": {"debugger": NASTY, "address": NASTY}})},
        ),
        (
            ["enable", "local/shop", "--wait"],
            {
                "POST /sessions": says(
                    {**SESSION, "host": NASTY, "steps": [{"at": None, "text": NASTY}], "reason": NASTY}
                )
            },
        ),
        (["enable", "local/shop"], {"POST /sessions": refuses(409, NASTY, needs_restart=True)}),
        (["enable", "local/shop"], {"POST /sessions": refuses(422, NASTY)}),
        (["release", "watch", "r-1"], {"GET /releases/r-1/events": refuses(404, NASTY)}),
        (["doctor", "dev"], {"POST /clusters/dev/doctor": says({"findings": [{"level": NASTY, "message": NASTY}]})}),
        (
            ["doctor"],
            {"POST /doctor": says({"items": [{"what": NASTY, "level": NASTY, "message": NASTY, "took_seconds": 1}]})},
        ),
        (
            ["inventory"],
            {"GET /inventory": says({"items": [{"part": NASTY, "count": 1, "current": False, "message": NASTY}]})},
        ),
        (["drift"], {"POST /drift": says({"items": [{"target": "a", "finding": NASTY, "detail": NASTY}], "total": 1})}),
        (["ide", "s-1", "--format", "jdb"], {"GET /sessions/s-1/ide/jdb": says(NASTY)}),
        (["extend", "s-1"], {"POST /sessions/s-1/extend": says({**SESSION, "target": NASTY})}),
        (["end", "s-1"], {"DELETE /sessions/s-1": says({**SESSION, "target": NASTY, "status": NASTY})}),
    ],
)
async def test_text_from_elsewhere_cannot_steer_the_terminal(
    gateway: ScriptedGateway, argv: list[str], answers: dict[str, Any]
) -> None:
    for what, answer in answers.items():
        gateway.on(what, answer)
    said = await noah(gateway.url, *argv)
    text = said.out + said.err
    assert "title" in text
    assert all(line.isprintable() for line in text.split("\n"))
