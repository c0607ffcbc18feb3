"""What is listed, and how it is printed for a pipe, a terminal and a script."""

import asyncio
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios

import pytest

from tests.acceptance.cli.command import TARGET, environment, noah
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, says
from tests.ports import free_port
from tests.processes import output_of


async def test_a_path_before_the_api_and_a_token_arrive(gateway: ScriptedGateway) -> None:
    gateway.script["GET /noah/dev/api/v1/clusters"] = [says({"items": [], "continue": None, "total": 0})]
    said = await noah(gateway.url + "/noah/dev/", "clusters", env={"NOAH_TOKEN": "noah_x"})
    assert (said.code, said.out, said.err) == (0, "", "The gateway knows no clusters.\n")
    assert gateway.asked[0].authorization == "Bearer noah_x"


async def test_no_proxy_stands_between_a_developer_and_the_gateway(gateway: ScriptedGateway) -> None:
    gateway.on("GET /clusters", says({"items": [], "total": 0}))
    nowhere = f"http://127.0.0.1:{free_port()}"
    said = await noah(gateway.url, "clusters", env={"HTTP_PROXY": nowhere, "http_proxy": nowhere, "ALL_PROXY": nowhere})
    assert said.code == 0


async def test_targets_are_filtered_by_the_gateway_and_come_as_one_list_of_all_pages(gateway: ScriptedGateway) -> None:
    first = {"items": [TARGET], "continue": "more", "total": 2}
    local = {**TARGET, "target": "local/orders", "session": None}
    second = {"items": [local], "continue": None, "total": 2}
    gateway.on("GET /targets", says(first), says(second))
    argv = ["--cluster", "dev", "-n", "team-a", "--app", "shop", "-l", "tier=web", "--kind", "pod", "-q", "sho"]
    said = await noah(gateway.url, "targets", *argv, "-o", "json")
    assert json.loads(said.out) == {"items": [TARGET, local], "continue": None, "total": 2}
    filters = {"cluster": "dev", "namespace": "team-a", "app": "shop", "label": "tier=web", "kind": "pod", "q": "sho"}
    assert [asked.query for asked in gateway.asked] == [
        {**filters, "limit": "500"},
        {**filters, "limit": "500", "continue": "more"},
    ]


async def test_a_table_in_a_pipe_has_neither_colour_nor_edge(gateway: ScriptedGateway) -> None:
    gateway.on("GET /targets", says({"items": [TARGET], "continue": None, "total": 1}))
    said = await noah(gateway.url, "targets", env={"COLUMNS": "20"})
    header, row = said.out.splitlines()
    assert header.split() == ["TARGET", "APP", "READY", "STATUS", "RESTARTS", "AGE", "VERSION", "DEBUGGED", "BY"]
    assert row.startswith("pod/dev/team-a/shop-1/app   shop   yes     Running   0 ")
    assert "ada (suspended " in row
    assert "\x1b" not in said.out
    named = await noah(gateway.url, "targets", "-o", "name")
    assert named.out == "pod/dev/team-a/shop-1/app\n"


@pytest.mark.parametrize(("env", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
async def test_a_terminal_gets_its_width_and_its_colours(
    gateway: ScriptedGateway, env: dict[str, str], has_colour: bool
) -> None:
    gateway.on("GET /targets", says({"items": [TARGET], "continue": None, "total": 1}))
    shown = await on_a_terminal(gateway.url, ["targets"], columns=60, env=env)
    assert ("\x1b[32mRunning\x1b[0m" in shown) is has_colour
    plain = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
    assert [len(line) for line in plain] == [60, 60]
    assert plain[1].endswith("…")


async def on_a_terminal(url: str, argv: list[str], *, columns: int, env: dict[str, str]) -> str:
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {key: value for key, value in environment(url).items() if key not in ("COLUMNS", "NO_COLOR")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "noah", *argv), env={**clean, **env}, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    await process.wait()
    try:
        return os.read(terminal, 1 << 16).decode()
    finally:
        os.close(terminal)


async def test_a_reader_who_has_enough_is_no_error(gateway: ScriptedGateway) -> None:
    many = [{**TARGET, "target": f"local/app-{i}"} for i in range(5000)]
    gateway.on("GET /targets", says({"items": many, "continue": None, "total": len(many)}))
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"'{sys.executable}' -m noah targets -o name | head -1"),
        env=environment(gateway.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await output_of(process)
    assert (out, err) == (b"local/app-0\n", b"")
