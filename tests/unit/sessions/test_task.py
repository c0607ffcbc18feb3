"""What a session's task does over time: how often it acts, what it writes, what it leaves alone."""

import asyncio
from dataclasses import replace

import pytest

from noah.catalog.target_info import TargetInfo
from noah.core.session.event_kind import EventKind
from noah.core.session.session import EndReason, Presence, Status, Word
from noah.errors import CannotDebug, Unavailable
from noah.sessions.announce import Announcer
from noah.sessions.live_session import LiveSession
from noah.store.feed import Feed
from tests import jdwp
from tests.principals import ADA
from tests.unit.proxy.conftest import Jvm
from tests.unit.sessions.conftest import TARGET, Story, now, telling

SUCCESSOR = replace(TARGET, pod="shop-2")
FULL = CannotDebug("The report for the liveness probe cannot be written: is its /dev/shm full?")


async def ready(story: Story) -> None:
    await story.until(lambda: story.live.status is Status.READY)


async def test_one_start_makes_a_session_ready(story: Story) -> None:
    await ready(story)
    assert story.link.starts == 1
    async with story.debugger():
        assert story.live.status is Status.ATTACHED


async def test_what_fails_beside_a_debugger_is_paused_grows_and_is_said_once(story: Story) -> None:
    await ready(story)
    async with story.debugger():
        story.link.start_fails = FULL
        story.link.lose()
        await story.until(lambda: story.live.trouble)
        await asyncio.sleep(3)
        assert 2 <= story.link.starts <= 5
        assert story.steps.count(FULL.sentence) == 1
        assert story.live.attached is not None
        story.link.start_fails = None
        await story.until(lambda: story.link.is_held)


@pytest.mark.parametrize("was_ready", [True, False])
async def test_what_fails_at_the_next_gateway_ends_a_session_only_if_it_never_worked(jvm: Jvm, was_ready: bool) -> None:
    async with telling(jvm, owner=ADA) as story:
        story.live.was_ready = was_ready  # at the gateway that had it before
        story.link.start_fails = FULL
        await story.until(lambda: story.live.reason == FULL.sentence or story.live.session.is_over)
        assert story.live.session.is_over is not was_ready


async def test_a_debugger_that_came_before_the_start_had_an_answer_shows_that_the_session_works(story: Story) -> None:
    await ready(story)
    live, took = LiveSession(story.live.session), list[float]()
    feed = Feed(epoch="e", clock=now)
    announcer = Announcer(live, feed=feed, clock=now, took=lambda _target, seconds: took.append(seconds))
    announcer.notice(EventKind.ATTACHED, {"text": "A debugger attached from 127.0.0.1:1."})
    assert (live.was_ready, len(took)) == (True, 1)


async def test_a_forwarder_that_is_lost_at_once_is_not_held_again_without_a_pause(story: Story) -> None:
    await ready(story)
    story.link.loses_it_at_once = True
    story.link.lose()
    await asyncio.sleep(3)
    assert 2 <= story.link.starts <= 6


async def test_a_session_is_in_the_environment_of_its_target_and_stays_there_when_that_is_gone(story: Story) -> None:
    await ready(story)
    there = TargetInfo(name=str(TARGET), app="shop", environment="load", ready=True, phase="Running")
    story.catalog.put(there)
    await story.until(lambda: story.live.session.environment == "load")
    assert story.store.session.environment == "load"
    assert story.steps[-1] == "pod/dev/team-a/shop-1/app is in environment load now."
    story.catalog.remove(TARGET)
    story.link.sees(presence=Presence.GONE)
    await story.until(lambda: story.live.status is Status.WAITING)
    assert story.live.session.environment == "load"


async def test_a_killed_forwarder_is_started_again_at_once(story: Story) -> None:
    await ready(story)
    story.link.lose()
    await story.until(lambda: story.link.starts == 2, within=4)  # at once, on a quiet machine


async def test_words_follow_the_debugger_and_are_repeated_while_it_is_attached(story: Story) -> None:
    await ready(story)
    await story.until(lambda: story.link.said(Word.FREE))
    async with story.debugger():
        await story.until(lambda: story.link.said(Word.RUNNING))
        count = len(story.link.words)
        await story.until(lambda: len(story.link.words) >= count + 5)
    await story.until(lambda: story.link.said(Word.FREE))
    count = len(story.link.words)
    await asyncio.sleep(0.5)
    assert len(story.link.words) == count


async def test_a_look_that_hangs_keeps_no_word_back(story: Story, jvm: Jvm) -> None:
    async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(11)
        writer.write(jdwp.stop(jdwp.ALL))
        await reader.read()

    jvm.talk = stops
    await ready(story)
    async with story.debugger() as debugger:
        await story.until(lambda: story.link.said(Word.RUNNING))
        story.link.look_hangs = True
        story.link.changed()
        debugger.write(jdwp.ask(1, jdwp.VERSION))
        await story.until(lambda: story.link.said(Word.SUSPENDED), within=4)


async def test_an_extension_is_written_with_the_next_word(story: Story) -> None:
    await ready(story)
    await story.task.write(story.store.extend)
    await story.until(lambda: story.link.words and story.link.words[-1][1] == story.store.session.expires_at)


async def test_a_pod_that_leaves_keeps_its_debugger_and_is_left_when_that_has_gone(story: Story) -> None:
    await ready(story)
    old = story.link
    async with story.debugger():
        old.sees(presence=Presence.LEAVING, reason="Pod shop-1 is being deleted.", successor=SUCCESSOR)
        old.lose()
        await story.until(lambda: "Pod shop-1 is being deleted." in story.steps)
        await asyncio.sleep(1)
        assert (old.starts, len(story.kind.links)) == (1, 1)
        assert story.live.attached is not None
        assert story.steps.count("Pod shop-1 is being deleted.") == 1
    await story.until(lambda: len(story.kind.links) == 2)
    await ready(story)
    assert story.link.target == SUCCESSOR
    assert old.is_closed


async def test_words_that_do_not_arrive_are_said_while_a_debugger_is_attached(story: Story) -> None:
    await ready(story)
    story.link.trouble = "Container app does not answer the gateway."
    async with story.debugger():
        await story.until(lambda: story.live.reason)
        assert story.live.reason is not None
        assert story.live.reason.startswith("Container app does not answer the gateway. Its probe spares the JVM")
        story.link.trouble = None
        await story.until(lambda: story.live.reason is None)


async def test_a_debugger_that_comes_too_early_is_held_and_served(story: Story) -> None:
    await ready(story)
    story.link.start_fails = Unavailable("The API server does not answer.")
    story.link.sees(forwarder_alive=False)
    story.link.lose()
    async with asyncio.TaskGroup() as group:
        attaching = group.create_task(attach(story), name="attach")
        await story.until(lambda: any("is held until the JVM can be reached" in step for step in story.steps))
        assert not attaching.done()
        story.link.start_fails = None


async def attach(story: Story) -> None:
    async with story.debugger():
        assert story.live.status is Status.ATTACHED


async def test_an_end_closes_the_port_stops_the_forwarder_and_finishes(story: Story) -> None:
    await ready(story)
    async with story.debugger():
        ask = story.store.ask_end
        await story.task.write(lambda: ask("s-1", reason=EndReason.CLOSED, detail=None, by=ADA))
        await story.until(lambda: story.live.status is Status.ENDED)
        assert story.live.attached is None
        assert story.link.stops == 1
