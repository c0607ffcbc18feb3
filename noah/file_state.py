"""Whether a file has changed: what changes with its content."""

import os
from pathlib import Path

FileState = tuple[int, int, int]  # the file's number, the time of its last change in nanoseconds, its size


def state_of(file: Path) -> FileState:
    """Return the state of what *file* leads to: files of a ConfigMap or a Secret are links. Raises OSError."""
    status = os.stat(file)
    return status.st_ino, status.st_mtime_ns, status.st_size


def state_if_there(file: Path) -> FileState | None:
    """Return the state of a file; None if it cannot be looked at."""
    try:
        return state_of(file)
    except OSError:
        return None
