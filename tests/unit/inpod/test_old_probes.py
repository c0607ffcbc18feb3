"""What stands in for tcpSocket and exec probes: a debugger's report decides, else what was asked before."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from noah.core.inject.manifest import inject
from tests.processes import output_of
from tests.unit.inpod.containers import SHELLS, agent, path_with, uptime


def put_in(probe: dict[str, Any]) -> list[str]:
    container = {"name": "app", "image": "openjdk:17", "livenessProbe": probe}
    pod = inject({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containers": [container]}}).manifest
    command: list[str] = pod["spec"]["containers"][0]["livenessProbe"]["exec"]["command"]
    return command


@pytest.fixture(params=list(SHELLS))
def env(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    shell = tmp_path / "sh"
    shell.write_text(f'#!{SHELLS[request.param][0]}\nexec {" ".join(SHELLS[request.param])} "$@"\n')
    shell.chmod(0o755)
    (tmp_path / "shm").mkdir()
    return {
        "PATH": path_with(tmp_path / "bin", sh=shell, false="false", curl="curl", grep="grep", ls="ls"),
        "NOAH_REPORTS": str(tmp_path / "shm"),
    }


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


async def code(command: list[str], env: dict[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.DEVNULL)
    await output_of(process)
    assert process.returncode is not None
    return process.returncode


async def test_a_tcp_probe_asks_whether_somebody_listens(env: dict[str, str], listener: socket.socket) -> None:
    command = put_in({"tcpSocket": {"port": listener.getsockname()[1]}})
    assert await code(command, env) == 0
    listener.close()
    assert await code(command, env) == 1


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_an_exec_probe_is_what_it_was(env: dict[str, str], expected: int) -> None:
    assert await code(put_in({"exec": {"command": ["sh", "-c", f"exit {expected}"]}}), env) == expected


async def test_a_jvm_that_a_debugger_has_suspended_is_alive(env: dict[str, str], tmp_path: Path) -> None:
    command = put_in({"exec": {"command": ["false"]}})
    reports = Path(env["NOAH_REPORTS"])
    with agent(tmp_path / "java") as java:
        for is_attached, code_then in ((True, 0), (False, 1)):
            with java.attached() if is_attached else nullcontext():
                (reports / "noah-jvm.s1.jvm").write_text(f"2 {java.process} {uptime() + 60} {java.hex} pod own\n")
                (reports / "noah-jvm.s1.word").write_text(f"suspended 0 {uptime() - 5}\n")
                assert await code(command, env) == code_then
