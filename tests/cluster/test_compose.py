"""docker-compose.yml, run by Docker as a user runs it, with PostgreSQL, to a breakpoint in a pod.

Docker's engine is Debian's, in a network namespace of the test's: there its bridges and ports are its own. So the
images come from outside, the gateway's by scripts/image; and a pair of socats reaches the cluster's API server.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from noah import __version__
from tests.cluster.conftest import Kubectl, flattened, until
from tests.jdb import attached

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
POSTGRES = "postgres:17"
API_PORT = 6443  # in the engine's namespace, where nobody else is
BRIDGE = "172.17.0.1"  # where containers reach that namespace itself
STOPPED = r"Breakpoint hit[\s\S]*\[1\] "
# PostgreSQL's just-in-time compiler is half of it, and not needed here.
NOT_IN_THE_IMAGE = ("./usr/lib/llvm*", "./usr/lib/x86_64-linux-gnu/libLLVM*", "./usr/share/locale", "./var/cache")


@dataclass
class Engine:
    folder: Path
    compose: Path
    daemon: int

    def __call__(self, *argv: str, cwd: Path | None = None, stdin: int | None = None) -> str:
        env = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.folder}/socket",
            "DOCKER_CONFIG": str(self.folder / "client"),
        }
        done = subprocess.run(
            argv, cwd=cwd, env=env, stdin=stdin, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def inside(self, *argv: str) -> list[str]:
        """The argv of a command in the engine's network."""
        return ["nsenter", f"--net=/proc/{self.daemon}/ns/net", *argv]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    for program in ("containerd", "runc", "docker", "debootstrap", "nsenter", "socat"):
        if shutil.which(program) is None or os.geteuid() != 0:
            pytest.skip(f"root, Docker's client, containerd, runc, debootstrap and socat are needed: not {program}")
    folder = Path(tempfile.mkdtemp(prefix="noah-compose-", dir="/var/tmp"))
    found = subprocess.run([ROOT / "scripts/compose"], check=True, stdout=subprocess.PIPE, text=True).stdout
    try:
        with daemon(folder) as pid:
            one = Engine(folder, Path(found.strip()), pid)
            until((folder / "socket").exists, within=120)
            give_images(one)
            yield one
    finally:
        shutil.rmtree(folder)


@contextmanager
def daemon(folder: Path) -> Iterator[int]:
    """Docker's engine, unpacked where it is not installed: to install it would start it in this machine's network."""
    path = os.environ["PATH"]
    if shutil.which("dockerd") is None:
        subprocess.run(["apt-get", "download", "-qq", "docker.io"], cwd=folder, check=True, capture_output=True)
        (package,) = folder.glob("docker.io_*.deb")
        subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True)
        path = f"{folder}/unpacked/usr/sbin:{path}"
    argv = ["dockerd", "-H", f"unix://{folder}/socket", "--pidfile", str(folder / "pid")]
    argv += ["--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")]
    script = 'ip link set lo up && exec "$@"'
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", script, "dockerd", *argv],
            env={**os.environ, "PATH": path},
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield process.pid
        finally:
            process.terminate()


def give_images(engine: Engine) -> None:
    archive, root = engine.folder / "image.tar", engine.folder / "postgres"
    subprocess.run([ROOT / "scripts/image", archive, f"noah-gateway:{__version__}"], check=True, capture_output=True)
    engine("docker", "load", "-i", str(archive))
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=postgresql", "trixie", root],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-2000:]
    shutil.copy(Path(__file__).with_name("postgres-stand-in"), root / "usr/local/bin/")
    tar = ["tar", "-C", str(root), *(f"--exclude={name}" for name in NOT_IN_THE_IMAGE), "-c", "."]
    changes = ['ENTRYPOINT ["postgres-stand-in"]', "ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin"]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
        assert packing.stdout is not None
        options = [part for change in changes for part in ("-c", change)]
        engine("docker", "import", *options, "-", POSTGRES, stdin=packing.stdout.fileno())


@contextmanager
def reached_from_containers(engine: Engine, kubectl: Kubectl) -> Iterator[str]:
    """A kubeconfig for the containers: the cluster's API server at the bridge's address."""
    cluster, user = flattened(kubectl.kubeconfig)
    host, port = urlsplit(cluster["server"]).hostname, urlsplit(cluster["server"]).port
    cluster |= {"server": f"https://{BRIDGE}:{API_PORT}", "tls-server-name": host}
    between = engine.folder / "api"
    outside = ["socat", f"UNIX-LISTEN:{between},fork", f"TCP:{host}:{port}"]
    inside = engine.inside("socat", f"TCP-LISTEN:{API_PORT},bind={BRIDGE},reuseaddr,fork", f"UNIX-CONNECT:{between}")
    with ExitStack() as stack:
        for argv in (outside, inside):
            stack.callback(stack.enter_context(subprocess.Popen(argv)).terminate)
        config = {
            "current-context": "dev",
            "clusters": [{"name": "dev", "cluster": cluster}],
            "users": [{"name": "dev", "user": user}],
            "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": "dev"}}],
        }
        yield json.dumps(config)


async def test_compose_leads_to_a_breakpoint_and_keeps_what_it_knows(
    engine: Engine, kubectl: Kubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.run("shop")
    target = f"pod/dev/{kubectl.namespace}/shop/app"
    project = engine.folder / "project"
    shutil.copytree(ROOT / "config", project / "config")
    shutil.copy(ROOT / "docker-compose.yml", project)
    plugins = engine.folder / "client/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(engine.compose)

    def compose(*argv: str) -> str:
        return engine("docker", "compose", *argv, cwd=project)

    with reached_from_containers(engine, kubectl) as kubeconfig, (project / "config/compose.toml").open("a") as config:
        (project / "config/kubeconfig").write_text(kubeconfig)
        print(
            f'[[clusters]]\nname = "dev"\nkubeconfig = "/etc/noah/kubeconfig"\nnamespaces = ["{kubectl.namespace}"]',
            'reach = "api-server"',
            sep="\n",
            file=config,
            flush=True,
        )
        began = time.monotonic()
        compose("up", "--no-build", "--detach", "--wait")
        took_s = time.monotonic() - began
        assert "http://127.0.0.1:7070/login#token=" in compose("logs", "gateway")
        token = compose("exec", "-T", "gateway", "noah", "token", "create", "ada", "--groups", "noah:operators").strip()

        def noah(*argv: str) -> str:
            settings = [f"NOAH_TOKEN={token}", "NOAH_URL=http://127.0.0.1:7070"]
            return engine(*engine.inside("env", *settings, sys.executable, "-m", "noah", *argv))

        session = json.loads(noah("enable", target, "--wait", "-o", "json"))
        assert (session["status"], session["host"]) == ("ready", "127.0.0.1")
        await reach_a_breakpoint(engine, kubectl, session["port"])

        compose("down")
        assert compose("ps", "--all", "--quiet") == ""
        compose("up", "--no-build", "--detach", "--wait")
        # The token and the session are the ones from before.
        (kept,) = json.loads(noah("sessions", "-o", "json"))["items"]
        assert (kept["id"], kept["port"]) == (session["id"], session["port"])
        until(lambda: json.loads(noah("sessions", "-o", "json"))["items"][0]["status"] == "ready", within=120)
        await reach_a_breakpoint(engine, kubectl, session["port"])
        noah("end", target)
        compose("down", "--volumes")
    with capsys.disabled():
        print(f"\n{took_s:7.1f} s  docker compose up, with the images there")


async def reach_a_breakpoint(engine: Engine, kubectl: Kubectl, port: int) -> None:
    program = engine.inside("jdb")
    async with attached(port, program=program, deadline_s=120) as jdb, asyncio.TaskGroup() as group:
        await jdb.ask("stop in App.compute")
        work = asyncio.to_thread(kubectl, "exec", "shop", "--", "curl", "-fsS", "http://127.0.0.1:8080/work")
        group.create_task(work, name="a request for the breakpoint")
        assert "App.compute" in await jdb.said(STOPPED)
        await jdb.ask("cont")
        await jdb.quit()
