"""Kubernetes clusters as the gateway knows them: requests, pods, commands, and whether they answer at all.

Nothing here fails because a cluster is away, from the start or later: it is then not reachable, for a reason, and is
asked again until it is. Clusters come, go and change with the configuration, while the gateway runs.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

from noah.clock import machine_clock
from noah.core.environment import Metadata, environment_of, parse_rule
from noah.errors import CannotDebug, NoahError, Unavailable
from noah.kube.client import DEADLINE, Client
from noah.kube.event_log import EventLog
from noah.kube.exec.commands import Exec
from noah.kube.informer import Informer
from noah.kube.logs import Logs
from noah.kube.namespaces import Namespaces
from noah.kube.portforward import PortForward
from noah.settings import ClusterSettings

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NODE_KEPT_S = 600.0  # a node keeps its networks; one that is made again under its name may have others
PING = 10.0  # seconds between two looks whether it answers, and for the answer
# Until a cluster whose entry has changed takes over from the one before, even if it has not listed its pods: the
# credentials of the one before may be worth nothing any more.
TAKES_OVER_WITHIN_S = 30.0
STILL_USED_EVERY_S = 2.0  # between two looks whether a cluster that is gone or replaced is still used

# verb, API group, resource, subresource: what the gateway cannot do without; and what it only likes to have.
NEEDED = (
    ("list", "", "pods", ""),
    ("watch", "", "pods", ""),
    ("get", "", "pods", ""),
    # A WebSocket's upgrade is a GET; from 1.35 on it needs create, as kubectl's POST always did.
    ("get", "", "pods", "exec"),
    ("create", "", "pods", "exec"),
)
# For pods whose image has no socat; and for releases: what rolls out, what its containers print, and what the cluster
# says of it.
WANTED = (
    ("get", "", "pods", "portforward"),
    ("create", "", "pods", "portforward"),
    ("create", "events.k8s.io", "events", ""),
    ("list", "", "events", ""),
    ("watch", "", "events", ""),
    ("get", "", "pods", "log"),
    *(("get", "apps", kind, "") for kind in ("deployments", "statefulsets", "daemonsets")),
    *(("list", "apps", kind, "") for kind in ("replicasets", "controllerrevisions")),
)
# Where environments are named by a label or an annotation of namespaces.
TO_READ_NAMESPACES = (("list", "", "namespaces", ""), ("watch", "", "namespaces", ""))
# Where the cluster has a tools_image.
TO_PUT_BESIDE = ("patch", "", "pods", "ephemeralcontainers")


# For the reviews of what people may do who have logged in.
TO_REVIEW = ("create", "authorization.k8s.io", "subjectaccessreviews", "")
# To run commands as the person whose session it is. Limit it by resourceNames to those who debug: the right to
# impersonate anybody is that of a cluster's admin.
TO_IMPERSONATE = (("impersonate", "", "users", ""), ("impersonate", "", "groups", ""))


class Cluster:
    """Lives while it is entered."""

    def __init__(
        self,
        cluster: ClusterSettings,
        *,
        clock: Callable[[], datetime] = machine_clock,
        ping: float = PING,
    ) -> None:
        self.settings = cluster
        self.name = cluster.name
        self.reachable = False
        self.since = clock()  # when it began, or ceased, to be reachable
        self._unreachable: str | None = f'Cluster "{self.name}" has not been asked yet.'
        self.is_configured = True  # False from when its entry is gone, for those who use it to its end
        self._users = 0
        self._clock = clock
        self._ping = ping
        self._client = Client(cluster)
        self._networks: dict[str, tuple[float, Sequence[Network]]] = {}  # of nodes' pods, and when they were asked for
        self._stack = contextlib.AsyncExitStack()
        self._rule = parse_rule(cluster.environment)
        self.informer = Informer(
            self._client,
            namespaces=cluster.namespaces,
            selector=cluster.selector,
            annotation=self._rule.annotation_of_pods if self._rule else None,
        )
        self.namespaces = Namespaces(self._client, self._rule, namespaces=cluster.namespaces)
        self.exec = Exec(self._client)
        self.port_forward = PortForward(self._client)
        self.logs = Logs(self._client)
        self.event_log = EventLog(self._client)

    def __repr__(self) -> str:
        return f"<Cluster {self.name} {'reachable' if self.reachable else 'unreachable'} since {self.since:%F %T}>"

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._client)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        runs = (
            (self.informer.run(), "informer"),
            (self.namespaces.run(), "namespaces"),
            (self.event_log.run(), "events"),
            (self._look(), "look"),
        )
        for work, name in runs:
            self._stack.callback(group.create_task(work, name=f"{self.name} {name}").cancel)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def reason(self) -> str | None:
        """One sentence, when something is wrong: it does not answer, or its pods cannot be watched."""
        return self._unreachable or self.informer.trouble or self.namespaces.trouble

    @property
    def watch_age(self) -> float | None:
        return self.informer.watch_age

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Keep it open for as long as this context lasts, also when it is gone or replaced."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    @property
    def is_used(self) -> bool:
        """True while it is in use, or a stream is open in it, which may be a debugger's."""
        return self._users > 0 or self.exec.counts.in_flight > 0 or self.port_forward.counts.in_flight > 0

    def environment_of(self, namespace: str, pod: Metadata) -> str:
        """Return the environment of a pod, by its metadata and what is known of its namespace."""
        return environment_of(
            self._rule, namespace=namespace, pod=pod, in_namespace=self.namespaces.metadata(namespace)
        )

    async def get(
        self, path: str, *, params: Mapping[str, str] | None = None, timeout: float = DEADLINE
    ) -> dict[str, Any]:
        return await self._client.ask("GET", path, params=params, timeout=timeout)

    async def post(self, path: str, body: Any, *, timeout: float = DEADLINE) -> dict[str, Any]:
        return await self._client.ask("POST", path, body=body, timeout=timeout)

    async def patch(
        self, path: str, body: Any, *, content_type: str = "application/merge-patch+json", timeout: float = DEADLINE
    ) -> dict[str, Any]:
        return await self._client.ask("PATCH", path, body=body, content_type=content_type, timeout=timeout)

    async def delete(
        self, path: str, *, params: Mapping[str, str] | None = None, timeout: float = DEADLINE
    ) -> dict[str, Any]:
        return await self._client.ask("DELETE", path, params=params, timeout=timeout)

    async def pod_networks(self, node: str) -> Sequence[Network]:
        """Return the networks in which the addresses of pods on *node* lie; none if any address does."""
        if self.settings.pod_networks != "nodes":
            return self.settings.pod_networks
        kept = self._networks.get(node)
        now = asyncio.get_running_loop().time()
        if kept is None or now - kept[0] > NODE_KEPT_S:
            spec = (await self.get(f"/api/v1/nodes/{quote(node, safe='')}")).get("spec")
            self._networks[node] = kept = now, _networks_in(spec)
        if not kept[1]:
            raise CannotDebug(
                f'Node {node} of cluster "{self.name}" has no podCIDRs: name the networks of its pods in pod_networks.'
            )
        return kept[1]

    async def missing_rights(self, namespace: str | None = None) -> list[str]:
        """Return what the gateway needs and may not do, as "create pods/exec"; without *namespace*, in all its own."""
        scopes: tuple[str | None, ...] = (namespace,) if namespace else self.settings.namespaces or (None,)
        missing: list[str] = []
        wanted = (*WANTED, TO_PUT_BESIDE) if self.settings.tools_image else WANTED
        if self._rule is not None and self._rule.whose == "namespace":
            missing += [_named(right) for right in TO_READ_NAMESPACES if not await self._may(right, None)]
        for scope in scopes:
            inside = f" in namespace {scope}" if scope else ""
            missing += [_named(right) + inside for right in self._needed if not await self._may(right, scope)]
            missing += [_named(right) + inside + " (optional)" for right in wanted if not await self._may(right, scope)]
        if not await self._may(TO_REVIEW, None):
            missing.append(_named(TO_REVIEW) + " (for people who log in)")
        if self.settings.exec_as == "user":
            impersonate = [_named(right) for right in TO_IMPERSONATE if not await self._may(right, None)]
            missing += [f"{named} (or some of them, by name)" for named in impersonate]
        return missing

    @property
    def _needed(self) -> Sequence[tuple[str, str, str, str]]:
        """Return what the gateway itself has to have: where it runs commands as people, they have the right to exec."""
        return [right for right in NEEDED if self.settings.exec_as == "gateway" or right[3] != "exec"]

    async def _may(self, right: tuple[str, str, str, str], namespace: str | None) -> bool:
        verb, group, resource, subresource = right
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        if namespace:
            attributes["namespace"] = namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await self.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        status = answer.get("status")
        return isinstance(status, Mapping) and status.get("allowed") is True

    async def _look(self) -> None:
        while True:
            try:
                await self.get("/version", timeout=self._ping)
            except Unavailable as e:
                self._answers(e.sentence)
            except NoahError:
                self._answers(None)  # it refuses to say its version, so it is there
            except Exception:  # the task's outermost loop
                log.exception("cluster %s: looking whether it answers failed", self.name)
            else:
                self._answers(None)
            await asyncio.sleep(self._ping)

    def _answers(self, unreachable: str | None) -> None:
        self._unreachable = unreachable
        if self.reachable is (unreachable is not None):
            self.reachable = not self.reachable
            self.since = self._clock()
            log.log(
                logging.INFO if self.reachable else logging.WARNING,
                "cluster %s: %s",
                self.name,
                unreachable or "reachable",
            )


async def _until_unused(cluster: Cluster) -> None:
    while True:
        await asyncio.sleep(STILL_USED_EVERY_S)
        if not cluster.is_used:
            return


# The cluster as it was and as it is, one of which may be None.
Follow = Callable[[Cluster | None, Cluster | None], Awaitable[None]]


class Clusters(Mapping[str, Cluster]):
    """All clusters, by their names, as the configuration has them now.

    One that is gone or replaced is open until nobody uses it any more, so that sessions can be ended in it and no
    debugger is cut.
    """

    def __init__(self, group: asyncio.TaskGroup, *, clock: Callable[[], datetime] = machine_clock) -> None:
        self._group = group
        self._clock = clock
        self._known: dict[str, Cluster] = {}
        self._over: dict[Cluster, asyncio.Event] = {}  # of each that is open: set when it is gone or replaced
        self._tasks: set[asyncio.Task[None]] = set()
        self._followers: list[Follow] = []

    def __getitem__(self, name: str) -> Cluster:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def follow(self, *changed: Follow) -> None:
        """Have each of *changed* awaited, one after the other, with each change from now on."""
        self._followers.extend(changed)

    async def configure(self, wanted: Iterable[ClusterSettings]) -> None:
        """Have these clusters from now on; one whose settings have changed is replaced. One call at a time."""
        settings = {one.name: one for one in wanted}
        async with asyncio.TaskGroup() as group:
            for name in dict.fromkeys((*self._known, *settings)):
                before, after = self._known.get(name), settings.get(name)
                if before is None or before.settings != after:
                    group.create_task(self._change(name, before, after), name=f"configure cluster {name}")
        self._known = {name: self._known[name] for name in settings}

    async def _change(self, name: str, before: Cluster | None, settings: ClusterSettings | None) -> None:
        now = None if settings is None else self._open(settings)
        if now is None:
            assert before is not None
            before.is_configured = False
            del self._known[name]
        else:
            if before is not None:
                await now.informer.wait_synced(TAKES_OVER_WITHIN_S)
            self._known[name] = now
        for follower in self._followers:
            await follower(before, now)
        if before is not None:
            self._over[before].set()

    def _open(self, settings: ClusterSettings) -> Cluster:
        cluster = Cluster(settings, clock=self._clock)
        over = self._over[cluster] = asyncio.Event()
        task = self._group.create_task(self._keep(cluster, over), name=f"cluster {cluster.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return cluster

    async def _keep(self, cluster: Cluster, over: asyncio.Event) -> None:
        try:
            async with cluster:
                await over.wait()
                await _until_unused(cluster)
        finally:
            del self._over[cluster]
        log.info("cluster %s: closed, as the configuration had it before", cluster.name)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def open_clusters(
    settings: Iterable[ClusterSettings], *, clock: Callable[[], datetime] = machine_clock
) -> AsyncIterator[Clusters]:
    """They are open as long as this context lasts."""
    async with asyncio.TaskGroup() as group:
        clusters = Clusters(group, clock=clock)
        await clusters.configure(settings)
        try:
            yield clusters
        finally:
            clusters.close()


def _networks_in(spec: Any) -> Sequence[Network]:
    """Return the networks of a v1.NodeSpec; none that is malformed."""
    texts = (spec.get("podCIDRs") or (spec.get("podCIDR"),)) if isinstance(spec, Mapping) else ()
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):
            found.append(ipaddress.ip_network(str(text)))
    return found


def _named(right: tuple[str, str, str, str]) -> str:
    verb, group, resource, subresource = right
    return f"{verb} {resource}" + (f".{group}" if group else "") + (f"/{subresource}" if subresource else "")
