"""Three gateways as the chart runs them, in pods of the cluster in which they debug: an upgrade, a drain, a lost node.

Their image is this machine's programs and this tree: test_helm.py builds the real one. Requests and debuggers come by
HAProxy to the addresses of the pods that the Service names. The Service's own address is not used: two clusters run on
one machine, each kube-proxy writes the one table "kube-proxy" of nftables, and the last one wins.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from noah.access.tokens import TokenFile
from noah.core.inject.probe import probe_spec
from noah.core.session.principal import OPERATORS
from noah.demo.debugger import Jdb, jdb
from tests.cluster.conftest import AGENT, Kubectl, until
from tests.cluster.installed import PASSWORD, Installed, reached_from_pods
from tests.cluster.promise.probed_app import CHECKURL, ProbedApp, come_up, pod_of, session_on
from tests.cluster.test_in_cluster import TREE, api_server, mounts
from tests.gateway import Api
from tests.ports import free_port, free_ports
from tests.postgres import Postgres
from tests.replicas import Requests
from tests.reverse_proxies import load_balancer, put_server

pytestmark = [pytest.mark.cluster, pytest.mark.jvm, pytest.mark.postgres, pytest.mark.timeout(900)]

PEOPLE = ("ada", "bob")  # one may have 20 sessions
DRAIN_S = 600
TAKEN_OVER_WITHIN_S = 15.0  # the lease has 10 s of it
BUSY = 6.0  # how many times longer a busy machine may take
PORTS = 40
COME_UP_AT_ONCE = 6  # pods; thirty JVMs that start together take all of a small node for minutes
# Of thirty pods, execs every 5 s take two cores. An app that hangs and that nothing spares is killed after 30 to 40 s.
SELDOM = probe_spec(checkurl=CHECKURL, timeout_seconds=10, period_seconds=10, failure_threshold=3)
SMALL = f"-Xmx16m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 {AGENT}"
RENDERER = """\
#!{python}
import json, sys, yaml
more = json.loads({more!r})
for manifest in yaml.safe_load_all(sys.stdin):
    if manifest is not None and manifest["kind"] == "Deployment":
        pod = manifest["spec"]["template"]["spec"]
        pod["securityContext"] = {{}}
        pod["volumes"] += more["volumes"]
        for container in pod["initContainers"] + pod["containers"]:
            container.update(more["container"])
            container["env"] += more["env"]
            container["volumeMounts"] += more["volumeMounts"]
    print("---")
    print(json.dumps(manifest))
"""


class Gateways:
    """The release, its database and the pods that its Service names."""

    def __init__(self, release: Installed, postgres: Postgres, tokens: dict[str, str], first_port: int) -> None:
        self.release = release
        self.kubectl = release.kubectl
        self.tokens = tokens
        self.debug_ports = f"{first_port}-{first_port + PORTS - 1}"
        self._postgres = postgres

    def pods(self) -> list[dict[str, Any]]:
        """Those that are going away as well."""
        return self.kubectl.list("pods", "app.kubernetes.io/instance=noah")

    def at(self, address: str) -> str:
        """The name of the pod with that address."""
        return next(str(pod["metadata"]["name"]) for pod in self.pods() if pod["status"].get("podIP") == address)

    async def owner_of(self, session: dict[str, Any]) -> str | None:
        """The address of the gateway that has the session."""
        statement = (
            "SELECT g.peer_host FROM sessions s JOIN gateways g ON g.id = s.gateway"
            f" WHERE s.id = '{session['id']}' AND g.lease_until > clock_timestamp()"
        )
        found = await asyncio.to_thread(self._postgres.ask, statement, url=self._postgres.url("gateway"))
        return str(found[0][0]) if found else None

    def evict(self, pod: str) -> None:
        """As `kubectl drain` does."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{self.kubectl.namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def budget(self) -> int:
        """How many gateways may be evicted now."""
        return int(self.kubectl.get("poddisruptionbudget", "noah")["status"].get("disruptionsAllowed", 0))


@pytest.fixture(scope="module")
def gateways(
    kubectl: Kubectl, kubeconfig: Path, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateways]:
    if not (kubeconfig.parent / "run/containerd.sock").is_socket():
        pytest.skip("the cluster's nodes are not this machine, whose programs the pods run")
    folder = tmp_path_factory.mktemp("three")
    first_port, file, now = free_ports(PORTS), folder / "tokens.json", datetime.now(UTC)
    tokens = {name: TokenFile(file).create(name, groups=[OPERATORS], now=now, expires_at=None) for name in PEOPLE}
    kubectl("create", "secret", "generic", "tokens", f"--from-file={file}")
    kubectl("create", "secret", "generic", "database", f"--from-literal=password={PASSWORD}")
    with reached_from_pods(kubectl, postgres) as url:
        values = {
            "image": {"repository": "noah.test/pause", "tag": "1", "pullPolicy": "Never"},
            "replicas": 3,
            "drainSeconds": DRAIN_S,
            "namespaces": [kubectl.namespace],
            "plainHttpFrom": ["10.0.0.0/8"],
            "debug": {"enabled": True, "type": "ClusterIP", "firstPort": first_port, "ports": PORTS},
            "database": {"url": url, "passwordSecret": {"name": "database"}},
            "persistence": {"enabled": False},
            "tokens": {"secretName": "tokens"},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        }
        (folder / "values.json").write_text(json.dumps(values))
        release = Installed(kubectl, kubectl, folder / "values.json", _renderer(folder, api_server(kubectl)))
        release.install_or_upgrade()
        try:
            yield Gateways(release, postgres, tokens, first_port)
        finally:
            release.helm("uninstall", "noah")
            # What is left of a failed test would drain for as long as its debuggers like.
            kubectl("delete", "pods", "-l", "app.kubernetes.io/instance=noah", "--grace-period=1", "--wait=false")


def _renderer(folder: Path, env: dict[str, str]) -> Path:
    """A program that gives the chart's containers this machine's programs, and the API server's own address."""
    volumes, mounted = [], []
    for number, (at, path) in enumerate(mounts().items()):
        volumes.append({"name": f"v{number}", "hostPath": {"path": str(path)}})
        mounted.append({"name": f"v{number}", "mountPath": at, "readOnly": True})
    more = {
        "volumes": volumes,
        "volumeMounts": mounted,
        "env": [{"name": name, "value": value} for name, value in (env | {"PYTHONDONTWRITEBYTECODE": "1"}).items()],
        "container": {"command": [sys.executable, "-m", "noah"], "workingDir": str(TREE)},
    }
    program = folder / "renderer"
    program.write_text(RENDERER.format(python=sys.executable, more=json.dumps(more)))
    program.chmod(0o755)
    return program


@asynccontextmanager
async def balanced(gateways: Gateways, folder: Path, *, places: int = 16) -> AsyncIterator[Api]:
    """The API by HAProxy, which is given each gateway that the Service names as ready, and asks /readyz besides."""
    port = free_port()
    known: list[str] = []

    async def follow() -> None:
        while True:
            slices = await asyncio.to_thread(gateways.kubectl.list, "endpointslices", "kubernetes.io/service-name=noah")
            for endpoint in [one for every in slices for one in every["endpoints"] or []]:
                address = endpoint["addresses"][0]
                if endpoint["conditions"].get("ready") and address not in known:
                    await put_server(folder, len(known), address)
                    known.append(address)
            await asyncio.sleep(1)

    async with (
        load_balancer(folder, [], port=port, debug_ports=gateways.debug_ports, spare=places),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=180)) as http,
        asyncio.TaskGroup() as group,
    ):
        following = group.create_task(follow(), name="endpoints of the Service")
        async with asyncio.timeout(60):
            while len(known) < 3:
                await asyncio.sleep(0.1)
        api = Api(http, f"http://127.0.0.1:{port}", folder / "tokens.json")
        for name, token in gateways.tokens.items():
            api.know(name, token)
        yield api
        following.cancel()


class Debuggers:
    """jdb at a breakpoint in each of some apps."""

    def __init__(self) -> None:
        self.all: list[Jdb] = []
        self._stack = AsyncExitStack()

    async def attach(self, app: ProbedApp, host: str, port: int) -> None:
        debugger = await self._stack.enter_async_context(jdb(host, port))
        debugger.type("stop in App.compute")
        await debugger.says("breakpoint", within=60)
        await app.work()
        await debugger.says("Breakpoint hit", within=60)
        self.all.append(debugger)

    async def go_on(self) -> None:
        """Have each say where its JVM stands, and let it go on."""
        for debugger in self.all:
            debugger.type("where")
            await debugger.says("App.compute", within=60)
            debugger.type("clear App.compute")
            debugger.type("cont")
        await self.leave()

    async def leave(self) -> None:
        self.all.clear()
        await self._stack.aclose()


@asynccontextmanager
async def in_session(
    gateways: Gateways, api: Api, folder: Path, names: list[str]
) -> AsyncIterator[list[tuple[ProbedApp, dict[str, Any]]]]:
    """Apps in pods, probed by the liveness expression, and a session on each."""
    apps: dict[str, ProbedApp] = {}
    try:
        for first in range(0, len(names), COME_UP_AT_ONCE):
            pods = [pod_of(one, options=SMALL, livenessProbe=SELDOM) for one in names[first : first + COME_UP_AT_ONCE]]
            apps |= await come_up(gateways.kubectl, *pods)
        enabled = []
        for n, (name, app) in enumerate(apps.items()):
            target, person = f"pod/here/{gateways.kubectl.namespace}/{name}", PEOPLE[n % len(PEOPLE)]
            enabled.append((app, await session_on(api, target, user=person, allow=["10.0.0.0/8"])))
        yield enabled
        for _, session in enabled:
            await api.end(session, user=session["owner"])
    finally:
        for app in apps.values():
            app.close()
        await asyncio.to_thread(gateways.kubectl, "delete", "pods", *names, "--wait=false", "--grace-period=1")


@pytest.mark.parametrize(("sessions", "breakpoints"), [(3, 2), pytest.param(30, 10, marks=pytest.mark.soak)])
async def test_an_upgrade_and_a_drain_cut_nobody(
    gateways: Gateways, tmp_path: Path, sessions: int, breakpoints: int
) -> None:
    names = [f"app-{n}" for n in range(sessions)]
    async with (
        balanced(gateways, tmp_path) as api,
        in_session(gateways, api, tmp_path, names) as enabled,
        asyncio.TaskGroup() as group,
    ):
        requests = Requests(api)
        asking = group.create_task(requests.ask_for_ever([session for _, session in enabled]), name="requests")
        before = gateways.pods()
        assert {pod["spec"]["terminationGracePeriodSeconds"] for pod in before} == {DRAIN_S + 60}
        debugged, idle = enabled[:breakpoints], enabled[breakpoints:]
        debuggers = Debuggers()
        # The first comes to another gateway than its session's, which passes it on; the others come by HAProxy.
        owner = await gateways.owner_of(debugged[0][1])
        other = next(pod for pod in before if pod["status"]["podIP"] != owner)
        for app, session in debugged:
            host = "127.0.0.1" if debuggers.all else other["status"]["podIP"]
            await debuggers.attach(app, host, session["port"])

        # A node is drained: one gateway at a time. This one stays for the debugger that it passes on.
        await asyncio.to_thread(until, lambda: gateways.budget() == 1, within=60)
        evicted, second = other["metadata"]["name"], next(pod["metadata"]["name"] for pod in before if pod is not other)
        await asyncio.to_thread(gateways.evict, evicted)
        with pytest.raises(AssertionError, match="would violate the pod's disruption budget"):
            await asyncio.to_thread(gateways.evict, second)

        loop = asyncio.get_running_loop()
        since = loop.time()
        more = ("--set", f'config=[sessions]\ndefault_length = "{sessions}m"')
        await asyncio.to_thread(gateways.release.install_or_upgrade, *more)
        # helm does not wait for the end of the last old one.
        await asyncio.to_thread(gateways.kubectl, "rollout", "status", "deployment/noah", "--timeout=300s", timeout=310)
        took_s = loop.time() - since
        new = [pod["metadata"]["name"] for pod in gateways.pods() if "deletionTimestamp" not in pod["metadata"]]
        assert len(new) == 3
        assert not {pod["metadata"]["name"] for pod in before} & set(new)
        for _, session in idle:
            await api.until(session, "ready")
            assert gateways.at(str(await gateways.owner_of(session))) in new
        for _, session in debugged:
            assert (await api.show(session))["status"] == "suspended"
        await debuggers.go_on()
        for _, session in debugged:
            shown = await api.until(session, "ready", within=120)
            assert len(shown["audit"]["connections"]) == 1, shown["audit"]  # nobody had to attach again
        await asyncio.to_thread(until, lambda: len(gateways.pods()) == 3, within=120)
        # By the same ports at the new gateways, which have other addresses.
        again = Debuggers()
        for app, session in debugged[:2]:
            assert (await api.show(session))["port"] == session["port"]
            await again.attach(app, "127.0.0.1", session["port"])
        await again.go_on()
        asking.cancel()
        assert [await app.restarts() for app, _ in enabled] == [0] * sessions
    assert requests.failed == []
    assert requests.answered > 20
    print(f"\nupgraded within {took_s:.0f} s, {requests.answered} requests answered, 0 failed")


async def test_a_gateway_that_is_gone_with_its_node_puts_no_pod_at_risk(gateways: Gateways, tmp_path: Path) -> None:
    """Its pod is deleted with a grace of 0."""
    async with (
        balanced(gateways, tmp_path) as api,
        in_session(gateways, api, tmp_path, ["shop"]) as [(app, session)],
    ):
        debuggers = Debuggers()
        await debuggers.attach(app, "127.0.0.1", session["port"])
        await api.until(session, "suspended")
        owner = await gateways.owner_of(session)
        assert owner is not None
        loop = asyncio.get_running_loop()
        since = loop.time()
        name = gateways.at(owner)
        await asyncio.to_thread(gateways.kubectl, "delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
        async with asyncio.timeout(TAKEN_OVER_WITHIN_S * BUSY):
            while await gateways.owner_of(session) in (owner, None):
                await asyncio.sleep(0.1)
        print(f"\nowned by another gateway after {loop.time() - since:.1f} s")
        shown = await api.until(session, "ready", within=120)
        assert shown["port"] == session["port"]
        await debuggers.leave()
        again = Debuggers()
        await again.attach(app, "127.0.0.1", session["port"])
        await api.until(session, "suspended")
        listening = (await app.exec("ps", "-eo", "stat,args")).count("TCP4-LISTEN")
        await again.go_on()
        assert listening == 1, "one forwarder"
        assert await app.restarts() == 0
