"""A real Kubernetes for tests: NOAH_TEST_KUBECONFIG names it, NOAH_TEST_KUBECONFIG_2 a second one.

Objects are made by kubectl, which shares no code with the gateway.
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.execs import AuditLog

AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:50005,quiet=y"
# Until an app is up, which takes long on a busy node, the kubelet leaves the liveness probe alone.
STARTS = {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": 1, "failureThreshold": 180}


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    def __call__(self, *args: str, stdin: str | None = None, timeout: float = 120) -> str:
        argv = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *args]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", kind, name, "-o", "json"))
        return found

    def list(self, kind: str, selector: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("get", kind, "-l", selector, "-o", "json"))["items"]
        return found

    def run(self, name: str, **more: Any) -> None:
        """A pod with one Java app, and waits until it is ready. *more* is java_app()'s."""
        self.apply({"apiVersion": "v1", "kind": "Pod", **java_app(name, **more)})
        self.wait("pod/" + name, "condition=Ready")

    def deploy(self, name: str, *, replicas: int = 1, **more: Any) -> None:
        """The same as a Deployment, available."""
        self.create(name, replicas=replicas, **more)
        self.wait("deployment/" + name, "condition=Available")

    def create(self, name: str, *, replicas: int = 1, **more: Any) -> None:
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": java_app(name, **more),
        }
        self.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})

    def wait(self, what: str, condition: str, *, timeout: int = 90) -> None:
        self("wait", what, f"--for={condition}", f"--timeout={timeout}s", timeout=timeout + 10)


def java_app(name: str, *, image: str = "java17", options: str = AGENT, **container: Any) -> dict[str, Any]:
    """A pod's metadata and spec. *image*: java17, java8 or bare; *options*: JAVA_TOOL_OPTIONS."""
    app = {
        "name": "app",
        "image": f"noah.test/{image}:1",
        "imagePullPolicy": "Never",
        "env": [{"name": "JAVA_TOOL_OPTIONS", "value": options}],
        "readinessProbe": {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": 1, "failureThreshold": 60},
        **container,
    }
    spec = {"terminationGracePeriodSeconds": 1, "containers": [app]}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def _kubeconfig(variable: str) -> Path:
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"{variable} is not set: it names the kubeconfig of a Kubernetes to test with")
    return Path(given)


def flattened(kubeconfig: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cluster and the user of *kubeconfig*, with the contents of the files that it names."""
    argv = [
        "kubectl",
        "--kubeconfig",
        str(kubeconfig),
        "config",
        "view",
        "--minify",
        "--flatten",
        "--raw",
        "-o",
        "json",
    ]
    tree = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout)
    return tree["clusters"][0]["cluster"], tree["users"][0]["user"]


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    return _kubeconfig("NOAH_TEST_KUBECONFIG")


@pytest.fixture(scope="session")
def second_kubeconfig() -> Path:
    return _kubeconfig("NOAH_TEST_KUBECONFIG_2")


@pytest.fixture(scope="module")
def audit_log(kubeconfig: Path) -> AuditLog:
    """NOAH_TEST_AUDIT_LOG names it; without that it is where the test cluster's script puts it."""
    file = Path(os.environ.get("NOAH_TEST_AUDIT_LOG") or kubeconfig.parent / "log" / "audit.log")
    if not file.exists():
        pytest.skip(f"there is no audit log of the API server at {file}: NOAH_TEST_AUDIT_LOG names it")
    return AuditLog(file)


@pytest.fixture(scope="module")
def make_namespace() -> Iterator[Callable[[Path], Kubectl]]:
    """Makes namespaces, in any cluster, that are deleted after the module's tests."""
    made: list[Kubectl] = []

    def make(kubeconfig: Path) -> Kubectl:
        kubectl = Kubectl(kubeconfig, f"noah-test-{uuid.uuid4().hex[:8]}")
        kubectl("create", "namespace", kubectl.namespace)
        made.append(kubectl)
        # Pods are refused until the controllers have made it.
        until(lambda: "default" in kubectl("get", "serviceaccounts", "-o", "name"))
        return kubectl

    yield make
    for kubectl in made:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, make_namespace: Callable[[Path], Kubectl]) -> Kubectl:
    """kubectl in a namespace of the module's own."""
    return make_namespace(kubeconfig)


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> str:
    return kubectl.namespace


def until(true: Callable[[], Any], *, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.3)  # each look is most often a kubectl, which takes 0.1 s of CPU
