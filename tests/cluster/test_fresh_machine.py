"""Each way of installing, by its documented commands, on a Debian that has nothing else: to a breakpoint in a real pod.

The machine is a chroot that debootstrap makes. `-s` shows how long each way took, for docs/operators/install.md.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.conftest import Kubectl
from tests.jdb import attached
from tests.ports import free_port, free_ports

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/noah.service"
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
# What a developer's machine has before Noah: Python, pipx, a JDK.
PACKAGES = "python3,python3-venv,pipx,openjdk-17-jdk-headless,ca-certificates"
STOPPED = r"Breakpoint hit[\s\S]*\[1\] "


@dataclass
class Machine:
    root: Path
    port: int
    took_s: dict[str, float] = field(default_factory=dict)

    def inside(self, command: str) -> list[str]:
        """The argv that runs *command* in the chroot. Its mounts end with it."""
        mounts = f'mount -t proc proc "{self.root}/proc" && mount --rbind /dev "{self.root}/dev"'
        environment = {
            "PATH": "/root/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "NOAH_URL": f"http://127.0.0.1:{self.port}",
            "NOAH_CONFIG": "/etc/noah/noah.toml",
            # Where pip and uv find what they find on this machine.
            **{name: value for name, value in os.environ.items() if name.startswith(("PIP_INDEX", "UV_INDEX"))},
            **dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), f"/{AUTHORITIES}"),
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        script = f'{mounts} && exec chroot "$0" env -i "$@"'
        argv = ["unshare", "--mount", "sh", "-c", script, str(self.root), *settings]
        return [*argv, "sh", "-c", command]

    def run(self, command: str) -> str:
        done = subprocess.run(
            self.inside(command), capture_output=True, text=True, check=False, timeout=600, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.took_s[what] = time.monotonic() - began


@pytest.fixture
def machine() -> Iterator[Machine]:
    for program in ("debootstrap", "unshare"):
        if shutil.which(program) is None or os.geteuid() != 0:
            pytest.skip(f"{program} and root make the fresh machine")
    folder = Path(tempfile.mkdtemp(prefix="noah-fresh-", dir="/var/tmp"))
    one = Machine(folder / "root", free_port())
    try:
        with one.timed("Debian itself, by debootstrap"):
            argv = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(one.root)]
            said = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert said.returncode == 0, said.stdout[-2000:]
        for file in (AUTHORITIES, "etc/resolv.conf"):
            shutil.copy(Path("/") / file, one.root / file)
        release = [sys.executable, str(ROOT / "scripts/release.py"), "--without-images", str(one.root / "dist")]
        subprocess.run(release, check=True, capture_output=True)
        yield one
    finally:
        shutil.rmtree(folder)


def lines_of_unit() -> tuple[str, str]:
    """What systemd runs: to upgrade the database, and to serve."""
    lines = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if line.startswith("Exec"))
    return lines["ExecStartPre"], lines["ExecStart"]


@contextmanager
def serving(machine: Machine, command: str) -> Iterator[None]:
    with subprocess.Popen(machine.inside(f"exec {command}"), start_new_session=True) as gateway:
        try:
            deadline = time.monotonic() + 120
            while not is_ready(machine):
                assert gateway.poll() is None, "the gateway ended"
                assert time.monotonic() < deadline, "the gateway did not come up"
                time.sleep(0.2)
            yield
        finally:
            gateway.terminate()


def is_ready(machine: Machine) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{machine.port}/readyz", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


async def reach_a_breakpoint(machine: Machine, kubectl: Kubectl, noah: str) -> None:
    """By the commands of quickstart.md, with jdb on the fresh machine."""
    target = f"pod/dev/{kubectl.namespace}/shop/app"
    session = json.loads(machine.run(f"{noah} enable {target} --wait -o json"))
    program = [*machine.inside('exec jdb "$@"'), "jdb"]
    async with attached(session["port"], program=program, deadline_s=120) as jdb, asyncio.TaskGroup() as group:
        await jdb.ask("stop in App.compute")
        work = asyncio.to_thread(kubectl, "exec", "shop", "--", "curl", "-fsS", "http://127.0.0.1:8080/work")
        group.create_task(work, name="a request for the breakpoint")
        assert "App.compute" in await jdb.said(STOPPED)
        assert '"suspended"' in machine.run(f"{noah} sessions -o json")
        await jdb.ask("cont")
        await jdb.quit()
    machine.run(f"{noah} end {target}")


async def test_each_way_of_installing_ends_at_a_breakpoint(
    machine: Machine, kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.run("shop")
    wheel = next(iter((machine.root / "dist").glob("*.whl"))).name
    (archive,) = (machine.root / "dist").glob("kubectl-noah-*.tar.gz")
    # The documented commands; the name of what is not published yet is its file's.
    ways = {
        "pip, by systemd's unit": (
            f"python3 -m venv /opt/noah && /opt/noah/bin/pip install -q '/dist/{wheel}[fast,server]'",
            "/opt/noah/bin/noah",
        ),
        "pipx": (f"pipx install /dist/{wheel}", "/root/.local/bin/noah"),
        "uv": (
            f"pipx install uv && UV_TOOL_BIN_DIR=/usr/local/bin uv tool install /dist/{wheel}",
            "/usr/local/bin/noah",
        ),
        "one file": ("install /dist/noah.pyz /usr/local/bin/noah.pyz", "noah.pyz"),
        "dpkg": ("dpkg -i /dist/noah-cli_*.deb", "/usr/bin/noah"),
        "kubectl's plugin": (f"tar -xzf /dist/{archive.name} -C /usr/local/bin", "kubectl-noah"),
    }
    first = free_ports(10)
    config = machine.root / "etc/noah/noah.toml"
    config.parent.mkdir()
    (config.parent / "kubeconfig").write_text(kubectl("config", "view", "--flatten", "--minify", "--raw"))
    config.write_text(
        f'[gateway]\nlisten = "127.0.0.1:{machine.port}"\ndebug_ports = "{first}-{first + 9}"\n'
        'database = "sqlite:////var/lib/noah/noah.db"\n[[clusters]]\nname = "dev"\n'
        f'kubeconfig = "/etc/noah/kubeconfig"\nnamespaces = ["{kubectl.namespace}"]\nreach = "api-server"\n'
    )
    for way, (command, _) in ways.items():
        with machine.timed(f"{way}: install"):
            machine.run(command)
    upgrade, serve = lines_of_unit()
    with ExitStack() as stack:
        with machine.timed("the gateway's first start"):
            machine.run(f"mkdir -m 700 /var/lib/noah && {upgrade}")
            stack.enter_context(serving(machine, serve))
        for way, (_, noah) in ways.items():
            with machine.timed(f"{way}: a session with a breakpoint"):
                await reach_a_breakpoint(machine, kubectl, noah)
    with capsys.disabled():
        print("", *(f"{seconds:7.1f} s  {what}" for what, seconds in machine.took_s.items()), sep="\n")
