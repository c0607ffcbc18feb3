"""What a pod's object tells, from pods as an API server gives them."""

from typing import Any

import pytest

from noah.core import pods
from noah.errors import CannotDebug, NotFound

AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:50005,quiet=y"


def pod(name: str = "shop-7d9f-abcde", **changes: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "team-a",
        "creationTimestamp": "2026-05-04T12:00:00Z",
        "labels": {"app": "shop", "pod-template-hash": "7d9f"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "shop-7d9f", "controller": True}],
    }
    spec = {"nodeName": "node1", "containers": [{"name": "app", "image": "registry.test:5000/shop:1.4.2"}]}
    status = {
        "phase": "Running",
        "podIP": "10.1.2.3",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "app", "restartCount": 2, "state": {"running": {"startedAt": "2026-05-04T12:00:01Z"}}}
        ],
    }
    return {
        "metadata": metadata | changes.get("metadata", {}),
        "spec": spec | changes.get("spec", {}),
        "status": status | changes.get("status", {}),
    }


def containers(*specs: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(specs)}}


def owned_by(kind: str, name: str) -> dict[str, Any]:
    return {"metadata": {"ownerReferences": [{"kind": kind, "name": name, "controller": True}]}}


@pytest.mark.parametrize(
    ("changes", "workload"),
    [
        ({}, "Deployment/shop"),
        (owned_by("ReplicaSet", "shop"), "ReplicaSet/shop"),
        (owned_by("StatefulSet", "db"), "StatefulSet/db"),
        ({"metadata": {"ownerReferences": []}}, None),
        ({"metadata": {"ownerReferences": [{"kind": "Node", "name": "n"}]}}, None),
        (
            {
                "metadata": {
                    **owned_by("ReplicaSet", "r-55")["metadata"],
                    "labels": {"rollouts-pod-template-hash": "55"},
                }
            },
            "Rollout/r",
        ),
    ],
)
def test_the_workload_is_told_by_owner_and_hash(changes: dict[str, Any], workload: str | None) -> None:
    assert pods.workload_of(pod(**changes)) == workload


def test_the_app_is_named_by_the_label_or_by_what_is_nearest() -> None:
    assert pods.app_of(pod(), "app") == "shop"
    assert pods.app_of(pod(metadata={"labels": {"team/app": "x"}}), "team/app") == "x"
    assert pods.app_of(pod(metadata={"labels": {"app.kubernetes.io/name": "y"}}), "app") == "y"
    assert pods.app_of(pod(metadata={"labels": {}, "ownerReferences": []}), "app") == "shop-7d9f-abcde"


@pytest.mark.parametrize(
    ("annotations", "chosen"),
    [
        ({"kubectl.kubernetes.io/default-container": "b"}, "b"),
        ({"debug.cloud.google.com/config": '{"b": {"runtime": "jvm", "ports": {"jdwp": 5005}}}'}, "b"),
    ],
)
def test_an_annotation_says_which_container_is_meant(annotations: dict[str, str], chosen: str) -> None:
    two = pod(metadata={"annotations": annotations}, **containers({"name": "a"}, {"name": "b"}))
    assert pods.choose_container(two, None) == chosen
    assert pods.choose_container(two, "a") == "a"


def test_the_only_container_with_an_agent_is_meant() -> None:
    jvm = {"name": "b", "env": [{"name": "JAVA_TOOL_OPTIONS", "value": AGENT}]}
    assert pods.choose_container(pod(**containers({"name": "a"}, jvm)), None) == "b"


def test_several_containers_and_no_hint_are_refused_with_their_names() -> None:
    with pytest.raises(CannotDebug, match=r"several containers \(a, b\)"):
        pods.choose_container(pod(**containers({"name": "a"}, {"name": "b"})), None)


def test_a_container_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="no container 'x'; it has app"):
        pods.choose_container(pod(), "x")


@pytest.mark.parametrize(
    ("container", "port"),
    [
        ({}, 50005),
        ({"env": [{"name": "JAVA_TOOL_OPTIONS", "value": f"-Xmx1g {AGENT.replace('50005', '5005')}"}]}, 5005),
        (
            {"command": ["java", "-Xdebug", "-Xrunjdwp:transport=dt_socket,server=y,address=8000", "-jar", "x.jar"]},
            8000,
        ),
        ({"env": [{"name": "JAVA_TOOL_OPTIONS", "valueFrom": {}}]}, 50005),
    ],
)
def test_the_debug_port_is_read_from_the_options(container: dict[str, Any], port: int) -> None:
    assert pods.jdwp_port(pod(**containers({"name": "app", **container})), "app", 50005) == port


@pytest.mark.parametrize("config", ["nonsense", "[]", '{"app": {"ports": {"jdwp": "5005"}}}', '{"app": 1}'])
def test_a_broken_debug_config_is_ignored(config: str) -> None:
    broken = pod(metadata={"annotations": {"debug.cloud.google.com/config": config}})
    assert pods.jdwp_port(broken, "app", 50005) == 50005


def test_readiness_is_not_asked_whether_a_container_runs() -> None:
    assert pods.not_running(pod(status={"conditions": []}), "app") is None
    crash = {"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}}
    sentence = pods.not_running(pod(status={"containerStatuses": [crash]}), "app")
    assert sentence == "Container app of pod team-a/shop-7d9f-abcde does not run: CrashLoopBackOff (back-off 10s)."
    assert "does not run yet: Pending" in str(
        pods.not_running(pod(status={"containerStatuses": [], "phase": "Pending"}), "app")
    )


def test_the_version_is_the_images_tag() -> None:
    assert pods.version_of(pod(), "app") == "1.4.2"
    assert pods.version_of(pod(**containers({"name": "app", "image": "registry.test:5000/shop"})), "app") is None
    assert pods.version_of(pod(**containers({"name": "app", "image": "shop:2@sha256:00"})), "app") == "2"


@pytest.mark.parametrize(
    ("probe", "checkurl"),
    [
        ({"httpGet": {"port": 8080, "path": "/checkurl"}}, "http://localhost:8080/checkurl"),
        (
            {"exec": {"command": ["sh", "-c", "x", "noah-liveness", "http://localhost:1/c", "2"]}},
            "http://localhost:1/c",
        ),
        ({"exec": {"command": ["curl", "-f", "http://localhost:2/c"]}}, "http://localhost:2/c"),
        ({"exec": {"command": ["sh", "-c", "curl -f 'http://localhost:3/c' || exit 1"]}}, "http://localhost:3/c"),
        ({"tcpSocket": {"port": 1}}, None),
    ],
)
def test_checkurl_is_what_the_probe_asks(probe: dict[str, Any], checkurl: str | None) -> None:
    assert pods.checkurl_of(pod(**containers({"name": "app", "livenessProbe": probe})), "app") == checkurl


@pytest.mark.parametrize(
    ("probe", "level"),
    [
        (None, "warning"),
        ({"httpGet": {"port": 8080}}, "error"),
        ({"exec": {"command": ["curl", "x"]}}, "error"),
        ({"exec": {"command": ["sh", "-c", "x", "noah-liveness", "http://x", "2"]}}, "error"),  # 1 s is the default
        ({"exec": {"command": ["sh", "-c", "x", "noah-liveness", "http://x", "2"]}, "timeoutSeconds": 3}, "ok"),
    ],
)
def test_the_doctor_knows_which_probe_kills(probe: dict[str, Any] | None, level: str) -> None:
    spec = {"name": "app"} if probe is None else {"name": "app", "livenessProbe": probe}
    assert pods.probe_verdicts(pod(**containers(spec)), "app")[0][0] == level


def named(name: str, made: str, **changes: Any) -> dict[str, Any]:
    changes.setdefault("metadata", {})["creationTimestamp"] = made
    return pod(name, **changes)


def successor(*candidates: dict[str, Any], held: frozenset[str] = frozenset()) -> str | None:
    found = pods.successor_of(
        candidates, workload="Deployment/shop", container="app", gone="shop-old", node="node1", held=held
    )
    return str(found["metadata"]["name"]) if found else None


def test_the_successor_is_the_newest_of_the_same_workload() -> None:
    old, new = named("a", "2026-05-04T12:00:00Z"), named("b", "2026-05-04T12:05:00Z")
    assert successor(old, new) == "b"
    assert successor(old, new, held=frozenset({"b"})) == "a"


def test_a_namesake_comes_before_the_newest() -> None:
    assert successor(named("shop-old", "2026-05-04T12:00:00Z"), named("b", "2026-05-04T12:05:00Z")) == "shop-old"


def test_a_pod_that_goes_or_does_not_run_or_is_of_another_workload_is_no_successor() -> None:
    going = named("a", "2026-05-04T12:00:00Z", metadata={"deletionTimestamp": "2026-05-04T12:01:00Z"})
    pending = named("b", "2026-05-04T12:00:00Z", status={"containerStatuses": []})
    other = named("c", "2026-05-04T12:00:00Z", metadata={"ownerReferences": []})
    assert successor(going, pending, other) is None


def test_the_oldest_ready_pod_is_chosen() -> None:
    young, old = named("a", "2026-05-04T12:05:00Z"), named("b", "2026-05-04T12:00:00Z")
    unready = named("c", "2026-05-04T11:00:00Z", status={"conditions": []})
    chosen = pods.oldest_ready([young, old, unready])
    assert chosen is not None
    assert chosen["metadata"]["name"] == "b"
    assert pods.oldest_ready([unready]) is None
