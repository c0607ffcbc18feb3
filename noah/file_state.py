"""Files that somebody else replaces while the gateway runs: whether one has changed, and what it holds.

Such a path may lead to anything one day: opening a FIFO would wait for a writer, in a thread that never comes back.
"""

import errno
import os
import stat
from pathlib import Path

FileState = tuple[int, int, int]  # the file's number, the time of its last change in nanoseconds, its size

LONGEST = 1 << 20  # bytes of a certificate, a key or a token; the authorities that a system trusts have 200 KiB


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


def content_of(file: Path, *, longest: int = LONGEST) -> bytes:
    """Return the bytes of a file. Raises OSError, also for what is not a file and for more than *longest* bytes."""
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError(errno.EINVAL, "It is not a regular file", str(file))
        content = opened.read(longest + 1)
    if len(content) > longest:
        raise OSError(errno.EFBIG, f"It has more than {longest >> 20} MiB", str(file))
    return content
