"""Manifests for tests of inject, and what is looked at in them afterwards."""

from typing import Any

from noah.core.inject.manifest import inject
from noah.core.inject.templates import at, pod_paths

HTTP: dict[str, Any] = {"httpGet": {"path": "/checkurl", "port": 8080}}


def pod(*containers: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "shop"}
    if annotations:
        metadata["annotations"] = {key if "/" in key else f"debug.noah/{key}": v for key, v in annotations.items()}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": list(containers), **spec}}


def app(**more: Any) -> dict[str, Any]:
    return {"name": "app", "image": "noah.test/java17:1", **more}


def container_of(manifest: dict[str, Any], name: str = "app") -> dict[str, Any]:
    """The container of the manifest's only pod."""
    (path,) = pod_paths(manifest)
    spec = at(manifest, path)["spec"]
    found: dict[str, Any] = next(
        c for c in (*spec["containers"], *(spec.get("initContainers") or ())) if c["name"] == name
    )
    return found


def options_of(container: dict[str, Any]) -> str:
    """JAVA_TOOL_OPTIONS; empty where it is not set."""
    return next((str(e.get("value")) for e in container.get("env") or () if e["name"] == "JAVA_TOOL_OPTIONS"), "")


def notes_of(manifest: dict[str, Any]) -> str:
    return "\n".join(inject(manifest).notes)


def agents_in(container: dict[str, Any]) -> int:
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    words += [str(e.get("value")) for e in container.get("env") or ()]
    return sum(word.count("-agentlib:jdwp") for word in words)
