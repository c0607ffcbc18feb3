"""`noah probe-spec` prints a probe that works as it is, and refuses what would not."""

import asyncio

import pytest
from ruamel.yaml import YAML

from tests.acceptance.cli.command import noah
from tests.acceptance.cli.scripted_gateway import ScriptedGateway, says


async def test_the_printed_probe_tells_a_healthy_app_from_an_ill_one(gateway: ScriptedGateway) -> None:
    gateway.script["GET /health"] = [says({}), says({}, 500)]
    argv = ["--checkurl", f"{gateway.url}/health", "--timeout", "5s", "--period", "20s", "--failure-threshold", "2"]
    printed = await noah("", "probe-spec", *argv)
    assert printed.code == 0
    probe = YAML(typ="safe", pure=True).load(printed.out)["livenessProbe"]
    assert (probe["timeoutSeconds"], probe["periodSeconds"], probe["failureThreshold"]) == (5, 20, 2)
    codes = []
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(*probe["exec"]["command"], stdout=asyncio.subprocess.DEVNULL)
        codes.append(await process.wait())
    assert codes == [0, 1]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--checkurl", "localhost"],
        ["--checkurl", "http://127.0.0.1/'; reboot"],
        ["--checkurl", "http://127.0.0.1/health", "--timeout", "1"],
        ["--checkurl", "http://127.0.0.1/health", "--failure-threshold", "0"],
    ],
)
async def test_what_would_be_no_probe_is_refused(argv: list[str]) -> None:
    said = await noah("", "probe-spec", *argv)
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[-1].startswith("Error: ")
