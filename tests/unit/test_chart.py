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
