#!/usr/bin/env python3
"""Write the command line, with all that it imports, as one file that Python runs: zipapp.py WHEEL OUT.pyz."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import BinaryIO

INTERPRETER = b"#!/usr/bin/env python3\n"
EARLIEST = 315532800  # seconds; 1980-01-01, where the times of zip files begin


def write(wheel: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", str(tree), str(wheel)]
        subprocess.run(pip, check=True)
        # What is compiled for one machine cannot be loaded from a zip file; each of these packages does without.
        for compiled in [*tree.rglob("*.so"), *tree.rglob("*.pyd")]:
            compiled.unlink()
        shutil.rmtree(tree / "bin", ignore_errors=True)
        (tree / "__main__.py").write_text("from noah.__main__ import main\n\nmain()\n")
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("wb") as file:
            file.write(INTERPRETER)
            _pack(tree, file)
    out.chmod(0o755)


def _pack(tree: Path, file: BinaryIO) -> None:
    moment = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", EARLIEST)), EARLIEST))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            # pip writes the time and the place of an installation into these.
            if path.name in ("RECORD", "direct_url.json", "INSTALLER", "REQUESTED"):
                continue
            member = zipfile.ZipInfo(path.relative_to(tree).as_posix(), moment[:6])
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, path.read_bytes())


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
