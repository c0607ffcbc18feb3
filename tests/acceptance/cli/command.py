"""`noah` as a process: what it printed, where, and its exit code; and two things that a gateway may say."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.processes import output_of

SCRIPTS = Path(sys.executable).parent
NONE: Mapping[str, str] = MappingProxyType({})

SESSION: dict[str, Any] = {
    "id": "s-1",
    "target": "pod/dev/team-a/shop-1/app",
    "status": "ready",
    "owner": "ada",
    "mine": True,
    "app": "shop",
    "workload": "Deployment/shop",
    "host": "127.0.0.1",
    "port": 20001,
    "created_at": "2026-01-01T10:00:00.000Z",
    "expires_at": "2026-01-01T12:00:00.000Z",
    "expires_in_seconds": 7199.5,
    "ended_at": None,
    "end_reason": None,
    "reason": None,
    "steps": [{"at": "2026-01-01T10:00:00.000Z", "text": "looked at the pod"}],
}

TARGET: dict[str, Any] = {
    "target": "pod/dev/team-a/shop-1/app",
    "kind": "pod",
    "app": "shop",
    "workload": "Deployment/shop",
    "cluster": "dev",
    "namespace": "team-a",
    "ready": True,
    "phase": "Running",
    "restarts": 0,
    "version": "1.4",
    "started_at": "2026-01-01T10:00:00.000Z",
    "session": {"id": "s-1", "owner": "ada", "status": "suspended", "since": "2026-01-01T10:00:00.000Z"},
}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


def environment(url: str, **more: str) -> dict[str, str]:
    return {**os.environ, "NOAH_URL": url, **more}


async def start(
    url: str, *argv: str, cwd: Path | None = None, env: Mapping[str, str] = NONE
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "noah",
        *argv,
        env=environment(url, PYTHONPATH=os.getcwd(), **env),
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=_as_on_a_terminal,
    )


def _as_on_a_terminal() -> None:
    """Ctrl-C counts: a shell lets what it starts in the background ignore it, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def ran(process: asyncio.subprocess.Process) -> Ran:
    out, err = await output_of(process)
    assert b"Traceback" not in err, err.decode()
    return Ran(process.returncode or 0, out.decode(), err.decode())


async def noah(url: str, *argv: str, cwd: Path | None = None, env: Mapping[str, str] = NONE) -> Ran:
    return await ran(await start(url, *argv, cwd=cwd, env=env))
