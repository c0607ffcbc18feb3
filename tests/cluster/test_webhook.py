"""The webhook on a real API server: labelled pods in labelled namespaces, and a gateway that is away."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from noah.core.hooks import SIDECAR
from noah.core.inject import is_injected
from tests.cluster.conftest import Kubectl, java_app, until
from tests.gateway import Process, free_port, serving

pytestmark = pytest.mark.cluster

PROBE = {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": 2}
APP: dict[str, Any] = {"command": ["java", "-Xmx32m", "-cp", "/app", "App"], "livenessProbe": PROBE}


@pytest.fixture
async def gateway(kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Process]:
    """The API server runs on this machine, as the gateway does."""
    folder = tmp_path / "webhook"
    config = f'[webhook]\nlisten = "127.0.0.1:{free_port()}"\nnames = ["127.0.0.1"]\nfolder = "{folder}"\n'
    name = kubectl.namespace  # of the whole cluster's, so that two runs do not meet
    async with serving(tmp_path, config) as (process, _):
        code, manifest = await process.noah("webhook", "--config", str(process.file), "--name", name)
        assert code == 0, manifest
        kubectl("apply", "-f", "-", stdin=manifest)
        try:
            kubectl("label", "namespace", kubectl.namespace, "debug.noah/inject=true", "--overwrite")
            yield process
        finally:
            kubectl("delete", "mutatingwebhookconfiguration", name)


def made(kubectl: Kubectl, name: str, *, label: bool = True) -> bool:
    """Makes a pod; whether it was injected."""
    pod = java_app(name, options="-Xmx32m", **APP)
    if label:
        pod["metadata"]["labels"]["debug.noah/inject"] = "true"
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", **pod})
    return is_injected(kubectl.get("pod", name))


async def test_labelled_pods_are_injected_and_come_online(kubectl: Kubectl, gateway: Process) -> None:
    # A configuration reaches the API server's admission within a second or so.
    numbers = iter(range(100))
    until(lambda: made(kubectl, f"labelled-{next(numbers)}"))
    last = f"labelled-{next(numbers) - 1}"
    assert not made(kubectl, "plain", label=False)
    pod = kubectl.get("pod", last)
    assert [c["name"] for c in pod["spec"]["initContainers"]] == [SIDECAR]
    kubectl.wait(f"pod/{last}", "condition=Ready")
    assert kubectl("exec", last, "-c", "app", "--", "cat", "/noah/healthcheck.html") == "online\n"
    # Who is away is in nobody's way.
    await gateway.stop()
    assert not made(kubectl, "while-away")
