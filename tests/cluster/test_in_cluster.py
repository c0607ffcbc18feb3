"""The gateway in a pod of the cluster that it debugs in: by its ServiceAccount, with the rights of rights.yaml."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Kubectl, java_app, until

pytestmark = pytest.mark.cluster

TREE = Path(__file__).parents[2]
RIGHTS = TREE / "config/kubernetes/rights.yaml"
CONFIG = """\
[gateway]
listen = "127.0.0.1:7070"
database = "sqlite:////data/noah.db"
[[clusters]]
name = "here"
in_cluster = true
namespaces = ["{namespace}"]
"""
SERVES = 'printf %s "$CONFIG" > /data/noah.toml && "$0" -m noah db upgrade && exec "$0" -m noah serve'


def mounts() -> dict[str, Path]:
    """This machine's programs and this tree, by where the pod has them: its image has nothing."""
    usr = {"/usr": Path("/usr")} | {f"/{name}": Path("/usr") / name for name in ("bin", "lib", "lib64")}
    own = {str(path): path for path in (TREE, Path(sys.prefix), Path(sys.base_prefix))}
    return usr | {at: path for at, path in own.items() if not at.startswith("/usr")}


def api_server(kubectl: Kubectl) -> dict[str, str]:
    """The variables that tell a pod where the API server is, with its own address.

    The Service's, which the kubelet gives, is not reached while two clusters run on one machine: each kube-proxy writes
    the one table "kube-proxy" of nftables, and the last one wins.
    """
    endpoints = json.loads(kubectl("get", "endpointslices", "kubernetes", "-n", "default", "-o", "json"))
    address, port = endpoints["endpoints"][0]["addresses"][0], endpoints["ports"][0]["port"]
    return {"KUBERNETES_SERVICE_HOST": address, "KUBERNETES_SERVICE_PORT": str(port)}


def gateway_pod(namespace: str, environment: dict[str, str]) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": {}} for name in ("data", "tmp")]
    mounted: list[dict[str, Any]] = [{"name": name, "mountPath": f"/{name}"} for name in ("data", "tmp")]
    for number, (at, path) in enumerate(mounts().items()):
        volumes.append({"name": f"v{number}", "hostPath": {"path": str(path)}})
        mounted.append({"name": f"v{number}", "mountPath": at, "readOnly": True})
    variables = {
        **environment,
        "CONFIG": CONFIG.format(namespace=namespace),
        "NOAH_CONFIG": "/data/noah.toml",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    container = {
        "name": "gateway",
        "image": "noah.test/pause:1",
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", SERVES, sys.executable],
        "workingDir": str(TREE),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "volumeMounts": mounted,
        # So the pod is ready once the gateway serves, and no command is run to find that out.
        "startupProbe": {
            "exec": {"command": ["curl", "-fsS", "http://127.0.0.1:7070/readyz"]},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 180,
        },
    }
    spec = {
        "serviceAccountName": "noah",
        "containers": [container],
        "volumes": volumes,
        "terminationGracePeriodSeconds": 1,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "noah"}, "spec": spec}


def rights(namespace: str) -> list[dict[str, Any]]:
    """The rules of the ClusterRole "noah" in one namespace."""
    manifests = list(yaml.safe_load_all(RIGHTS.read_text()))
    (role,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == ("ClusterRole", "noah")]
    group = "rbac.authorization.k8s.io"
    named = {"metadata": {"name": "noah"}, "apiVersion": f"{group}/v1"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "noah"}},
        {**named, "kind": "Role", "rules": role["rules"]},
        {
            **named,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "noah"},
            "subjects": [{"kind": "ServiceAccount", "name": "noah", "namespace": namespace}],
        },
    ]


def test_a_gateway_in_a_pod_debugs_by_its_service_account(kubectl: Kubectl, kubeconfig: Path) -> None:
    if not (kubeconfig.parent / "run/containerd.sock").is_socket():
        pytest.skip("the cluster's nodes are not this machine, whose programs the pod runs")
    shop = {"apiVersion": "v1", "kind": "Pod", **java_app("shop", image="bare")}
    gateway = gateway_pod(kubectl.namespace, api_server(kubectl))
    shop = {"apiVersion": "v1", "kind": "Pod", **java_app("shop", image="bare")}
    kubectl.apply(*rights(kubectl.namespace), gateway, shop)
    try:
        for pod in ("noah", "shop"):
            kubectl.wait(f"pod/{pod}", "condition=Ready", timeout=100)
        is_debugged(kubectl)
    except AssertionError as error:
        error.add_note(kubectl("logs", "noah"))
        raise


def is_debugged(kubectl: Kubectl) -> None:
    def noah(*argv: str) -> str:
        return kubectl("exec", "noah", "--", sys.executable, "-m", "noah", *argv, timeout=60)

    until(lambda: '"reachable": true' in noah("clusters", "-o", "json"), within=60)
    shop_is = f"pod/here/{kubectl.namespace}/shop"
    assert '"status": "ready"' in noah("enable", shop_is, "--wait", "-o", "json")
    noah("end", shop_is)
    said = kubectl("exec", "noah", "--", "/bin/sh", "-c", '"$0" -m noah doctor here || true', sys.executable)
    wrong = [line for line in said.splitlines() if line.split()[:1] in (["error"], ["warning"])]
    # The one right in the whole cluster, which no Role of a namespace can give.
    assert all("subjectaccessreviews" in line for line in wrong), said
