#!/usr/bin/env python3
"""Write what is made of deploy/chart: config/kubernetes, and what the chart's tests expect of it (`make manifests`)."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/chart"
MANIFESTS = ROOT / "config/kubernetes"
VALUES = ROOT / "deploy/kubernetes.values.yaml"
EXPECTED = ROOT / "tests/chart"
KUBERNETES = "1.34.0"  # what a template may ask for
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")

RIGHTS_HEADER = """\
# What the gateway needs in each cluster that it debugs in. `noah doctor CLUSTER` says what is missing.
# The rights in "noah" count in namespaces with a RoleBinding of it, and in no others: a program that takes over the
# gateway can run commands in their pods. For each namespace that is debugged in, and as `namespaces` of [[clusters]]:
#   kubectl -n NAMESPACE create rolebinding noah --clusterrole=noah --serviceaccount=noah:noah
# For a cluster in which everything may be debugged, and then without `namespaces`:
#   kubectl create clusterrolebinding noah-everywhere --clusterrole=noah --serviceaccount=noah:noah
# Made of deploy/chart: `make manifests`.
apiVersion: v1
kind: Namespace
metadata:
  name: noah
  labels: {app.kubernetes.io/name: noah, pod-security.kubernetes.io/enforce: restricted}
"""
GATEWAY_HEADER = """\
# Three gateways in Kubernetes; rights.yaml comes first, which has the namespace too. Set the image, the addresses and
# the database, which is PostgreSQL. Their volume (tokens, the webhook's authority) is one that all nodes mount.
#   kubectl -n noah create secret generic noah-database --from-literal=password=WORD
#   kubectl -n noah create secret tls noah-tls --cert=tls.crt --key=tls.key     or let cert-manager make it
#   kubectl apply -f rights.yaml -f gateway.yaml
#   kubectl -n noah logs deploy/noah                                            has the link of the first login
#   kubectl -n noah exec deploy/noah -- noah token create NAME --for 30d        makes a token for somebody else
#   kubectl -n noah exec deploy/noah -- noah webhook --service noah/noah | kubectl apply -f -     to have pods injected
# Made of deploy/chart: `make manifests`.
"""


def made(helm: str) -> dict[Path, str]:
    """Return each file's text."""
    documents = template(helm, VALUES)
    rights = [document for document in documents if _kind(document) in RIGHTS]
    # In which namespaces the rights count is said by hand, as the header has it.
    others = [document for document in documents if _kind(document) not in (*RIGHTS, "RoleBinding")]
    files = {
        MANIFESTS / "rights.yaml": "---\n".join([RIGHTS_HEADER, *rights]),
        MANIFESTS / "gateway.yaml": GATEWAY_HEADER + "---\n".join(others),
    }
    for values in sorted(EXPECTED.glob("*.values.yaml")):
        text = "---\n".join(template(helm, values))
        # An authority is another one each time.
        text = re.sub(r"((?:tls\.crt|tls\.key|caBundle): )\S+", r"\1MADE", text)
        files[values.with_name(values.name.replace(".values", ""))] = text
    return files


def template(helm: str, values: Path) -> list[str]:
    argv = [helm, "template", "noah", str(CHART), "-n", "noah", "--kube-version", KUBERNETES, "-f", str(values)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    if said.returncode:
        sys.exit(said.stderr)
    kept = [
        line
        for line in said.stdout.splitlines(keepends=True)
        if not line.startswith("# Source: ") and "app.kubernetes.io/managed-by: Helm" not in line
    ]
    return [document for document in re.split(r"^---\n", "".join(kept), flags=re.MULTILINE) if document.strip()]


def _kind(document: str) -> str:
    found = re.search(r"^kind: (\w+)", document, re.MULTILINE)
    return found[1] if found else ""


if __name__ == "__main__":
    for file, text in made(sys.argv[1]).items():
        file.write_text(text)
