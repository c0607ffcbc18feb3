"""What somebody else has changed since stays, whatever is taken back; and no input takes more than its size in time."""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.core.inject.agent import agent_option
from noah.core.inject.hooks import SIDECAR
from noah.core.inject.manifest import ORIGINAL, eject, inject
from noah.core.pods import DEBUG_CONFIG
from noah.errors import BadInput
from tests.unit.core.inject.manifests import HTTP, app, container_of, options_of, pod

OURS = agent_option(50005)


def variable(container: dict[str, Any], name: str = "JAVA_TOOL_OPTIONS") -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in container["env"] if e["name"] == name)
    return found


@pytest.mark.parametrize("before", [None, "", "-Xmx1g"])
@pytest.mark.parametrize("theirs", ["{} -javaagent:/trace.jar", "-javaagent:/trace.jar {}", "-a {} -b", "-Dtraced=yes"])
def test_an_option_that_another_injector_adds_survives_eject_and_a_second_inject(
    before: str | None, theirs: str
) -> None:
    env = [] if before is None else [{"name": "JAVA_TOOL_OPTIONS", "value": before}]
    manifest = json.loads(json.dumps(inject(pod(app(env=env))).manifest))
    mine = variable(container_of(manifest))
    mine["value"] = theirs.format(mine["value"])
    again = inject(manifest).manifest
    for option in theirs.format("").split():
        assert option in options_of(container_of(again)).split()
        assert option in options_of(container_of(eject(again))).split()
        assert option in options_of(container_of(eject(manifest))).split()
    assert options_of(container_of(again)).split().count(OURS) == 1
    assert OURS not in options_of(container_of(eject(again)))
    assert inject(again).manifest == again
    if "{}" in theirs:
        # An option that stands where it stood does not call others again.
        assert container_of(again)["env"] == container_of(manifest)["env"]


def changed(change: Callable[[dict[str, Any]], Any], **container: Any) -> dict[str, Any]:
    """A pod that was injected, then changed by somebody else, then ejected."""
    manifest = json.loads(json.dumps(inject(pod(app(command=["java"], **container))).manifest))
    change(manifest)
    return eject(manifest)


def test_a_command_that_somebody_has_wrapped_keeps_their_wrapper() -> None:
    def wrap(manifest: dict[str, Any]) -> None:
        container_of(manifest)["command"].insert(0, "/vault/run")
        container_of(manifest)["command"].append("-Dmore")

    assert container_of(changed(wrap))["command"] == ["/vault/run", "java", "-Dmore"]


def test_a_probe_that_somebody_has_replaced_is_theirs() -> None:
    theirs = {"httpGet": {"path": "/app-health/app/livez", "port": 15020}, "periodSeconds": 9}

    def rewrite(manifest: dict[str, Any]) -> None:
        container_of(manifest)["livenessProbe"] = theirs

    assert container_of(changed(rewrite, livenessProbe=HTTP))["livenessProbe"] == theirs


def test_a_rhythm_that_somebody_has_changed_stays_and_the_question_comes_back() -> None:
    def slow_down(manifest: dict[str, Any]) -> None:
        container_of(manifest)["livenessProbe"] |= {"timeoutSeconds": 20, "periodSeconds": 60}

    back = container_of(changed(slow_down, livenessProbe=HTTP))["livenessProbe"]
    assert back == HTTP | {"timeoutSeconds": 20, "periodSeconds": 60}


def test_what_somebody_has_put_into_our_sidecar_goes_with_it() -> None:
    def add(manifest: dict[str, Any]) -> None:
        container_of(manifest, SIDECAR)["env"].append({"name": "OTEL", "value": "x"})
        manifest["spec"]["volumes"].append({"name": "otel", "emptyDir": {}})
        container_of(manifest)["volumeMounts"].append({"name": "otel", "mountPath": "/otel"})

    spec = changed(add, livenessProbe=HTTP)["spec"]
    assert "initContainers" not in spec
    assert spec["volumes"] == [{"name": "otel", "emptyDir": {}}]
    assert spec["containers"][0]["volumeMounts"] == [{"name": "otel", "mountPath": "/otel"}]


def test_a_hook_that_somebody_has_replaced_is_theirs() -> None:
    theirs = {"exec": {"command": ["sleep", "20"]}}

    def replace(manifest: dict[str, Any]) -> None:
        container_of(manifest)["lifecycle"]["preStop"] = theirs

    assert container_of(changed(replace, livenessProbe=HTTP))["lifecycle"] == {"preStop": theirs}


def test_what_others_publish_beside_our_port_stays() -> None:
    def publish(manifest: dict[str, Any]) -> None:
        annotations = manifest["metadata"]["annotations"]
        config = json.loads(annotations[DEBUG_CONFIG])
        config["other"] = {"runtime": "go"}
        config["app"]["ports"]["http"] = 8080
        annotations[DEBUG_CONFIG] = json.dumps(config)

    annotations = changed(publish)["metadata"]["annotations"]
    assert json.loads(annotations[DEBUG_CONFIG]) == {"other": {"runtime": "go"}, "app": {"ports": {"http": 8080}}}


def test_an_account_of_an_earlier_version_is_still_taken_back() -> None:
    account = [
        ["?", ["spec", "containers", "app", "env"]],
        ["-", ["spec", "containers", "app", "env", "JAVA_TOOL_OPTIONS"]],
        ["=", ["spec", "containers", "app", "livenessProbe"], HTTP],
        ["?", ["metadata", "annotations"]],
        ["-", ["metadata", "annotations", ORIGINAL]],
    ]
    old = pod(app(env=[{"name": "JAVA_TOOL_OPTIONS", "value": OURS}], livenessProbe={"exec": {"command": ["sh"]}}))
    old["metadata"]["annotations"] = {ORIGINAL: json.dumps(account)}
    assert eject(old) == pod(app(livenessProbe=HTTP))


def test_inject_changes_nothing_of_what_it_was_given() -> None:
    manifest = pod(app(command=["java"], livenessProbe=HTTP, env=[{"name": "JAVA_TOOL_OPTIONS", "value": "-a"}]))
    text = json.dumps(manifest)
    injected = inject(manifest).manifest
    assert json.dumps(manifest) == text
    text = json.dumps(injected)
    eject(injected)
    inject(injected)
    assert json.dumps(injected) == text


# Outsiders' input


def crowded(**container: Any) -> dict[str, Any]:
    return pod(app(command=["java"], livenessProbe=HTTP, **container))


def with_account(account: Any) -> dict[str, Any]:
    manifest = crowded(env=[{"name": f"E{i}", "value": "x"} for i in range(40_000)])
    manifest["metadata"]["annotations"] = {ORIGINAL: json.dumps(account)}
    return manifest


HUGE: dict[str, Callable[[], dict[str, Any]]] = {
    "containers": lambda: pod(*({"name": f"c{i}", "image": "x"} for i in range(50_000)), app()),
    "variables": lambda: crowded(env=[{"name": f"E{i}", "value": "x"} for i in range(40_000)]),
    "agents": lambda: crowded(env=[{"name": f"E{i}", "value": "-agentlib:jdwp=${A:-${B"} for i in range(30_000)]),
    "words": lambda: pod(app(command=["java", *("-Dx" for _ in range(200_000))])),
    "one word": lambda: pod(app(command=["sh", "-c", "standalone.sh java " * 80_000])),
    "ports": lambda: crowded(ports=[{"name": f"p{i}", "containerPort": i} for i in range(30_000)]),
    "annotations": lambda: pod(app(), annotations={f"x{i}": "" for i in range(40_000)}),
    "mounts": lambda: crowded(volumeMounts=[{"name": f"v{i}", "mountPath": f"/{i}"} for i in range(30_000)]),
    "a deep tree": lambda: pod(app(), x=json.loads('{"a":' * 900 + "1" + "}" * 900)),
    "a long account": lambda: with_account(
        [["-", ["spec", "containers", "app", "env", f"E{i}"]] for i in range(20_000)]
    ),
    "an account of digests": lambda: with_account([["=", ["spec"], 1, "x"] for _ in range(100)]),
    "an account of words": lambda: with_account(
        [["w", ["spec", "containers", "app", "command"], 10**9, "x", 0, "java"] for _ in range(100)]
    ),
}


@pytest.mark.parametrize("story", HUGE)
def test_the_time_grows_with_the_size_and_no_faster(story: str) -> None:
    manifest = HUGE[story]()
    began = time.process_time()
    size = len(json.dumps(json.loads(json.dumps(manifest))))
    reading = time.process_time() - began
    began = time.process_time()
    for change in (inject, eject):
        try:
            change(manifest)
        except BadInput:
            continue
    # Reading JSON is linear and fast; what was quadratic took a thousand times as long.
    assert time.process_time() - began < 0.5 + 20 * reading, size


@pytest.mark.parametrize(
    "account", ["[" * 100_000, "{", "[1]", '[["?"]]', '[["-",[]]]', '[["=",[["a"]],1]]', "x" * 300_000]
)
def test_what_is_not_an_account_is_refused(account: str) -> None:
    manifest = crowded()
    manifest["metadata"]["annotations"] = {ORIGINAL: account}
    with pytest.raises(BadInput, match="changed by hand"):
        eject(manifest)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)
steps = st.lists(
    st.sampled_from(["spec", "containers", "app", "env", "command", "livenessProbe", "metadata"]), max_size=5
)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda kind, path, rest: [kind, path, *rest],
            st.sampled_from("-=?+wsj"),
            steps,
            st.lists(json_values, max_size=4),
        ),
        max_size=6,
    )
)
def test_any_account_at_all_is_taken_back_or_refused(account: list[Any]) -> None:
    manifest = crowded(env=[{"name": "A", "value": "b"}])
    manifest["metadata"]["annotations"] = {ORIGINAL: json.dumps(account)}
    with contextlib.suppress(BadInput):
        assert eject(manifest)["kind"] == "Pod"
