"""The sidecar noah-tools, for an app whose image has no shell."""

from typing import Any

import pytest

from noah.core.inject.agent import agent_option
from noah.core.inject.manifest import eject, inject
from noah.core.inject.tools import PORT
from noah.core.pods import SUSPENDS, TOOLS, checkurl_of, is_probed_beside, probe_verdicts
from tests.unit.core.inject.manifests import HTTP, app, container_of, notes_of, options_of, pod

IMAGE = "registry.example.com/noah-tools:1"
BESIDE = {"probe-by": "sidecar", "tools-image": IMAGE}


def asks(manifest: dict[str, Any], kind: str = "LIVENESS") -> list[str]:
    variables = {each["name"]: str(each.get("value")) for each in container_of(manifest, TOOLS)["env"]}
    return variables[f"NOAH_{kind}_ASKS"].split("\n")


def test_both_probes_are_answered_by_the_sidecar_and_come_back() -> None:
    startup = {"httpGet": {"path": "/started", "port": 8080}, "periodSeconds": 1}
    before = pod(app(livenessProbe=HTTP, startupProbe=startup), annotations=BESIDE)
    made = inject(before).manifest
    container = container_of(made)
    assert container["livenessProbe"] == {"httpGet": {"path": "/noah/liveness", "port": PORT}, "timeoutSeconds": 3}
    assert container["startupProbe"] == {
        "httpGet": {"path": "/noah/startup", "port": PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 3,
        "failureThreshold": 5,
    }
    words = ["2", "jvm:50005", "200-399", "User-Agent: kube-probe/noah"]
    assert asks(made) == ["http://$$NOAH_POD_IP:8080/checkurl", *words]
    assert asks(made, "STARTUP") == ["http://$$NOAH_POD_IP:8080/started", *words]
    sidecar = container_of(made, TOOLS)
    assert (sidecar["image"], sidecar["restartPolicy"]) == (IMAGE, "Always")
    assert options_of(container) == agent_option(50005)
    assert inject(made).manifest == made
    assert eject(made) == before
    assert is_probed_beside(made, "app")
    assert checkurl_of(made, "app") == "http://127.0.0.1:8080/checkurl"
    assert [level for level, _ in probe_verdicts(made, "app")] == ["ok", "ok"]


@pytest.mark.parametrize(
    "image",
    ["gcr.io/distroless/java17-debian12", "cgr.dev/chainguard/jre:latest", "example.com/shop-java:1-tiny"],
)
def test_an_images_name_tells_that_it_has_no_shell(image: str) -> None:
    shop = {"name": "app", "image": image, "command": ["java", "-jar", "/a.jar"], "livenessProbe": HTTP}
    made = inject(pod(shop), tools_image=IMAGE).manifest
    assert container_of(made)["command"] == ["java", agent_option(50005), "-jar", "/a.jar"]
    assert container_of(made, TOOLS)["image"] == IMAGE
    assert "noah-preonline" not in str(made)
    # Who names the container knows its image.
    named = inject(pod(shop, annotations={"container": "app"}), tools_image=IMAGE).manifest
    assert TOOLS not in str(named)


def test_without_an_image_for_it_the_probes_stay_and_a_note_says_so() -> None:
    before = pod(app(livenessProbe=HTTP), annotations={"probe-by": "sidecar"})
    assert "name one with debug.noah/tools-image" in notes_of(before)
    assert container_of(inject(before).manifest)["livenessProbe"] == HTTP


def test_what_nothing_outside_of_the_image_can_ask_stays_with_a_note() -> None:
    for probe in ({"exec": {"command": ["/app/health"]}}, {"grpc": {"port": 9090}}):
        before = pod(app(livenessProbe=probe), annotations=BESIDE)
        assert "kills it at a breakpoint: nothing outside of its image can ask" in notes_of(before)
        assert container_of(inject(before).manifest)["livenessProbe"] == probe
        given = pod(app(livenessProbe=probe), annotations={**BESIDE, "checkurl": "http://127.0.0.1:8080/up"})
        assert asks(inject(given).manifest)[0] == "http://127.0.0.1:8080/up"


def test_a_socket_is_asked_for_by_its_port() -> None:
    made = inject(pod(app(livenessProbe={"tcpSocket": {"port": 9090}}), annotations=BESIDE)).manifest
    assert asks(made) == ["tcp:9090", "2", "jvm:50005"]


def test_its_port_is_nobody_elses() -> None:
    ports = [{"containerPort": PORT}, {"containerPort": PORT + 1}]
    made = inject(pod(app(livenessProbe=HTTP, ports=ports), annotations=BESIDE)).manifest
    assert container_of(made)["livenessProbe"]["httpGet"]["port"] == PORT + 2


def test_it_runs_as_the_apps_user_and_with_no_rights() -> None:
    context = {"runAsUser": 1000, "runAsNonRoot": True, "privileged": True, "capabilities": {"add": ["SYS_PTRACE"]}}
    made = inject(pod(app(livenessProbe=HTTP, securityContext=context), annotations=BESIDE)).manifest
    assert container_of(made, TOOLS)["securityContext"] == {
        "runAsUser": 1000,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_before_native_sidecars_it_is_a_plain_container() -> None:
    made = inject(pod(app(livenessProbe=HTTP), annotations={**BESIDE, "tools-as": "container"})).manifest
    assert [container["name"] for container in made["spec"]["containers"]] == ["app", TOOLS]
    assert "restartPolicy" not in container_of(made, TOOLS)


@pytest.mark.parametrize("annotations", [{}, BESIDE])
def test_the_probe_knows_of_a_jvm_that_waits_for_its_first_debugger(annotations: dict[str, str]) -> None:
    options = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=y,address=5005"
    waits = app(env=[{"name": "JAVA_TOOL_OPTIONS", "value": options}], livenessProbe=HTTP)
    before = pod(waits, annotations=annotations)
    made = inject(before).manifest
    assert {"name": SUSPENDS, "value": "5005"} in container_of(made, TOOLS if annotations else "app")["env"]
    level, said = probe_verdicts(made, "app")[-1]
    assert (level, "the probe spares it until one comes" in said) == ("ok", True)
    assert probe_verdicts(before, "app")[-1][0] == "warning"
    assert eject(made) == before
