"""A session's task over a link and a store that are a few lines each; the slot, the port and the debugger are real."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from noah.access.permissions import Permissions
from noah.access.reviews import ClusterReviews
from noah.access.trail import Trail
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.jdwp.wire import HANDSHAKE
from noah.core.lease import Fence
from noah.core.session.principal import Principal
from noah.core.session.session import EndReason, Presence, Session, Word
from noah.core.session.target import PodTarget, Target, Wanted
from noah.errors import LostSession, NoahError, Unavailable
from noah.peers.connection import PeerConnection
from noah.sessions.audits import Audits
from noah.sessions.live_session import LiveSession
from noah.sessions.ports import Ports
from noah.sessions.task import SessionTask
from noah.settings import GatewaySettings
from noah.store.feed import Feed
from noah.store.lease import Lease
from noah.store.sessions import SessionStore
from noah.store.trail import TrailStore
from noah.targets.base import Kind, Observation
from tests.ports import free_port
from tests.principals import ADA
from tests.unit.proxy.conftest import Jvm

FENCE = Fence("g-1", 1)
TARGET = PodTarget("dev", "team-a", "shop-1", "app")


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class FakeLink:
    """What a pod's link does, with nothing behind it but a JVM of this process."""

    jvm: Jvm
    target: Target
    changed: Callable[[], None]
    observation: Observation = field(default_factory=lambda: Observation(presence=Presence.READY))
    start_fails: NoahError | None = None
    loses_it_at_once: bool = False
    look_hangs: bool = False
    is_held: bool = False
    is_taken_elsewhere: bool = False
    asked_if_taken: int = 0
    trouble: str | None = None
    beat_s: float = 0.1
    idle_beat_s: float | None = 5.0
    look_again: float = 60.0
    starts: int = 0
    stops: int = 0
    is_closed: bool = False
    words: list[tuple[Word, datetime]] = field(default_factory=list)

    async def look(self, session: Session) -> Observation:
        if self.look_hangs:
            await asyncio.get_running_loop().create_future()
        return self.observation

    async def is_taken(self, session: Session) -> bool:
        self.asked_if_taken += 1
        return self.is_taken_elsewhere

    async def start(self, session: Session, *, word: Word, now: datetime) -> Observation:
        self.starts += 1
        if self.start_fails is not None:
            raise self.start_fails
        self.is_held = True
        self.observation = Observation(presence=Presence.READY, forwarder_alive=True)
        if self.loses_it_at_once:
            asyncio.get_running_loop().call_soon(self.lose)
        return self.observation

    def lose(self) -> None:
        self.is_held = False
        self.changed()

    def sees(self, **what: Any) -> None:
        self.observation = replace(self.observation, **what)
        self.changed()

    async def write(self, session: Session, word: Word, *, now: datetime) -> None:
        self.words.append((word, session.expires_at))

    async def stop(self, session: Session) -> None:
        self.stops += 1

    @property
    def dial(self) -> Callable[..., Any]:
        return self._dial

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", self.jvm.port)
        return transport

    async def close(self) -> None:
        self.is_closed = True

    def said(self, word: Word) -> bool:
        return bool(self.words) and self.words[-1][0] is word


class FakeKind:
    def __init__(self, jvm: Jvm, *, is_taken_elsewhere: bool = False) -> None:
        self._jvm = jvm
        self.links: list[FakeLink] = []
        self.is_taken_elsewhere = is_taken_elsewhere

    def list(self) -> Iterable[Any]:
        return []

    async def resolve(self, wanted: Wanted) -> Any:
        raise NotImplementedError

    def link(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> FakeLink:
        self.links.append(FakeLink(self._jvm, session.target, changed, is_taken_elsewhere=self.is_taken_elsewhere))
        return self.links[-1]


class FakeStore:
    """One row. What is asked for is changed, as the statements of SessionStore change it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.fence = FENCE

    def check(self, fence: Fence | None) -> None:
        if fence not in (None, self.fence):
            raise LostSession

    async def ask_end(
        self, id: str, *, reason: EndReason, detail: str | None, by: Principal | None, fence: Fence | None = None
    ) -> Session:
        self.check(fence)
        self.session = replace(self.session, end_reason=reason, end_detail=detail, ended_by=by)
        return self.session

    async def finish(self, id: str, *, audit: Mapping[str, Any] | None, fence: Fence) -> Session:
        self.check(fence)
        self.session = replace(self.session, ended_at=now())
        return self.session

    async def move(self, id: str, *, target: Target, fence: Fence) -> Session:
        self.check(fence)
        self.session = replace(self.session, target=target)
        return self.session

    async def place(self, id: str, *, environment: str, fence: Fence) -> Session:
        self.check(fence)
        self.session = replace(self.session, environment=environment)
        return self.session

    async def extend(self) -> Session:
        self.session = replace(self.session, expires_at=self.session.expires_at + timedelta(hours=1))
        return self.session


class FakeLease:
    """A lease that a test takes away and gives back."""

    def __init__(self) -> None:
        self.gateway_id = FENCE.gateway
        self.is_held = True

    def owns(self, fence: Fence | None) -> bool:
        return self.is_held and fence is not None and fence.gateway == self.gateway_id

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[None]:
        if not self.is_held:
            raise Unavailable
        yield


@dataclass
class Story:
    task: SessionTask
    kind: FakeKind
    store: FakeStore
    lease: FakeLease
    catalog: Catalog = field(default_factory=Catalog)

    @property
    def live(self) -> LiveSession:
        return self.task.live

    @property
    def link(self) -> FakeLink:
        return self.kind.links[-1]

    @property
    def steps(self) -> list[str]:
        return [step.text for step in self.live.steps]

    async def until(self, true: Callable[[], object], within: float = 60.0) -> None:
        async with asyncio.timeout(within):
            while not true():
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def debugger(self) -> AsyncIterator[asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.live.session.port)
        writer.write(HANDSHAKE)
        try:
            assert await asyncio.wait_for(reader.readexactly(len(HANDSHAKE)), 10) == HANDSHAKE
            await self.until(lambda: self.live.attached)
            yield writer
        finally:
            writer.close()


@pytest.fixture
async def jvm() -> AsyncIterator[Jvm]:
    made = Jvm()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def story(jvm: Jvm) -> AsyncIterator[Story]:
    async with telling(jvm, owner=ADA) as story:
        yield story


def new_session(owner: Principal) -> Session:
    return Session(
        id="s-1",
        target=TARGET,
        workload="Deployment/shop",
        app="shop",
        environment="test",
        owner=owner,
        port=free_port(),
        created_at=now(),
        expires_at=now() + timedelta(hours=1),
        allow=("127.0.0.0/8",),
    )


@asynccontextmanager
async def telling(
    jvm: Jvm,
    *,
    owner: Principal,
    answer: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
    is_taken_over: bool = False,
) -> AsyncIterator[Story]:
    """*answer*: what the target's cluster says to a review of the owner's rights."""

    async def post(path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert answer is not None
        return await answer()

    reviews = ClusterReviews(TARGET.cluster, post, kept_s=0.05)
    trail = Trail(cast(TrailStore, None), clock=now)
    session = new_session(owner)
    kind, store, live = (
        FakeKind(jvm, is_taken_elsewhere=is_taken_over),
        FakeStore(session),
        LiveSession(session, fence=FENCE),
    )
    lease, catalog = FakeLease(), Catalog()
    async with asyncio.TaskGroup() as group:
        feed = Feed(epoch="e", clock=now)
        ports = Ports(group, gateway=GatewaySettings(), live_of=lambda _: live, dial=_passed_on, feed=feed, trail=trail)
        task = SessionTask(
            live,
            kinds=cast(Mapping[str, Kind], {"pod": kind}),
            catalog=catalog,
            holders=Holders(),
            lease=cast(Lease, lease),
            store=cast(SessionStore, store),
            audits=Audits(cast(SessionStore, store)),
            ports=ports,
            feed=feed,
            gateway=GatewaySettings(),
            clock=now,
            took=lambda _target, _seconds: None,
            permissions=Permissions(reviews={TARGET.cluster: reviews}.get),
            trail=trail,
            is_taken_over=is_taken_over,
            check_right_every_s=0.05,
            look_where_every_s=0.05,
        )
        running = group.create_task(task.run(), name="the session")
        yield Story(task, kind, store, lease, catalog)
        running.cancel()
        ports.close(session.id)  # which passes debuggers on when another gateway has the session


async def _passed_on(session_id: str, address: str) -> PeerConnection:
    raise Unavailable("There is no other gateway.")
