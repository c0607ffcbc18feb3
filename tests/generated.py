"""Manifests as other people write them, made up from a seed: every kind with a pod in it, every shape of its parts."""

import io
import json
import random
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML

Json = dict[str, Any]

JAVA = (
    "noah.test/java17:1",
    "eclipse-temurin:21-jre",
    "tomcat:10-jdk17",
    "openjdk:8",
    "registry.test:5000/team/shop-jdk25:1",
)
OTHERS = ("nginx:1.27", "rabbitmq:3.13", "grafana/java-dashboard:1", "busybox", "shop:1")
AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address="


def manifests(seed: int, count: int) -> Iterator[tuple[str, bool]]:
    """Yield texts, and whether an API server without any CustomResourceDefinition knows the kinds in them."""
    for number in range(count):
        made = _Maker(random.Random(f"{seed} {number}"), f"shop-{number}")
        objects = [made.manifest() for _ in range(made.random.choice((1, 1, 1, 2, 3)))]
        objects = json.loads(json.dumps(objects))  # parts are shared: YAML would write anchors
        for extra, each in enumerate(objects):
            each["metadata"]["name"] += f"-{extra}"
        yield made.text(objects), all(each["kind"] not in _FOREIGN for each in objects)


class _Maker:
    def __init__(self, source: random.Random, name: str) -> None:
        self.random = source
        self.name = name

    def maybe(self, probability: float, value: Any) -> Any:
        return value if self.random.random() < probability else None

    def manifest(self) -> Json:
        kind = self.random.choice((*_NATIVE, *_FOREIGN))
        template = self.template(ends=kind in ("Job", "CronJob"))
        labels = {"app": self.name}
        workload: Json = {"selector": {"matchLabels": labels}, "template": template}
        match kind:
            case "Pod":
                return self.object("v1", kind, {"spec": template["spec"]}, template["metadata"])
            case "PodTemplate":
                return self.object("v1", kind, {"template": template})
            case "ReplicationController":
                return self.object("v1", kind, {"spec": {"selector": labels, "template": template}})
            case "Job":
                return self.object("batch/v1", kind, {"spec": {"template": template}})
            case "CronJob":
                job = {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": template}}}
                return self.object("batch/v1", kind, {"spec": job})
            case "StatefulSet":
                return self.object("apps/v1", kind, {"spec": {"serviceName": "shop", **workload}})
            case "Service" | "DeploymentConfig" | "Rollout" | "CloneSet":
                return self.object(_FOREIGN[kind], kind, {"spec": {"template": template}})
        return self.object("apps/v1", kind, {"spec": workload})

    def object(self, version: str, kind: str, body: Json, metadata: Json | None = None) -> Json:
        return {"apiVersion": version, "kind": kind, "metadata": {**(metadata or {}), "name": self.name}, **body}

    def template(self, *, ends: bool) -> Json:
        spec: Json = {"containers": [self.container("app", self.random.choice(JAVA * 3 + OTHERS))]}
        if self.random.random() < 0.3:
            spec["containers"].append(self.container("side", self.random.choice(OTHERS)))
        if self.random.random() < 0.2:
            spec["initContainers"] = [{"name": "first", "image": "busybox", "command": ["true"]}]
            if self.random.random() < 0.5:
                native = self.container("native", self.random.choice(JAVA))
                spec["initContainers"].append({**native, "restartPolicy": "Always"})
        spec |= self.some(
            {
                "terminationGracePeriodSeconds": self.random.choice((0, 2, 30, 90)),
                "hostNetwork": self.random.choice((True, False)),
                "serviceAccountName": "default",
                "shareProcessNamespace": True,
                "nodeSelector": {"kubernetes.io/os": self.random.choice(("linux", "windows"))},
                "securityContext": {"runAsNonRoot": True, "fsGroup": 2000},
                "tolerations": [{"operator": "Exists"}],
            },
            0.15,
        )
        spec["volumes"] = [{"name": "data", "emptyDir": {}}]
        if ends:
            spec["restartPolicy"] = self.random.choice(("Never", "OnFailure"))
        annotations = self.some(
            {
                "debug.noah/agent": self.random.choice(("always", "on-demand", "disabled", "nonsense")),
                "debug.noah/preonline": self.random.choice(("disabled", "/hooks/on line.sh")),
                "debug.noah/liveness": "disabled",
                "debug.noah/jdwp-port": "5005",
                "debug.noah/command": '["java", "-jar", "/a.jar"]',
                "debug.noah/preonline-as": "container",
                "debug.noah/preonline-memory": "96Mi",
                "kubectl.kubernetes.io/default-container": "app",
                "example.test/note": 'it\'s: a "note" – with # and\nlines',
            },
            0.12,
        )
        metadata: Json = {"labels": {"app": self.name}}
        return {"metadata": {**metadata, **({"annotations": annotations} if annotations else {})}, "spec": spec}

    def some(self, values: Json, probability: float) -> Json:
        return {key: value for key, value in values.items() if self.random.random() < probability}

    def container(self, name: str, image: str) -> Json:
        base = 8080 if name == "app" else 9090 if name == "side" else 7070
        ports = [{"name": f"web-{name}", "containerPort": base}, {"containerPort": base + 1, "protocol": "UDP"}]
        probes = {kind: self.probe(f"web-{name}") for kind in ("livenessProbe", "readinessProbe", "startupProbe")}
        return {
            "name": name,
            "image": image,
            "ports": ports,
            **self.some(
                {
                    "command": self.random.choice(_COMMANDS),
                    "args": self.random.choice((["-Dx=y"], ["--server.port=$(PORT)", "a b", ""])),
                    "env": self.random.sample(_ENV, self.random.randint(0, 4)),
                    "envFrom": [{"configMapRef": {"name": "shop", "optional": True}}],
                    "imagePullPolicy": "Never",
                    "workingDir": "/app",
                    "volumeMounts": [{"name": "data", "mountPath": self.random.choice(("/data", "/noah"))}],
                    "resources": self.random.choice(_RESOURCES),
                    "securityContext": {
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "runAsUser": 1000,
                    },
                    "lifecycle": {"preStop": {"exec": {"command": ["sleep", "3"]}}},
                    "terminationMessagePath": "/tmp/last-words",
                    "tty": True,
                },
                0.4,
            ),
            **self.some(probes, 0.6),
        }

    def probe(self, port_name: str) -> Json:
        handler = json.loads(json.dumps(self.random.choice(_HANDLERS)).replace("web", port_name))
        rhythm = self.some(
            {
                "periodSeconds": self.random.choice((1, 2, 10, 30)),
                "timeoutSeconds": self.random.choice((1, 2, 5)),
                "failureThreshold": self.random.choice((1, 3, 30)),
                "initialDelaySeconds": self.random.choice((0, 15)),
            },
            0.5,
        )
        return {**handler, **rhythm}

    def text(self, objects: list[Json]) -> str:
        style = self.random.choice(("block", "block", "indented", "flow", "json", "pretty json", "list"))
        if style == "list":
            return json.dumps(
                {"apiVersion": "v1", "kind": "List", "items": objects}, indent=self.random.choice((None, 2))
            )
        if "json" in style and len(objects) == 1:
            return json.dumps(objects[0], indent=2 if style != "json" else None, ensure_ascii=False) + "\n"
        yaml = YAML()
        yaml.default_flow_style = style == "flow"
        yaml.width = self.random.choice((60, 200, 4096))
        if style == "indented":
            yaml.indent(mapping=2, sequence=4, offset=2)
        out = io.StringIO()
        yaml.dump_all(objects, out)
        text = out.getvalue()
        if text.startswith("{"):
            text = "---\n" + text  # else kubectl takes it for JSON
        if style in ("block", "indented") and self.random.random() < 0.4:
            lines = text.split("\n")
            # Before a line that begins a key, which is not within a text over several lines.
            keys = [i for i, line in enumerate(lines) if i and line.strip().startswith(("image:", "name:", "spec:"))]
            for at in sorted(self.random.sample(keys, min(3, len(keys))), reverse=True):
                lines.insert(at, " " * (len(lines[at]) - len(lines[at].lstrip())) + "# what somebody has to say")
            text = "\n".join(lines)
        if self.random.random() < 0.15:
            text = text.replace("\n", "\r\n")
        return text


_NATIVE = (
    *("Pod", "Deployment", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"),
    *("Job", "CronJob", "PodTemplate"),
)
_FOREIGN = {
    "CloneSet": "apps.kruise.io/v1alpha1",
    "Rollout": "argoproj.io/v1alpha1",
    "Service": "serving.knative.dev/v1",
    "DeploymentConfig": "apps.openshift.io/v1",
}
_COMMANDS: tuple[list[str], ...] = (
    ["java", "-cp", "/app", "App"],
    ["/opt/java/bin/java", "-Xmx64m", "-jar", "/app.jar", "$(MAIN)", "$$x"],
    ["sh", "-c", "exec java $JAVA_OPTS -jar /a.jar"],
    ["sh", "-c", f"exec java '{AGENT}*:${{DEBUG_PORT:-5005}}' -jar /a.jar"],
    ["catalina.sh", "jpda", "run"],
    ["/start.sh", "multi\nline", "é"],
)
_ENV: list[Json] = [
    {"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx64m  -Dsite=blue "},
    {"name": "CATALINA_OPTS", "value": f"-Xmx64m {AGENT}*:5005"},
    {"name": "JAVA_OPTS", "value": ""},
    {"name": "PORT", "value": "8080"},
    {"name": "EMPTY"},
    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
]
_RESOURCES: tuple[Json, ...] = (
    {},
    {"requests": {"cpu": "200m", "memory": "600Mi"}, "limits": {"cpu": "1", "memory": "600Mi"}},
    {"limits": {"cpu": 1, "memory": "1G"}},
    {"requests": {"cpu": 0.1}},
    {"requests": {"memory": "1.5Gi", "ephemeral-storage": "1Gi"}},
)
_HANDLERS: tuple[Json, ...] = (
    {"httpGet": {"path": "/checkurl", "port": 8080}},
    {"httpGet": {"port": "web", "scheme": "HTTPS"}},
    {"httpGet": {"path": "/a?b=$c&d=é", "port": "web", "httpHeaders": [{"name": "Host", "value": "shop.test"}]}},
    {"httpGet": {"path": "x", "port": 8081, "host": "127.0.0.1", "httpHeaders": [{"name": "X-A", "value": ""}]}},
    {"tcpSocket": {"port": "web"}},
    {"tcpSocket": {"port": 8080, "host": "127.0.0.1"}},
    {"exec": {"command": ["nodetool", "status"]}},
    {"exec": {"command": ["sh", "-c", "curl -f 'http://localhost:8080/x' || exit 1"]}},
    {"grpc": {"port": 8080, "service": "shop"}},
)
