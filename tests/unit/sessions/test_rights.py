"""A session whose owner's rights change: a cluster's no ends it, a cluster's silence does not."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from noah.core.session.principal import Principal, PrincipalKind
from noah.core.session.session import EndReason, Status
from noah.errors import Unavailable
from tests.unit.proxy.conftest import Jvm
from tests.unit.sessions.conftest import Story, telling

GRACE = Principal(kind=PrincipalKind.OIDC, issuer="https://id", subject="grace", name="grace")


@dataclass
class Answer:
    """What the cluster says; None: nothing."""

    allowed: bool | None = True

    async def __call__(self) -> Mapping[str, Any]:
        if self.allowed is None:
            raise Unavailable("It does not answer.")
        return {"status": {"allowed": self.allowed}}


async def ready(story: Story) -> None:
    await story.until(lambda: story.live.status is Status.READY)


async def test_a_right_that_is_taken_away_ends_the_session_while_a_debugger_is_attached(jvm: Jvm) -> None:
    answer = Answer()
    async with telling(jvm, owner=GRACE, answer=answer) as story:
        await ready(story)
        async with story.debugger():
            answer.allowed = False
            await story.until(lambda: story.live.session.ended_at is not None)
        assert story.live.session.end_reason is EndReason.RIGHT_LOST
        assert "create pods/exec" in (story.live.session.end_detail or "")
        assert story.live.attached is None
        assert story.link.stops == 1


async def test_a_cluster_that_is_silent_ends_no_session_and_lets_nobody_attach(jvm: Jvm) -> None:
    answer = Answer()
    async with telling(jvm, owner=GRACE, answer=answer) as story:
        await ready(story)
        async with story.debugger() as writer:
            answer.allowed = None
            await asyncio.sleep(0.5)  # ten looks
            assert story.live.attached is not None
            assert not writer.is_closing()
        await story.until(lambda: story.live.attached is None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), story.debugger():
                pass
        assert story.live.session.end_reason is None
        answer.allowed = True
        async with story.debugger():
            assert story.live.status is Status.ATTACHED


async def test_whoever_may_not_debug_gets_no_connection_however_soon_it_comes(jvm: Jvm) -> None:
    async with telling(jvm, owner=GRACE, answer=Answer(allowed=False)) as story:
        await story.until(lambda: story.live.session.ended_at is not None)
        assert story.live.session.end_reason is EndReason.RIGHT_LOST
        assert jvm.touched == 0
