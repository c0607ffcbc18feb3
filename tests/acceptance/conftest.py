import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def port_7070() -> Iterator[None]:
    """Hold the port that `noah demo` serves on against tests of other files, which may run at the same time."""
    with Path(tempfile.gettempdir(), "noah-test-port-7070").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
