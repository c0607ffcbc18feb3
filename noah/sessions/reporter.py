"""The gateway's word on one session's JVM, written into the target for its liveness probe.

It is a loop of its own beside the session's task, which may wait for a slow cluster: a word says what is true when it
is written, or is not written at all. One that is older than three seconds counts for nothing in the target.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from math import inf

from noah.backoff import Backoff
from noah.core.session.lifecycle import word_changes_at, word_on
from noah.errors import NoahError
from noah.sessions.live_session import LiveSession
from noah.targets.base import Link

log = logging.getLogger(__name__)

WRITE_TAKES = 10.0  # seconds at most
SPARED = "Its probe spares the JVM as long as a debugger is attached, until the session ends."


class Reporter:
    def __init__(
        self,
        live: LiveSession,
        *,
        link: Callable[[], Link],
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        may_act: Callable[[], bool],
    ) -> None:
        """*may_act*: whether this gateway has the session; without it there are words only on a debugger of its own."""
        self._live = live
        self._link = link
        self._clock = clock
        self._changed = changed
        self._may_act = may_act
        self._awake = asyncio.Event()
        self._written_at = -inf  # by the loop's clock
        self._backoff = Backoff(first_s=1.0, longest_s=15.0)

    def wake(self) -> None:
        self._awake.set()

    def repeat(self) -> None:
        """Write the word again now: its answer tells who has the agent's slot."""
        self._written_at = -inf
        self._awake.set()

    async def run(self) -> None:
        while True:
            self._awake.clear()
            try:
                pause_s = await self._report()
            except Exception:  # the task's outermost loop: whatever it is, the next word is tried
                log.exception("%s %s: no word was written", self._live.session.target, self._live.session.id)
                await asyncio.sleep(self._backoff.next_s())
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._awake.wait()

    async def _report(self) -> float | None:
        """Write a word if one is due. Return how many seconds later to look again, unless woken before."""
        live, link = self._live, self._link()
        if live.session.is_over or not link.is_held or (live.attached is None and not self._may_act()):
            self._set_silence(link.trouble)
            return None
        now, loop = self._clock(), asyncio.get_running_loop()
        word = word_on(live.facts, now)
        beat_s = link.idle_beat_s if live.attached is None else link.beat_s
        is_new = (word, live.session.expires_at) != (live.word, live.word_until)
        if is_new or (beat_s is not None and loop.time() >= self._written_at + beat_s):
            self._written_at = loop.time()
            try:
                async with asyncio.timeout(WRITE_TAKES):
                    await link.write(live.session, word, now=now)
            except TimeoutError:
                self._set_silence(f"{live.session.target} does not answer the gateway.")
                return self._backoff.next_s()
            except NoahError as e:
                self._set_silence(e.sentence)
                return self._backoff.next_s()
            live.word, live.word_until = word, live.session.expires_at
            self._backoff.reset()
        self._set_silence(link.trouble)
        return self._next_in_s(beat_s)

    def _next_in_s(self, beat_s: float | None) -> float | None:
        due_s = [] if beat_s is None else [self._written_at + beat_s - asyncio.get_running_loop().time()]
        if changes_at := word_changes_at(self._live.facts):
            due_s.append((changes_at - self._clock()).total_seconds())
        return max(0.0, min(due_s)) if due_s else None

    def _set_silence(self, trouble: str | None) -> None:
        silence = None if trouble is None or self._live.attached is None else f"{trouble} {SPARED}"
        if silence != self._live.silence:
            self._live.silence = silence
            self._changed()
