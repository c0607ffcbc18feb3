"""What every kind of target promises to a session's task, held against JVMs of this machine, a host and a pod."""

import asyncio
import os
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.session.session import Presence, Session, Word
from noah.core.session.target import PodTarget, Target, Wanted, parse_target, parse_wanted
from noah.errors import NotFound
from noah.kube.clusters import Cluster
from noah.settings import parse_settings
from noah.store import Store
from noah.store.gateways import AboutGateway
from noah.targets.base import Kind, Link, Observation
from noah.targets.host.hosts import Hosts
from noah.targets.local import open_locals
from noah.targets.pod.pods import Pods
from tests.cluster.conftest import Kubectl
from tests.databases import make_database
from tests.integration.hosts.machines import HostedOrders, Machine, classes_in, new_root, remove
from tests.java import SAMPLE, compiled
from tests.ports import free_port
from tests.principals import ADA

pytestmark = pytest.mark.jvm


@dataclass
class Way:
    """One kind, and how to name a running JVM of it."""

    kind: Kind
    catalog: Catalog
    wanted: Wanted
    nobody: Wanted
    lost: Target  # the same, as a session of an earlier configuration has it
    session: Session
    read: Callable[[str], Awaitable[str]]  # a file's text there, "" when it is not there

    async def word(self) -> str | None:
        """What a probe reads there."""
        name = "jvm" if isinstance(self.session.target, PodTarget) else "orders"
        text = await self.read(f"/dev/shm/noah-{name}.{self.session.id}.word")
        return text.split()[0] if text else None

    def link(self) -> Link:
        return self.kind.link(self.session, changed=lambda: None, step=lambda _: None)


def session_on(target: Target) -> Session:
    now = datetime.now(UTC)
    return Session(
        id=f"s-{os.getpid()}",
        target=target,
        workload=None,
        app="orders",
        environment="test",
        owner=ADA,
        port=20000,
        created_at=now,
        expires_at=now + timedelta(hours=1),
        allow=("127.0.0.0/8",),
    )


async def here(file: str) -> str:
    with suppress(FileNotFoundError):
        return await asyncio.to_thread(Path(file).read_text)
    return ""


async def way_of(
    kind: Kind, catalog: Catalog, wanted: str, nobody: str, read: Callable[[str], Awaitable[str]] = here
) -> Way:
    parsed = parse_wanted(wanted)
    info = await kind.resolve(parsed)
    return Way(kind, catalog, parsed, parse_wanted(nobody), parse_target(nobody), session_on(info.target), read)


@asynccontextmanager
async def local(tmp_path: Path) -> AsyncIterator[Way]:
    jdwp = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{jdwp},quiet=y"
    java = await asyncio.create_subprocess_exec(
        "java",
        agent,
        "-cp",
        str(compiled(SAMPLE, tmp_path)),
        "OrderService",
        env={**os.environ, "PORT": str(free_port())},
    )
    settings = parse_settings({"local": [{"name": "orders", "jdwp_port": jdwp}]}, origin="test")
    try:
        catalog = Catalog()
        async with open_locals(settings.local, catalog=catalog) as kind:
            yield await way_of(kind, catalog, "local/orders", "local/nobody")
    finally:
        java.kill()
        await java.wait()


@asynccontextmanager
async def host(tmp_path: Path) -> AsyncIterator[Way]:
    root = new_root()
    machine = Machine(2, root)
    await machine.install()
    orders = HostedOrders(machine, options=b"")
    await orders.install(classes_in(root))
    orders.file.write_text(f'JAVA_OPTS="{orders.agent},quiet=y"\n')
    await machine.start()
    await orders.restart()
    settings = parse_settings(tomllib.loads(machine.settings(orders.settings())), origin="test")
    store = Store.open(make_database(tmp_path / "noah.db"))
    catalog = Catalog()
    try:
        async with store.lease(AboutGateway(name="test", version="0")) as lease:
            hosts = Hosts(store.edits, catalog=catalog, holders=Holders(), lease=lease, claims=store.claims)
            await hosts.configure(settings.hosts)
            try:
                yield await way_of(hosts, catalog, orders.target, "host/kvm-2/nobody")
            finally:
                await hosts.close()
    finally:
        await store.close()
        orders.kill()
        await machine.kill()
        remove(root)


@asynccontextmanager
async def pod(kubeconfig: Path) -> AsyncIterator[Way]:
    kubectl = Kubectl(kubeconfig, f"noah-contract-{os.getpid()}")
    await asyncio.to_thread(kubectl, "create", "namespace", kubectl.namespace)
    try:
        async with asyncio.timeout(30):
            while "default" not in await asyncio.to_thread(kubectl, "get", "serviceaccounts", "-o", "name"):
                await asyncio.sleep(0.1)
        await asyncio.to_thread(kubectl.run, "orders")
        tree = {"clusters": [{"name": "dev", "kubeconfig": str(kubeconfig), "namespaces": [kubectl.namespace]}]}
        async with Cluster(parse_settings(tree, origin="test").clusters[0]) as cluster:
            async with asyncio.timeout(30):
                while not any(True for _ in cluster.informer.pods()):
                    await asyncio.sleep(0.05)
            place = f"pod/dev/{kubectl.namespace}"
            catalog = Catalog()

            async def there(file: str) -> str:
                script = 'cat "$0" 2>/dev/null || true'
                return await asyncio.to_thread(kubectl, "exec", "orders", "--", "sh", "-c", script, file)

            kind = Pods({"dev": cluster}, catalog=catalog, holders=Holders())
            yield await way_of(kind, catalog, f"{place}/orders", f"{place}/nobody/app", there)
    finally:
        await asyncio.to_thread(kubectl, "delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(params=["local", "host", pytest.param("pod", marks=pytest.mark.cluster)])
async def way(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Way]:
    if request.param == "pod":
        if "NOAH_TEST_KUBECONFIG" not in os.environ:
            pytest.skip("NOAH_TEST_KUBECONFIG is not set: it names the kubeconfig of a Kubernetes to test with")
        making = pod(Path(os.environ["NOAH_TEST_KUBECONFIG"]))
    else:
        making = {"local": local, "host": host}[request.param](tmp_path)
    async with making as way:
        yield way


async def started(way: Way, link: Link, *, word: Word = Word.FREE) -> Observation:
    """Once the agent listens."""
    async with asyncio.timeout(30):
        while True:
            seen = await link.start(way.session, word=word, now=datetime.now(UTC))
            if seen.forwarder_alive:
                return seen
            assert seen.presence is Presence.NOT_READY, seen
            await asyncio.sleep(0.2)


async def test_a_target_keeps_its_promises(way: Way) -> None:
    """One story, as a session's task lives it: setting the stage costs more than the whole of it."""
    await it_is_found_by_its_name(way)
    await a_session_on_what_is_there_no_more_is_told_so(way)
    link = way.link()
    seen = await started(way, link)
    assert seen.presence is Presence.READY
    assert not seen.taken
    assert link.is_held
    await it_is_listed_as_ready(way)
    await a_second_start_changes_nothing(way, link)
    await each_word_gets_there(way, link)
    await it_is_dialled_again_and_again(link)
    await another_gateway_takes_over(way, link)


async def it_is_found_by_its_name(way: Way) -> None:
    assert way.catalog.get(way.session.target) is not None
    assert (await way.kind.resolve(way.wanted)).target == way.session.target
    with pytest.raises(NotFound):
        await way.kind.resolve(way.nobody)


async def it_is_listed_as_ready(way: Way) -> None:
    async with asyncio.timeout(60):
        while (info := way.catalog.get(way.session.target)) is None or not info.ready:
            await asyncio.sleep(0.05)


async def a_session_on_what_is_there_no_more_is_told_so(way: Way) -> None:
    session = replace(way.session, target=way.lost)
    link = way.kind.link(session, changed=lambda: None, step=lambda _: None)
    seen = await link.look(session)
    assert seen.presence in (Presence.GONE, Presence.REMOVED)
    assert seen.reason
    await link.close()


async def a_second_start_changes_nothing(way: Way, link: Link) -> None:
    assert (await started(way, link)).forwarder_alive
    assert (await link.look(way.session)).forwarder_alive


async def each_word_gets_there(way: Way, link: Link) -> None:
    for word in (Word.SUSPENDED, Word.UNKNOWN, Word.RUNNING, Word.FREE):
        await link.write(way.session, word, now=datetime.now(UTC))
        async with asyncio.timeout(60):
            while await way.word() != word:
                await asyncio.sleep(0.05)
        assert link.trouble is None


async def it_is_dialled_again_and_again(link: Link) -> None:
    for _ in range(3):
        greeting, transport = await greeted(link)
        transport.abort()
        await asyncio.wait_for(greeting.over, 10)


async def another_gateway_takes_over(way: Way, link: Link) -> None:
    await link.close()  # as a gateway does that stops: what is in the target stays
    second = way.link()
    await second.look(way.session)
    assert (await started(way, second)).forwarder_alive
    assert second.is_held
    for _ in range(2):
        await second.stop(way.session)
        assert await way.word() is None
    await second.close()


class Greeting(asyncio.BufferedProtocol):
    """A debugger that says its handshake and waits for the JVM's."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self._buffer, self._got = bytearray(64), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(HANDSHAKE)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._got += self._buffer[:nbytes]
        if len(self._got) >= len(HANDSHAKE) and not self.answer.done():
            self.answer.set_result(self._got)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("before the handshake"))
        self.over.set_result(None)


async def greeted(link: Link) -> tuple[Greeting, asyncio.Transport]:
    """Between two debuggers the agent has no socket for a moment; a forwarder before it then hangs up."""
    async with asyncio.timeout(60):
        while True:
            greeting = Greeting()
            try:
                transport = await link.dial(lambda greeting=greeting: greeting)  # type: ignore[misc]
                assert await greeting.answer == HANDSHAKE
                return greeting, transport
            except (ConnectionRefusedError, ConnectionResetError):
                await asyncio.sleep(0.05)
