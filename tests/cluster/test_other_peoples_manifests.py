"""Manifests that other people's pods taught us about, judged by a real kubelet and a real API server."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noah.cli.manifests import manifests
from noah.core.inject.manifest import inject
from tests.cluster.conftest import Kubectl, until
from tests.generated import manifests as generated

pytestmark = pytest.mark.cluster

ODD = """
import com.sun.net.httpserver.HttpServer;
import java.net.*;
/** Answers /N with status N, 3xx with a way to /200; /vhost for one Host only. Listens at the pod's own address. */
public class Odd {
  public static void main(String[] a) throws Exception {
    HttpServer s = HttpServer.create(new InetSocketAddress(InetAddress.getByName(System.getenv("BIND")), 8080), 50);
    s.createContext("/", x -> {
      String p = x.getRequestURI().getPath().substring(1);
      String host = x.getRequestHeaders().getFirst("Host");
      int c = !p.equals("vhost") ? Integer.parseInt(p) : "shop.test".equals(host) ? 200 : 403;
      if (c / 100 == 3) x.getResponseHeaders().add("Location", "/200");
      x.sendResponseHeaders(c, -1); x.close();
    });
    s.start();
  }
}
"""
ASK = """
public class Ask {
  public static void main(String[] a) throws Exception {
    java.net.HttpURLConnection c = (java.net.HttpURLConnection) new java.net.URL("http://127.0.0.1:8080/checkurl").openConnection();
    c.setReadTimeout(1000);
    System.exit(c.getResponseCode() == 200 ? 0 : 1);
  }
}
"""


@pytest.fixture(scope="module")
def classes(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A ConfigMap with Odd and Ask."""
    folder = tmp_path_factory.mktemp("classes")
    if shutil.which("javac") is None:
        pytest.skip("there is no javac on this machine")
    for name, text in (("Odd", ODD), ("Ask", ASK)):
        (folder / f"{name}.java").write_text(text)
    subprocess.run(
        ["javac", "--release", "8", "-Xlint:-options", "Odd.java", "Ask.java"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in folder.glob("*.class")}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "classes"}, "binaryData": data})
    options = {"JAVA_TOOL_OPTIONS": "-Xmx96m -Dsite=blue"}
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop-env"}, "data": options})


def pod(name: str, **container: Any) -> dict[str, Any]:
    app = {
        "name": "app",
        "image": "noah.test/java17:1",
        "imagePullPolicy": "Never",
        "command": ["java", "-Xmx32m", "-XX:TieredStopAtLevel=1", "-cp", "/app", "App"],
        "volumeMounts": [{"name": "classes", "mountPath": "/classes"}],
        **container,
    }
    volumes = [{"name": "classes", "configMap": {"name": "classes", "optional": True}}]
    metadata = {"name": name, "annotations": {"debug.noah/preonline": "off", "debug.noah/prestart": "off"}}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [app], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def odd(name: str, get: dict[str, Any]) -> dict[str, Any]:
    return pod(
        name,
        command=["java", "-Xmx32m", "-XX:TieredStopAtLevel=1", "-cp", "/classes", "Odd"],
        env=[{"name": "BIND", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        livenessProbe={"httpGet": {"port": 8080, **get}, "periodSeconds": 2},
        startupProbe={"httpGet": {"port": 8080, **get}, "periodSeconds": 2, "failureThreshold": 60},
    )


VHOST = {"path": "/vhost", "httpHeaders": [{"name": "Host", "value": "shop.test"}]}
ASKED = {
    "exec": {"command": ["java", "-Xmx16m", "-XX:TieredStopAtLevel=1", "-cp", "/classes", "Ask"]},
    "timeoutSeconds": 9,
}
AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address="
ALIVE: dict[str, Callable[[], dict[str, Any]]] = {
    "status-204": lambda: odd("status-204", {"path": "/204"}),
    "status-302": lambda: odd("status-302", {"path": "/302"}),
    "virtual-host": lambda: odd("virtual-host", VHOST),
    "probe-is-a-jvm": lambda: pod(
        "probe-is-a-jvm",
        env=[{"name": "JAVA_TOOL_OPTIONS", "value": "-Xss512k"}],
        startupProbe={**ASKED, "periodSeconds": 5, "failureThreshold": 30},
        livenessProbe={**ASKED, "periodSeconds": 5},
        readinessProbe={**ASKED, "periodSeconds": 5},
    ),
    "second-agent": lambda: pod(
        "second-agent",
        command=["sh", "-c", "exec java $CATALINA_OPTS -cp /app App"],
        env=[{"name": "CATALINA_OPTS", "value": f"-Xmx32m {AGENT}*:5005"}],
    ),
    "options-by-envfrom": lambda: pod("options-by-envfrom", envFrom=[{"configMapRef": {"name": "shop-env"}}]),
    "by-a-script": lambda: pod(
        "by-a-script",
        command=["sh", "-c", "exec java -cp /app App"],
        envFrom=[{"configMapRef": {"name": "shop-env"}}],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("classes")
def test_what_ran_before_inject_runs_after_it_and_has_an_agent(kubectl: Kubectl) -> None:
    kubectl.apply(*(inject(make()).manifest for make in ALIVE.values()))
    for name in ALIVE:
        kubectl.wait(f"pod/{name}", "condition=Ready")

    def ports() -> dict[str, set[int]]:
        return {name: listening(kubectl, name) for name in ALIVE}

    until(lambda: all({50005, 5005} & found for found in ports().values()), within=60)
    assert listening(kubectl, "second-agent") & {50005, 5005} == {5005}
    for name in ("options-by-envfrom", "by-a-script"):
        environ = kubectl("exec", name, "--", "cat", "/proc/1/environ")
        assert "JAVA_TOOL_OPTIONS=-Xmx96m -Dsite=blue" in environ
    # Long enough for three failures in a row to have killed any of them.
    started = time.monotonic()
    until(lambda: time.monotonic() - started > 12, within=20)
    for name in ALIVE:
        (status,) = kubectl.get("pod", name)["status"]["containerStatuses"]
        assert (status["restartCount"], status["ready"]) == (0, True), name


def listening(kubectl: Kubectl, name: str) -> set[int]:
    tables = kubectl("exec", name, "--", "sh", "-c", "cat /proc/net/tcp /proc/net/tcp6")
    rows = [line.split() for line in tables.splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}


@pytest.mark.usefixtures("classes")
def test_a_failed_check_says_its_reason_in_an_event(kubectl: Kubectl) -> None:
    failing = pod(
        "tls-on-a-plain-port",
        livenessProbe={"httpGet": {"port": 8080, "scheme": "HTTPS"}, "periodSeconds": 2, "initialDelaySeconds": 5},
    )
    kubectl.apply(inject(failing).manifest)

    def said() -> str:
        return kubectl(
            "get", "events", "--field-selector", "involvedObject.name=tls-on-a-plain-port", "-o", "jsonpath={..message}"
        )

    until(lambda: "Liveness probe failed" in said(), within=60)
    assert "curl: (" in said()


QUOTA = {"limits.memory": "1Gi", "limits.cpu": "2", "requests.memory": "1Gi", "requests.cpu": "1"}
RANGE = {
    "type": "Container",
    "min": {"memory": "64Mi", "cpu": "50m"},
    "maxLimitRequestRatio": {"cpu": "10", "memory": "2"},
}
FITS = {"requests": {"cpu": "200m", "memory": "600Mi"}, "limits": {"cpu": "1", "memory": "600Mi"}}


@pytest.fixture
def narrow(make_namespace: Callable[[Path], Kubectl], kubeconfig: Path) -> Kubectl:
    namespace = make_namespace(kubeconfig)
    namespace.apply(
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": QUOTA}},
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"}, "spec": {"limits": [RANGE]}},
    )
    until(lambda: namespace.get("resourcequota", "q").get("status", {}).get("hard") == QUOTA)
    return namespace


def test_a_pod_that_fits_its_quota_and_its_limit_range_still_does(narrow: Kubectl) -> None:
    probe = {"httpGet": {"path": "/checkurl", "port": 8080}}
    online = {"debug.noah/prestart": "off"}
    for name, resources in (("fits", FITS), ("guaranteed", {"limits": {"cpu": "500m", "memory": "600Mi"}})):
        manifest = pod(name, resources=resources, livenessProbe=probe)
        manifest["metadata"]["annotations"] = online
        injected = inject(manifest).manifest
        assert "initContainers" in injected["spec"]
        made = json.loads(narrow("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(injected)))
        assert made["status"]["qosClass"] == ("Burstable" if name == "fits" else "Guaranteed")


def _changed(kubectl: Kubectl, seed: int, count: int) -> int:
    """How many manifests inject has changed; what was accepted before is accepted after, and comes back."""
    texts = [text for text, native in generated(seed, count) if native]
    refused = _refused(kubectl, texts)
    injected = {text: manifests.inject(text).text for text in texts if text not in refused}
    assert len(injected) > 0.9 * len(texts)
    assert _refused(kubectl, list(injected.values())) == []
    assert [text for text, after in injected.items() if manifests.eject(after).text != text] == []
    return sum(after != text for text, after in injected.items())


def _refused(kubectl: Kubectl, texts: list[str]) -> list[str]:
    batches = [texts[at : at + 25] for at in range(0, len(texts), 25)]
    suspects = [batch for batch in batches if not _is_accepted(kubectl, "\n---\n".join(batch))]
    return [text for batch in suspects for text in batch if not _is_accepted(kubectl, text)]


def _is_accepted(kubectl: Kubectl, text: str) -> bool:
    argv = ["kubectl", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace]
    argv += ["apply", "--dry-run=server", "-f", "-"]
    return subprocess.run(argv, input=text.encode(), capture_output=True, timeout=300, check=False).returncode == 0


def test_what_an_api_server_accepts_it_accepts_after_inject(kubectl: Kubectl) -> None:
    assert _changed(kubectl, seed=1, count=12) > 3


@pytest.mark.soak
@pytest.mark.timeout(1800)  # 500 times through the command line's YAML, twice
def test_five_hundred_manifests_are_accepted_and_come_back_byte_for_byte(kubectl: Kubectl) -> None:
    assert _changed(kubectl, seed=2, count=500) > 150
