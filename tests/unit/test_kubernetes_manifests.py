"""config/kubernetes: what it grants is what the gateway asks for, and the configuration in it can be read."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from noah.kube.clusters import NEEDED, TO_REVIEW, WANTED
from noah.settings import Settings, parse_settings

FOLDER = Path(__file__).parents[2] / "config/kubernetes"


def objects(kind: str) -> list[Any]:
    documents = [d for file in FOLDER.iterdir() for d in YAML(typ="safe", pure=True).load_all(file.read_text())]
    return [document for document in documents if document["kind"] == kind]


@pytest.fixture
def configured() -> Settings:
    (config,) = objects("ConfigMap")
    return parse_settings(tomllib.loads(config["data"]["noah.toml"]), origin="noah.toml")


@pytest.mark.parametrize("right", [*NEEDED, *WANTED, TO_REVIEW], ids=str)
def test_what_the_gateway_asks_for_is_granted(right: tuple[str, str, str, str]) -> None:
    verb, group, resource, subresource = right
    name = "noah-cluster" if right == TO_REVIEW else "noah"
    role = next(one for one in objects("ClusterRole") if one["metadata"]["name"] == name)
    whole = f"{resource}/{subresource}" if subresource else resource
    assert any(
        verb in rule["verbs"] and group in rule["apiGroups"] and whole in rule["resources"] for rule in role["rules"]
    )


def test_the_ports_that_the_configuration_names_are_those_of_the_pod_and_its_service(configured: Settings) -> None:
    (deployment,), (service, debug) = objects("Deployment"), objects("Service")
    assert [port["port"] for port in debug["spec"]["ports"]] == list(configured.gateway.ports)
    ports = {p["name"]: p["containerPort"] for p in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert configured.webhook is not None
    _, peer_port = configured.gateway.peer_host_and_port
    assert ports == {"http": configured.gateway.port, "webhook": configured.webhook.port, "peers": peer_port}
    metadata = service["metadata"]
    assert configured.webhook.names == (f"{metadata['name']}.{metadata['namespace']}.svc",)
    assert {p["targetPort"] for p in service["spec"]["ports"]} == {*ports} - {"peers"}  # which is the gateways' own


def test_what_has_to_outlive_the_pods_is_in_the_database_or_on_their_common_volume(configured: Settings) -> None:
    assert configured.webhook is not None
    assert configured.gateway.database.startswith("postgresql://")
    (claim,), (deployment,) = objects("PersistentVolumeClaim"), objects("Deployment")
    assert deployment["spec"]["replicas"] > 1
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert configured.webhook.folder.is_relative_to("/data")
    assert configured.access.tokens.is_relative_to("/data")


def test_no_right_to_run_commands_is_bound_in_every_namespace() -> None:
    roles = {one["metadata"]["name"]: one["rules"] for one in objects("ClusterRole")}
    for binding in objects("ClusterRoleBinding"):
        for rule in roles[binding["roleRef"]["name"]]:
            assert rule["resources"][0] in ("tokenreviews", "subjectaccessreviews")
            assert rule["verbs"] == ["create"]


def test_the_gateways_pod_is_as_restricted_as_its_namespace_asks(configured: Settings) -> None:
    (namespace,), (deployment,) = objects("Namespace"), objects("Deployment")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = deployment["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert configured.clusters[0].namespaces
