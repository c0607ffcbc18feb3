"""One agent for one JVM: brought where nothing of the app's own options is lost, kept where there is one already."""

import subprocess
from typing import Any

import pytest

from noah.core.agent import own_agent
from noah.core.inject.agent import WITHOUT_AGENT, agent_option, jdk_version
from noah.core.inject.manifest import eject, inject
from noah.core.pods import DEBUG_CONFIG
from tests.unit.core.inject.manifests import HTTP, agents_in, app, container_of, notes_of, options_of, pod

AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address="
OURS = agent_option(50005)


@pytest.mark.parametrize(
    ("container", "port"),
    [
        # variables
        ({"env": [{"name": "CATALINA_OPTS", "value": f"-Xmx64m {AGENT}*:5005"}]}, 5005),
        ({"env": [{"name": "JDK_JAVA_OPTIONS", "value": f"{AGENT}5006"}]}, 5006),
        ({"env": [{"name": "ES_JAVA_OPTS", "value": f'"{AGENT}[::1]:5007"'}]}, 5007),
        (
            {"env": [{"name": "KAFKA_OPTS", "value": "-Xdebug -Xrunjdwp:transport=dt_socket,server=y,address=8000"}]},
            8000,
        ),
        ({"env": [{"name": "JAVA_OPTS_APPEND", "value": f"{AGENT}localhost:5008,quiet=y"}]}, 5008),
        # quotes, variables and defaults
        ({"command": ["sh", "-c", f"exec java '{AGENT}*:5005' -cp /app App"]}, 5005),
        ({"command": ["sh", "-c", f'java "{AGENT}*:5005"; true']}, 5005),
        ({"command": ["sh", "-c", f"(java {AGENT}5005)"]}, 5005),
        ({"args": ["sh", "-c", f"java {AGENT}*:${{DEBUG_PORT:-5009}} App"]}, 5009),
        ({"command": ["java", f"{AGENT}$(P)"], "env": [{"name": "P", "value": "5010"}]}, 5010),
        ({"command": ["sh", "-c", f"java {AGENT}*:$P"], "env": [{"name": "P", "value": "5011"}]}, 5011),
        ({"command": ["java", "-agentpath:/usr/lib/libjdwp.so=transport=dt_socket,server=y,address=5012"]}, 5012),
        # start scripts
        ({"command": ["catalina.sh", "jpda", "run"]}, 8000),
        ({"command": ["bin/catalina.sh", "jpda", "run"], "env": [{"name": "JPDA_ADDRESS", "value": "*:8001"}]}, 8001),
        ({"image": "quay.io/keycloak/keycloak:25.0", "env": [{"name": "DEBUG", "value": "true"}]}, 8787),
        ({"command": ["/opt/jboss/wildfly/bin/standalone.sh", "--debug", "*:8788"]}, 8788),
        ({"env": [{"name": "BPL_DEBUG_ENABLED", "value": "true"}]}, 8000),
        ({"env": [{"name": "JAVA_DEBUG", "value": "true"}, {"name": "JAVA_DEBUG_PORT", "value": "5013"}]}, 5013),
        ({"command": ["/opt/ol/wlp/bin/server", "debug", "defaultServer"]}, 7777),
        ({"command": ["mvnDebug", "jetty:run"]}, 8000),
    ],
)
def test_an_agent_that_is_there_is_kept_and_its_port_published(container: dict[str, Any], port: int) -> None:
    manifest = pod(app(**container))
    injected = inject(manifest).manifest
    assert agents_in(container_of(injected)) == agents_in(manifest["spec"]["containers"][0])
    assert f'"jdwp":{port}' in injected["metadata"]["annotations"][DEBUG_CONFIG]


@pytest.mark.parametrize(
    "container",
    [
        {"env": [{"name": "DEBUG", "value": "true"}]},  # Spring Boot's logs
        {"command": ["java", "-jar", "server.jar", "debug"]},
        {"env": [{"name": "JAVA_DEBUG", "value": "false"}]},
        {"command": ["sh", "-c", "catalina.sh run # not jpda"]},
    ],
)
def test_what_only_looks_like_an_agent_does_not_hinder_ours(container: dict[str, Any]) -> None:
    assert agents_in(container_of(inject(pod(app(**container))).manifest)) == 1


@pytest.mark.parametrize("address", ["*:${DEBUG_PORT}", "$(PORT_OF_A_SECRET)", "0", "host", "99999"])
def test_a_port_that_cannot_be_read_is_asked_for(address: str) -> None:
    manifest = pod(app(command=["sh", "-c", f"java {AGENT}{address} App"]))
    assert "cannot be read: say it with debug.noah/jdwp-port" in notes_of(manifest)
    assert DEBUG_CONFIG not in inject(manifest).manifest["metadata"].get("annotations", {})
    said = pod(app(command=["sh", "-c", f"java {AGENT}{address} App"]), annotations={"jdwp-port": "5005"})
    assert '"jdwp":5005' in inject(said).manifest["metadata"]["annotations"][DEBUG_CONFIG]


@pytest.mark.parametrize(
    "container",
    [
        {"env": [{"name": "MY_DEBUG", "value": AGENT + "5005"}]},
        {"command": ["sh", "-c", f'if [ "$DEBUG" ]; then O={AGENT}5005; fi; exec java $O App']},
        {"command": ["sh", "-c", f"java ${{DEBUG:+{AGENT}5005}} App"]},
    ],
)
def test_an_agent_that_may_not_be_there_is_kept_with_a_note(container: dict[str, Any]) -> None:
    manifest = pod(app(**container))
    assert "whether it is always there cannot be seen" in notes_of(manifest)
    assert agents_in(container_of(inject(manifest).manifest)) == 1


# Nothing of the app's own options is lost


def test_into_a_variable_that_is_there_it_is_appended() -> None:
    env = [{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"}]
    assert options_of(container_of(inject(pod(app(env=env, command=["java"]))).manifest)) == f"-Xmx1g {OURS}"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"envFrom": [{"configMapRef": {"name": "shop-env"}}]},
        {"envFrom": [{"prefix": "JAVA_", "secretRef": {"name": "s"}}]},
        {"env": [{"name": "JAVA_TOOL_OPTIONS", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
    ],
)
def test_where_the_command_is_known_the_variable_is_left_alone(more: dict[str, Any]) -> None:
    off = {"prestart": "off"}
    command = ["/opt/java/bin/java", "-cp", "/app", "App"]
    java = container_of(inject(pod(app(command=command, **more), annotations=off)).manifest)
    assert (java.get("env"), java.get("envFrom")) == (more.get("env"), more.get("envFrom"))
    assert java["command"][:2] == ["/opt/java/bin/java", OURS]
    script = container_of(inject(pod(app(command=["/start.sh"], args=["-x"], **more), annotations=off)).manifest)
    assert (script.get("env"), script["command"][3:]) == (more.get("env"), ["noah-agent", OURS, "/start.sh"])


@pytest.mark.parametrize(
    ("set_by_image", "expected"), [("-Xmx96m -Dsite=blue", f"-Xmx96m -Dsite=blue {OURS}"), ("", OURS)]
)
def test_a_start_script_finds_what_the_image_or_a_config_map_has_and_the_agent(
    set_by_image: str, expected: str
) -> None:
    command = container_of(
        inject(pod(app(command=["sh", "-c", 'echo "$JAVA_TOOL_OPTIONS"; echo "$@"', "x", "a b"]))).manifest
    )
    env = {"PATH": "/usr/bin:/bin", "JAVA_TOOL_OPTIONS": set_by_image}
    done = subprocess.run(command["command"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [expected, "a b"]


def test_without_a_command_a_variable_that_envfrom_may_have_is_not_replaced() -> None:
    manifest = pod(app(envFrom=[{"configMapRef": {"name": "shop-env"}}]))
    java = container_of(inject(manifest).manifest)
    assert [e["name"] for e in java["env"]] == ["JDK_JAVA_OPTIONS"]
    assert "agent-by: variable" in notes_of(manifest)
    by_variable = pod(app(envFrom=[{"configMapRef": {"name": "shop-env"}}]), annotations={"agent-by": "variable"})
    assert options_of(container_of(inject(by_variable).manifest)) == OURS


def test_without_a_command_a_note_says_that_the_images_value_is_not_read() -> None:
    assert "sets JAVA_TOOL_OPTIONS itself" in notes_of(pod(app()))
    said = pod(app(), annotations={"command": '["java", "-jar", "/a.jar"]'})
    assert container_of(inject(said).manifest)["command"][-4:] == ["java", OURS, "-jar", "/a.jar"]
    assert "itself" not in notes_of(said)


# Tools that are JVMs


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (OURS, None),
        (f"-Xmx1g {OURS}", "-Xmx1g "),
        (f"{OURS} -Da=b", "-Da=b"),
        (f"-Xmx1g {OURS} -Da=b", "-Xmx1g -Da=b"),
        ("-Xmx1g", "-Xmx1g"),
    ],
)
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_a_tool_has_all_options_but_the_agent(options: str, left: str | None, shell: str) -> None:
    script = WITHOUT_AGENT + "env"
    argv = ["busybox", "sh"] if shell == "busybox" else [shell]
    env = {"PATH": "/usr/bin:/bin", "JAVA_TOOL_OPTIONS": options, "JDK_JAVA_OPTIONS": options}
    done = subprocess.run([*argv, "-c", script], env=env, capture_output=True, text=True, check=True)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert found.get("JAVA_TOOL_OPTIONS") == found.get("JDK_JAVA_OPTIONS") == left


def test_probes_and_hooks_that_may_be_jvms_run_without_the_agent() -> None:
    tool = {"exec": {"command": ["nodetool", "status"]}}
    manifest = pod(
        app(
            env=[{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"}],
            livenessProbe=tool,
            startupProbe=tool,
            readinessProbe=tool,
            lifecycle={"preStop": tool, "postStart": {"exec": {"command": ["touch", "/tmp/x"]}}},
        )
    )
    java = container_of(inject(manifest).manifest)
    for place in (java["livenessProbe"], java["startupProbe"], java["readinessProbe"], java["lifecycle"]["preStop"]):
        command = place["exec"]["command"]
        assert WITHOUT_AGENT in command[2]
        assert command[-2:] == ["nodetool", "status"]
    assert java["lifecycle"]["postStart"]["exec"]["command"] == ["touch", "/tmp/x"]
    assert eject(inject(manifest).manifest) == manifest


def test_where_the_agent_is_in_the_command_other_probes_stay_as_they_are() -> None:
    tool = {"exec": {"command": ["nodetool", "status"]}}
    java = container_of(inject(pod(app(command=["java"], readinessProbe=tool, livenessProbe=HTTP))).manifest)
    assert java["readinessProbe"] == tool


# On demand


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("example.test/shop-jdk25:1", 25),
        ("eclipse-temurin:21-jre", 21),
        ("openjdk:8-jdk-alpine", 8),
        ("tomcat:10-jdk17", 17),
        ("maven:3.9-eclipse-temurin-21", 21),
        ("azul/zulu-openjdk:25.0.1", 25),
        ("amazoncorretto:11.0.20", 11),
        ("registry.test:5000/a/java17:3", 17),
        ("shop:25", None),
        ("registry.test/jetty:12", None),
    ],
)
def test_the_version_of_the_jdk_is_read_from_the_images_name(image: str, version: int | None) -> None:
    assert jdk_version({"image": image}) == version


@pytest.mark.parametrize(
    "image", ["example.test/shop-jdk25:1", "eclipse-temurin:26-jre", "openjdk:8", "noah.test/java8:1"]
)
def test_on_demand_is_refused_where_it_would_end_the_jvm(image: str) -> None:
    manifest = pod(app(image=image, command=["java"]), annotations={"agent": "on-demand", "prestart": "off"})
    assert "would end at its start" in notes_of(manifest)
    assert agents_in(container_of(inject(manifest).manifest)) == 0


def test_on_demand_is_warned_of_where_the_version_is_not_known() -> None:
    manifest = pod(app(image="shop:1", command=["java"]), annotations={"agent": "on-demand", "prestart": "off"})
    assert "from JDK 25 on" in notes_of(manifest)
    assert container_of(inject(manifest).manifest)["command"][1] == agent_option(50005, on_demand=True)
    known = pod(app(image="shop:1", command=["java"], env=[{"name": "JAVA_VERSION", "value": "17.0.1"}]))
    known["metadata"]["annotations"] = {"debug.noah/agent": "on-demand"}
    assert "from JDK 25 on" not in notes_of(known)


# Ports


def test_a_host_network_is_warned_of_unless_the_port_is_chosen() -> None:
    assert "With hostNetwork the agent's port is the node's" in notes_of(pod(app(command=["java"]), hostNetwork=True))
    chosen = pod(app(command=["java"]), hostNetwork=True, annotations={"jdwp-port": "50100"})
    assert "hostNetwork" not in notes_of(chosen)


@pytest.mark.parametrize(
    "other",
    [
        {"ports": [{"containerPort": 50005}]},
        {"env": [{"name": "JAVA_TOOL_OPTIONS", "value": AGENT + "50005"}]},
        {"command": ["java", AGENT + "*:50005"]},
    ],
)
def test_a_port_that_another_container_has_is_not_taken(other: dict[str, Any]) -> None:
    manifest = pod(
        app(command=["java"]),
        {"name": "other", "image": "other:1", **other},
        annotations={"container": "app", "prestart": "off"},
    )
    assert container_of(inject(manifest).manifest)["command"][1] == agent_option(50006)
    manifest["metadata"]["annotations"]["debug.noah/jdwp-port"] = "50005"
    assert "which something else in the pod has" in notes_of(manifest)


# A JVM that waits


@pytest.mark.parametrize(
    "container",
    [
        {"env": [{"name": "JAVA_TOOL_OPTIONS", "value": AGENT.replace("suspend=n", "suspend=y") + "5005"}]},
        {"command": ["java", "-agentlib:jdwp=transport=dt_socket,server=y,address=5005"]},  # y is the default
        {"command": ["catalina.sh", "jpda", "run"], "env": [{"name": "JPDA_SUSPEND", "value": "y"}]},
    ],
)
def test_a_jvm_that_waits_for_its_first_debugger_is_warned_of(container: dict[str, Any]) -> None:
    assert "has suspend=y: the JVM waits for its first debugger" in notes_of(pod(app(livenessProbe=HTTP, **container)))
    found = own_agent(app(**container))
    assert found is not None
    assert found.suspends
