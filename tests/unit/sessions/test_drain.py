"""A gateway that is to stop: what it waits for, and that nothing begins at one that stops."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.session.session import Status
from noah.peers.client import PeerClient
from noah.sessions.audits import Audits
from noah.sessions.live_session import LiveSession
from noah.sessions.ownership import DRAIN_EVERY_S, Ownership
from noah.settings import GatewaySettings
from noah.store.feed import Feed
from noah.store.gateways import AboutGateway, Peer
from noah.store.lease import Lease
from noah.store.sessions import SessionStore
from noah.store.trail import TrailStore
from noah.store.wishes import WishStore
from noah.targets.base import Kind
from tests.principals import ADA
from tests.unit.proxy.conftest import Jvm
from tests.unit.sessions.conftest import FENCE, FakeKind, FakeLease, FakeStore, Story, new_session, now


def peer(id: str, *, left_s: float = 10.0) -> Peer:
    return Peer(id=id, about=AboutGateway(name=id, version="1"), left_s=left_s)


class Others(FakeLease):
    """The lease of a gateway that has seen others."""

    def __init__(self, *peers: Peer) -> None:
        super().__init__()
        self.about = AboutGateway(name="this one", version="1", is_draining=True)
        self.peers: Mapping[str, Peer] = {one.id: one for one in (peer(self.gateway_id), *peers)}


class Gateway:
    """What has the sessions of one gateway, and its first session."""

    def __init__(self, group: asyncio.TaskGroup, jvm: Jvm, lease: Others) -> None:
        session = new_session(ADA)
        self.kind, self.store, self.lease = FakeKind(jvm), FakeStore(session), lease
        self.live = LiveSession(session, fence=FENCE)
        store = cast(SessionStore, self.store)
        self.ownership = Ownership(
            group,
            kinds=cast(Mapping[str, Kind], {"pod": self.kind}),
            catalog=Catalog(),
            holders=Holders(),
            lease=cast(Lease, lease),
            peers=cast(PeerClient, None),
            store=store,
            wishes=cast(WishStore, None),
            audits=Audits(store),
            feed=Feed(epoch="e", clock=now),
            gateway=GatewaySettings(),
            clock=now,
            took=lambda _target, _seconds: None,
            permissions=Permissions(reviews=lambda _: None),
            trail=Trail(cast(TrailStore, None), clock=now),
        )

    def begin(self) -> Story:
        return Story(self.ownership.start(self.live), self.kind, self.store, self.lease)


@asynccontextmanager
async def having_sessions(jvm: Jvm, *others: Peer) -> AsyncIterator[Gateway]:
    """Leaving the context takes as long as there are tasks of sessions: the test has stopped them."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        yield Gateway(group, jvm, Others(*others))


async def test_a_debugger_is_waited_for_while_all_leases_have_ended(jvm: Jvm) -> None:
    # As the first gateway sees the others when the database comes back to all.
    async with having_sessions(jvm, peer("g-2", left_s=-1.0)) as gateway:
        story = gateway.begin()
        await story.until(lambda: story.live.status is Status.READY)
        async with asyncio.TaskGroup() as group, story.debugger():
            story.lease.is_held = False
            draining = group.create_task(gateway.ownership.drain(), name="drain")
            await asyncio.wait({draining}, timeout=DRAIN_EVERY_S * 3)
            assert not draining.done()
            assert story.live.attached
        gateway.ownership.stop()


async def test_a_gateway_without_its_lease_waits_for_no_other_to_take_its_sessions(jvm: Jvm) -> None:
    async with having_sessions(jvm, peer("g-2")) as gateway:  # as it was seen before the database was away
        story = gateway.begin()
        await story.until(lambda: story.live.status is Status.READY)
        story.lease.is_held = False
        async with asyncio.timeout(30):
            await gateway.ownership.drain()
        gateway.ownership.stop()


async def test_a_session_that_begins_while_its_gateway_stops_does_not_keep_it(jvm: Jvm) -> None:
    async with having_sessions(jvm) as gateway:
        gateway.ownership.stop()  # what was being read goes on, and finds a session of this gateway's
        story = gateway.begin()
    assert gateway.ownership.own() == []
    assert gateway.store.session.ended_at is None
    assert (story.link.starts, story.link.stops) == (0, 0)
