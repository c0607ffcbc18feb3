"""Wiring: settings -> store, clusters, kinds of target, broker, site; and the order in which they start and stop.

Stopping: readyz says so first, then event streams end, then the site, the ports, the clusters. Sessions stay: the next
gateway goes on with them. If there are other gateways, they get the sessions before, each when its debugger has gone.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from noah import __version__
from noah.access.authenticator import Authenticator
from noah.access.kubernetes_tokens import KubernetesTokens
from noah.access.oidc import OidcProvider
from noah.access.permissions import open_permissions
from noah.access.trail import open_trail
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.clock import machine_clock, unstopped_clock
from noah.core.printable import printable
from noah.errors import BadSettings, NoahError, Unavailable
from noah.http_limits import LIMITS, LimitedSite
from noah.inventory import following, make_inventory
from noah.keep_running import keep_running, repeat
from noah.kube.cluster_sources import open_all_clusters
from noah.loop_lag import measure_lag
from noah.peers.identity import Identity
from noah.process_log import log_to_stderr
from noah.releases.releases import open_releases
from noah.sessions.broker import Broker, PeerPort, open_broker
from noah.settings import GatewaySettings, Settings, read_settings, settings_file
from noah.store import Store, upgrade
from noah.store.feed import Feed
from noah.store.gateways import AboutGateway
from noah.store.lease import Lease
from noah.targets.base import Kind
from noah.targets.host.hosts import open_hosts
from noah.targets.host.inventory import open_host_sources
from noah.targets.local import open_locals
from noah.targets.pod.doctor import Doctor
from noah.targets.pod.pods import Pods
from noah.traces import tracing
from noah.web.api.health import open_health
from noah.web.api.metrics import Metrics
from noah.web.site import LONGEST_LINE, make_site
from noah.web.tls import LOOK_EVERY_S, Tls
from noah.web.unix_socket import listening_at
from noah.web.until_shutdown import UNTIL_SHUTDOWN, UntilShutdown
from noah.webhook.process import webhook_process

log = logging.getLogger(__name__)

KEPT = timedelta(days=30)  # how long an ended session can be looked up
TIDY_EVERY_S = 3600.0
SWITCH_INTERVAL_S = 0.0005  # for which debuggers' bytes wait for a thread: one that reads a configuration takes seconds
MOST_DESCRIPTORS = 65_536
# Seconds that open requests are given, and then as many again to take notice that they are canceled; event streams have
# ended by then.
SHUTDOWN = 2.0


@dataclass(slots=True)
class Clock:
    """The database's time, by which sessions begin and end, without asking it each time.

    Since it was asked, the seconds are counted that have gone by: the machine's clock may be wrong, or be put right.
    """

    database: datetime | None = None  # its time; None: it is this machine's
    counted_s: float = 0.0  # then

    def __call__(self) -> datetime:
        if self.database is None:
            return machine_clock()
        return self.database + timedelta(seconds=unstopped_clock() - self.counted_s)

    async def set_by(self, store: Store) -> None:
        if store.is_shared:
            before = unstopped_clock()
            self.database = await store.now()
            self.counted_s = (before + unstopped_clock()) / 2


@contextlib.asynccontextmanager
async def gateway(settings: Settings, file: Path | None = None) -> AsyncIterator["RunningGateway"]:
    """Serve as long as the context lasts. BadSettings or Unavailable if that is not possible.

    *file*: where the settings are from; what inventory.py names follows it while the gateway runs.
    """
    clock = Clock()
    _spare_the_collector()
    async with contextlib.AsyncExitStack() as stack:
        store = Store.open(settings.gateway.database)
        stack.push_async_callback(store.close)
        await store.check()
        peers = PeerPort(Identity(), stack.enter_context(_bound_for_peers(settings)) if store.is_shared else None)
        about = await _about(settings.gateway, store, peers)
        lease = await stack.enter_async_context(store.lease(about))
        await clock.set_by(store)
        providers = {
            one.name: await stack.enter_async_context(OidcProvider.open(one, clock=clock))
            for one in settings.access.oidc
        }
        webhook_served = await _begin_webhook(stack, settings)
        # Before anything touches a session: a gateway that cannot listen must leave them to the one that does.
        listener = stack.enter_context(_bound(settings))
        trail = await stack.enter_async_context(open_trail(store.trail, clock=clock, lines_to=settings.trail.lines))
        await trail.note_grants(settings.grants)
        hints = await stack.enter_async_context(store.hints())
        feed = await stack.enter_async_context(store.feed(hints, clock=clock))
        clusters, cluster_sources = await stack.enter_async_context(open_all_clusters(settings, clock=clock))
        kubernetes = KubernetesTokens(settings.access.kubernetes, clusters)
        authenticator = Authenticator(settings, store, providers=providers, kubernetes=kubernetes, clock=clock)
        catalog, holders, metrics = Catalog(), Holders(), Metrics()
        permissions = open_permissions(settings, clusters, catalog)
        pods = Pods(clusters, catalog=catalog, holders=holders, is_complete=lambda: cluster_sources.is_complete)
        known_hosts, host_sources = await stack.enter_async_context(open_host_sources(settings))
        hosts = await stack.enter_async_context(
            open_hosts(
                known_hosts,
                store.edits,
                catalog=catalog,
                holders=holders,
                is_complete=lambda: host_sources.is_complete,
                lease=lease,
                claims=store.claims,
            )
        )
        local = await stack.enter_async_context(open_locals(settings.local, catalog=catalog))
        kinds: Mapping[str, Kind] = {"pod": pods, "host": hosts, "local": local}
        broker = await stack.enter_async_context(
            open_broker(
                kinds=kinds,
                catalog=catalog,
                holders=holders,
                lease=lease,
                peers=peers,
                store=store,
                hints=hints,
                feed=feed,
                settings=settings,
                clock=clock,
                took=metrics.took,
                permissions=permissions,
                trail=trail,
            )
        )
        releases = await stack.enter_async_context(
            open_releases(
                clusters=clusters, store=store, lease=lease, hints=hints, feed=feed, live_in=broker.live_in, clock=clock
            )
        )
        clusters.follow(pods.follow, releases.follow, broker.follow)
        inventory = make_inventory(
            file,
            settings,
            clusters=clusters,
            cluster_sources=cluster_sources,
            hosts=hosts,
            host_sources=host_sources,
            local=local,
            permissions=permissions,
            trail=trail,
            reconfigured=broker.reconfigure,
        )
        await stack.enter_async_context(following(inventory))
        await stack.enter_async_context(tidying(store, lease, clock, keep_trail=settings.trail.keep))
        await stack.enter_async_context(_measuring_lag(metrics.lagged))
        await webhook_served
        health = await stack.enter_async_context(
            open_health(
                store=store,
                lease=lease,
                stopping=lambda: serving.is_stopping,
                not_followed=lambda: inventory.trouble,
            )
        )
        site = make_site(
            authenticator=authenticator,
            catalog=catalog,
            holders=holders,
            permissions=permissions,
            broker=broker,
            releases=releases,
            feed=feed,
            clusters=clusters,
            doctor=Doctor(pods),
            hosts=hosts,
            settings=settings,
            store=store,
            trail=trail,
            metrics=metrics,
            clock=clock,
            health=health,
            inventory=inventory,
        )
        serving = RunningGateway(broker, feed, site[UNTIL_SHUTDOWN])
        url = await stack.enter_async_context(_listening(site, listener, settings))
        log.info("noah %s serves %s", __version__, url)
        gc.freeze()
        _show_first_login(authenticator, settings.gateway, url)
        serving.url = url
        try:
            yield serving
        finally:
            serving.stop()
            log.info("noah stops; sessions stay")


class RunningGateway:
    """A gateway that serves, or is about to."""

    def __init__(self, broker: Broker, feed: Feed, until_shutdown: UntilShutdown) -> None:
        self.url = ""
        self.is_stopping = False  # so that load balancers send nothing more
        self._broker = broker
        self._feed = feed
        self._until_shutdown = until_shutdown

    def stop(self) -> None:
        """End event streams and whatever else waits: clients begin again, with another gateway if there is one."""
        self.is_stopping = True
        self._feed.close()
        self._until_shutdown.end()

    async def drain(self) -> None:
        """Give the sessions to other gateways; return when nobody needs this one any more."""
        self.stop()
        await self._broker.drain()


def _show_first_login(authenticator: Authenticator, gateway: GatewaySettings, url: str) -> None:
    if token := authenticator.first_token():
        # Behind "#": browsers send that part of an address to nobody, and no proxy logs it.
        here = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        link = f"{gateway.public_url or here}".rstrip("/") + f"/login#token={token}"
        print(f"Nobody can log in yet. This link is for the first one, and is shown once:\n  {link}", flush=True)


async def _about(gateway: GatewaySettings, store: Store, peers: PeerPort) -> AboutGateway:
    """Return what the other gateways learn of this one."""
    name = socket.gethostname()[:300]
    if peers.listener is None:
        return AboutGateway(name=name, version=__version__)
    host, port = peers.listener.getsockname()[:2]
    if gateway.peer_address is not None:
        host = gateway.peer_address
    elif host in ("0.0.0.0", "::"):
        host = await asyncio.to_thread(_own_address_towards, store.server_host)
    certificate = ssl.DER_cert_to_PEM_cert(peers.identity.certificate)
    return AboutGateway(name=name, version=__version__, peer_host=host, peer_port=port, certificate=certificate)


def _own_address_towards(host: str) -> str:
    """Return the address of this machine from which *host* is reached. BadSettings if there is none."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # which sends nothing
            return str(probe.getsockname()[0])
    except OSError as e:
        raise BadSettings(
            f"The address at which other gateways reach this one is not known ({host}: {e.strerror}): set peer_address "
            "of [gateway]."
        ) from None


async def _begin_webhook(stack: contextlib.AsyncExitStack, settings: Settings) -> Awaitable[None]:
    """Return what to wait for before the webhook is served: it starts beside the rest."""
    if settings.webhook is not None:
        return await stack.enter_async_context(webhook_process(settings.webhook))
    nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    nothing.set_result(None)
    return nothing


def _bound(settings: Settings) -> contextlib.AbstractContextManager[socket.socket]:
    """Return a listening socket; clients wait until they are served. BadSettings if another program has the address."""
    gateway = settings.gateway
    if gateway.socket_path is not None:
        return listening_at(gateway.socket_path)
    return _bound_at(gateway.host, gateway.port, gateway.listen)


def _bound_for_peers(settings: Settings) -> socket.socket:
    host, port = settings.gateway.peer_host_and_port
    return _bound_at(host, port, settings.gateway.peer_listen or host)


def _bound_at(host: str, port: int, name: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen()
        except OSError:
            bound.close()
            raise
    except OSError as e:
        raise BadSettings(f"The gateway cannot listen on {name}: {e.strerror}.") from None
    return bound


@contextlib.asynccontextmanager
async def _listening(site: web.Application, listener: socket.socket, settings: Settings) -> AsyncIterator[str]:
    runner = web.AppRunner(
        site, access_log=None, shutdown_timeout=SHUTDOWN, max_line_size=LONGEST_LINE, max_field_size=LONGEST_LINE
    )
    tls = _tls(settings)
    await runner.setup()
    try:
        serving = LimitedSite(runner, listener, site[LIMITS], ssl_context=tls.context if tls else None)
        await serving.start()
        async with asyncio.TaskGroup() as group:
            renewing = tls and group.create_task(
                repeat(tls.renew, name="renew TLS", every_s=LOOK_EVERY_S), name="renew TLS"
            )
            yield settings.gateway.listen if settings.gateway.socket_path else serving.name
            if renewing:
                renewing.cancel()
    finally:
        await runner.cleanup()


def _tls(settings: Settings) -> Tls | None:
    gateway, proxy = settings.gateway, settings.access.proxy
    if gateway.tls_certificate is None or gateway.tls_key is None:
        return None
    return Tls(gateway.tls_certificate, gateway.tls_key, client_ca=proxy.client_ca if proxy else None)


@contextlib.asynccontextmanager
async def tidying(
    store: Store, lease: Lease, clock: Clock, *, keep_trail: timedelta, every_s: float = TIDY_EVERY_S
) -> AsyncIterator[None]:
    async def tidy() -> None:
        await clock.set_by(store)
        # One of several gateways does it, for as long as it is there.
        if await store.claims.take("tidy", "", gateway=lease.gateway_id):
            await store.forget_before(KEPT, trail=keep_trail)

    async with asyncio.TaskGroup() as group:
        name = "tidy the store"
        task = group.create_task(repeat(tidy, name=name, every_s=every_s), name=name)
        yield
        task.cancel()


def _spare_the_collector() -> None:
    """Have full collections not look through what lives as long as the gateway: that takes 60 ms each time.

    What is made until it serves is left out too, without another look at all of it: debuggers may be attached by then.
    """
    gc.collect()
    gc.freeze()


@contextlib.asynccontextmanager
async def _measuring_lag(observe: Callable[[float], None]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        name = "measure the event loop's lag"
        task = group.create_task(keep_running(lambda: measure_lag(observe), name), name=name)
        yield
        task.cancel()


async def _serve(settings: Settings, file: Path) -> None:
    drain, stop = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    # What wants it to end waits for the debuggers that it has; a second one, or Ctrl-C, does not.
    loop.add_signal_handler(signal.SIGTERM, lambda: stop.set() if drain.is_set() else drain.set())
    loop.add_signal_handler(signal.SIGINT, stop.set)
    # What SIGHUP asks for is done anyway while the gateway starts; it must not end it.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    async with tracing(), gateway(settings, file) as serving:
        print(f"The gateway serves {serving.url}", flush=True)
        _tell_systemd("READY=1")
        await _until_it_may_end(serving, drain, stop, drain_for=settings.gateway.drain_for)
        _tell_systemd("STOPPING=1")


async def _until_it_may_end(
    serving: RunningGateway, drain: asyncio.Event, stop: asyncio.Event, *, drain_for: timedelta
) -> None:
    """Return at *stop*, or after *drain* when nobody needs the gateway any more, at most for that time."""

    async def drained() -> None:
        await drain.wait()
        log.info("noah is to stop: its sessions go to other gateways, if there are any")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_for.total_seconds()):
                await keep_running(serving.drain, "drain")
        stop.set()

    async with asyncio.TaskGroup() as group:
        draining = group.create_task(drained(), name="drain")
        await stop.wait()
        draining.cancel()


def _tell_systemd(state: str) -> None:
    """Send *state* to the socket that systemd names to a unit of Type=notify."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    if name.startswith("@"):  # an abstract one
        name = "\0" + name[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.connect(name)
            notified.send(state.encode())
    except OSError as e:
        log.warning("systemd cannot be notified of %s: %s", state, e.strerror)


def run_until_done(main: Coroutine[Any, Any, None]) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main)
    except BaseExceptionGroup as group:
        # What goes wrong inside of a task group's block comes out of each group around it as a group of one.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: it moves bulk 10 % faster; everything works without it."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _allow_descriptors() -> None:
    """Have as many as the system grants: many begin with 1,024, for programs that cannot take more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def serve(config: str | None) -> int:
    """`noah serve`: until SIGTERM or Ctrl-C. The exit code."""
    log_to_stderr()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _allow_descriptors()
    try:
        file = settings_file(config)
        run_until_done(_serve(read_settings(file), file))
    except NoahError as e:
        print(printable(e.sentence), file=sys.stderr)
        return 5 if isinstance(e, Unavailable) else 2
    return 0


def upgrade_database(config: str | None) -> str:
    """`noah db upgrade`: what was done, in one sentence."""
    database = read_settings(settings_file(config)).gateway.database
    upgrade(database)
    return "The database is up to date."
