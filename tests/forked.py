"""`noah` as processes that are forked from one which has imported it: an import takes a second of CPU, and the tests
start hundreds of gateways.

Each has an environment, an output and an end of its own. Only its command line is another; what is true of the command
itself is tested by those who start that (acceptance/).
"""

import asyncio
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST_REQUEST = 128 << 10  # bytes: the arguments and the environment
LOOK_EVERY_S = 0.01
WORD = 8  # bytes of a PID or an exit code, as they are said
# What only a program that is executed reads.
NOT_TO_BE_GIVEN_LATER = ("LD_", "PYTHON")


class Forked:
    """One process, with what tests use of asyncio.subprocess.Process."""

    def __init__(self, said: int) -> None:
        self.pid = 0
        self._said: int | None = said  # a pipe: its PID, and its exit code in the end
        self._handle = -1
        self._returncode: int | None = None

    async def begun(self) -> None:
        while not (word := self._read()):
            await asyncio.sleep(LOOK_EVERY_S)
        self.pid = int(word)
        self._handle = os.pidfd_open(self.pid)

    @property
    def returncode(self) -> int | None:
        if self._said is not None and (word := self._read()):
            self._returncode = int(word)
            self.close()
        return self._returncode

    async def wait(self) -> int:
        while (code := self.returncode) is None:
            await asyncio.sleep(LOOK_EVERY_S)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Raises ProcessLookupError if it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        for number in (self._said, self._handle):
            if number is not None and number >= 0:
                os.close(number)
        self._said, self._handle = None, -1

    def _read(self) -> bytes:
        """Return a word that has come, or nothing."""
        assert self._said is not None
        try:
            word = os.read(self._said, WORD)
        except BlockingIOError:
            return b""
        assert word, "the process that forks has ended"
        return word


class Forks:
    """The process that forks, which is started when it is first needed."""

    def __init__(self) -> None:
        self.is_open = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def can_run(self, env: Mapping[str, str]) -> bool:
        """Return whether a process with that environment can be forked."""
        return self.is_open and all(
            os.environ.get(name) == value for name, value in env.items() if name.startswith(NOT_TO_BE_GIVEN_LATER)
        )

    async def noah(self, *argv: str, env: Mapping[str, str], output: int) -> Forked:
        """Run the command; *output* is the file descriptor of its standard output and error."""
        control = self._opened()
        here, there = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        forked = Forked(here)
        try:
            request = json.dumps({"argv": argv, "env": dict(env), "cwd": str(Path.cwd())}).encode()
            socket.send_fds(control, [request], [output, there])
        finally:
            os.close(there)
        try:
            await forked.begun()
        except BaseException:
            forked.close()  # it is killed then: nobody else would
            raise
        return forked

    def _opened(self) -> socket.socket:
        if self._control is None:
            self._control, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with there:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.forked", str(there.fileno())],
                    cwd=ROOT,
                    pass_fds=[there.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        return self._control

    def close(self) -> None:
        self.is_open = False
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()


FORKS = Forks()


def fork_on_demand(control: socket.socket) -> list[str]:
    """Fork for each request until nobody can ask any more. Return, in a fork, the arguments that it is for."""
    import asyncssh  # noqa: F401 - what gateways import when they need it
    import psycopg  # noqa: F401
    import uvloop  # noqa: F401

    import noah.app  # noqa: F401

    gc.collect()
    gc.freeze()
    woken, wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this
    signal.set_wakeup_fd(wakes)
    pipes: dict[int, int] = {}  # by PID: the pipe to who asked for it
    with selectors.DefaultSelector() as ready:
        ready.register(control, selectors.EVENT_READ)
        ready.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj == woken:
                    os.read(woken, 4096)
                    _report_ends(pipes)
                    continue
                request, descriptors, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 2)
                if not request:
                    sys.exit()
                output, said = descriptors
                if pid := os.fork():
                    pipes[pid] = said
                    os.close(output)
                    _say(pid, said, pid)
                    continue
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for number in (woken, wakes, said, *pipes.values()):
                    os.close(number)
                control.close()
                ready.close()
                return _become(json.loads(request), output)


def _report_ends(pipes: dict[int, int]) -> None:
    while pipes:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        said = pipes.pop(pid)
        _say(os.waitstatus_to_exitcode(status), said, None)
        os.close(said)


def _say(number: int, said: int, pid: int | None) -> None:
    """Say it to who asked for the process; end that if nobody hears."""
    try:
        os.write(said, f"{number:{WORD}}".encode())
    except BrokenPipeError:
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _become(request: dict[str, object], output: int) -> list[str]:
    argv, env, cwd = request["argv"], request["env"], request["cwd"]
    assert isinstance(argv, list)
    assert isinstance(env, dict)
    assert isinstance(cwd, str)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    return argv


if __name__ == "__main__":
    sys.argv = ["noah", *fork_on_demand(socket.socket(fileno=int(sys.argv[1])))]
    from noah.__main__ import main

    main()
