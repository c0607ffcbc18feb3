"""What the liveness probe costs: CPU per run, against `sh -c true` in the same container.

    python -m benchmarks.probe KUBECONFIG

Makes a pod of each image and runs the probe's command there many times in a row: with a debugger attached and a word
that says suspended, the same beside 5,000 connections, with one that says running, and without a session. The time is
what the container's own shell says that its children used (user and system); what a kubelet and a container runtime
add to any exec probe is the same for all and not in it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from noah.core.inject.probe import inlined
from noah.inpod import script

NAMESPACE = "noah-bench-probe"
RUNS = 300
CHECKURL = "http://127.0.0.1:8080/checkurl"
# What the probe asks checkurl with there.
IMAGES = {
    "java17": ("curl", "-s", "-o", "/dev/null", CHECKURL),
    "java8": ("wget", "-q", "-O", "/dev/null", CHECKURL),
    "bare": ("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080"),
}
AGENT = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:50005,quiet=y"
# $1: runs, then the command. Prints what the shell says of its children's time: the second line of `times`.
MEASURE = 'n=$1; shift; while [ "$n" -gt 0 ]; do "$@" > /dev/null 2>&1; n=$((n - 1)); done; times'


@dataclass(frozen=True)
class Kubectl:
    kubeconfig: str

    def __call__(self, *argv: str, stdin: str | None = None) -> str:
        whole = ["kubectl", "--kubeconfig", self.kubeconfig, "-n", NAMESPACE, *argv]
        return subprocess.run(whole, input=stdin, stdout=subprocess.PIPE, text=True, check=True, timeout=180).stdout

    def sh(self, pod: str, text: str, *argv: str) -> str:
        return self("exec", pod, "--", "sh", "-c", text, *argv)


def main() -> None:
    kubectl = Kubectl(sys.argv[1])
    kubectl("create", "namespace", NAMESPACE)
    try:
        kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods()}))
        kubectl("wait", "pod", "--all", "--for=condition=Ready", "--timeout=120s")
        for image, tool in IMAGES.items():
            show(kubectl, image, tool)
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def pods() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": image},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "app",
                        "image": f"noah.test/{image}:1",
                        "imagePullPolicy": "Never",
                        "env": [{"name": "JAVA_TOOL_OPTIONS", "value": AGENT}],
                        "readinessProbe": {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": 1},
                    }
                ],
            },
        }
        for image in IMAGES
    ]


# A debugger, which holds the JVM's slot, and what the gateway does meanwhile: the word, every second.
GATEWAY = """\
exec 3<>/dev/tcp/127.0.0.1/50005
printf JDWP-Handshake >&3
head -c 14 <&3 > /dev/null
echo attached
while read -r now _ < /proc/uptime; do
  printf '%s 0 %s\\n' "$1" "${now%.*}" > /dev/shm/noah-jvm.s1.word
  sleep 1
done
"""
# $1: connections of this pod with itself, two lines of the table each.
CROWD = """\
ulimit -n 20000
for _ in $(seq "$1"); do exec {fd}<>/dev/tcp/127.0.0.1/8080 || exit; done
echo open
sleep 600
"""
CONNECTIONS = 2500


@contextmanager
def beside(kubectl: Kubectl, pod: str, text: str, argument: str) -> Iterator[None]:
    """Run a script of bash in the pod until the block ends."""
    argv = ["kubectl", "--kubeconfig", kubectl.kubeconfig, "-n", NAMESPACE, "exec", pod, "--"]
    mark = f"noah-bench-{uuid4().hex[:8]}"
    with subprocess.Popen([*argv, "bash", "-c", text, mark, argument], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline()
            yield
        finally:
            pattern = f"{mark[:-1]}[{mark[-1]}]"  # which does not stand in this command's own line
            kill = f'for p in /proc/[0-9]*; do ! grep -qs "{pattern}" $p/cmdline || kill "${{p#/proc/}}"; done'
            kubectl("exec", pod, "--", "bash", "-c", kill)
            child.kill()


def show(kubectl: Kubectl, image: str, tool: tuple[str, ...]) -> None:
    probe = ("sh", "-c", inlined(), "noah-liveness", CHECKURL, "2")
    about = ("s1", "jvm", "50005", "pod", "8080")
    kubectl.sh(image, script("forwarder"), "noah-forwarder", "start", *about, "3600", "suspended", "none")
    nothing = milliseconds(kubectl, image, "sh", "-c", "true")
    print(f"{image} (CPU per run, median of 3 x {RUNS}): sh -c true {nothing:.2f} ms")
    for state in ("suspended", "running"):
        with beside(kubectl, image, GATEWAY, state):
            of_state = milliseconds(kubectl, image, *probe)
            print(f"  attached, {state}: {of_state:.2f} ms, {of_state / nothing:.1f} x")
            if state == "suspended":
                with beside(kubectl, image, CROWD, str(CONNECTIONS)):
                    crowded = milliseconds(kubectl, image, *probe)
                print(f"  the same, {2 * CONNECTIONS} lines in the table: {crowded:.2f} ms, {crowded / nothing:.1f} x")
    kubectl.sh(image, script("forwarder"), "noah-forwarder", "stop", *about)
    without = milliseconds(kubectl, image, *probe)
    alone = milliseconds(kubectl, image, *tool)
    print(f"  no session: {without:.2f} ms, {without / nothing:.1f} x; of that {tool[0]} alone {alone:.2f} ms")


def milliseconds(kubectl: Kubectl, pod: str, *command: str) -> float:
    """CPU of one run: the median of three series."""
    series = []
    for _ in range(3):
        children = kubectl.sh(pod, MEASURE, "measure", str(RUNS), *command).splitlines()[-1]
        series.append(sum(seconds(part) for part in children.split()) * 1000 / RUNS)
    return sorted(series)[1]


def seconds(text: str) -> float:
    """Return the seconds of `0m1.230000s`."""
    minutes, _, rest = text.rstrip("s").partition("m")
    return int(minutes) * 60 + float(rest)


if __name__ == "__main__":
    main()
