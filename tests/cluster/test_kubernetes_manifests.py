"""config/kubernetes on a real API server."""

from pathlib import Path

import pytest

from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.cluster

FOLDER = Path(__file__).parents[2] / "config/kubernetes"


def test_the_api_server_accepts_the_manifests(kubectl: Kubectl) -> None:
    texts = {file.name: file.read_text() for file in sorted(FOLDER.iterdir(), reverse=True)}
    assert list(texts) == ["rights.yaml", "gateway.yaml"]
    # A dry run makes no namespace for what is to come into it: the test's own stands in.
    whole = "---\n".join(texts.values()).replace("namespace: noah", f"namespace: {kubectl.namespace}")
    said = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=whole)
    kinds = [line.split("/")[0] for line in said.splitlines()]
    assert kinds == [
        *("namespace", "clusterrole.rbac.authorization.k8s.io", "clusterrole.rbac.authorization.k8s.io"),
        *("serviceaccount", "clusterrolebinding.rbac.authorization.k8s.io", "configmap", "service", "service"),
        "persistentvolumeclaim",
        "deployment.apps",
    ]
