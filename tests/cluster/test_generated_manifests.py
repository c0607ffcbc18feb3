"""Manifests of all shapes and styles: an API server takes them with the agent, and eject gives back each byte."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from noah.cli.manifests import manifests
from tests.cluster.conftest import Kubectl

AT_ONCE = 50
Json = dict[str, Any]

GET = {"path": "/checkurl", "port": 8080}
PROBES: list[Json | None] = [
    None,
    {"httpGet": GET},
    {"httpGet": {**GET, "port": "http"}, "periodSeconds": 2, "failureThreshold": 5},
    {"httpGet": {**GET, "scheme": "HTTPS", "httpHeaders": [{"name": "Host", "value": "shop"}]}},
    {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 5},
    {"exec": {"command": ["sh", "-c", "curl -f http://127.0.0.1:8080/checkurl"]}},
    {"grpc": {"port": 9000}},
]
ENVIRONMENTS: list[list[Json] | None] = [
    None,
    [],
    [{"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx64m"}],
    [{"name": "A", "value": "yes"}, {"name": "B", "value": "017"}, {"name": "C", "value": "a: b # c"}],
    [{"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}, {"name": "E", "value": ""}],
]
CONTEXTS: list[Json | None] = [
    None,
    {},
    {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 1000},
    {"capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
]
RESOURCES: list[Json | None] = [None, {"requests": {"cpu": "100m"}}, {"limits": {"cpu": 1, "memory": "256Mi"}}]
COMMANDS: list[Json] = [
    {"command": ["java", "-cp", "/app", "App"]},
    {"command": ["sh", "-c", 'exec java -cp /app App "$@"\n']},
    {"args": ["-jar", "/app.jar", "--name='über'"]},
    {},
]


def pod(chance: random.Random) -> Json:
    probe = chance.choice(PROBES)
    wanted = {
        "ports": chance.choice([None, [{"name": "http", "containerPort": 8080}]]),
        "env": chance.choice(ENVIRONMENTS),
        "livenessProbe": probe,
        # The same object: PyYAML writes an alias.
        "readinessProbe": chance.choice([None, probe, {"httpGet": GET}]),
        "startupProbe": chance.choice([None, None, probe]),
        "securityContext": chance.choice(CONTEXTS),
        "resources": chance.choice(RESOURCES),
        "volumeMounts": chance.choice([None, [{"name": "tmp", "mountPath": "/tmp"}]]),
    }
    if "'port': 'http'" in str(wanted):
        wanted["ports"] = [{"name": "http", "containerPort": 8080}]
    keys = [key for key, value in wanted.items() if value is not None]
    chance.shuffle(keys)
    app = {
        "name": "app",
        "image": "noah.test/java17:1",
        **chance.choice(COMMANDS),
        **{key: wanted[key] for key in keys},
    }
    other: Json = {"name": "other", "image": "busybox", "command": ["sleep", "9"]}
    if wanted["env"] is not None:
        other["env"] = wanted["env"]
    spec: Json = {"containers": [app, other] if chance.random() < 0.3 else [app], "terminationGracePeriodSeconds": 2}
    spec["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    if chance.random() < 0.2:
        spec["initContainers"] = [{"name": "init", "image": "busybox", "command": ["true"]}]
    metadata: Json = {"labels": {"app": "a"}}
    if chance.random() < 0.4:
        metadata["annotations"] = {"team": "on", "debug.noah/agent": chance.choice(["always", "on-demand"])}
    return {"metadata": metadata, "spec": spec}


def named(kind: str, version: str, name: str, spec: Json) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def workload(chance: random.Random, name: str) -> Json:
    template, selector = pod(chance), {"matchLabels": {"app": "a"}}
    once = {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}
    make: Callable[[], Json] = chance.choice(
        [
            lambda: {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": name}},
            lambda: named("Deployment", "apps/v1", name, {"selector": selector, "template": template}),
            lambda: named("ReplicaSet", "apps/v1", name, {"selector": selector, "template": template}),
            lambda: named("DaemonSet", "apps/v1", name, {"selector": selector, "template": template}),
            lambda: named(
                "StatefulSet", "apps/v1", name, {"selector": selector, "serviceName": "a", "template": template}
            ),
            lambda: named("Job", "batch/v1", name, {"template": once}),
            lambda: named(
                "CronJob", "batch/v1", name, {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": once}}}
            ),
            lambda: {
                "apiVersion": "v1",
                "kind": "PodTemplate",
                "metadata": {"name": name},
                "template": template,
            },
        ]
    )
    return make()


def written(chance: random.Random, one: Json) -> str:
    style = chance.randrange(6)
    if style == 0:
        return json.dumps(one, indent=chance.choice([None, 2]), ensure_ascii=chance.random() < 0.5) + "\n"
    text = yaml.safe_dump(
        one,
        default_flow_style=chance.choice([False, False, None, True]),
        default_style=chance.choice([None, None, None, '"', "'"]),
        indent=chance.choice([2, 4]),
        width=chance.choice([40, 4096]),
        sort_keys=chance.random() < 0.3,
        allow_unicode=chance.random() < 0.5,
    )
    if style == 1:
        text = text.replace(": true\n", ": yes\n").replace(": false\n", ": No\n").replace(": 1000\n", ": 0o1750\n")
    elif style == 2:
        text = "".join(
            f"{line}   # {n}\n" if line.endswith(":") else f"{line}\n" for n, line in enumerate(text.splitlines())
        )
    elif style == 3 and one["kind"] != "Pod" and not text.startswith("{"):
        text = f"metadata: {{name: other}}\n{text}" if "&id" not in text.partition("metadata:")[0] else text
    return text.replace("\n", "\r\n") if style == 4 else text


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.soak)])
def test_generated_manifests_are_taken_with_the_agent_and_come_back(kubectl: Kubectl, count: int) -> None:
    chance = random.Random(12)
    texts = [written(chance, workload(chance, f"a-{n}")) for n in range(count)]
    changed = 0
    for start in range(0, count, AT_ONCE):
        before = "---\n" + "---\n".join(texts[start : start + AT_ONCE])
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=before)
        injected = manifests.inject(before)
        assert injected.refused == ()
        changed += injected.text.count("debug.noah/original")
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=injected.text)
        assert manifests.eject(injected.text).text == before
    assert changed > count * 0.9
