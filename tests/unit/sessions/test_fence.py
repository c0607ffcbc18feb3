"""What a session's task does without its gateway's lease, and when another gateway has the session."""

import asyncio
from dataclasses import replace

from noah.core.lease import Fence
from noah.core.session.session import EndReason, Presence, Word
from tests.principals import ADA
from tests.unit.proxy.conftest import Jvm
from tests.unit.sessions.conftest import Story, telling


async def ready(story: Story) -> None:
    await story.until(lambda: story.live.status == "ready")


async def test_without_the_lease_nothing_is_done_to_the_target_and_then_all_goes_on(story: Story) -> None:
    await ready(story)
    story.lease.is_held = False
    story.link.lose()
    await asyncio.sleep(0.5)  # it would be held again at once
    assert story.link.starts == 1
    story.lease.is_held = True
    await story.until(lambda: story.link.starts == 2)
    await ready(story)


async def test_without_the_lease_an_attached_debugger_stays_and_so_do_its_words(story: Story) -> None:
    await ready(story)
    async with story.debugger() as writer:
        story.lease.is_held = False
        said = len(story.link.words)
        await story.until(lambda: len(story.link.words) > said + 3)
        assert story.link.words[-1][0] is Word.RUNNING
        assert not writer.is_closing()
        assert story.live.attached
    await story.until(lambda: story.live.attached is None)
    said = len(story.link.words)
    await asyncio.sleep(0.5)  # five times a word would be due
    assert len(story.link.words) == said


async def test_without_the_lease_no_debugger_attaches(story: Story) -> None:
    await ready(story)
    story.lease.is_held = False
    reader, writer = await asyncio.open_connection("127.0.0.1", story.live.session.port)
    writer.write(b"JDWP-Handshake")
    await story.until(lambda: any("does not have session s-1 at this moment" in step for step in story.steps))
    assert story.live.attached is None
    story.lease.is_held = True  # in time for the one that is held
    assert await asyncio.wait_for(reader.readexactly(14), 30) == b"JDWP-Handshake"
    writer.close()


async def test_a_session_that_another_gateway_has_is_left_as_it_is(story: Story) -> None:
    await ready(story)
    story.store.fence = Fence("g-2", 2)
    story.task.lose()
    await story.until(lambda: story.link.is_closed)
    assert (story.link.stops, story.link.starts) == (0, 1)
    assert not story.live.is_open
    assert story.live.session.ended_at is None


async def test_its_debugger_stays_until_it_detaches(story: Story) -> None:
    await ready(story)
    async with story.debugger():
        story.store.fence = Fence("g-2", 2)
        await story.task.write(story.store.extend)  # any change wakes it
        story.task.lose()
        said = len(story.link.words)
        await story.until(lambda: len(story.link.words) > said + 3)
        assert story.live.attached
        assert not story.link.is_closed
    await story.until(lambda: story.link.is_closed)
    assert story.link.stops == 0


async def test_a_session_that_comes_back_with_its_debugger_is_acted_for_again(story: Story) -> None:
    await ready(story)
    async with story.debugger():
        story.task.lose()
        story.store.fence = Fence("g-1", 3)
        story.task.keep(story.store.fence)
        assert story.task.may_act
    await ready(story)
    await story.task.write(lambda: story.store.ask_end("s-1", reason=EndReason.CLOSED, detail=None, by=ADA))
    await story.until(lambda: story.live.session.ended_at)
    assert story.link.stops == 1


async def test_a_write_with_an_old_fence_ends_the_task_and_nothing_else(story: Story) -> None:
    await ready(story)
    story.store.fence = Fence("g-2", 2)
    story.live.session = replace(story.live.session, workload=None)
    story.link.sees(presence=Presence.GONE)  # which ends a session that belongs to no workload
    await story.until(lambda: story.task.is_lost)
    await story.until(lambda: story.link.is_closed)
    assert story.link.stops == 0


async def test_after_a_takeover_nothing_is_started_while_the_gateway_before_has_a_debugger(jvm: Jvm) -> None:
    async with telling(jvm, owner=ADA, is_taken_over=True) as story:
        await story.until(lambda: story.link.asked_if_taken >= 1)
        await story.until(lambda: story.live.status == "waiting")
        assert story.live.reason is not None
        assert "through another gateway" in story.live.reason
        assert (story.link.starts, story.link.words) == (0, [])
        story.link.is_taken_elsewhere = False
        story.task.wake(look=True)
        await ready(story)
        assert story.link.starts == 1
