"""Every kind of workload is named as a Deployment is: its pods are found by their owners alone."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Kubectl, java_app, until
from tests.cluster.test_enable import configured
from tests.gateway import Refused, serving

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

HASH = "6d4cf56db6"


@pytest.fixture
def rollout(kubectl: Kubectl) -> Iterator[str]:
    """A custom resource of kind Rollout that owns a ReplicaSet, as Argo's controller would make it."""
    group = f"{uuid.uuid4().hex[:8]}.noah.test"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"rollouts.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Rollout", "plural": "rollouts", "singular": "rollout"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    kubectl.apply(definition)
    try:
        kubectl.wait(f"crd/rollouts.{group}", "condition=Established")
        kubectl.apply({"apiVersion": f"{group}/v1", "kind": "Rollout", "metadata": {"name": "rolled"}, "spec": {}})
        made = kubectl.get(f"rollouts.{group}", "rolled")
        owner = {"apiVersion": f"{group}/v1", "kind": "Rollout", "name": "rolled", "uid": made["metadata"]["uid"]}
        template = java_app("rolled")
        template["metadata"]["labels"]["rollouts-pod-template-hash"] = HASH
        replica_set = workload("ReplicaSet", f"rolled-{HASH}", template)
        replica_set["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
        kubectl.apply(replica_set)
        yield "rollout/rolled"
    finally:
        kubectl("delete", "crd", f"rollouts.{group}")


def workload(kind: str, name: str, template: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"template": template}
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
    else:
        spec["selector"] = {"matchLabels": {"app": template["metadata"]["labels"]["app"]}}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def test_each_kind_of_workload_is_debugged_by_its_name(kubectl: Kubectl, rollout: str, tmp_path: Path) -> None:
    kinds = {"sts/db": "StatefulSet", "ds/agent": "DaemonSet", "job/nightly": "Job"}
    for target, kind in kinds.items():
        kubectl.apply(workload(kind, _name(target), java_app(_name(target))))
    targets = (*kinds, rollout)
    async with serving(tmp_path, configured(kubectl.kubeconfig)) as (_, api):
        for target in targets:
            ready = ("wait", "pod", "-l", f"app={_name(target)}", "--for=condition=Ready", "--timeout=120s")
            await asyncio.to_thread(_until_made, kubectl, _name(target))
            await asyncio.to_thread(kubectl, *ready, timeout=130)
            session = await api.ready(f"pod/dev/{kubectl.namespace}/{target}")
            (pod,) = kubectl.list("pods", f"app={_name(target)}")
            assert session["target"] == f"pod/dev/{kubectl.namespace}/{pod['metadata']['name']}/app"
            assert session["workload"] == {**kinds, rollout: "Rollout"}[target] + f"/{_name(target)}"
            await api.end(session)
        with pytest.raises(Refused, match="There is no pod of statefulset nobody in namespace"):
            await api.enable(f"pod/dev/{kubectl.namespace}/sts/nobody")


def _name(target: str) -> str:
    return target.partition("/")[2]


def _until_made(kubectl: Kubectl, app: str) -> None:
    """`kubectl wait` fails at once when there is nothing to wait for."""
    until(lambda: bool(kubectl.list("pods", f"app={app}")), within=60)
