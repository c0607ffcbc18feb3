"""A PostgreSQL server of the tests' own: a temporary folder, one port of loopback, gone afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.ports import free_port

COMES_UP_WITHIN = 60.0  # seconds


class Postgres:
    def __init__(self, binaries: Path, folder: Path, **settings: str) -> None:
        self._binaries = binaries
        self._settings = settings
        self.folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://noah@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        self._run("initdb", "-D", str(self._data), "-U", "noah", "-A", "trust", "-E", "UTF8", "--no-sync")

    def start(self) -> None:
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            # It may be in the database that is copied for each test, which is refused then; and half of a copy's cost.
            "autovacuum": "off",
        } | self._settings
        argv = [str(self._binaries / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, user=unprivileged(), start_new_session=True)
        deadline = time.monotonic() + COMES_UP_WITHIN
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def like(self, folder: Path) -> "Postgres":
        """Another server of the same kind, which is neither created nor started."""
        return Postgres(self._binaries, folder)

    def standby(self, folder: Path) -> "Postgres":
        """Start a server that repeats what this one does; from now on no commit is answered before it has it."""
        other = Postgres(self._binaries, folder)
        self._run(
            *("pg_basebackup", "-D", str(other._data), "-h", "127.0.0.1", "-p", str(self.port), "-U", "noah"),
            *("-R", "-c", "fast", "--no-sync"),
        )
        other.start()
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        deadline = time.monotonic() + COMES_UP_WITHIN
        while not self.ask("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)
        return other

    def forget_standby(self) -> None:
        """Answer commits without the standby, which is gone."""
        self.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby the server that writes are for."""
        self._run("pg_ctl", "promote", "-D", str(self._data), "-w")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()

    def kill(self) -> None:
        """The server and its children at once, as when the machine goes away."""
        assert self._process is not None
        family = self._signal(signal.SIGKILL)
        self._process.wait()
        # A child that is still there holds the shared memory, and no new server would start.
        deadline = time.monotonic() + COMES_UP_WITHIN
        while any(Path(f"/proc/{pid}").exists() for pid in family):
            assert time.monotonic() < deadline, family
            time.sleep(0.02)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Its sockets stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[int]:
        """To the server and its children, each of which is in a process group of its own."""
        family = self.family
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return family

    @property
    def family(self) -> list[int]:
        """The server's process and its children."""
        assert self._process is not None
        server = self._process.pid
        return [server, *map(int, Path(f"/proc/{server}/task/{server}/children").read_text().split())]

    def start_again(self) -> None:
        """Start it if it has ended by itself."""
        assert self._process is not None
        if self._process.poll() is not None:
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            self.start()

    def execute_if_possible(self, statement: str) -> None:
        with suppress(psycopg.Error):
            self.execute(statement)

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def ask(self, statement: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows, if it has any."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, command: str, *argv: str) -> None:
        subprocess.run([self._binaries / command, *argv], check=True, capture_output=True, user=unprivileged())


def unprivileged() -> int | None:
    """initdb and postgres refuse root."""
    return None if os.getuid() else pwd.getpwnam("nobody").pw_uid


def new_folder() -> Path:
    """A folder for a server, which the caller removes."""
    folder = Path(tempfile.mkdtemp(prefix="noah-postgres-"))
    if (user := unprivileged()) is not None:
        os.chown(folder, user, -1)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    folder = new_folder()
    server = Postgres(found[-1].parent, folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # without writing hundreds of databases down first
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """An empty database of the test's own."""
    name = f"t{time.monotonic_ns()}"
    postgres.execute(f"CREATE DATABASE {name}")
    return postgres.url(name)
