"""Which log the API would give for a run of a container."""

from typing import Any

import pytest

from noah.kube.logs import LogLine, Run, line_of, state_of
from noah.releases.follow import runs_of


def pod(*, count: int, state: str, last: str | None = None, uid: str = "u") -> dict[str, Any]:
    status = {"name": "app", "restartCount": count, "state": {state: {}}, "lastState": {last: {}} if last else {}}
    return {"metadata": {"namespace": "n", "name": "p", "uid": uid}, "status": {"containerStatuses": [status]}}


RUN = Run("n", "p", "u", "app", 2)


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (pod(count=2, state="running"), "running"),
        (pod(count=2, state="terminated"), "ended"),
        (pod(count=2, state="waiting", last="terminated"), "ended"),
        (pod(count=3, state="running", last="terminated"), "previous"),
        (pod(count=4, state="running", last="terminated"), "gone"),
        (pod(count=2, state="running", uid="of its namesake"), "gone"),
        ({"metadata": {"uid": "u"}, "status": {}}, "gone"),
    ],
)
def test_a_run_is_looked_for_where_its_log_is_by_now(seen: dict[str, Any], state: str) -> None:
    assert state_of(seen, RUN) == state


@pytest.mark.parametrize(
    ("seen", "restarts"),
    [
        (pod(count=0, state="waiting"), []),
        (pod(count=0, state="running"), [0]),
        (pod(count=0, state="terminated"), [0]),
        (pod(count=1, state="waiting", last="terminated"), [1]),
        (pod(count=1, state="running", last="terminated"), [0, 1]),
        (pod(count=5, state="terminated", last="terminated"), [4, 5]),
    ],
)
def test_a_pod_has_the_log_of_the_present_run_and_of_the_one_before(seen: dict[str, Any], restarts: list[int]) -> None:
    assert [run.restart for run in runs_of(seen)] == restarts


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"2026-01-01T10:00:00.000000001Z a b", LogLine("2026-01-01T10:00:00.000000001Z", "a b")),
        (b"2026-01-01T00:30:00.120000000+01:00 a", LogLine("2025-12-31T23:30:00.120000000Z", "a")),
        (b"2026-01-01T10:00:00.000000001Z \xff\0\x1b[1m", LogLine("2026-01-01T10:00:00.000000001Z", "\ufffd\0\x1b[1m")),
        (b"unable to retrieve container logs", LogLine("", "unable to retrieve container logs")),
    ],
)
def test_a_line_has_its_time_in_utc(text: bytes, line: LogLine) -> None:
    assert line_of(text) == line
