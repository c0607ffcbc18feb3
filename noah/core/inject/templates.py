"""Finds the pods in a manifest by their shape: a mapping with a spec that lists containers.

A list of kinds would always be too short: Argo Rollouts, OpenKruise, Knative and OpenShift have templates of the same
shape, and so have the kinds of tomorrow. A List's items and an OpenShift Template's objects are found in the same way.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
Path = tuple[str | int, ...]

# Nobody keeps a pod in these; a CustomResourceDefinition's schema is the longest text that charts bring.
SKIPPED = frozenset({"metadata", "status", "data", "stringData", "binaryData"})
DEEPEST = 24  # levels; the deepest known template is a CronJob's in a List in a ManifestWork, at 9


def pod_paths(manifest: Json) -> list[Path]:
    """Return where the manifest's pods are, in their order; each has a `spec` with a list of `containers`."""
    return [path for _, path in pods_with_owners(manifest)]


def pods_with_owners(manifest: Json) -> Iterator[tuple[Json, Path]]:
    """Yield each pod's path, with the object that it belongs to: the nearest mapping around it that has a kind."""
    if manifest.get("kind") != "CustomResourceDefinition":
        yield from _find(manifest, manifest, ())


def at(tree: Any, path: Path) -> Any:
    """Return what is at *path*. LookupError when there is nothing."""
    for step in path:
        tree = tree[step]
    return tree


def _find(owner: Json, node: Any, path: Path) -> Iterator[tuple[Json, Path]]:
    if len(path) > DEEPEST:
        return
    if isinstance(node, list):
        for number, item in enumerate(node):
            if isinstance(item, dict | list):
                yield from _find(owner, item, (*path, number))
    elif isinstance(node, Mapping):
        is_object = isinstance(node.get("kind"), str) and "apiVersion" in node
        owner = node if is_object else owner
        if _is_pod(node) and (not is_object or node["kind"] == "Pod"):
            yield owner, path
            return
        for key, value in node.items():
            if isinstance(value, dict | list) and key not in SKIPPED:
                yield from _find(owner, value, (*path, key))


def _is_pod(node: Json) -> bool:
    spec = node.get("spec")
    if not isinstance(spec, Mapping):
        return False
    containers = spec.get("containers")
    return isinstance(containers, list) and all(isinstance(item, Mapping) for item in containers)
