"""kubectl itself says what it reads in YAML, and an API server what it takes."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noah.cli.manifests import manifests
from noah.cli.manifests.reading import NotReadable, compose, meaning
from tests.cluster.conftest import Kubectl
from tests.unit.cli.yaml_fragments import FRAGMENTS, REFUSED, document


def read_by_kubectl(kubeconfig: Path, text: str) -> list[Any] | None:
    """Return the objects that kubectl reads; None if it refuses the text. It makes nothing in the cluster."""
    argv = ["kubectl", "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"]
    env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(argv, input=text.encode(), capture_output=True, env=env, timeout=60, check=False)
    if done.returncode:
        return None
    out, objects, decoder = done.stdout.decode().strip(), [], json.JSONDecoder()
    while out:
        found, end = decoder.raw_decode(out)
        objects.append(found)
        out = out[end:].strip()
    return objects


def test_kubectl_reads_the_same(kubeconfig: Path) -> None:
    objects = read_by_kubectl(kubeconfig, "---\n".join(document(fragment) for fragment, _ in FRAGMENTS))
    assert objects is not None
    assert [found["data"]["x"] for found in objects] == [value for _, value in FRAGMENTS]


@pytest.mark.parametrize("fragment", REFUSED)
def test_kubectl_refuses_the_same(kubeconfig: Path, fragment: str) -> None:
    assert read_by_kubectl(kubeconfig, document(fragment)) is None


SCALARS = st.lists(st.from_regex(r"[-+.0-9a-zA-Z_~]{1,7}", fullmatch=True), min_size=1, max_size=100)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SCALARS)
def test_plain_scalars_of_any_kind_mean_the_same(kubeconfig: Path, scalars: list[str]) -> None:
    # A document is cut at "---"; "...", "-" and infinities are other stories.
    scalars = [scalar for scalar in scalars if not scalar.lower().endswith(("inf", "nan"))]
    text = document("".join(f"\n  - [{scalar}]" for scalar in [*scalars, "5"]))
    theirs, root = read_by_kubectl(kubeconfig, text), compose(text)
    assert theirs is not None
    assert root is not None
    assert json.loads(json.dumps(meaning(root, text)["data"])) == theirs[0]["data"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["\n", "\t", " ", "- ", "a", "b: ", "[", "]", "{", "}", ", ", "'", '"', "&x ", "*x", "#", "| "]
        ),
        max_size=8,
    )
)
def test_a_text_that_kubectl_reads_is_read(kubeconfig: Path, parts: list[str]) -> None:
    text = document(" " + "".join(parts))
    theirs = read_by_kubectl(kubeconfig, text)
    try:
        root = compose(text)
        ours = None if root is None else meaning(root, text)
    except NotReadable:
        ours = None
    if theirs is not None:
        assert ours is not None
        assert ours["data"] == theirs[0]["data"]


POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: a}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: app
    image: noah.test/java17:1
    imagePullPolicy: Never
    command: [java, -cp, /app, App]
{}
"""
PROBE = "httpGet: {path: /checkurl, port: 8080}"
SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: a
  labels: {app: a, app: b}
spec: {ports: [{port: 80}]}
---
"""


@pytest.mark.parametrize(
    "text",
    [
        SERVICE + POD.format(""),
        POD.format("    image: noah.test/java17:1\n"),
        POD.format("    tty: no\n    tty: yes\n    env: []\n    env: [{name: A, value: b}]\n"),
        POD.format("    livenessProbe: {tcpSocket: {port: 1}}\n    livenessProbe: {" + PROBE + "}\n"),
        POD.format(
            "    securityContext: {readOnlyRootFilesystem: yes, allowPrivilegeEscalation: no}\n"
            "    livenessProbe: {" + PROBE + "}\n"
        ),
        POD.format("    securityContext: {runAsUser: 0o17, runAsGroup: 017}\n    tty: On\n    stdin: OFF\n"),
        POD.format("    env: [{name: A, value: !!str yes}, {name: B, value: 1:30}, {name: C, value: ~}]\n"),
        POD.format("    resources: {requests: {cpu: 1_0e-2, memory: 0x4000000}}\n"),
        POD.format("    livenessProbe: &probe\n      " + PROBE + "\n    readinessProbe: *probe\n"),
        POD.format("    readinessProbe: &probe\n      " + PROBE + "\n    livenessProbe:\n      <<: *probe\n"),
        POD.format("    startupProbe: {httpGet: &g {path: /, port: 8080}}\n    livenessProbe: {httpGet: *g}\n"),
        POD.format("    env: &e [{name: A, value: b}]\n  - {name: b, image: busybox, env: *e}\n"),
        POD.format("    workingDir:\t/x\t# here\n    args: [\n\t-a,\n\tb: ]\n".replace("b: ", "b:")),
        POD.format("    args:\n    - |+\n      a\n\n    - >-\n      b\n      c\n"),
    ],
)
def test_what_the_api_server_takes_it_takes_with_the_agent(kubectl: Kubectl, text: str) -> None:
    kubectl("apply", "--dry-run=server", "-f", "-", stdin=text)
    injected = manifests.inject(text)
    assert "-agentlib:jdwp" in injected.text
    kubectl("apply", "--dry-run=server", "-f", "-", stdin=injected.text)
    assert manifests.eject(injected.text).text == text
