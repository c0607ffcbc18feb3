"""SQLite databases for tests that are not about upgrades: each test process upgrades one and copies it."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from noah.store import upgrade


def make_database(file: Path) -> str:
    """Make *file* a database without a row; return its URL. An upgrade of each would take 0.1 s of CPU."""
    file.touch(mode=0o600)
    file.write_bytes(_upgraded())
    return f"sqlite:///{file}"


@cache
def _upgraded() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder, "noah.db")
        upgrade(f"sqlite:///{file}")
        assert not file.with_name("noah.db-wal").exists()  # all of it is in the one file
        return file.read_bytes()
