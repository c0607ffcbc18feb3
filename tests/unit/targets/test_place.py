"""Where the forwarder runs in a pod, from what the pod is made of."""

from typing import Any

import pytest

from noah.core import pods
from noah.core.forwarder import Where
from noah.targets.pod.place import first_place, place_without_shell

SIDECAR = {"name": "noah-tools", "restartPolicy": "Always"}


def pod(*, probe: dict[str, Any] | None = None, sidecar: str = "", ephemeral: dict[str, str] | None = None) -> Any:
    """*sidecar*: its state; *ephemeral*: the states of ephemeral containers beside the app, by their names."""
    states = (ephemeral or {}).items()
    beside = [{"name": name, "targetContainerName": "app"} for name, _ in states]
    return {
        "metadata": {"namespace": "team-a", "name": "shop"},
        "spec": {
            "containers": [{"name": "app", **({"livenessProbe": probe} if probe else {})}],
            "initContainers": [SIDECAR] if sidecar else [],
            "ephemeralContainers": [*beside, {"name": "noah-tools-other", "targetContainerName": "another"}],
        },
        "status": {
            "initContainerStatuses": [{"name": "noah-tools", "state": {sidecar: {}}}] if sidecar else [],
            "ephemeralContainerStatuses": [
                *({"name": name, "state": {state: {}}} for name, state in states),
                {"name": "noah-tools-other", "state": {"running": {}}},
            ],
        },
    }


def test_the_place_is_the_apps_container_unless_a_sidecar_answers_its_probe() -> None:
    assert first_place(pod(), "app").container == "app"
    assert first_place(pod(sidecar="running"), "app").where is Where.POD
    beside = first_place(pod(probe={"httpGet": {"path": "/noah/liveness", "port": 50105}}), "app")
    assert (beside.container, beside.where) == ("noah-tools", Where.BESIDE)


@pytest.mark.parametrize(
    ("made", "container", "way"),
    [
        (pod(sidecar="running"), "noah-tools", "socat in the sidecar noah-tools, by TCP: its image has no shell"),
        (
            pod(ephemeral={"noah-tools-a": "terminated", "noah-tools-b": "running"}),
            "noah-tools-b",
            "socat in the ephemeral",
        ),
        (
            pod(ephemeral={"noah-tools-a": "waiting"}),
            None,
            "a port-forward through the API server: its image has no shell",
        ),
        (pod(sidecar="terminated"), None, "a port-forward through the API server: its image has no shell"),
    ],
)
def test_without_a_shell_it_is_what_runs_beside(made: Any, container: str | None, way: str) -> None:
    place = place_without_shell(made, "app")
    assert place.container == container
    assert place.way(has_socat=True, reach="pod").startswith(way)


def test_an_ephemeral_container_that_does_not_come_is_known() -> None:
    assert pods.tools_wait(pod(ephemeral={"noah-tools-a": "waiting"}), "app")
    assert not pods.tools_wait(pod(ephemeral={"noah-tools-a": "running"}), "app")
