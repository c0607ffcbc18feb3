"""The Java programs of tests, compiled once in each test process: a compiler takes more than a second of CPU."""

import subprocess
from pathlib import Path

from noah import demo

SAMPLE = Path(demo.__file__).with_name("OrderService.java")
SHOP = Path(__file__).parent / "apps" / "Shop.java"
_compiled: dict[Path, dict[str, bytes]] = {}  # by source: the class files


def compiled(source: Path, into: Path) -> Path:
    """Put the class files of *source* into the folder *into*, which may have to be made; return that."""
    into.mkdir(exist_ok=True)
    if source not in _compiled:
        subprocess.run(["javac", "--release", "8", "-Xlint:-options", "-g", "-d", into, source], check=True)
        _compiled[source] = {file.name: file.read_bytes() for file in into.glob("*.class")}
    for name, code in _compiled[source].items():
        (into / name).write_bytes(code)
    return into
