"""What the command is before it asks anybody: quick, light, documented, a plugin of kubectl."""

import asyncio
import os
import re
import shutil
import sys

import pytest

from tests.acceptance.cli.command import SCRIPTS, TARGET, environment, noah
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, says
from tests.ports import free_port
from tests.processes import output_of


async def test_no_server_is_imported_on_the_clients_path() -> None:
    program = (
        "import sys; from noah.cli import run; run(sys.argv[1:]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    heavy = {"aiohttp", "sqlalchemy", "alembic", "pydantic", "asyncio", "asyncssh"}
    for argv, light_too in ((["version"], {"urllib3"}), (["targets"], set())):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, *argv),
            env=environment(f"http://127.0.0.1:{free_port()}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await output_of(process)
        imported = set(err.decode().splitlines()[-1].split())
        assert "click" in imported
        assert not imported & (heavy | light_too)


async def test_help_says_what_the_exit_codes_are() -> None:
    said = await noah("", "--help")
    assert said.code == 0
    assert all(re.search(rf"^ +{code}  \w", said.out, re.MULTILINE) for code in range(9))


async def test_kubectl_finds_it_and_completes_it(gateway: ScriptedGateway) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    gateway.on("GET /targets", says({"items": [TARGET], "continue": None, "total": 1}))
    env = environment(gateway.url, PATH=f"{SCRIPTS}:{os.environ['PATH']}")
    for argv, expected in (
        (["noah", "version"], "noah "),
        (["noah", "end", "--help"], "Usage: kubectl noah end "),
        (["__complete", "noah", "enable", "pod/dev"], "pod/dev/team-a/shop-1/app\tshop\n:4"),
    ):
        process = await asyncio.create_subprocess_exec(
            "kubectl", *argv, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        out, _ = await output_of(process)
        assert out.decode().startswith(expected)
