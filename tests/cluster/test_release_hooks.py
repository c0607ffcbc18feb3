"""A release on a real cluster: its order by timestamps, and a rollout unnoticed by who asks for healthcheck.html."""

import asyncio
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from noah.cli.manifests import manifests
from noah.core.inject.manifest import inject, is_injected
from tests.cluster.conftest import Kubectl, until
from tests.cluster.webhooks import injecting

pytestmark = pytest.mark.cluster

FILES = sorted((Path(__file__).parents[1] / "manifests").iterdir())

# The image has no hooks: a volume brings them, as it may bring an app's configuration.
HOOKS = {
    "prestart.sh": '#!/bin/sh\necho "preStart as $(id -u) in $PWD"; date +%s.%N\n',
    "preonline.sh": "#!/bin/sh\ndate +%s.%N; sleep 3; echo warmed up; date +%s.%N\n",
}


def shop(name: str, *, replicas: int, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": "noah.test/java17:1",
        "imagePullPolicy": "Never",
        "command": ["java", "-Xmx32m", "-XX:TieredStopAtLevel=1", "-cp", "/app", "App"],
        "ports": [{"name": "http", "containerPort": 8080}],
        # Its sidecar has some then, too; of BestEffort all pods of a node share what the least of the others gets.
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "livenessProbe": {"httpGet": {"path": "/checkurl", "port": "http"}, "periodSeconds": 2},
        "startupProbe": {"httpGet": {"path": "/checkurl", "port": "http"}, "periodSeconds": 1, "failureThreshold": 90},
        "volumeMounts": [{"name": "hooks", "mountPath": "/app/noah"}],
    }
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 15,
            "containers": [container],
            "volumes": [{"name": "hooks", "configMap": {"name": "hooks", "defaultMode": 0o755}}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }


@pytest.fixture(scope="module")
def hooks(kubectl: Kubectl) -> None:
    kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hooks"}, "data": HOOKS})


@pytest.mark.usefixtures("hooks")
async def test_prestart_app_checkurl_preonline_healthcheck_come_in_this_order(kubectl: Kubectl, tmp_path: Path) -> None:
    async with injecting(kubectl, tmp_path):
        name = _injected(kubectl, "ordered")

    def at(container: str, text: str) -> datetime:
        lines = kubectl("logs", name, "-c", container, "--timestamps").splitlines()
        (when,) = [line.split(" ", 1)[0] for line in lines if text in line]
        return _time(when)

    until(lambda: _started(kubectl, name), within=60)
    # Visible while preOnline still runs, when nothing is online yet.
    until(lambda: "preOnline runs" in kubectl("logs", name, "-c", "noah-preonline"), within=90)
    kubectl("exec", name, "-c", "app", "--", "sh", "-c", "[ ! -e /noah/healthcheck.html ]")
    assert _ready(kubectl, name) is False
    until(lambda: _ready(kubectl, name), within=60)

    order = [
        at("app", "[preStart] preStart as 0 in /"),
        at("app", "app started on 8080"),
        at("noah-preonline", "checkurl passes"),
        at("noah-preonline", "[preOnline] warmed up"),
        at("noah-preonline", "online: healthcheck.html is there"),
    ]
    assert all(before < after for before, after in itertools.pairwise(order)), order
    assert kubectl("exec", name, "-c", "app", "--", "cat", "/noah/healthcheck.html") == "online\n"
    # java is PID 1, and nothing of the hooks is left in its container.
    assert kubectl("exec", name, "-c", "app", "--", "cat", "/proc/1/comm") == "java\n"
    assert "Z" not in kubectl("exec", name, "-c", "app", "--", "ps", "-eo", "stat=").split()


def _injected(kubectl: Kubectl, app: str) -> str:
    """The name of the Deployment's pod, as the webhook has made it."""
    deployment = shop(app, replicas=1)
    deployment["spec"]["template"]["metadata"]["labels"]["debug.noah/inject"] = "true"
    kubectl.apply(deployment)

    def made() -> bool:
        pods = kubectl.list("pods", f"app={app}")
        if pods and not is_injected(pods[0]):
            # The API server has not known of the webhook yet.
            kubectl("delete", "pod", pods[0]["metadata"]["name"], "--now")
        return bool(pods) and is_injected(pods[0])

    until(made, within=60)
    return str(kubectl.list("pods", f"app={app}")[0]["metadata"]["name"])


@pytest.mark.usefixtures("hooks")
def test_a_failed_preonline_keeps_traffic_away_and_is_an_event_on_the_pod(kubectl: Kubectl) -> None:
    failing = shop("unready", replicas=1)
    failing["spec"]["template"]["metadata"]["annotations"] = {
        "debug.noah/preonline": "/bin/false",
        "debug.noah/preonline-tries": "1",
    }
    kubectl.apply(inject(failing).manifest)
    sentence = "preOnline failed for good: /bin/false failed with exit code 1; there will be no healthcheck.html"
    until(lambda: any(sentence in event["message"] for event in _events(kubectl, "unready")), within=90)
    (pod,) = kubectl.list("pods", "app=unready")
    name = pod["metadata"]["name"]
    assert sentence in kubectl("logs", name, "-c", "noah-preonline")
    assert _ready(kubectl, name) is False
    # The app itself lives on, to be looked at.
    assert kubectl("exec", name, "-c", "app", "--", "sh", "-c", "cat /proc/1/comm; ls /noah") == "java\n"
    kubectl("delete", "deployment", "unready")


@pytest.mark.usefixtures("hooks")
def test_a_failed_prestart_is_told_by_the_termination_message(kubectl: Kubectl) -> None:
    failing = shop("failing", replicas=1)
    failing["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = []
    failing["spec"]["template"]["metadata"]["annotations"] = {"debug.noah/prestart": "/bin/false"}
    kubectl.apply(inject(failing).manifest)

    def message() -> str:
        for pod in kubectl.list("pods", "app=failing"):
            for status in pod["status"].get("containerStatuses") or ():
                for state in (status.get("state") or {}, status.get("lastState") or {}):
                    if "terminated" in state:
                        return str(state["terminated"].get("message"))
        return ""

    until(message, within=60)
    assert message() == "noah: preStart /bin/false failed with exit code 1\n"
    kubectl("delete", "deployment", "failing")


@pytest.mark.usefixtures("hooks")
async def test_a_rollout_is_not_noticed_by_who_asks_for_healthcheck(kubectl: Kubectl) -> None:
    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    kubectl.apply(inject(shop("rolled", replicas=3, strategy=strategy)).manifest)
    await asyncio.to_thread(kubectl, "rollout", "status", "deployment/rolled", "--timeout=150s", timeout=160)
    before = set(_addresses(kubectl, "rolled"))
    balancer = Balancer(lambda: _addresses(kubectl, "rolled"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(balancer.look(), name="look"), group.create_task(balancer.call(), name="call")]
        await asyncio.to_thread(until, lambda: set(balancer.called) == before, within=60)
        await asyncio.to_thread(kubectl, "rollout", "restart", "deployment/rolled")
        await asyncio.to_thread(kubectl, "rollout", "status", "deployment/rolled", "--timeout=200s", timeout=210)
        # The last of the old ones is only now about to go.
        await asyncio.to_thread(until, lambda: before.isdisjoint(_addresses(kubectl, "rolled")), within=60)
        await asyncio.to_thread(until, lambda: before.isdisjoint(balancer.online), within=10)
        for task in tasks:
            task.cancel()
    assert balancer.failed == []
    after = set(_addresses(kubectl, "rolled"))
    assert len(before) == len(after) == 3
    assert set(balancer.called) == before | after
    assert sum(balancer.called.values()) >= 0.9 * Balancer.PER_SECOND * balancer.seconds
    kubectl("delete", "deployment", "rolled")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_api_server_accepts_what_is_injected(kubectl: Kubectl, file: Path) -> None:
    injected = manifests.inject(file.read_bytes().decode()).text
    kubectl("apply", "--dry-run=server", "-f", "-", stdin=injected.removeprefix("\ufeff"))


LATE = "no answer in time"


class Balancer:
    """Looks for healthcheck.html twice each second, and calls only where it was there, each in its turn.

    As HAProxy does by default, it believes the third answer that is late; on a busy machine all may be late at once.
    """

    PER_SECOND = 100

    def __init__(self, addresses: Callable[[], list[str]]) -> None:
        self.addresses = addresses
        self.online: list[str] = []
        self.called: Counter[str] = Counter()
        self.failed: list[str] = []
        self.seconds = 0.0  # since the first call

    async def look(self) -> None:
        late: Counter[str] = Counter()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as http:
            while True:
                known = await asyncio.to_thread(self.addresses)
                answers = await asyncio.gather(*(self._get(http, a, "/healthcheck.html") for a in known))
                was_online = set(self.online)
                late = Counter({a: late[a] + 1 for a, answer in zip(known, answers, strict=True) if answer == LATE})
                self.online = [
                    a
                    for a, answer in zip(known, answers, strict=True)
                    if answer == "200" or (a in was_online and 1 <= late[a] < 3)
                ]
                await asyncio.sleep(0.5)

    async def call(self) -> None:
        while not self.online:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as group:
            for number in itertools.count():
                # By the clock: what a busy machine has let pass is made up for.
                await asyncio.sleep(max(0.0, began + number / self.PER_SECOND - time.monotonic()))
                self.seconds = time.monotonic() - began
                if self.online:
                    group.create_task(self._call(http, self.online[number % len(self.online)]), name="call")
                else:
                    self.failed.append("nobody is online")

    async def _call(self, http: aiohttp.ClientSession, address: str) -> None:
        self.called[address] += 1
        if (answer := await self._get(http, address, "/work")) != "200":
            self.failed.append(f"{address}: {answer}")

    async def _get(self, http: aiohttp.ClientSession, address: str, path: str) -> str:
        try:
            async with http.get(f"http://{address}:8080{path}") as answer:
                await answer.read()
                return str(answer.status)
        except TimeoutError:
            return LATE
        except aiohttp.ClientError as e:
            return repr(e)


def _addresses(kubectl: Kubectl, app: str) -> list[str]:
    return [pod["status"]["podIP"] for pod in kubectl.list("pods", f"app={app}") if pod["status"].get("podIP")]


def _events(kubectl: Kubectl, app: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(kubectl("get", "events", "-o", "json"))["items"]
    return [event for event in events if event["involvedObject"]["name"].startswith(app)]


def _ready(kubectl: Kubectl, name: str) -> bool:
    conditions = kubectl.get("pod", name)["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _started(kubectl: Kubectl, name: str) -> bool:
    statuses = kubectl.get("pod", name)["status"].get("containerStatuses") or ()
    return any("running" in status["state"] for status in statuses)


def _time(rfc3339: str) -> datetime:
    """With the nanoseconds that a kubelet writes cut to microseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", rfc3339))
