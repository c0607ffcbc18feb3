"""What lines, pods and the cluster's events become in a release's stream."""

from typing import Any

import pytest

from noah.core.release.events import Lines, PodChanges, of_event

AT = "2026-01-01T10:00:00.000000000Z"


def events_of(lines: Lines, text: str, *, container: str = "noah-preonline") -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in lines.events_of("shop-1", container, 0, AT, text)]


@pytest.mark.parametrize(
    ("container", "text", "kind", "shown"),
    [
        ("app", "hello", "log", "hello"),
        ("app", "noah: the app's own words", "log", "noah: the app's own words"),
        ("app", "[preStart] migrating", "hook", "migrating"),
        ("app", "[preStart]", "hook", ""),
        ("noah-preonline", "[preOnline]   indented", "hook", "  indented"),
        ("noah-preonline", "noah: waiting for checkurl: it answered 503", "checkurl", None),
        ("noah-preonline", "noah: the app starts; waiting for checkurl http://x", "checkurl", None),
        ("noah-preonline", "noah: checkurl passes; preOnline runs /x (try 1 of 3)", "checkurl", None),
        ("noah-preonline", "noah: preOnline failed for good: no", "log", "noah: preOnline failed for good: no"),
        ("noah-preonline", "noah: online: healthcheck.html is there", "online", "healthcheck.html is there"),
    ],
)
def test_a_line_is_what_it_says(container: str, text: str, kind: str, shown: str | None) -> None:
    assert events_of(Lines(), text, container=container) == [
        (kind, text.removeprefix("noah: ") if shown is None else shown)
    ]


@pytest.mark.parametrize(
    "why",
    [
        "the app is down: nothing listens on port 8080",
        "checkurl fails: it answered 503",
        "the pod ends",
        "the app starts; waiting for checkurl http://x",
    ],
)
def test_healthcheck_html_goes_once_and_only_when_it_was_there(why: str) -> None:
    lines = Lines()
    gone = ("online", "healthcheck.html is gone")
    assert gone not in events_of(lines, f"noah: {why}")
    events_of(lines, "noah: online: healthcheck.html is there")
    assert events_of(lines, f"noah: {why}")[0] == gone
    assert gone not in events_of(lines, f"noah: {why}")


def pod(phase: str, *, ready: str = "False", message: str = "") -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "message": message}
    irrelevant = {"type": "PodReadyToStartContainers", "status": "True"}
    return {"metadata": {"name": "a"}, "status": {"phase": phase, "conditions": [condition, irrelevant]}}


def test_pods_are_reported_when_they_change() -> None:
    changes = PodChanges()

    def said(*args: Any, **more: Any) -> list[str]:
        return [one.text for one in changes.of_new(pod(*args, **more), AT)]

    assert said("Pending", message="containers with unready status: [app]") == [
        "Pending",
        "not Ready: containers with unready status: [app]",
    ]
    assert said("Pending", message="containers with unready status: [app]") == []
    assert said("Running", ready="True") == ["Running", "Ready"]
    assert said("Running") == ["not Ready"]


def test_of_a_pod_that_is_replaced_only_what_happens_to_it_is_reported() -> None:
    changes, old = PodChanges(), pod("Running", ready="True")
    assert list(changes.of_old(old, AT)) == []
    old["metadata"]["deletionTimestamp"] = AT
    assert [one.text for one in changes.of_old(old, AT)] == ["Terminating"]
    assert list(changes.of_old(old, AT)) == []


def test_each_phase_says_whether_the_pod_is_the_releases_own() -> None:
    changes, old = PodChanges(), {**pod("Running"), "metadata": {"name": "old"}}
    assert next(changes.of_new(pod("Pending"), AT)).more == {"pod": "a", "is_new": True}
    list(changes.of_old(old, AT))
    old["metadata"]["deletionTimestamp"] = AT
    assert next(changes.of_old(old, AT)).more == {"pod": "old", "is_new": False}


def test_an_event_has_the_time_at_which_it_happened_last() -> None:
    event = {
        "involvedObject": {"kind": "Pod", "name": "shop-1"},
        "reason": "BackOff",
        "type": "Warning",
        "message": "Back-off\nrestarting",
        "firstTimestamp": "2026-01-01T09:00:00Z",
        "lastTimestamp": "2026-01-01T09:59:00Z",
    }
    one = of_event(event, AT)
    assert (one.at, one.kind, one.text) == ("2026-01-01T09:59:00Z", "event", "Back-off restarting")
    assert one.more == {"object": "Pod/shop-1", "pod": "shop-1", "type": "Warning", "reason": "BackOff"}
    series = {**event, "series": {"lastObservedTime": "2026-01-01T09:59:59.000001Z"}}
    assert of_event(series, AT).at == "2026-01-01T09:59:59.000001Z"
    assert of_event({"involvedObject": {}, "lastTimestamp": None}, AT).at == AT
