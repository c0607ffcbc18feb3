"""The Java programs of tests, each compiled once for all test processes: a compiler takes more than a second of CPU."""

import fcntl
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from noah import demo

SAMPLE = Path(demo.__file__).with_name("OrderService.java")
SHOP = Path(__file__).parent / "apps" / "Shop.java"


def compiled(source: Path, into: Path) -> Path:
    """Put the class files of *source* into the folder *into*, which may have to be made; return that."""
    into.mkdir(exist_ok=True)
    for file in _classes(source).iterdir():
        (into / file.name).write_bytes(file.read_bytes())
    return into


def _classes(source: Path) -> Path:
    """Return a folder of the class files, in which nothing changes any more."""
    kept = Path(tempfile.gettempdir(), f"noah-test-classes-{os.getuid()}")
    kept.mkdir(mode=0o700, exist_ok=True)
    folder = kept / hashlib.sha256(source.read_bytes()).hexdigest()
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=kept) as begun:
                argv = ["javac", "--release", "8", "-Xlint:-options", "-g", "-d", f"{begun}/classes", str(source)]
                subprocess.run(argv, check=True)
                Path(begun, "classes").rename(folder)
    return folder
