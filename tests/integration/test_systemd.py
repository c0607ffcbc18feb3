"""The gateway under systemd: what its unit permits, and what the gateway tells systemd."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.gateway import serving

UNIT = Path(__file__).parents[2] / "deploy/systemd/noah.service"
MOST_EXPOSED = 20  # tenths, of 100


def test_the_unit_exposes_little() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: it judges the unit")
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", str(UNIT)]
    judged = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Overall exposure level" in judged.stdout, judged.stderr
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]


@pytest.mark.parametrize("is_abstract", [False, True])
async def test_systemd_is_told_when_the_gateway_serves_and_when_it_stops(tmp_path: Path, *, is_abstract: bool) -> None:
    name = "@noah-test-notify" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name.replace("@", "\0") if is_abstract else name)
        systemd.settimeout(60)
        async with serving(tmp_path, "", env={"NOTIFY_SOCKET": name}) as (process, _):
            assert systemd.recv(100) == b"READY=1"
            assert await process.stop() == 0
            assert systemd.recv(100) == b"STOPPING=1"


async def test_a_gateway_whose_systemd_does_not_listen_serves(tmp_path: Path) -> None:
    async with serving(tmp_path, "", env={"NOTIFY_SOCKET": str(tmp_path / "nobody")}) as (process, _):
        assert "systemd cannot be notified of READY=1" in process.log.read_text()
