"""The image and the chart on a real cluster: built here, installed, upgraded, rolled back and uninstalled by helm.

The cluster's node has to be this machine, as the test command's is: its containerd is given the image, and a folder of
it is the gateway's volume.
"""

import json
import os
import re
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cluster.conftest import Kubectl, java_app, until
from tests.cluster.installed import PASSWORD, Installed, reached_from_pods
from tests.jdwp import VERSION, Debugger
from tests.postgres import Postgres

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
REPOSITORY, TAG = "noah.test/gateway", "test"
FIRST_PORT = 20000
UID = 10001


@pytest.fixture(scope="module")
def installed(
    kubeconfig: Path, make_namespace: Callable[[Path], Kubectl], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    socket = kubeconfig.parent / "run/containerd.sock"
    if not socket.is_socket():
        pytest.skip(f"images cannot be given to this cluster: it has no containerd at {socket}")
    folder = tmp_path_factory.mktemp("helm")
    archive = folder / "gateway.tar"
    said = subprocess.run(
        [ROOT / "scripts/image", archive, f"{REPOSITORY}:{TAG}"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    subprocess.run(
        ["ctr", "-a", str(socket), "-n", "k8s.io", "images", "import", str(archive)], check=True, capture_output=True
    )

    kubectl, apps = make_namespace(kubeconfig), make_namespace(kubeconfig)
    for level in ("enforce", "warn"):
        kubectl("label", "namespace", kubectl.namespace, f"pod-security.kubernetes.io/{level}=restricted")
    apps("label", "namespace", apps.namespace, "debug.noah/inject=true")
    certificate = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=noah", "-addext"]
    subprocess.run(
        [
            "openssl",
            *certificate,
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            folder / "tls.key",
            "-out",
            folder / "tls.crt",
        ],
        check=True,
        capture_output=True,
    )
    kubectl("create", "secret", "tls", "noah-tls", f"--cert={folder / 'tls.crt'}", f"--key={folder / 'tls.key'}")
    values = {
        "image": {"repository": REPOSITORY, "tag": TAG, "pullPolicy": "Never"},
        "namespaces": [apps.namespace],
        "tls": {"secretName": "noah-tls"},
        "debug": {"enabled": True, "type": "ClusterIP", "firstPort": FIRST_PORT, "ports": 3},
        "webhook": {"enabled": True},
        "persistence": {"existingClaim": "data"},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
    }
    (folder / "values.json").write_text(json.dumps(values))
    with volume(kubectl, folder / "data"):
        release = Installed(kubectl, apps, folder / "values.json")
        release.install_or_upgrade()
        try:
            yield release
        finally:
            if "noah" in release.helm("list", "-q"):
                release.helm("uninstall", "noah", "--wait")


@contextmanager
def volume(kubectl: Kubectl, folder: Path) -> Iterator[None]:
    """A claim named data, on a folder of this machine's."""
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, UID)
    name = f"{kubectl.namespace}-data"
    size: dict[str, Any] = {"storage": "1Gi"}
    spec = {"storageClassName": "", "accessModes": ["ReadWriteOnce"]}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {**spec, "capacity": size, "hostPath": {"path": str(folder)}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {**spec, "volumeName": name, "resources": {"requests": size}},
        },
    )
    try:
        yield
    finally:
        kubectl("delete", "persistentvolume", name, "--wait=false")


@contextmanager
def asking(installed: Installed) -> Iterator[Callable[..., Any]]:
    """The API by HTTPS through `kubectl port-forward`, as somebody with a token."""
    token = installed.exec("noah", "token", "create", "ada", "--groups", "noah:operators").split()[0]
    argv = ["kubectl", "--kubeconfig", str(installed.kubectl.kubeconfig), "-n", installed.kubectl.namespace]
    context = ssl.create_default_context(cafile=str(installed.values.with_name("tls.crt")))
    with subprocess.Popen([*argv, "port-forward", "svc/noah", ":7070"], stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert found is not None

            def ask(method: str, path: str, body: Any = None) -> Any:
                request = urllib.request.Request(
                    f"https://127.0.0.1:{found[1]}/api/v1/{path}",
                    method=method,
                    data=None if body is None else json.dumps(body).encode(),
                    headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                )
                with urllib.request.urlopen(request, timeout=120, context=context) as answer:
                    return json.load(answer)

            yield ask
        finally:
            forward.terminate()


def test_a_breakpoint_is_reached_through_what_helm_installed(installed: Installed) -> None:
    """Without any part injected by hand: the webhook puts in what debugging needs."""
    app = java_app("shop", options="")
    app["metadata"]["labels"]["debug.noah/inject"] = "true"
    app["metadata"]["annotations"] = {"debug.noah/checkurl": "http://127.0.0.1:8080/checkurl"}

    def is_injected() -> bool:
        # Until the API server has read the webhook's configuration, pods come as they are.
        installed.apps("delete", "pod", "shop", "--ignore-not-found", "--wait", "--grace-period=1")
        installed.apps.apply({"apiVersion": "v1", "kind": "Pod", **app})
        return "jdwp" in json.dumps(installed.apps.get("pod", "shop")["spec"])

    until(is_injected, within=120)
    installed.apps.wait("pod/shop", "condition=Ready", timeout=180)
    with asking(installed) as ask:
        until(lambda: ask("GET", "targets")["items"], within=60)
        (target,) = ask("GET", "targets")["items"]
        wanted = {"target": target["target"], "allow": ["10.0.0.0/8"]}
        session = ask("POST", "sessions?wait=60", wanted)
        assert session["status"] == "ready", session
        with Debugger(session["port"], host=installed.address("noah-debug")) as debugger:
            assert debugger.ask(VERSION)

        installed.install_or_upgrade("--set", 'config=[sessions]\ndefault_length = "1h"')
    with asking(installed) as ask:
        assert ask("GET", f"sessions/{session['id']}?wait=60")["port"] == session["port"]
        until(lambda: ask("GET", f"sessions/{session['id']}")["status"] == "ready", within=90)


def test_a_rollback_brings_back_the_configuration(installed: Installed) -> None:
    before = installed.kubectl.get("configmap", "noah")["data"]
    authority = installed.kubectl.get("secret", "noah-webhook")["data"]
    installed.install_or_upgrade("--set", "advertisedHost=other.example.com")
    show = ("python3", "-c", "print(open('/etc/noah/noah.toml').read())")
    assert "other.example.com" in installed.exec(*show)
    installed.helm("rollback", "noah", "--wait", "--timeout", "5m")
    assert installed.kubectl.get("configmap", "noah")["data"] == before
    assert installed.kubectl.get("secret", "noah-webhook")["data"] == authority
    assert "other.example.com" not in installed.exec(*show)


def test_sessions_are_kept_in_postgresql(installed: Installed, postgres: Postgres) -> None:
    """A database of this machine, by a password from a Secret."""
    installed.apps.run("orders")
    installed.kubectl("create", "secret", "generic", "database", f"--from-literal=password={PASSWORD}")
    with reached_from_pods(installed.kubectl, postgres) as url:
        installed.install_or_upgrade("--set", f"database.url={url}", "--set", "database.passwordSecret.name=database")
        with asking(installed) as ask:

            def orders() -> list[str]:
                return [one["target"] for one in ask("GET", "targets")["items"] if "/orders/" in one["target"]]

            until(orders, within=60)
            session = ask("POST", "sessions?wait=60", {"target": orders()[0], "allow": ["10.0.0.0/8"]})
            assert session["status"] == "ready", session
            with psycopg.connect(postgres.url("gateway")) as connection:
                rows = connection.execute("SELECT id FROM sessions WHERE ended_at IS NULL").fetchall()
            assert rows == [(session["id"],)]
        installed.install_or_upgrade()


def test_the_gateway_may_do_nothing_outside_of_the_namespaces_that_are_named(installed: Installed) -> None:
    account = f"--as=system:serviceaccount:{installed.kubectl.namespace}:noah"

    def may(verb: str, what: str, namespace: str) -> bool:
        resource, _, subresource = what.partition("/")
        argv = ["kubectl", "--kubeconfig", str(installed.kubectl.kubeconfig), "auth", "can-i", verb, resource]
        argv += [f"--subresource={subresource}", "-n", namespace, account]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip() == "yes"

    assert may("create", "pods/exec", installed.apps.namespace)
    for namespace in ("default", installed.kubectl.namespace):
        assert not may("create", "pods/exec", namespace)
        assert not may("list", "pods", namespace)
    assert not may("list", "secrets", installed.apps.namespace)


def test_the_container_runs_as_nobody_and_can_write_to_its_volume_only(installed: Installed) -> None:
    assert installed.exec("python3", "-c", "import os; print(os.getuid())").strip() == str(UID)
    write = "import pathlib; pathlib.Path('/opt/noah/x').write_text('')"
    with pytest.raises(AssertionError, match=r"Read-only file system|Permission denied"):
        installed.exec("python3", "-c", write)


def test_nothing_is_left_after_an_uninstall(installed: Installed) -> None:
    installed.helm("uninstall", "noah", "--wait")
    kinds = "all,configmap,secret,rolebinding,networkpolicy,ingress,serviceaccount"
    selector = "app.kubernetes.io/instance=noah"
    until(lambda: not installed.kubectl.list(kinds, selector), within=60)  # the pod ends by and by
    assert not installed.apps.list("rolebinding", selector)
    cluster_wide = installed.kubectl.list("clusterrole,clusterrolebinding", selector)
    assert not [one for one in cluster_wide if installed.kubectl.namespace in one["metadata"]["name"]]
