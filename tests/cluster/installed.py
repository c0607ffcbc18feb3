"""The chart as helm installs it on the real cluster, and a database of this machine for it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.manifests import CHART
from tests.cluster.conftest import Kubectl
from tests.helm import helm
from tests.postgres import Postgres

PASSWORD = "of the database"
LOGS = ("logs", "-l", "app.kubernetes.io/instance=noah", "--all-containers", "--prefix", "--tail=20", "--ignore-errors")


@dataclass
class Installed:
    """A release of the chart, named noah."""

    kubectl: Kubectl
    apps: Kubectl
    values: Path
    post_renderer: Path | None = None  # a program that changes the manifests

    def helm(self, *argv: object) -> str:
        whole = [helm(), *map(str, argv), "-n", self.kubectl.namespace, "--kubeconfig", str(self.kubectl.kubeconfig)]
        done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stderr + self.kubectl("get", "pods,events") + self.kubectl(*LOGS)
        return done.stdout

    def install_or_upgrade(self, *argv: str) -> None:
        changed = ("--post-renderer", self.post_renderer) if self.post_renderer else ()
        self.helm(
            "upgrade", "--install", "noah", CHART, "-f", self.values, "--wait", "--timeout", "5m", *changed, *argv
        )

    def exec(self, *argv: str) -> str:
        return self.kubectl("exec", "deploy/noah", "-c", "gateway", "--", *argv)

    def address(self, service: str) -> str:
        return str(self.kubectl.get("service", service)["spec"]["clusterIP"])


@contextmanager
def reached_from_pods(kubectl: Kubectl, postgres: Postgres) -> Iterator[str]:
    """The address of a database of the server, at the node's address, where a password is asked for."""
    postgres.execute(f"CREATE ROLE gateway LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE gateway OWNER gateway")
    rules = postgres.folder / "data/pg_hba.conf"
    rules.write_text("host all gateway 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
    postgres.execute("SELECT pg_reload_conf()")
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    (node,) = (one["address"] for one in nodes[0]["status"]["addresses"] if one["type"] == "InternalIP")
    listen, to = f"TCP-LISTEN:{postgres.port},bind={node},fork,reuseaddr", f"TCP:127.0.0.1:{postgres.port}"
    with subprocess.Popen(["socat", listen, to]) as forwarder:
        try:
            yield f"postgresql://gateway@{node}:{postgres.port}/gateway"
        finally:
            forwarder.terminate()
