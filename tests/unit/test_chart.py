"""The Helm chart: what it makes of values, and which values it refuses, with a sentence."""

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from noah import __version__
from noah.settings import parse_settings
from scripts import manifests
from tests.helm import helm

CHART = manifests.CHART
SEVERAL = (
    "namespaces={a},tls.secretName=t,replicas=3,database.url=postgresql://noah@db/noah,database.passwordSecret.name=p"
)
VALUES = [*sorted(manifests.EXPECTED.glob("*.values.yaml")), manifests.VALUES]


def run(*argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *map(str, argv)], capture_output=True, text=True, check=False)


def documents(values: Path) -> list[Any]:
    return [YAML(typ="safe", pure=True).load(text) for text in manifests.template(helm(), values)]


def test_what_is_kept_of_the_chart_is_what_it_makes() -> None:
    for file, text in manifests.made(helm()).items():
        assert file.read_text() == text, f"{file} is not what the chart makes: run `make manifests`"


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.name)
def test_helm_finds_nothing_wrong(values: Path) -> None:
    said = run("lint", "--strict", "--kube-version", manifests.KUBERNETES, "-f", values, CHART)
    assert said.returncode == 0, said.stdout


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.name)
def test_the_gateway_can_read_its_configuration(values: Path) -> None:
    (config,) = (one for one in documents(values) if "noah.toml" in one.get("data", {}))
    settings = parse_settings(tomllib.loads(config["data"]["noah.toml"]), origin="noah.toml")
    services = {one["metadata"]["name"]: one["spec"] for one in documents(values) if one["kind"] == "Service"}
    assert ("noah-debug" in services) == settings.gateway.plain_ports == settings.gateway.debug_ports_beyond_loopback
    if "noah-debug" in services:
        assert [port["port"] for port in services["noah-debug"]["ports"]] == list(settings.gateway.ports)


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.name)
def test_every_container_is_restricted(values: Path) -> None:
    (deployment,) = (one for one in documents(values) if one["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in [*spec["initContainers"], *spec["containers"]]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.name)
def test_several_gateways_are_replaced_one_by_one_and_given_the_time_to_drain(values: Path) -> None:
    objects = documents(values)
    (deployment,) = (one["spec"] for one in objects if one["kind"] == "Deployment")
    (config,) = (one for one in objects if "noah.toml" in one.get("data", {}))
    gateway = parse_settings(tomllib.loads(config["data"]["noah.toml"]), origin="noah.toml").gateway
    budgets = [one["spec"] for one in objects if one["kind"] == "PodDisruptionBudget"]
    pod = deployment["template"]["spec"]
    if deployment["replicas"] == 1:
        assert deployment["strategy"] == {"type": "Recreate"}
        assert "terminationGracePeriodSeconds" not in pod
        return
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert pod["terminationGracePeriodSeconds"] > gateway.drain_for.total_seconds()
    assert [budget["maxUnavailable"] for budget in budgets] == [1]
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert gateway.peer_host_and_port == ("0.0.0.0", ports["peers"])
    (policy,) = (one["spec"] for one in objects if one["kind"] == "NetworkPolicy")
    (peers,) = (rule for rule in policy["ingress"] if rule["ports"] == [{"port": "peers"}])
    assert peers["from"] == [{"podSelector": deployment["selector"]}]


def test_nothing_is_granted_outside_of_the_namespaces_that_are_named() -> None:
    objects = documents(manifests.EXPECTED / "most.values.yaml")
    rules = {one["metadata"]["name"]: one["rules"] for one in objects if one["kind"] == "ClusterRole"}
    inside = {one["metadata"]["namespace"] for one in objects if one["kind"] == "RoleBinding"}
    outside = [rule for one in objects if one["kind"] == "ClusterRoleBinding" for rule in rules[one["roleRef"]["name"]]]
    assert inside == {"team-a", "team-b"}
    assert [(rule["resources"], rule["verbs"]) for rule in outside] == [
        (["subjectaccessreviews"], ["create"]),
        (["tokenreviews"], ["create"]),
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("tls.secretName=t", "Name the namespaces to debug in"),
        ("namespaces={a}", "Logins do not go over plain HTTP"),
        ("namespaces={a},tls.secretName=t,serviceMonitor.enabled=true", "serviceMonitor.tokenSecret.name is missing"),
        ("namespaces={a},tls.secretName=t,database.url=postgresql://noah@db/noah", "passwordSecret.name is missing"),
        ("namespaces={a},tls.secretName=t,database.url=postgresql://noah:word@db/noah", "does not match pattern"),
        ("namespaces={a},tls.secretname=t", "secretname"),
        ("namespaces={a},tls.secretName=t,replicas=3", "Several gateways agree by PostgreSQL"),
        (SEVERAL, "Several gateways cannot share a volume of one node"),
        (f"{SEVERAL},persistence.enabled=false,webhook.enabled=true,webhook.certificates=gateway", "one authority"),
        ("namespaces={A_B},tls.secretName=t", "does not match pattern"),
        ("namespaces={a},tls.secretName=t,debug.ports=0", "minimum"),
        ("namespaces={a},tls.secretName=t,webhook.certificates=own", "webhook"),
    ],
)
def test_values_that_cannot_work_are_refused(given: str, sentence: str) -> None:
    said = run("template", "noah", CHART, "--kube-version", manifests.KUBERNETES, "--set", given)
    assert said.returncode != 0
    assert sentence in said.stderr


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert known(schema) >= given(YAML(typ="safe", pure=True).load((CHART / "values.yaml").read_text()))


def known(schema: dict[str, Any], prefix: str = "") -> set[str]:
    names = set()
    for name, part in schema.get("properties", {}).items():
        names |= {f"{prefix}{name}"} | known(part, f"{prefix}{name}.")
    return names


def given(values: dict[str, Any], prefix: str = "") -> set[str]:
    names = set()
    for name, value in values.items():
        names.add(f"{prefix}{name}")
        if isinstance(value, dict) and name not in ("resources", "labels"):
            names |= given(value, f"{prefix}{name}.")
    return names


def test_the_chart_and_the_package_have_one_version() -> None:
    chart = YAML(typ="safe", pure=True).load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
