"""The liveness probe, run by a real kubelet in images with curl, with wget only, and with neither."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from noah.core.inject.probe import inlined, probe_spec
from noah.inpod import script
from tests.cluster.conftest import STARTS, Kubectl, until

pytestmark = [pytest.mark.cluster, pytest.mark.jvm]

IMAGES = ("java17", "java8", "bare")  # curl; wget; bash only
# The kubelet would expand these if they were handed over as they are.
CHECKURL = "http://127.0.0.1:8080/checkurl?a=$(JAVA_TOOL_OPTIONS)&b=$$"
SESSION = 15  # seconds; without a report the kubelet would have killed it after 5 failures of 1 s each


def sh(kubectl: Kubectl, pod: str, *argv: str) -> tuple[int, str]:
    done = subprocess.run(
        ["kubectl", "--kubeconfig", kubectl.kubeconfig, "-n", kubectl.namespace, "exec", pod, "--", "sh", "-c", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout


def report(kubectl: Kubectl, pod: str, *, state: str, seconds: int) -> datetime:
    """Have the forwarder's script write a report; return when it ends, by this machine's clock, which is the node's."""
    code, said = sh(kubectl, pod, script("forwarder"), "noah-forwarder", *start(str(seconds), state, "none"))
    assert (code, said.splitlines()[-1]) == (0, "done"), said
    return datetime.fromtimestamp(time.time() + seconds).astimezone()


def start(seconds: str, state: str, *way: str) -> tuple[str, ...]:
    return ("start", "s1", "jvm", "50005", "pod", "8080", seconds, state, *way)


# Bash, which all of these images have: it holds the JVM's slot until it is ended.
DEBUGGER = """\
exec 3<>/dev/tcp/127.0.0.1/50005
printf JDWP-Handshake >&3
head -c 14 <&3 > /dev/null
echo attached
read -r _
"""


@contextmanager
def debugger_in(kubectl: Kubectl, pod: str) -> Iterator[None]:
    argv = ["kubectl", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace, "exec", "-i", pod, "--"]
    attached = subprocess.Popen(
        [*argv, "bash", "-c", DEBUGGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert attached.stdin is not None
    assert attached.stdout is not None
    try:
        assert attached.stdout.readline() == "attached\n"
        yield
    finally:
        attached.stdin.close()
        attached.wait(timeout=30)
        attached.stdout.close()


def probe(kubectl: Kubectl, pod: str, url: str) -> tuple[int, str]:
    return sh(kubectl, pod, inlined(), "noah-liveness", url, "1")


def app_container(kubectl: Kubectl, pod: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get("pod", pod)["status"]["containerStatuses"][0]
    return found


def last_end(kubectl: Kubectl, pod: str) -> str:
    """When the run before ended; "" as long as there was none."""
    return str((app_container(kubectl, pod)["lastState"].get("terminated") or {}).get("finishedAt", ""))


def let_checkurl_hang(kubectl: Kubectl, pod: str) -> None:
    address = kubectl.get("pod", pod)["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:8080/hang", timeout=10) as answer:
        assert answer.status == 200


def test_the_kubelet_spares_it_until_the_report_ends_and_kills_it_then(kubectl: Kubectl) -> None:
    ours = probe_spec(checkurl=CHECKURL, timeout_seconds=2, period_seconds=1, failure_threshold=5)
    ends: dict[str, datetime] = {}
    for image in IMAGES:
        kubectl.run(f"spared-{image}", image=image, livenessProbe=ours, startupProbe=STARTS)
    with ExitStack() as debuggers:
        for image in IMAGES:
            debuggers.enter_context(debugger_in(kubectl, f"spared-{image}"))
            ends[image] = report(kubectl, f"spared-{image}", state="suspended", seconds=SESSION)
            let_checkurl_hang(kubectl, f"spared-{image}")
        for image in IMAGES:
            # The kubelet reports a restart now and then minutes before it reports the end that came before.
            until(partial(last_end, kubectl, f"spared-{image}"), within=200)
    for image, end in ends.items():
        pod = f"spared-{image}"
        killed = datetime.fromisoformat(last_end(kubectl, pod))
        # Kubernetes has whole seconds.
        assert -1 <= (killed - end).total_seconds() < 2 * 5 * 2, image
        # The kubelet sends its events when it has time.
        until(partial(says_why, kubectl, pod), within=60)


def says_why(kubectl: Kubectl, pod: str) -> bool:
    events = json.loads(kubectl("get", "events", "-o", "json", f"--field-selector=involvedObject.name={pod}"))
    said = [event["message"] for event in events["items"] if event["reason"] == "Unhealthy"]
    # Between the two is what the image's tool has to say.
    begins, ends_with = f"noah: checkurl {CHECKURL} gave no answer (within 1 s", ") and nobody is debugging"
    return any(begins in message and ends_with in message for message in said)


@pytest.fixture(scope="module", params=IMAGES)
def pod(request: pytest.FixtureRequest, kubectl: Kubectl) -> str:
    kubectl.run(f"asked-{request.param}", image=request.param)
    return f"asked-{request.param}"


def test_each_image_has_something_to_ask_checkurl_with(kubectl: Kubectl, pod: str) -> None:
    good, bad = "http://localhost:8080/checkurl", "http://localhost:8080/nowhere"
    assert probe(kubectl, pod, good) == (0, f"noah: checkurl {good} answered 200\n")
    assert probe(kubectl, pod, bad) == (1, f"noah: checkurl {bad} answered 404 and nobody is debugging\n")


@pytest.mark.parametrize("pod", ["java17"], indirect=True)
def test_a_session_that_nobody_has_suspended_hides_no_dead_app(kubectl: Kubectl, pod: str) -> None:
    dead = "http://127.0.0.1:1/"
    report(kubectl, pod, state="suspended", seconds=60)
    until(lambda: probe(kubectl, pod, dead)[1].endswith("and no debugger is attached\n"))  # a fresh word counts for 4 s
    with debugger_in(kubectl, pod):
        assert probe(kubectl, pod, dead)[0] == 0
    report(kubectl, pod, state="running", seconds=60)
    code, said = probe(kubectl, pod, dead)
    assert (code, "has let java" in said) == (0, True), "a moment's grace after a long stop"
    until(lambda: probe(kubectl, pod, dead)[0] == 1, within=30)


def test_a_socat_that_java_as_pid_1_left_as_a_zombie_is_not_a_forwarder(kubectl: Kubectl) -> None:
    kubectl.run("zombie", image="java17")
    argv = ["kubectl", "--kubeconfig", str(kubectl.kubeconfig), "-n", kubectl.namespace, "exec", "-i", "zombie", "--"]
    started = subprocess.Popen(
        [*argv, "sh", "-c", script("forwarder"), "noah-forwarder", *start("60", "suspended", "unix")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    look = ("look", "s1", "jvm", "50005", "pod", "8080")
    try:
        assert started.stdout is not None
        said = ""
        while "done" not in said:
            said += started.stdout.readline()
        socat = said.partition("forwarder ")[2].split()[0]
        assert "forwarder" in sh(kubectl, "zombie", script("forwarder"), "noah-forwarder", *look)[1]

        # Its parent first, and the parent's watchdog, so that nobody is left to reap it but java.
        sh(kubectl, "zombie", "kill -9 $(pgrep -f '^sh -c .* noah-forwarder')")
        sh(kubectl, "zombie", f"kill -9 {socat}")
        until(lambda: ") Z " in sh(kubectl, "zombie", f"cat /proc/{socat}/stat")[1])
        assert "forwarder" not in sh(kubectl, "zombie", script("forwarder"), "noah-forwarder", *look)[1]
    finally:
        started.kill()
        started.wait()
        for pipe in (started.stdin, started.stdout):
            assert pipe is not None
            pipe.close()
