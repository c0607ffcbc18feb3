"""The livenessProbe as a manifest carries it."""

import re
from typing import Any

import pytest

from noah.core.inject.probe import inlined, probe_spec
from noah.core.pods import checkurl_of, probe_verdicts
from noah.errors import BadInput

URL = "http://127.0.0.1:8080/checkurl"


def test_it_is_an_exec_probe_with_the_script_inside() -> None:
    assert probe_spec(checkurl=URL) == {
        "exec": {"command": ["sh", "-c", inlined(), "noah-liveness", URL, "2"]},
        "timeoutSeconds": 3,
        "periodSeconds": 10,
        "failureThreshold": 3,
    }


def test_a_name_and_an_initial_delay_are_there_when_they_are_asked_for() -> None:
    spec = probe_spec(checkurl=URL, initial_delay_seconds=0, name="orders.eu")
    assert spec["initialDelaySeconds"] == 0
    assert spec["exec"]["command"][4:] == [URL, "2", "orders.eu"]


def test_by_hand_200_alone_is_healthy_unless_it_is_to_be_as_a_kubelet_has_it() -> None:
    assert probe_spec(checkurl=URL, as_kubelet=True)["exec"]["command"][4:] == [URL, "2", "jvm", "200-399"]
    assert probe_spec(checkurl=URL, as_kubelet=True, name="shop")["exec"]["command"][6:] == ["shop", "200-399"]


@pytest.mark.parametrize("timeout", [2, 3, 5, 60])
def test_checkurl_has_at_least_half_of_the_time_and_leaves_a_second(timeout: int) -> None:
    deadline = float(probe_spec(checkurl=URL, timeout_seconds=timeout)["exec"]["command"][5])
    assert timeout / 2 <= deadline <= timeout - 1


def test_a_pod_with_it_is_seen_as_right() -> None:
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "app", "livenessProbe": probe_spec(checkurl=URL)}]}}
    assert {level for level, _ in probe_verdicts(pod, "app")} == {"ok"}
    assert checkurl_of(pod, "app") == URL


def test_what_is_inlined_is_short_and_has_no_comment() -> None:
    lines = inlined().splitlines()
    assert lines[0] == "set -u"
    assert not [line for line in lines if not line.strip() or line.lstrip().startswith("#")]
    assert len(inlined()) < 9600  # it is in each pod's manifest, at the API server and in etcd


def kubelet_expands(text: str, env: dict[str, str]) -> str:
    """What a kubelet makes of a command (k8s.io/kubernetes third_party/forked/golang/expansion)."""
    return re.sub(r"\$(?:(\$)|\(([^)]*)\))", lambda m: m[1] or env.get(m[2], m[0]), text)


@pytest.mark.parametrize("url", [URL, f"{URL}?price=$5", f"{URL}?a=$$b&c=$(HOME)&d=$$$(HOME)"])
def test_the_kubelet_hands_on_what_was_meant(url: str) -> None:
    # A container's environment may have any name; these words stand in the script.
    env = dict.fromkeys(re.findall(r"\w+", inlined()), "replaced") | {"HOME": "/root"}
    command = probe_spec(checkurl=url)["exec"]["command"]
    assert [kubelet_expands(word, env) for word in command] == ["sh", "-c", inlined(), "noah-liveness", url, "2"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "8080",
        "/checkurl",
        "127.0.0.1:8080/checkurl",
        "ftp://127.0.0.1/checkurl",
        "file:///etc/passwd",
        "HTTP:/127.0.0.1",
        "http://",
        "http:///checkurl",
        "http://:8080/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://user:secret@127.0.0.1:8080/",
        "http://127.0.0.1:http/",
        "http://[::1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\nb",
        "http://127.0.0.1/\x00",
        "http://127.0.0.1/häuser",
        "--help",
        "http://127.0.0.1/" + "x" * 2000,
    ],
)
def test_a_checkurl_that_is_none_is_refused_in_a_short_sentence(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        probe_spec(checkurl=url)
    assert "checkurl" in refused.value.sentence
    assert len(refused.value.sentence) < 200
    assert "\n" not in refused.value.sentence


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"timeout_seconds": 1}, "timeout"),
        ({"timeout_seconds": -5}, "timeout"),
        ({"period_seconds": 0}, "period"),
        ({"failure_threshold": 0}, "failure threshold"),
        ({"initial_delay_seconds": -1}, "initial delay"),
        ({"name": ""}, "name"),
        ({"name": "../jvm"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a..b"}, "name"),
        ({"name": "*"}, "name"),
        ({"name": "x" * 5000}, "name"),
    ],
)
def test_numbers_and_names_that_cannot_work_are_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(BadInput, match=word) as refused:
        probe_spec(checkurl=URL, **wrong)
    assert len(refused.value.sentence) < 200
