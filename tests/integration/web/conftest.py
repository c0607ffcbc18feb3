"""The real site on a real socket: real feed, store and sessions, and JVMs of this machine. Only the app's own wiring is
not there, so that a test can stop the gateway, take its database away, and look inside."""

import asyncio
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from noah.access.authenticator import Authenticator
from noah.access.kubernetes_tokens import KubernetesTokens
from noah.access.oidc import OidcProvider
from noah.access.permissions import open_permissions
from noah.access.trail import open_trail
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.inventory import Inventory
from noah.kube.clusters import Cluster
from noah.peers.identity import Identity
from noah.releases.releases import open_releases
from noah.sessions.broker import Broker, PeerPort, open_broker
from noah.settings import (
    AccessSettings,
    ClusterSettings,
    GatewaySettings,
    GrantSettings,
    Host,
    Local,
    SessionSettings,
    Settings,
)
from noah.store import Store
from noah.store.feed import Feed
from noah.store.gateways import AboutGateway
from noah.store.hints import Hints
from noah.store.lease import Lease
from noah.targets.host.hosts import Hosts
from noah.targets.local import open_locals
from noah.targets.pod.doctor import Doctor
from noah.targets.pod.pods import Pods
from noah.web.api.health import open_health
from noah.web.api.metrics import Metrics
from noah.web.api.route import AnyRoute
from noah.web.site import LONGEST_LINE, make_site
from tests.databases import make_database
from tests.gateway import Api
from tests.java import SHOP, compiled
from tests.ports import free_port, free_ports
from tests.principals import ADA

PORTS = 10
NONE: Mapping[str, Any] = MappingProxyType({})
REFRESH_EVERY_S = 0.2


@pytest.fixture(scope="session")
def jvm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The JDWP port of a running shop."""
    classes, port = tmp_path_factory.mktemp("classes"), free_port()
    compiled(SHOP, classes)
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y"
    argv = ["java", agent, "-Xshare:auto", "-cp", str(classes), "Shop"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as java:
        assert java.stdout is not None
        assert java.stdout.readline() == "open\n"
        yield port
        java.kill()


@dataclass
class Gateway:
    api: Api
    http: aiohttp.ClientSession
    url: str
    feed: Feed
    store: Store
    lease: Lease
    broker: Broker
    clusters: Mapping[str, Cluster]
    server: TestServer
    database: Path
    tokens: Path
    ports: range
    is_stopping: bool = False
    not_followed: str | None = None

    @property
    def requests(self) -> int:
        """That are being answered."""
        assert self.server.handler is not None
        return sum(connection._current_request is not None for connection in self.server.handler.connections)

    async def stop(self) -> None:
        """In the order of the app: readyz, event streams, the site."""
        self.is_stopping = True
        self.feed.close()
        await self.server.close()

    async def execute(self, statement: str, *rows: Mapping[str, Any]) -> None:
        """Change the database as another process would: the gateway, in this event loop, may be in a transaction."""

        def execute() -> None:
            with closing(sqlite3.connect(self.database, timeout=60)) as database, database:
                if rows:
                    database.executemany(statement, rows)
                else:
                    database.execute(statement)

        await asyncio.to_thread(execute)


@pytest.fixture
async def gateway(jvm: int, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with serving(jvm, tmp_path) as gateway:
        yield gateway


@asynccontextmanager
async def serving(
    jvm: int,
    folder: Path,
    *more_clusters: ClusterSettings,
    access: Mapping[str, Any] = NONE,
    sessions: Mapping[str, Any] = NONE,
    port: int = 0,
    grants: tuple[GrantSettings, ...] = (),
    more_routes: tuple[AnyRoute, ...] = (),
    hosts: tuple[Host, ...] = (),
    **more: Any,
) -> AsyncIterator[Gateway]:
    first = free_ports(PORTS)
    come_in = AccessSettings.model_validate({"tokens": folder / "tokens.json", **access})
    settings = Settings(
        grants=grants,
        access=come_in,
        sessions=SessionSettings.model_validate(sessions),
        gateway=GatewaySettings(debug_ports=f"{first}-{first + PORTS - 1}", **more),
        local=(
            Local(name="shop", jdwp_port=jvm, checkurl="http://127.0.0.1:1/checkurl"),
            Local(name="nobody", jdwp_port=free_port()),
        ),
        # A cluster that does not answer, and fails at once.
        clusters=(ClusterSettings(name="away", url=f"http://127.0.0.1:{free_port()}"), *more_clusters),
    )
    database = folder / "noah.db"
    url = make_database(database)
    async with AsyncExitStack() as stack:
        store = Store.open(url)
        stack.push_async_callback(store.close)
        lease = await stack.enter_async_context(store.lease(AboutGateway(name="test", version="0")))
        trail = await stack.enter_async_context(open_trail(store.trail, clock=_now))
        hints = await stack.enter_async_context(store.hints())
        feed = Feed(epoch="e", clock=_now)
        clusters = {c.name: await stack.enter_async_context(Cluster(c)) for c in settings.clusters}
        catalog, holders, metrics = Catalog(), Holders(), Metrics()
        permissions = open_permissions(settings, clusters, catalog)
        pods = Pods(clusters, catalog=catalog, holders=holders)
        on_hosts = Hosts(store.edits, catalog=catalog, holders=holders, lease=lease, claims=store.claims)
        await on_hosts.configure(hosts)
        local = await stack.enter_async_context(open_locals(settings.local, catalog=catalog))
        broker = await stack.enter_async_context(
            open_broker(
                kinds={"pod": pods, "host": on_hosts, "local": local},
                catalog=catalog,
                holders=holders,
                lease=lease,
                peers=PeerPort(Identity(), None),
                store=store,
                hints=hints,
                feed=feed,
                settings=settings,
                clock=_now,
                took=metrics.took,
                permissions=permissions,
                trail=trail,
                refresh_every_s=REFRESH_EVERY_S,
            )
        )
        releases = await stack.enter_async_context(
            open_releases(
                clusters=clusters,
                store=store,
                lease=lease,
                hints=Hints(),
                feed=feed,
                live_in=broker.live_in,
                clock=_now,
            )
        )
        providers = {
            one.name: await stack.enter_async_context(OidcProvider.open(one, clock=_now)) for one in come_in.oidc
        }
        health = await stack.enter_async_context(
            open_health(
                store=store,
                lease=lease,
                stopping=lambda: served.is_stopping,
                not_followed=lambda: served.not_followed,
            )
        )
        site = make_site(
            authenticator=Authenticator(
                settings,
                store,
                providers=providers,
                kubernetes=KubernetesTokens(come_in.kubernetes, clusters),
                clock=_now,
                fresh_s=0,
            ),
            catalog=catalog,
            holders=holders,
            permissions=permissions,
            broker=broker,
            releases=releases,
            feed=feed,
            clusters=clusters,
            doctor=Doctor(pods),
            hosts=on_hosts,
            settings=settings,
            store=store,
            trail=trail,
            metrics=metrics,
            clock=_now,
            health=health,
            inventory=Inventory(None, settings, [], permit=_permit, confirmations=_confirmations),
        )
        for route in more_routes:
            site.router.add_route(route.method, route.path, route.serve)
        server = TestServer(site, port=port)
        await server.start_server(max_line_size=LONGEST_LINE, max_field_size=LONGEST_LINE)
        stack.push_async_callback(server.close)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        url = str(server.make_url("")).rstrip("/")
        served = Gateway(
            Api(http, url, settings.access.tokens),
            http,
            url,
            feed,
            store,
            lease,
            broker,
            clusters,
            server,
            database,
            settings.access.tokens,
            settings.gateway.ports,
        )
        yield served
        await _end_all(served)


async def _end_all(gateway: Gateway) -> None:
    """The JVM is free for the next test."""
    for live in gateway.broker.live():
        await gateway.broker.end(live.session.id, by=ADA)
        await gateway.broker.ended(live.session.id, within=60)
        assert live.session.ended_at is not None, live


def _now() -> datetime:
    return datetime.now(UTC)


async def _confirmations() -> Collection[str]:
    return ()


async def _permit(_: Settings) -> None:
    """Do nothing: the settings of these tests stay as they are."""
