"""Images that tests make and give to the cluster's containerd: the project's tools, and a JVM without any shell."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from scripts.tools_image import copy, fill, libraries, write_image

TOOLS = "noah.test/tools:1"
NO_SHELL = "noah.test/no-shell:1"
SERVICE = Path(__file__).parents[2] / "noah/demo/OrderService.java"
MODULES = "java.base,jdk.httpserver,jdk.jdwp.agent"


def give(kubeconfig: Path) -> None:
    """Import both. The test is skipped where the cluster's containerd is not on this machine."""
    socket = kubeconfig.parent / "run/containerd.sock"
    if not socket.is_socket():
        pytest.skip(f"images cannot be given to this cluster: it has no containerd at {socket}")
    known = ctr(socket, "list", "-q").split()
    with tempfile.TemporaryDirectory() as folder:
        for name, make in ((TOOLS, tools), (NO_SHELL, no_shell)):
            if name not in known:
                archive = Path(folder) / "image.tar"
                make(Path(folder) / name.replace("/", "-"), archive)
                ctr(socket, "import", str(archive))


def ctr(socket: Path, *argv: str) -> str:
    return subprocess.run(
        ["ctr", "-a", str(socket), "-n", "k8s.io", "images", *argv], capture_output=True, text=True, check=True
    ).stdout


def tools(root: Path, archive: Path) -> None:
    root.mkdir()
    fill(root)
    write_image(root, TOOLS, archive, entrypoint=["/bin/sh"], user="65532:65532")


def no_shell(root: Path, archive: Path) -> None:
    """A JVM by jlink, what it is linked with, and the demonstration's app; nothing else."""
    java = root / "java"
    root.mkdir()
    subprocess.run(
        ["jlink", "--add-modules", MODULES, "--strip-debug", "--no-man-pages", "--no-header-files", "--output", java],
        check=True,
        capture_output=True,
    )
    for linked in (java / "bin/java", *java.rglob("*.so")):
        for library in libraries(str(linked)):
            if not Path(library).resolve().is_relative_to(java):
                copy(library, root / library.lstrip("/"))
    subprocess.run(["javac", "-g", "-d", root / "app", SERVICE], check=True)
    (root / "tmp").mkdir()
    write_image(root, NO_SHELL, archive, entrypoint=["/java/bin/java", "-cp", "/app", "OrderService"])
