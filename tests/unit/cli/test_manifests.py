"""Manifests as people write them: what comes out of inject, and that eject gives back each byte."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from noah.cli.manifests import manifests
from noah.core.inject.templates import at, pod_paths
from noah.errors import BadInput

FILES = sorted((Path(__file__).parents[2] / "manifests").iterdir())
LEFT = {"14-value-from", "21-no-jvm", "22-all-off", "23-windows"}  # as they are
DEPLOYMENT = (FILES[0].parent / "01-least.yaml").read_text()


def read(file: Path) -> str:
    return file.read_bytes().decode()


def pods(text: str) -> list[Any]:
    documents = [document for document in YAML(typ="safe", pure=True).load_all(text) if document]
    return [at(document, path) for document in documents for path in pod_paths(document)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_eject_gives_back_each_byte(file: Path) -> None:
    text = read(file)
    injected = manifests.inject(text).text
    assert (injected == text) == (file.stem in LEFT)
    assert manifests.eject(injected).text == text


@pytest.mark.parametrize("file", [file for file in FILES if file.stem not in LEFT], ids=lambda file: file.stem)
def test_eject_takes_it_out_of_what_kubectl_prints(file: Path) -> None:
    """It sorts the keys, so that `env` may be the first of a container, behind its dash."""
    text = read(file).removeprefix("\ufeff")
    printed = yaml.safe_dump_all(yaml.safe_load_all(manifests.inject(text).text))
    assert list(yaml.safe_load_all(manifests.eject(printed).text)) == list(yaml.safe_load_all(text))


def test_a_comment_below_what_eject_takes_out_behind_a_dash_stays() -> None:
    printed = yaml.safe_dump(yaml.safe_load(manifests.inject(DEPLOYMENT).text))
    commented = re.sub(r"\n( +)image:", r"\n\1# the image\n\1image:", printed, count=1)
    ejected = manifests.eject(commented).text
    assert "# the image\n" in ejected
    assert yaml.safe_load(ejected) == yaml.safe_load(DEPLOYMENT)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_injecting_twice_is_injecting_once(file: Path) -> None:
    injected = manifests.inject(read(file))
    assert manifests.inject(injected.text) == injected


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_is_ejected_where_nothing_was_injected(file: Path) -> None:
    assert manifests.eject(read(file)).text == read(file)


def test_comments_and_order_stay_but_within_what_is_replaced() -> None:
    text = read(FILES[1])
    lines = manifests.inject(text).text.splitlines()
    kept = [line for line in text.splitlines() if line in lines]
    gone = [line.strip() for line in text.splitlines() if line not in lines]
    assert gone == [
        'command: ["java", "-cp", "/app", "App"]   # exec form',
        "value: -Xmx64m   # small",
        "# every two seconds",
        "httpGet:",
        "path: /checkurl",
        "port: http",
    ]
    assert [line for line in lines if line in kept and line.strip()] == [line for line in kept if line.strip()]


def test_what_somebody_has_changed_since_is_kept_by_eject() -> None:
    injected = manifests.inject(DEPLOYMENT).text
    changed = injected.replace("java17:1", "java17:2").replace("      app: least\n", "      app: most\n")
    expected = DEPLOYMENT.replace("java17:1", "java17:2").replace("      app: least\n", "      app: most\n")
    assert manifests.eject(changed).text == expected


def test_an_environment_that_others_have_added_to_stays() -> None:
    injected = manifests.inject(DEPLOYMENT).text
    added = injected.replace(
        "          - name: JAVA_TOOL_OPTIONS",
        "          - name: A\n            value: b\n          - name: JAVA_TOOL_OPTIONS",
    )
    (pod,) = pods(manifests.eject(added).text)
    assert pod["spec"]["containers"][0]["env"] == [{"name": "A", "value": "b"}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "The input is empty"),
        ("# only a comment\n---\n", "The input is empty"),
        ("a: b: c", "Document 1 (line 1) is not a Kubernetes object"),
        ("\n# a\n\n- a\n- b\n", "Document 1 (line 4) is not a Kubernetes object"),
        (DEPLOYMENT.replace("image: ", "image: {{ .Values.image }}"), "Helm template"),
        (DEPLOYMENT.replace("name: least", "name: {{ include 'x' . }}"), "Helm template"),
        ("{{- if eq 1 1 }}\n" + DEPLOYMENT + "{{ end }}\n", "Helm template"),
        (DEPLOYMENT.replace("name: least", 'name: "{{ .Release.Name }}"'), "Helm template"),
        ("{{- if .Values.on }}\n" + DEPLOYMENT + "{{- end }}\n", "Helm template"),
        (
            DEPLOYMENT.replace("kind: Deployment", "kind: [Deployment"),
            "Document 1 (line 3) is not YAML that kubectl reads",
        ),
        (DEPLOYMENT.replace("kind: Deployment", "kind: !!int Deployment"), "(line 2) is not YAML that kubectl reads"),
    ],
)
def test_a_text_without_a_manifest_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=re.escape(says)):
        manifests.inject(text)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("version: '3'\nservices: {}\n", "Document 2 (line {}) is not a Kubernetes object"),
        (DEPLOYMENT.replace("kind: Deployment", "kind: {"), "Document 2 (line {}) is not YAML that kubectl reads"),
        (DEPLOYMENT.replace("image:", "image: {{ .Values.image }}"), "Document 2 (line {}) is a Helm template"),
        (DEPLOYMENT.replace("spec:", "\tspec:", 1), "Document 2 (line {}) is not YAML that kubectl reads"),
    ],
)
def test_one_bad_document_is_named_and_does_not_stop_the_others(bad: str, says: str) -> None:
    alone = manifests.inject(DEPLOYMENT).text
    injected = manifests.inject(f"{DEPLOYMENT}---\n{bad}---\n{DEPLOYMENT}")
    assert injected.text == f"{alone}---\n{bad}---\n{alone}"
    (sentence,) = injected.refused
    first = DEPLOYMENT.count("\n") + 2
    assert any(sentence.startswith(says.format(line)) for line in range(first, first + bad.count("\n") + 1)), sentence
    assert manifests.eject(injected.text).text == f"{DEPLOYMENT}---\n{bad}---\n{DEPLOYMENT}"


def test_templates_that_are_somebodys_data_are_no_helm_templates() -> None:
    data = "apiVersion: v1\nkind: ConfigMap\ndata:\n  mail: |\n    {{ if .Firing }}{{ range .Alerts }}x{{ end }}\n"
    injected = manifests.inject(data + "---\n" + DEPLOYMENT).text
    assert injected.startswith(data)
    assert "-agentlib:jdwp" in injected
    assert manifests.eject(injected).text == data + "---\n" + DEPLOYMENT


def test_an_alias_that_a_change_would_reach_is_written_out_and_keeps_its_meaning() -> None:
    shared = DEPLOYMENT.replace(
        "image: noah.test/java17:1\n",
        "image: noah.test/java17:1\n        env: &env\n        - {name: JAVA_TOOL_OPTIONS, value: -Xmx1g}\n"
        "      - name: other\n        image: busybox\n        env: *env\n",
    )
    injected = manifests.inject(shared).text
    app, other = pods(injected)[0]["spec"]["containers"]
    assert app["env"][0]["value"].startswith("-Xmx1g -agentlib:jdwp")
    assert other["env"] == [{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"}]
    assert manifests.eject(injected).text == shared


def test_an_alias_is_replaced_where_it_is_used_and_comes_back() -> None:
    shared = DEPLOYMENT.replace(
        "      - name: app\n        image: noah.test/java17:1\n",
        "      - name: other\n        image: busybox\n"
        "        env: &env\n        - {name: JAVA_TOOL_OPTIONS, value: -Xmx1g}\n"
        "      - name: app\n        image: noah.test/java17:1\n        command: [java]\n        env: *env\n",
    ).replace("      containers:", "      nodeSelector: {}\n      containers:")
    shared = shared.replace("    spec:\n", "      annotations: {debug.noah/container: app}\n    spec:\n")
    injected = manifests.inject(shared).text
    other, app = pods(injected)[0]["spec"]["containers"]
    assert other["env"][0]["value"] == "-Xmx1g"
    assert app["env"][0]["value"].startswith("-Xmx1g -agentlib:jdwp")
    assert manifests.eject(injected).text == shared
