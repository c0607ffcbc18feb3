"""The gateway's image, for both architectures, as scripts/image builds it: what is in it, and that it serves.

The one of the other architecture is run by qemu from its root file system: `apt-get install qemu-user-static`.
"""

import json
import os
import platform
import shutil
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.image_root import linked_with
from tests.ports import free_port

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]
MOST_BYTES = 120_000_000
USER = 10001
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass
class Image:
    machine: str
    config: dict[str, Any]
    size: int
    root: Path

    def argv(self, *command: str) -> list[str]:
        """What runs the command in the image, as its user."""
        config = self.config["config"]
        env = [*config["Env"], "NOAH_CONFIG=/etc/noah.toml"]
        chroot = str(shutil.which("chroot"))
        emulated = [] if self.machine == platform.machine() else ["/qemu"]
        program = ["/opt/noah/bin/python3", "/opt/noah/bin/noah"]
        return [
            "env",
            "-i",
            *env,
            chroot,
            f"--userspec={config['User']}",
            str(self.root),
            *emulated,
            *program,
            *command,
        ]

    def run(self, *command: str) -> str:
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=sorted(MACHINES))
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    machine = MACHINES[request.param]
    if os.geteuid() != 0:
        pytest.skip("images are built by root")
    qemu = shutil.which(f"qemu-{machine}-static")
    if machine != platform.machine() and qemu is None:
        pytest.skip(f"qemu-{machine}-static runs what is not of this machine")
    folder = tmp_path_factory.mktemp(request.param)
    archive, root = folder / "image.tar", folder / "root"
    argv = [ROOT / "scripts/image", archive, f"noah.test/gateway-{request.param}:test", request.param]
    built = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (manifest,) = json.loads((folder / "manifest.json").read_text())
    root.mkdir()
    for layer in manifest["Layers"]:
        with tarfile.open(folder / layer) as tar:
            tar.extractall(root, filter="tar", numeric_owner=True)
    if machine != platform.machine():
        shutil.copy(str(qemu), root / "qemu")
    size = sum((folder / layer).stat().st_size for layer in manifest["Layers"])
    yield Image(machine, json.loads((folder / manifest["Config"]).read_text()), size, root)
    shutil.rmtree(folder)


def test_it_is_small_and_has_no_shell(image: Image) -> None:
    assert image.size <= MOST_BYTES
    assert int(image.config["config"]["User"]) == USER
    state = (image.root / "var/lib/noah").stat()
    assert (state.st_uid, state.st_mode & 0o777) == (USER, 0o700)
    programs = sorted(path.name for folder in ("usr/bin", "usr/local/bin") for path in (image.root / folder).glob("*"))
    assert set(programs) <= {"python3", "python3.13"}
    assert [path for path in image.root.rglob("*") if path.stat(follow_symlinks=False).st_mode & 0o6000] == []


def test_all_that_is_compiled_in_it_is_of_its_architecture(image: Image) -> None:
    assert MACHINES[image.config["architecture"]] == image.machine
    compiled = [path for path in (image.root / "opt/noah").rglob("*.so*") if path.is_file()]
    compiled += [path for path in (image.root / "usr").rglob("*.so*") if path.is_file() and not path.is_symlink()]
    assert len(compiled) > 50
    assert {linked_with(path.read_bytes())[0] for path in compiled} == {image.machine}


def test_it_lists_what_it_is_made_of(image: Image) -> None:
    labels = image.config["config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert len(labels["org.opencontainers.image.revision"]) == 40
    listed = json.loads((image.root / labels["debug.noah/sbom"].lstrip("/")).read_text())
    assert listed["bomFormat"] == "CycloneDX"
    assert {"aiohttp", "noah-gateway", "sqlalchemy"} <= {part["name"].lower() for part in listed["components"]}


def test_a_gateway_serves_from_it(image: Image) -> None:
    assert image.run("version").startswith("noah ")
    port = free_port()
    (image.root / "etc/noah.toml").write_text(
        f'[gateway]\nlisten = "127.0.0.1:{port}"\ndatabase = "sqlite:////var/lib/noah/noah.db"\n'
    )
    assert "up to date" in image.run("db", "upgrade")
    with subprocess.Popen(image.argv("serve")) as gateway:
        try:
            answers(gateway, f"http://127.0.0.1:{port}/livez")
            answers(gateway, f"http://127.0.0.1:{port}/static/noah.css")
        finally:
            gateway.terminate()
    assert gateway.returncode == 0


def answers(gateway: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 600  # emulated, on a busy machine
    while gateway.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
            return
        time.sleep(0.2)
    pytest.fail(f"{url} is not answered")
