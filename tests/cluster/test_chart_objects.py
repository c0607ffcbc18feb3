"""What the chart makes, as an API server takes it that has the kinds of cert-manager and of the Prometheus operator.

Their definitions come with the sources of their Go modules. Nothing of theirs runs here.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from scripts.manifests import CHART, EXPECTED, KUBERNETES
from tests.cluster.conftest import Kubectl, until
from tests.helm import helm

pytestmark = [pytest.mark.cluster]

CERT_MANAGER = ("github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds")
OPERATOR = ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd")
DEFINITIONS = {
    "issuers.cert-manager.io": (*CERT_MANAGER, "cert-manager.io_issuers.yaml"),
    "certificates.cert-manager.io": (*CERT_MANAGER, "cert-manager.io_certificates.yaml"),
    "servicemonitors.monitoring.coreos.com": (*OPERATOR, "monitoring.coreos.com_servicemonitors.yaml"),
    "prometheusrules.monitoring.coreos.com": (*OPERATOR, "monitoring.coreos.com_prometheusrules.yaml"),
}


def source(module: str) -> Path:
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])


@contextmanager
def defined(kubectl: Kubectl, name: str, file: Path) -> Iterator[None]:
    """Define a kind of object, unless the cluster has it already."""
    if name in kubectl("get", "customresourcedefinition", "-o", "name"):
        yield
        return
    kubectl("create", "-f", str(file))
    try:
        until(lambda: is_served(kubectl, name), within=120)
        yield
    finally:
        kubectl("delete", "customresourcedefinition", name)


def is_served(kubectl: Kubectl, name: str) -> bool:
    try:
        kubectl("get", name)
    except AssertionError:
        return False
    return True


@pytest.fixture(scope="module")
def kinds(kubectl: Kubectl) -> Iterator[None]:
    if shutil.which("go") is None:
        pytest.skip("go is not installed (Debian: golang-go): it brings the definitions of cert-manager's objects")
    with ExitStack() as stack:
        for name, (module, folder, file) in DEFINITIONS.items():
            stack.enter_context(defined(kubectl, name, source(module) / folder / file))
        yield


def made(kubectl: Kubectl, values: Path) -> str:
    """What helm would install in the test's namespace."""
    namespaces = [] if "allNamespaces: true" in values.read_text() else ["--set", f"namespaces={{{kubectl.namespace}}}"]
    argv = [helm(), "template", "noah", str(CHART), "-n", kubectl.namespace, "--kube-version", KUBERNETES]
    argv += ["-f", str(values), *namespaces]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize("values", sorted(EXPECTED.glob("*.values.yaml")), ids=lambda file: file.name)
def test_the_api_server_takes_all_that_the_chart_makes(kubectl: Kubectl, values: Path) -> None:
    text = made(kubectl, values)
    wanted = {(one["kind"], one["metadata"]["name"]) for one in YAML(typ="safe", pure=True).load_all(text) if one}
    said = kubectl("apply", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", stdin=text)
    assert {(one["kind"], one["metadata"]["name"]) for one in json.loads(said)["items"]} == wanted


@pytest.mark.usefixtures("kinds")
def test_the_api_server_refuses_what_these_kinds_do_not_have(kubectl: Kubectl) -> None:
    """So what it took it had looked at."""
    for values, line in (("cert-manager", "  isCA: true"), ("most", "    interval:")):
        text = made(kubectl, EXPECTED / f"{values}.values.yaml")
        wrong = text.replace(line, line.replace(line.strip().partition(":")[0], "noSuchField"))
        assert wrong != text
        with pytest.raises(AssertionError, match="noSuchField"):
            kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=wrong)
