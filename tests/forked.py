"""`noah` as processes that are forked from one which has imported it.

An import takes a second of CPU, and the tests start hundreds of gateways. Each has an environment, an output and an end
of its own; what is true of the command itself is tested by those who start that (acceptance/).
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOOK_EVERY_S = 0.01
NOT_TO_BE_GIVEN_LATER = ("LD_", "PYTHON")  # variables that only a program reads which is executed

_CONTEXT = multiprocessing.get_context("forkserver")
# With what gateways import when they need it.
_CONTEXT.set_forkserver_preload(["noah.app", "noah.__main__", "asyncssh", "psycopg", "uvloop"])


class Forked:
    """One process, with what tests use of asyncio.subprocess.Process."""

    def __init__(self, *argv: str, env: Mapping[str, str], output: Path) -> None:
        # As a daemon it is ended with the test run, if nobody has ended it.
        self._process = _CONTEXT.Process(target=_run, args=(argv, dict(env), output, Path.cwd()), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    async def wait(self) -> int:
        while (code := self.returncode) is None:
            await asyncio.sleep(LOOK_EVERY_S)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Raises ProcessLookupError if it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def can_fork(env: Mapping[str, str]) -> bool:
    """Return whether a process with that environment can be forked."""
    return all(os.environ.get(name) == value for name, value in env.items() if name.startswith(NOT_TO_BE_GIVEN_LATER))


def _run(argv: Sequence[str], env: Mapping[str, str], output: Path, cwd: Path) -> None:
    from noah.__main__ import main

    with output.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    sys.argv = ["noah", *argv]
    main()
