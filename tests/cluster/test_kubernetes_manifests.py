"""config/kubernetes on a real API server."""

from collections import Counter
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
    assert Counter(kinds) == {
        **dict.fromkeys(["namespace", "serviceaccount", "configmap", "persistentvolumeclaim", "deployment.apps"], 1),
        "clusterrole.rbac.authorization.k8s.io": 2,
        "clusterrolebinding.rbac.authorization.k8s.io": 1,
        "service": 2,
        "networkpolicy.networking.k8s.io": 1,
        "poddisruptionbudget.policy": 1,
    }
