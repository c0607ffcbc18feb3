"""A pod template is a pod template, whatever the kind is called; and a JVM is one, whatever else mentions Java."""

import time
from typing import Any

import pytest

from noah.core import pods
from noah.core.inject.hooks import SIDECAR
from noah.core.inject.manifest import eject, inject
from noah.core.inject.templates import at, pod_paths
from tests.unit.core.inject.manifests import HTTP, agents_in, app, container_of, notes_of, pod

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "shop"}, "annotations": {"debug.noah/agent": "always"}},
    "spec": {"containers": [app(command=["java"], livenessProbe=HTTP)]},
}


def kind(name: str, api: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": api, "kind": name, "metadata": {"name": "shop"}, "spec": spec}


JOB = {"jobTemplate": {"spec": {"template": TEMPLATE}}}
DEPLOYMENT = kind("Deployment", "apps/v1", {"template": TEMPLATE})
KINDS = [
    kind("CloneSet", "apps.kruise.io/v1alpha1", {"template": TEMPLATE}),
    kind("StatefulSet", "apps.kruise.io/v1beta1", {"template": TEMPLATE}),
    kind("AdvancedCronJob", "apps.kruise.io/v1alpha1", {"template": JOB}),
    kind("UnitedDeployment", "apps.kruise.io/v1alpha1", {"template": {"cloneSetTemplate": DEPLOYMENT}}),
    kind("DeploymentConfig", "apps.openshift.io/v1", {"template": TEMPLATE}),
    kind("Service", "serving.knative.dev/v1", {"template": TEMPLATE}),
    kind("Rollout", "argoproj.io/v1alpha1", {"template": TEMPLATE}),
    kind("FlinkDeployment", "flink.apache.org/v1beta1", {"podTemplate": TEMPLATE}),
    kind("RayCluster", "ray.io/v1", {"workerGroupSpecs": [{"template": TEMPLATE}]}),
    kind("ManifestWork", "work.open-cluster-management.io/v1", {"workload": {"manifests": [DEPLOYMENT]}}),
    {"apiVersion": "template.openshift.io/v1", "kind": "Template", "objects": [DEPLOYMENT]},
    {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "shop"}, "template": TEMPLATE},
    {"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "shop"}, "spec": TEMPLATE["spec"]}]},
]


@pytest.mark.parametrize("manifest", KINDS, ids=lambda manifest: f"{manifest['kind']} {manifest['apiVersion']}")
def test_a_pod_template_is_found_in_any_kind(manifest: dict[str, Any]) -> None:
    injected = inject(manifest).manifest
    container = container_of(injected)
    assert agents_in(container) == 1
    assert "exec" in container["livenessProbe"]
    assert eject(injected) == manifest


@pytest.mark.parametrize(
    "manifest",
    [
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"spec": {"containers": [app()]}}},
        {"apiVersion": "v1", "kind": "Service", "spec": {"selector": {"app": "x"}}},
        kind("SidecarSet", "apps.kruise.io/v1alpha1", {"containers": [app()]}),
        kind("CustomResourceDefinition", "apiextensions.k8s.io/v1", {"versions": [{"schema": TEMPLATE}]}),
        kind("Rollout", "argoproj.io/v1alpha1", {"workloadRef": {"kind": "Deployment"}}),
        {**kind("Deployment", "apps/v1", {}), "status": {"template": TEMPLATE}},
    ],
)
def test_what_holds_no_pod_is_given_back_as_it_is(manifest: dict[str, Any]) -> None:
    assert pod_paths(manifest) == []
    assert inject(manifest).manifest == manifest


def test_each_of_several_pods_in_one_object_is_injected() -> None:
    driver = {**TEMPLATE, "spec": {"containers": [app(command=["java", "Driver"])]}}
    manifest = kind("SparkApplication", "x/v1", {"driver": {"template": driver}, "executor": {"template": TEMPLATE}})
    injected = inject(manifest).manifest
    assert [agents_in(at(injected, path)["spec"]["containers"][0]) for path in pod_paths(manifest)] == [1, 1]
    assert eject(injected) == manifest


@pytest.mark.parametrize(
    "manifest",
    [
        kind("CronJob", "batch/v1", JOB),
        kind("AdvancedCronJob", "apps.kruise.io/v1alpha1", {"template": JOB}),
        kind("ScaledJob", "keda.sh/v1alpha1", {"jobTargetRef": {"template": TEMPLATE}}),
        kind("BroadcastJob", "apps.kruise.io/v1alpha1", {"template": TEMPLATE}),
    ],
    ids=lambda manifest: str(manifest["kind"]),
)
def test_what_runs_until_it_is_done_has_nobody_to_be_online_for(manifest: dict[str, Any]) -> None:
    assert SIDECAR not in str(inject(manifest).manifest)


def test_knative_takes_no_sidecar_and_a_note_says_so() -> None:
    service = kind("Service", "serving.knative.dev/v1", {"template": TEMPLATE})
    assert SIDECAR not in str(inject(service).manifest)
    assert "Knative takes no such sidecar" in notes_of(service)


# Native sidecars


def with_sidecar(**sidecar: Any) -> dict[str, Any]:
    jvm = {"name": "jvm", "image": "noah.test/java17:1", "command": ["java"], "livenessProbe": HTTP, **sidecar}
    return pod({"name": "main", "image": "shop:1"}, initContainers=[{"name": "first", "image": "busybox"}, jvm])


def test_a_jvm_in_a_native_sidecar_is_a_target() -> None:
    manifest = with_sidecar(restartPolicy="Always")
    injected = inject(manifest).manifest
    assert agents_in(container_of(injected, "jvm")) == 1
    assert eject(injected) == manifest
    injected["metadata"]["namespace"] = "team"
    assert pods.choose_container(injected, None) == "jvm"
    assert pods.choose_container(injected, "jvm") == "jvm"
    assert pods.jdwp_port(injected, "jvm", 1) == 50005
    assert {level for level, _ in pods.probe_verdicts(injected, "jvm")} == {"ok"}


def test_a_jvm_that_only_initializes_is_not_a_target() -> None:
    manifest = with_sidecar()
    assert inject(manifest).manifest == manifest
    assert [c["name"] for c in pods.containers_of(manifest)] == ["main"]


def test_whether_a_native_sidecar_runs_is_read_from_its_own_status() -> None:
    manifest = with_sidecar(restartPolicy="Always")
    manifest["metadata"]["namespace"] = "team"
    running = {"name": "jvm", "restartCount": 0, "state": {"running": {"startedAt": "2026-05-04T12:00:01Z"}}}
    manifest["status"] = {"phase": "Running", "initContainerStatuses": [running]}
    assert pods.not_running(manifest, "jvm") is None
    assert pods.started_at(manifest, "jvm") is not None
    running["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert "CrashLoopBackOff" in str(pods.not_running(manifest, "jvm"))


# What only mentions Java


@pytest.mark.parametrize(
    "container",
    [
        {"image": "grafana/java-dashboard:1"},
        {"image": "example.test/jvm-java-dashboard:2"},
        {"image": "rabbitmq:3.13", "env": [{"name": "JAVA_OPTS", "value": "-Xmx1g"}]},
        {"image": "eclipse-mosquitto:2", "env": [{"name": "JAVA_HOME", "value": "/opt"}]},
        {"image": "prom/tomcat-exporter:1"},
        {"image": "node:20-bookworm", "env": [{"name": "JAVA_HOME", "value": "/opt"}]},
        {"image": "nginx:1.27", "env": [{"name": "JVM_OPTS", "value": ""}]},
        {"image": "docs/spring-docs:5"},
    ],
)
def test_what_only_mentions_java_is_left_with_a_note(container: dict[str, Any]) -> None:
    manifest = pod({"name": "app", **container})
    assert inject(manifest).manifest == manifest
    assert "mentions Java and does not look like a JVM" in notes_of(manifest)
    said = pod({"name": "app", **container}, annotations={"container": "app"})
    assert agents_in(container_of(inject(said).manifest)) == 1


@pytest.mark.parametrize(
    "image",
    [
        "eclipse-temurin:21",
        "java:8",
        "tomcat",
        "tomcat:10-jdk17@sha256:0",
        "node-java17:1",
        "reg:5000/x/spring-petclinic:3",
        "shop:17-jre",
    ],
)
def test_an_image_that_is_made_of_java_is_a_jvm(image: str) -> None:
    assert agents_in(container_of(inject(pod({"name": "app", "image": image})).manifest)) == 1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"volumes": [{"name": "noah", "emptyDir": {}}]}, "a volume of its own that is called noah"),
        ({"initContainers": [{"name": SIDECAR, "image": "x"}]}, "a container of its own that is called noah-preonline"),
    ],
)
def test_a_name_that_the_pod_has_is_not_taken(spec: dict[str, Any], says: str) -> None:
    manifest = pod(app(command=["java"], livenessProbe=HTTP), **spec)
    assert says in notes_of(manifest)
    injected = inject(manifest).manifest
    assert {key: injected["spec"][key] for key in spec} == spec
    assert eject(injected) == manifest


# Texts without an end


@pytest.mark.parametrize("text", ["'http://x/ " * 100_000, "http://x " * 100_000, "\\'\"" * 300_000])
def test_a_megabyte_of_words_in_a_probe_costs_a_listing_nothing(text: str) -> None:

    probes = [{"exec": {"command": ["sh", "-c", text]}}, {"exec": {"command": text.split()}}]
    began = time.process_time()
    for probe in probes:
        pods.checkurl_of(pod(app(livenessProbe=probe)), "app")
    assert time.process_time() - began < 0.3
