"""Manifests as other people's charts and tools write them: what kubectl takes inject takes, and eject gives it back."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noah.cli.manifests import manifests
from noah.cli.manifests.reading import compose, meaning
from noah.cli.manifests.stream import documents
from noah.core.inject.templates import at, pod_paths
from noah.errors import BadInput


def pod(container: str, *, spec: str = "", top: str = "") -> str:
    """A pod with the lines of a container, indented by four, and with lines of its spec, by two."""
    return (
        f"{top}apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n{spec}  containers:\n"
        f"  - name: app\n    image: noah.test/java17:1\n    command: [java, -cp, /app, App]\n{container}"
    )


def objects(text: str) -> Iterator[Any]:
    for document in documents(text):
        root = compose(document.text) if document.number else None
        if root is not None:
            yield meaning(root, document.text)


def containers(text: str) -> dict[str, Any]:
    pods = [at(one, path) for one in objects(text) for path in pod_paths(one)]
    return {container["name"]: container for one in pods for container in one["spec"]["containers"]}


def injected(text: str) -> str:
    """The text with the agent in it, of which eject gives back the one before, byte for byte."""
    changed = manifests.inject(text)
    assert changed.refused == ()
    assert "-agentlib:jdwp" in changed.text
    assert manifests.eject(changed.text).text == text
    assert manifests.inject(changed.text) == changed
    return changed.text


SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: shop
  labels:
    app: shop
    app: shop
spec: {selector: {app: shop}, ports: [{port: 80}]}
"""
PROBE = "httpGet: {path: /checkurl, port: 8080}"


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        (SERVICE + "---\n" + pod(""), 0),
        (pod("    image: noah.test/java17:1\n"), 1),
        (pod("    env:\n    - {name: A, value: b, value: c}\n"), 1),
        (pod("    env: []\n    env:\n    - {name: JAVA_TOOL_OPTIONS, value: -Xmx64m}\n"), 1),
        (pod("    livenessProbe: {tcpSocket: {port: 1}}\n    livenessProbe:\n      " + PROBE + "\n"), 1),
        (pod("", top="kind: ConfigMap\nmetadata: {name: b}\n"), 2),
        ('{"kind": "x", "apiVersion": "v1", "kind": "Pod", "metadata": {}, "metadata": {"name": "a"}, "spec": '
         '{"containers": [{"name": "app", "image": "noah.test/java17:1", "command": ["java", "App"]}]}}', 2),
    ],
)  # fmt: skip
def test_of_a_key_that_is_there_twice_the_last_one_counts(text: str, notes: int) -> None:
    injected(text)
    found = manifests.inject(text).notes
    assert len([note for note in found if "is there twice" in note]) == notes


@pytest.mark.parametrize(
    ("written", "value"),
    [("yes", True), ("no", False), ("On", True), ("OFF", False), ("y", True), ("N", False), ("!!bool yes", True)],
)
def test_truth_values_of_yaml_1_1_stay_truth_values_in_the_sidecar(written: str, value: bool) -> None:
    context = f"    securityContext: {{readOnlyRootFilesystem: {written}}}\n    livenessProbe: {{{PROBE}}}\n"
    text = injected(pod(context))
    sidecars = [
        container
        for one in objects(text)
        for container in one["spec"].get("initContainers", [])
        if container["name"].startswith("noah")
    ]
    found = [container["securityContext"]["readOnlyRootFilesystem"] for container in sidecars]
    assert found
    assert set(found) == {value}


@pytest.mark.parametrize(
    ("written", "value"),
    [("0o17", 15), ("017", 15), ("0x10", 16), ("1_000", 1000), ("1e3", 1000), ("1:30", "1:30"), ("'017'", "017")],
)
def test_numbers_of_yaml_1_1_keep_their_meaning(written: str, value: object) -> None:
    text = injected(pod(f"    securityContext: {{runAsUser: {written}}}\n    livenessProbe: {{{PROBE}}}\n"))
    (one,) = objects(text)
    users = [
        c["securityContext"]["runAsUser"] for c in (*one["spec"].get("initContainers", ()), *one["spec"]["containers"])
    ]
    assert set(users) == {value}


@pytest.mark.parametrize(
    "container",
    [
        f"    livenessProbe: &probe\n      {PROBE}\n    readinessProbe: *probe\n",
        f"    readinessProbe: &probe\n      {PROBE}\n    livenessProbe: *probe\n",
        f"    livenessProbe: &probe {{{PROBE}}}   # asked often\n    readinessProbe: *probe # as well\n",
        "    livenessProbe: {httpGet: &get {path: /checkurl, port: 8080}}\n    readinessProbe: {httpGet: *get}\n",
        f"    livenessProbe: &probe\n      {PROBE}\n    readinessProbe:\n      <<: *probe\n      periodSeconds: 3\n",
        f"    livenessProbe: &probe\n      {PROBE}\n    readinessProbe:\n      <<: [*probe, {{periodSeconds: 3}}]\n",
        f"    startupProbe: &probe\n      {PROBE}\n    readinessProbe: *probe\n    livenessProbe: *probe\n",
    ],
)
def test_a_probe_that_two_share_is_changed_for_one_of_them(container: str) -> None:
    text = pod(container)
    app = containers(injected(text))["app"]
    assert app["readinessProbe"] == containers(text)["app"]["readinessProbe"]
    assert "noah-liveness" in str(app["livenessProbe"])


OTHER = "  - name: other\n    image: busybox\n"


@pytest.mark.parametrize(
    "text",
    [
        pod("    env: &env\n    - {name: JAVA_TOOL_OPTIONS, value: -Xmx64m}\n" + OTHER + "    env: *env\n"),
        pod("    env: &env [{name: A, value: b}]\n" + OTHER + "    env: *env\n"),
        pod("    env:\n    - &first {name: JAVA_TOOL_OPTIONS, value: -Xmx64m}\n" + OTHER + "    env: [*first]\n"),
        pod("    env:\n    - {name: JAVA_TOOL_OPTIONS, value: &v -Xmx64m}\n" + OTHER + "    args: [*v]\n"),
        pod("    <<: {tty: yes, env: [{name: JAVA_TOOL_OPTIONS, value: -Xmx64m}]}\n" + OTHER),
        pod("    volumeMounts: &mounts\n    - {name: x, mountPath: /x}\n" + OTHER + "    volumeMounts: *mounts\n"),
        pod(OTHER + "    command: &c [java, -jar, /a.jar]\n  - {name: third, image: busybox, args: *c}\n"),
        pod("    securityContext: &s {runAsNonRoot: yes}\n", spec="  securityContext: {runAsUser: &user 1000}\n"),
    ],
)
def test_what_others_share_by_an_alias_keeps_its_meaning(text: str) -> None:
    before, after = containers(text), containers(injected(text))
    for name in before.keys() - {"app"}:
        assert after[name] == before[name]


def test_an_alias_outside_of_the_pod_is_written_out_and_comes_back() -> None:
    template = "    metadata:\n      annotations: &shared {team: a}\n    spec:\n      containers:\n"
    app = "      - {name: app, image: 'noah.test/java17:1', command: [java, App]}\n"
    text = (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  template:\n{template}{app}"
        "  example: *shared\n"
    )
    (changed,) = objects(injected(text))
    assert changed["spec"]["example"] == {"team": "a"}


@pytest.mark.parametrize(
    "text",
    [
        pod("    workingDir:\t/x\t# here\n"),
        pod("    args: [\n\t-a,\n\t-b ]\n"),
        pod("    args: [\"a\tb\", 'it''s', \"a\n      b\"]\n"),
        pod("    args:\n    - |+\n      a\n\n    - >-\n      b\n      c\n    - |2\n        d\n"),
        pod("    ? args\n    : [a]\n"),
        pod("    args: [a:, http://b:, --c=d:]\n"),
        pod("    workingDir: !!str 5\n    tty: !!bool 'yes'\n"),
        pod("").replace("\n", "\r\n"),
        "\ufeff" + pod(""),
        "---\n# nothing\n---\n" + pod("") + "...\n",
        '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "annotations": {"x": "\\ud83d\\ude00\\/"}},\n'
        '\t"spec": {"containers": [{"name": "app", "image": "noah.test/java17:1", "command": ["java", "App"]}]}}\n' * 2,
    ],
)
def test_any_style_is_taken_and_given_back(text: str) -> None:
    injected(text)


@pytest.mark.parametrize(
    "other",
    [
        "apiVersion: v1\nkind: ConfigMap\ndata: {a: 'b\n",
        "apiVersion: v1\nkind: ConfigMap\ndata: {x: {{ $value }}}\n",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n\tx: y\n",
        "apiVersion: x/v1\nkind: Y\nspec: {<<: *nowhere, a: b: c}\n",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec:\n  containers:\n  - {a: [}\n",
    ],
)
def test_a_document_without_a_pod_is_passed_on_without_being_understood(other: str) -> None:
    text = f"{other}---\n{pod('')}---\n{other}"
    changed = injected(text)
    assert changed.startswith(other)
    assert changed.endswith(other)


def crds(megabytes: int) -> str:
    """CRDs of an operator that describes pods: field by field, `containers` among them."""
    field = """\
          containers:
            description: |-
              The containers, with - [lists] and *stars*.
            items:
              properties:
                image: {type: string}
            type: array
"""
    head = """\
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: a}
spec:
  schema:
"""
    return (head + field * 700) * (megabytes * 8)


def test_two_megabytes_of_crds_take_less_than_a_second() -> None:
    text = crds(2) + "---\n" + pod("")
    assert len(text) > 2_000_000
    began = time.process_time()
    changed = manifests.inject(text)
    assert time.process_time() - began < 1
    assert changed.text.startswith(crds(2))
    assert manifests.eject(changed.text).text == text


TEXTS = [file.read_bytes().decode() for file in sorted((Path(__file__).parents[2] / "manifests").iterdir())]
PARTS = st.sampled_from(
    [
        *("\n", "\t", " ", "  ", "- ", "? ", ": ", ", ", "[", "]", "{", "}", "'", '"', "|\n", ">-\n", "# x\n", "---\n"),
        *("...\n", "&a ", "*a", "<<: *a", "yes", "017", "~", "!!str ", "!x ", "\r\n", "%", "@", "é", "\x85", "env: "),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TEXTS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), PARTS), max_size=4))
def test_any_text_comes_back_byte_for_byte(text: str, changes: list[tuple[float, int, str]]) -> None:
    for where, dropped, part in changes:
        at_ = int(where * len(text))
        text = text[:at_] + part + text[at_ + dropped :]
    try:
        changed = manifests.inject(text)
    except BadInput:
        return
    assert manifests.eject(changed.text).text == text
