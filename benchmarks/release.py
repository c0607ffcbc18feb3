"""How soon after its happening each kind of failed release is named.

    python -m benchmarks.release KUBECONFIG

Makes a namespace with one failing Deployment after the other, and removes it. When something happened is what the
cluster says, which is in whole seconds: a figure may be up to a second too large.
"""

import asyncio
import json
import sys
import tempfile
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cluster.conftest import Kubectl
from tests.cluster.test_release import FAILING, deployment, watched
from tests.gateway import serving

ROUNDS = 3
QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
DEADLINE = 10  # progressDeadlineSeconds

Happened = Callable[[Kubectl, str], str]


async def main(kubeconfig: Path) -> None:
    kubectl = Kubectl(kubeconfig, f"noah-bench-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    try:
        await asyncio.sleep(1)  # for the namespace's service account
        took = await measured(kubectl)
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
    report(took)


def report(took: dict[str, list[float]]) -> None:
    print(f"{'seconds until it is named':32} {'shortest':>9} {'longest':>9}")
    for kind, seconds in took.items():
        print(f"{kind:32} {min(seconds):9.1f} {max(seconds):9.1f}")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-release.json").write_text(json.dumps(took, indent=2))


async def measured(kubectl: Kubectl) -> dict[str, list[float]]:
    config = f'[[clusters]]\nname = "c"\nkubeconfig = "{kubectl.kubeconfig}"\nnamespaces = ["{kubectl.namespace}"]\n'
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), config) as (gateway, _):
            for n in range(ROUNDS):
                for kind, (how, spec, happened) in KINDS.items():
                    name = f"{kind.split()[0].lower()}-{n}"
                    release = deployment(name, **how)
                    release["spec"].update(spec)
                    kubectl.apply(*([QUOTA] if kind == "quota" else []), release)
                    _, events = await watched(gateway, kubectl, name)
                    assert events[-1]["result"] == "failed", events[-1]
                    at = datetime.fromisoformat(happened(kubectl, name))
                    took[kind].append((datetime.fromisoformat(events[-1]["at"]) - at).total_seconds())
                    kubectl("delete", "deployment", name)
                    if kind == "quota":
                        kubectl("delete", "resourcequota", QUOTA["metadata"]["name"])  # type: ignore[index]
    return took


def refused_image(kubectl: Kubectl, name: str) -> str:
    events = kubectl.list("events", "")
    about = [one for one in events if one["involvedObject"]["name"].startswith(name) and one["reason"] == "Failed"]
    return min(str(one["firstTimestamp"]) for one in about)


def ended(kubectl: Kubectl, name: str) -> str:
    """The last time that the app did; the kubelet speaks of a loop from the second one on."""
    status = kubectl.list("pods", f"app={name}")[0]["status"]["containerStatuses"][0]
    return str((status["lastState"].get("terminated") or status["state"]["terminated"])["finishedAt"])


def hook_failed(kubectl: Kubectl, name: str) -> str:
    pod = kubectl.list("pods", f"app={name}")[0]["metadata"]["name"]
    log = kubectl("logs", pod, "-c", "noah-preonline", "--timestamps")
    return next(line.split(" ")[0] for line in log.splitlines() if "failed for good" in line)


def condition(kind: str) -> Happened:
    def happened(kubectl: Kubectl, name: str) -> str:
        conditions = kubectl.get("deployment", name)["status"]["conditions"]
        return next(str(one["lastUpdateTime"]) for one in conditions if one["type"] == kind)

    return happened


NEVER: dict[str, Any] = {"annotations": {"debug.noah/checkurl": "http://127.0.0.1:8080/nowhere"}}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], Happened]] = {
    "image pull": (FAILING["image"][0], {}, refused_image),
    "crash loop": (FAILING["crash"][0], {}, ended),
    "prestart failed": (FAILING["hook"][0], {}, ended),
    "preonline failed": (FAILING["online"][0], {}, hook_failed),
    "checkurl never passed": (NEVER, {"progressDeadlineSeconds": DEADLINE}, condition("Progressing")),
    "quota": ({}, {}, condition("ReplicaFailure")),
}


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
