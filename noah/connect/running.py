"""A `noah connect` that runs on this machine: how others find it, ask it what it does, and end it.

It listens on loopback, and writes the port and a secret into a file that only its user reads. Signals would not do:
Windows has none.
"""

import asyncio
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noah.client.gateway_client import Json

ANSWER_WITHIN_S: Final = 5.0
LONGEST_ANSWER: Final = 1 << 20  # bytes


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    base = environ.get("XDG_STATE_HOME") or environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".local" / "state") / "noah"


@dataclass(frozen=True, slots=True)
class RunningConnect:
    """A `noah connect` of this user that answers."""

    file: Path
    port: int
    secret: str

    def ask(self, verb: str) -> Json | None:
        """Return the answer to "status" or "stop"; None if it is not there any more."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_WITHIN_S) as connection:
                connection.sendall(f"{self.secret} {verb}\n".encode())
                with connection.makefile("rb") as answers:
                    answer = json.loads(answers.read(LONGEST_ANSWER))
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None


def all_running(folder: Path) -> Iterator[tuple[RunningConnect, Json]]:
    """Yield each with its status. Files of those that are gone are removed."""
    for file in sorted(folder.glob("connect-*.json")):
        try:
            said = json.loads(file.read_text())
            running = RunningConnect(file, int(said["port"]), str(said["secret"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        status = running.ask("status")
        if status is None:
            file.unlink(missing_ok=True)
        else:
            yield running, status


@asynccontextmanager
async def answering(folder: Path, *, status: Callable[[], Json], stop: Callable[[], None]) -> AsyncIterator[None]:
    secret = secrets.token_urlsafe(24)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                given, _, verb = (await reader.readline()).decode(errors="replace").strip().partition(" ")
                if secrets.compare_digest(given.encode(), secret.encode()) and verb in ("status", "stop"):
                    writer.write(json.dumps(status()).encode())
                    await writer.drain()
                    if verb == "stop":
                        stop()
        except (OSError, ValueError, TimeoutError):
            pass  # the one who asked is gone, or was not one of ours
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    file = folder / f"connect-{os.getpid()}.json"
    try:
        _write_private(file, json.dumps({"port": server.sockets[0].getsockname()[1], "secret": secret}))
        yield
    finally:
        server.close()
        file.unlink(missing_ok=True)


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
