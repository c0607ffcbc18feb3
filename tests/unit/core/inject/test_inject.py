"""What is put into a pod, chosen by its annotations, and that eject gives back what was there."""

import json
import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.inject.agent import agent_option
from noah.core.inject.hooks import SIDECAR
from noah.core.inject.manifest import ORIGINAL, eject, inject
from noah.core.pods import DEBUG_CONFIG, checkurl_of, jdwp_port, probe_verdicts
from noah.errors import BadInput

HTTP = {"httpGet": {"path": "/checkurl", "port": 8080}}


def deployment(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {"app": "shop"}}
    if annotations:
        metadata["annotations"] = {f"debug.noah/{k}" if "/" not in k else k: v for k, v in annotations.items()}
    template = {"metadata": metadata, "spec": {"containers": list(containers), **spec}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"}, "spec": {"template": template}}


def java(**more: Any) -> dict[str, Any]:
    return {"name": "app", "image": "registry.test/openjdk:17", **more}


def injected(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """The pod."""
    pod: dict[str, Any] = inject(deployment(*containers, annotations=annotations, **spec)).manifest["spec"]["template"]
    return pod


def app_of(pod: dict[str, Any]) -> dict[str, Any]:
    return next(c for c in pod["spec"]["containers"] if c["name"] == "app")


def options(pod: dict[str, Any]) -> str:
    return str(next(e["value"] for e in app_of(pod)["env"] if e["name"] == "JAVA_TOOL_OPTIONS"))


def notes(manifest: dict[str, Any]) -> str:
    return "\n".join(inject(manifest).notes)


def test_the_agent_is_appended_and_its_port_is_published() -> None:
    pod = injected(java(env=[{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"}]))
    assert options(pod) == "-Xmx1g " + agent_option(50005)
    assert json.loads(pod["metadata"]["annotations"][DEBUG_CONFIG]) == {
        "app": {"runtime": "jvm", "ports": {"jdwp": 50005}}
    }


@pytest.mark.parametrize("name", ["JAVA_TOOL_OPTIONS", "JAVA_OPTS"])
def test_an_agent_that_is_there_is_kept_and_its_port_published(name: str) -> None:
    env = [{"name": name, "value": "-agentlib:jdwp=transport=dt_socket,server=y,address=*:8000"}]
    pod = injected(java(env=env))
    assert app_of(pod)["env"] == env
    assert jdwp_port(pod | {"metadata": {**pod["metadata"], "namespace": "n", "name": "p"}}, "app", 1) == 8000


def test_on_demand_is_onjcmd_and_a_port_can_be_chosen() -> None:
    pod = injected(java(), annotations={"agent": "on-demand", "jdwp-port": "5005"})
    assert options(pod) == agent_option(5005, on_demand=True)
    assert options(pod).endswith("address=127.0.0.1:5005,quiet=y,onjcmd=y")


def test_the_probe_keeps_its_rhythm_and_what_it_asks() -> None:
    old = {**HTTP, "periodSeconds": 2, "failureThreshold": 5, "initialDelaySeconds": 7, "timeoutSeconds": 1}
    pod = injected(java(livenessProbe=old, readinessProbe=HTTP, startupProbe=HTTP))
    new = app_of(pod)["livenessProbe"]
    assert (new["periodSeconds"], new["failureThreshold"], new["initialDelaySeconds"]) == (2, 5, 7)
    assert new["timeoutSeconds"] == 3
    assert checkurl_of(pod, "app") == "http://127.0.0.1:8080/checkurl"
    assert {level for level, _ in probe_verdicts(pod, "app")} == {"ok"}
    assert app_of(pod)["readinessProbe"] == HTTP
    assert app_of(pod)["startupProbe"]["exec"] == new["exec"]


def test_what_an_exec_asks_is_asked_still() -> None:
    pod = injected(
        java(livenessProbe={"exec": {"command": ["curl", "-f", "http://localhost:1/x"]}, "timeoutSeconds": 9})
    )
    probe = app_of(pod)["livenessProbe"]
    assert probe["exec"]["command"][-3:] == ["curl", "-f", "http://localhost:1/x"]
    assert probe["timeoutSeconds"] == 9
    assert {level for level, _ in probe_verdicts(pod, "app")} == {"ok"}


def test_prestart_wraps_the_command_and_leaves_the_arguments() -> None:
    pod = injected(java(command=["java", "$(MAIN)"], args=["-x"]), annotations={"prestart": "/hooks/first.sh"})
    command = app_of(pod)["command"]
    assert command[3:] == [
        "noah-prestart",
        "/hooks/first.sh",
        "600",
        "/noah",
        "/dev/termination-log",
        "java",
        agent_option(50005),
        "$(MAIN)",
    ]
    assert app_of(pod)["args"] == ["-x"]


def test_without_a_command_prestart_is_left_out_and_says_what_to_do() -> None:
    assert "has no command, and what its image's ENTRYPOINT is" in notes(deployment(java()))
    pod = injected(java(), annotations={"command": '["java", "-jar", "/a.jar"]'})
    assert app_of(pod)["command"][-4:] == ["java", agent_option(50005), "-jar", "/a.jar"]


def test_the_sidecar_is_the_app_without_the_agent() -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    pod = injected(
        java(
            livenessProbe=HTTP,
            workingDir="/x",
            volumeMounts=mounts,
            securityContext={"runAsUser": 7},
            env=[{"name": "A", "value": "b"}],
        ),
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    (sidecar,) = pod["spec"]["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert (sidecar["image"], sidecar["workingDir"], sidecar["securityContext"]) == (
        "registry.test/openjdk:17",
        "/x",
        {"runAsUser": 7},
    )
    assert [e["name"] for e in sidecar["env"]] == ["A", "NOAH_POD_IP"]
    assert sidecar["volumeMounts"] == app_of(pod)["volumeMounts"] == [*mounts, {"name": "noah", "mountPath": "/noah"}]
    assert sidecar["command"][5:11] == [
        "http://$$NOAH_POD_IP:8080/checkurl",
        "8080",
        "/app/noah/preonline.sh",
        "300",
        "3",
        "/noah",
    ]


def test_before_native_sidecars_it_is_a_plain_container() -> None:
    pod = injected(java(livenessProbe=HTTP), annotations={"preonline-as": "container"})
    assert "initContainers" not in pod["spec"]
    assert [c["name"] for c in pod["spec"]["containers"]] == ["app", SIDECAR]
    assert "restartPolicy" not in pod["spec"]["containers"][1]


def test_a_job_has_nobody_to_be_online_for() -> None:
    job = {**deployment(java(livenessProbe=HTTP)), "kind": "Job"}
    assert "initContainers" not in inject(job).manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize(("grace", "waits"), [(None, "5"), (9, "3"), (2, None)])
def test_the_app_goes_on_for_a_while_after_healthcheck_is_gone(grace: int | None, waits: str | None) -> None:
    spec: dict[str, Any] = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    lifecycle = app_of(injected(java(livenessProbe=HTTP), **spec)).get("lifecycle")
    assert (lifecycle and lifecycle["preStop"]["exec"]["command"][-1]) == waits


OFF = {"agent": "off", "liveness": "off", "prestart": "off", "preonline": "off", "config": "off"}


def test_everything_can_be_switched_off_by_itself() -> None:
    container = java(livenessProbe=HTTP, command=["java"])
    manifest = deployment(container, annotations=OFF)
    assert inject(manifest).manifest == manifest
    for one, changed in (
        ("agent", "command"),
        ("liveness", "livenessProbe"),
        ("prestart", "command"),
        ("preonline", "volumeMounts"),
    ):
        app = app_of(injected(container, annotations={k: v for k, v in OFF.items() if k != one}))
        assert {k for k in app if app[k] != container.get(k)} - {"lifecycle", "env"} == {changed}


@pytest.mark.parametrize(
    ("container", "is_one"),
    [
        ({"image": "eclipse-temurin:21"}, True),
        ({"image": "docker.io/library/tomcat:10-jdk17@sha256:0"}, True),
        ({"image": "shop:1", "command": ["/usr/bin/java", "-jar"]}, True),
        ({"image": "shop:1", "args": ["sh", "-c", "exec java $OPTS -jar /a.jar"]}, True),
        ({"image": "shop:1", "env": [{"name": "JAVA_OPTS", "value": ""}]}, True),
        ({"image": "shop:1"}, False),
        ({"image": "node-javascript:1"}, False),
        ({"image": "postgres:16", "args": ["-c", "javascript"]}, False),
    ],
)
def test_a_pod_without_a_jvm_is_left_alone(container: dict[str, Any], is_one: bool) -> None:
    manifest = deployment({"name": "app", **container})
    assert (inject(manifest).manifest != manifest) is is_one
    if not is_one:
        assert notes(manifest) == ""


@pytest.mark.parametrize(
    ("annotations", "chosen"),
    [
        ({}, "jvm"),
        ({"container": "plain"}, "plain"),
        ({"kubectl.kubernetes.io/default-container": "second"}, "second"),
        ({"kubectl.kubernetes.io/default-container": "plain"}, None),
    ],
)
def test_of_several_containers_one_is_the_app(annotations: dict[str, str], chosen: str | None) -> None:
    several = [{"name": n, "image": i} for n, i in (("plain", "x:1"), ("jvm", "java:8"), ("second", "java:17"))]
    pod = injected(*several, annotations=annotations)
    assert [c["name"] for c in pod["spec"]["containers"] if "env" in c] == ([chosen] if chosen else [])


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (deployment(), "no containers"),
        (deployment({"name": "app"}), "no containers with a name and an image"),
        (deployment(java(), annotations={"container": "ap"}), "names 'ap', and it has app"),
        (deployment(java(), os={"name": "windows"}), "Windows"),
        (deployment(java(), annotations={"agent": "maybe"}), "agent is 'maybe': it takes always, on-demand, off"),
        (deployment(java(), annotations={"jdwp-port": "0"}), "number from 1 to 65535"),
        (deployment(java(command=["java"]), annotations={"prestart": "x.sh"}), "whole path"),
        (deployment(java(), annotations={"command": "java -jar"}), "JSON list"),
    ],
)
def test_what_cannot_be_done_is_left_with_a_sentence(manifest: dict[str, Any], says: str) -> None:
    assert says in notes(manifest)
    assert inject(manifest).manifest == manifest


def test_an_annotation_that_nobody_knows_is_named() -> None:
    assert "debug.noah/pre-start is unknown" in notes(deployment(java(), annotations={"pre-start": "off"}))


def test_an_account_changed_by_hand_is_an_error() -> None:
    manifest = inject(deployment(java())).manifest
    manifest["spec"]["template"]["metadata"]["annotations"][ORIGINAL] = "{"
    with pytest.raises(BadInput, match="changed by hand"):
        eject(manifest)


def test_what_is_put_in_survives_the_kubelets_expansion() -> None:
    pod = injected(java(livenessProbe=HTTP, command=["java"]))
    scripts = [app_of(pod)["command"][2], pod["spec"]["initContainers"][0]["command"][2]]
    for text in scripts:
        assert not re.search(r"\$\$|\$\(\w+\)", text)


probes = st.none() | st.sampled_from(
    [HTTP, {"tcpSocket": {"port": 1}}, {"exec": {"command": ["x"]}}, {"grpc": {"port": 1}}]
)
envs = st.none() | st.lists(
    st.builds(lambda n, v: {"name": n, "value": v}, st.sampled_from("ABC"), st.text(max_size=5)), max_size=3
)


@settings(deadline=None)
@given(
    liveness=probes,
    env=envs,
    command=st.none() | st.lists(st.text(max_size=5), max_size=3),
    annotations=st.none()
    | st.dictionaries(st.sampled_from(["a", "debug.noah/agent"]), st.sampled_from(["on", "off", "x"])),
    volumes=st.none() | st.just([]),
)
def test_eject_undoes_inject_whatever_there_was(
    liveness: Any, env: Any, command: Any, annotations: Any, volumes: Any
) -> None:
    container = java(livenessProbe=liveness, env=env, command=command)
    manifest = deployment(container, volumes=volumes)
    manifest["spec"]["template"]["metadata"]["annotations"] = annotations
    before = deepcopy(manifest)
    once = inject(manifest)
    assert manifest == before
    assert eject(once.manifest) == before
    assert inject(once.manifest) == once
