#!/usr/bin/env python3
"""Write the tools image of Noah, from this machine's own busybox, socat and curl, as an archive that runtimes load.

    scripts/tools_image.py build/noah-tools.tar [NAME:TAG]
    docker load -i build/noah-tools.tar        # or: ctr -n k8s.io images import, skopeo copy docker-archive:...

It is for containers beside a JVM whose image has no shell, and holds nothing of Noah's: scripts come with each command.
"""

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

NAME = "noah-tools:1"
USER = "65532:65532"  # a number, so that a kubelet sees that it is not root
PROGRAMS = ("socat", "curl")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def main(out: Path, name: str) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder))
        write_image(Path(folder), name, out, entrypoint=["/bin/sh"], user=USER)
    print(f"{out}: {name}, {out.stat().st_size >> 20} MiB")


def fill(root: Path) -> None:
    """Put busybox, with a link for each of its commands, and the programs with their libraries into *root*."""
    busybox = needed("busybox")
    if libraries(busybox):
        sys.exit("busybox has to be the static one: install the package busybox-static.")
    copy(busybox, root / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    for program in PROGRAMS:
        with_libraries(needed(program), root, root / "usr/bin" / program)
    for place in ("tmp", "proc", "sys", "dev"):
        (root / place).mkdir()


def needed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        sys.exit(f"{program} is not installed here.")
    return os.path.realpath(found)


def with_libraries(program: str, root: Path, to: Path) -> None:
    copy(program, to)
    for library in libraries(program):
        copy(library, root / library.lstrip("/"))


def libraries(program: str) -> list[str]:
    """Return what the program is linked with, the loader included, by the paths that it looks for."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return sorted(set(re.findall(r"(/\S+) \(0x", listed)))


def copy(file: str, to: Path) -> None:
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to)


def write_image(
    root: Path, name: str, out: Path, *, entrypoint: Sequence[str], user: str = "", env: Sequence[str] = ()
) -> None:
    """Write what is in *root* as an image of one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, ".", filter=_as_root)
    content = layer.getvalue()
    config = json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {
                "Entrypoint": list(entrypoint),
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", *env],
                "User": user,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
            "history": [{"created_by": "noah"}],
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(out, "w") as tar:
        for path, data in ((config_name, config), ("manifest.json", manifest), ("layer.tar", content)):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same files make the same image."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode |= 0o755 if member.isdir() else 0o444
    if member.name == "./tmp":
        member.mode = 0o1777
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else NAME)
