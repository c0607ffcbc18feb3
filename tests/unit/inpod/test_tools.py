"""The sidecar's server, with a real socat: the answers that a kubelet gets for an app whose image has no shell."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from noah.core.inject.probe import inlined, without_comments
from noah.inpod import script
from tests.ports import free_port
from tests.unit.inpod.checkurls import Checkurls
from tests.unit.inpod.containers import SHELLS, Agent, agent, uptime


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as got:
            return got.status, got.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


@contextlib.contextmanager
def sidecar(shell: str, reports: Path, liveness: list[str], startup: list[str]) -> Iterator[int]:
    port = free_port()
    words = [str(port), without_comments(script("answer")), inlined()]
    env = {
        **os.environ,
        "NOAH_REPORTS": str(reports),
        "NOAH_LIVENESS_ASKS": "\n".join(liveness),
        "NOAH_STARTUP_ASKS": "\n".join(startup),
    }
    argv = [*SHELLS[shell], "-c", without_comments(script("tools")), "noah-tools", *words]
    with subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield port
        finally:
            server.terminate()


@pytest.fixture
def reports() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def java(tmp_path: Path) -> Iterator[Agent]:
    with agent(tmp_path / "java") as made:
        yield made


@pytest.mark.parametrize("shell", SHELLS)
def test_the_app_is_asked_and_a_suspended_one_is_spared(shell: str, reports: Path, java: Agent) -> None:
    name = f"jvm:{java.port}"
    with Checkurls.served() as checkurls:
        well, ill = checkurls.url("/200"), checkurls.url("/500")
        header = "X-With: a space, a * and a 'quote'"
        with sidecar(shell, reports, [ill, "1", name, "200-399", header], [well, "1", name]) as port:
            code, said = answer(port, "/noah/liveness")
            assert (code, f"checkurl {ill} answered 500" in said) == (503, True), said
            assert answer(port, "/noah/startup")[0] == 200
            assert answer(port, "/anything")[0] == 404
            (reports / f"noah-{name}.s1.jvm").write_text(f"2 0 0 {uptime() + 60} {java.hex} beside unseen\n")
            (reports / f"noah-{name}.s1.word").write_text(f"suspended 0 {uptime() - 50}\n")
            assert answer(port, "/noah/liveness")[0] == 503, "nobody is attached"
            with java.attached():
                code, said = answer(port, "/noah/liveness")
                assert (code, f"has suspended java (at port {java.port})" in said) == (200, True), said


@pytest.mark.parametrize("shell", SHELLS)
def test_a_socket_that_listens_is_well(shell: str, reports: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        open_port, closed_port = there.getsockname()[1], free_port()
        asks = [[f"tcp:{port}", "1", "jvm:1"] for port in (open_port, closed_port)]
        with sidecar(shell, reports, *asks) as port:
            assert answer(port, "/noah/liveness")[0] == 200
            code, said = answer(port, "/noah/startup")
            assert (code, f"nothing listens on port {closed_port}" in said) == (503, True), said
