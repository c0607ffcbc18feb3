"""The two stories, as a user runs them."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.processes import output_of

pytestmark = [pytest.mark.jvm, pytest.mark.usefixtures("port_7070")]


async def demo(*argv: str, env: dict[str, str] | None = None, within: float = 240) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "noah", "demo", *argv),
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await output_of(process, within_s=within)
    return process.returncode or 0, out.decode()


async def test_on_this_machine_one_app_is_killed_and_the_other_lives() -> None:
    code, said = await demo("--once")
    assert code == 0, said
    assert re.search(r"killed after \d+ s", said)
    assert re.search(r"suspended at OrderService\.price:\d+, held by \w+", said)
    assert "0 restarts, the order was answered, the session ended." in said


async def test_an_address_that_is_taken_is_said_and_nothing_is_left() -> None:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 7070):
        code, said = await demo("--once")
    assert code == 2
    assert "cannot listen on 127.0.0.1:7070" in said
    assert "Traceback" not in said


@pytest.mark.cluster
async def test_on_a_real_cluster_one_pod_is_killed_and_the_other_lives() -> None:
    kubeconfig = os.environ.get("NOAH_TEST_KUBECONFIG")
    if not kubeconfig:
        pytest.skip("NOAH_TEST_KUBECONFIG is not set: it names the kubeconfig of a Kubernetes to test with")
    code, said = await demo("--cluster", env={"KUBECONFIG": kubeconfig})
    assert code == 0, said
    assert re.search(r"killed after \d+ s", said)
    assert "0 restarts, the session ended." in said


async def test_without_a_kubeconfig_it_says_what_to_set(tmp_path: Path) -> None:
    code, said = await demo("--cluster", env={"KUBECONFIG": str(tmp_path / "none")})
    assert code == 2
    assert "set KUBECONFIG" in said
