"""Metrics for Prometheus. All but one are read from the objects themselves when they are scraped."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from aiohttp import web
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from noah.core.session.rights import Right
from noah.core.session.session import Status
from noah.core.session.target import PodTarget, Target
from noah.kube.clusters import Cluster
from noah.sessions.broker import Broker
from noah.sessions.live_session import LiveSession, Traffic
from noah.web.api.health import HEALTH, Health
from noah.web.api.inventory import InventoryView
from noah.web.api.route import Call, Routes
from noah.web.wire import Nothing

ROUTES = Routes()
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# seconds; a warm pod takes below one, an image that is pulled or a JVM that starts takes minutes
BUCKETS = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)
LAG_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)  # seconds; no single input may take more than 0.05


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._ready = Histogram(
            "noah_enable_to_ready_seconds",
            "From the request to an open port with a JVM behind it, by kind of target; pods by cluster.",
            labelnames=("kind", "cluster"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._lag = Histogram(
            "noah_event_loop_lag_seconds",
            "How late the event loop is, measured ten times a second: everybody waits for so long.",
            buckets=LAG_BUCKETS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def took(self, target: Target, seconds: float) -> None:
        self._ready.labels(target.kind, target.cluster if isinstance(target, PodTarget) else "").observe(seconds)

    def lagged(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def read_from(self, reader: "GatewayReader") -> None:
        self._registry.register(reader)

    def text(self) -> bytes:
        return generate_latest(self._registry)


METRICS = web.AppKey("metrics", Metrics)


@ROUTES.raw("/metrics", right=Right.OPERATE, summary="For Prometheus.", content_types=("text/plain",))
async def scrape(call: Call[Nothing, Nothing]) -> web.Response:
    app = call.request.app
    await app[HEALTH].look()
    return web.Response(body=app[METRICS].text(), headers={"Content-Type": CONTENT_TYPE})


class GatewayReader(Collector):
    def __init__(
        self,
        *,
        broker: Broker,
        clusters: Mapping[str, Cluster],
        health: Health,
        inventory: InventoryView,
        clock: Callable[[], datetime],
    ) -> None:
        self._inventory = inventory
        self._clock = clock
        self._broker = broker
        self._clusters = clusters
        self._health = health

    def describe(self) -> Iterable[Metric]:
        return ()  # otherwise the registry collects once to learn the names

    def collect(self) -> Iterator[Metric]:
        live = self._broker.own()  # each gateway shows its own: together they are all
        yield _sessions(live)
        yield GaugeMetricFamily(
            "noah_suspended_longest_seconds",
            "How long the VM has stood still that has for longest.",
            self._longest(live),
        )
        yield from _traffic(self._broker.traffic())
        yield from _clusters(self._clusters)
        yield GaugeMetricFamily("noah_database_up", "Whether the database answers.", self._health.database is None)
        about = "Whether clusters, hosts, JVMs and rights are those of the configuration as it is now."
        yield GaugeMetricFamily("noah_configuration_current", about, self._health.not_followed() is None)

        about = "What would be gone, of more than half at once, if somebody confirmed it."
        waiting = {part.what: float(len(part.refused)) for part in self._inventory.parts}
        yield _family("noah_inventory_removals_waiting", about, "part", waiting)

    def _longest(self, live: Iterable[LiveSession]) -> float:
        vms = (one.slot.vm for one in live if one.slot is not None)
        since = [vm.since for vm in vms if vm is not None and vm.stands]
        return (self._clock() - min(since)).total_seconds() if since else 0.0


def _sessions(live: Iterable[LiveSession]) -> Metric:
    count = Counter(one.status for one in live)
    family = GaugeMetricFamily("noah_sessions", "Live sessions, by status.", labels=["status"])
    for status in Status:
        if status is not Status.ENDED:
            family.add_metric([status], count[status])
    return family


def _traffic(traffic: Traffic) -> Iterator[Metric]:
    carried = {"in": traffic.carried["in"], "out": traffic.carried["out"]}
    yield _counter("noah_bytes", "Bytes that debug ports carried, in from debuggers and out.", "direction", carried)
    yield _counter("noah_refused", "Connections that debug ports refused.", "reason", traffic.refused)
    about = "For how long VMs stood still while debuggers were attached, in all."
    yield CounterMetricFamily("noah_suspended_seconds", about, traffic.stood_s)
    about = "Lines of `noah connect` that broke off; most come back by themselves."
    yield CounterMetricFamily("noah_lines_lost", about, traffic.lines_lost)


def _clusters(clusters: Mapping[str, Cluster]) -> Iterator[Metric]:
    def gauge(name: str, about: str, value: Callable[[Cluster], float | None]) -> Metric:
        return _family(name, about, "cluster", {c.name: value(c) for c in clusters.values()})

    yield gauge("noah_cluster_reachable", "Whether the cluster's API answers.", lambda c: c.reachable)
    yield gauge("noah_cluster_pods", "Pods that are held in memory.", lambda c: len(c.informer))
    yield gauge("noah_cluster_watch_age_seconds", "Since the watch last said something.", lambda c: c.watch_age)
    yield gauge("noah_execs_in_flight", "Exec streams that are open.", lambda c: c.exec.counts.in_flight)
    counts = {cluster.name: cluster.exec.counts for cluster in clusters.values()}
    started = {name: one.started for name, one in counts.items()}
    yield _counter("noah_execs_started", "Commands started in containers.", "cluster", started)
    about = "Commands that did not begin, or whose end is unknown, by the error's code."
    failed = CounterMetricFamily("noah_execs_failed", about, labels=["cluster", "reason"])
    for name, one in counts.items():
        for code, count in one.failed.items():
            failed.add_metric([name, code], count)
    yield failed


def _counter(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _family(name: str, about: str, label: str, values: Mapping[str, float | None]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    return family
