"""Writes the trail: rows are collected for a moment and added together, so that no request waits for the database.

Rows that come while the database is away are kept up to a bound; how many were lost beyond it, a row says later. A
person, or all strangers together, who are refused all the time fill so many rows a minute and no more.
"""

import asyncio
import hashlib
import json
import logging
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from noah.backoff import Backoff
from noah.core.session.principal import Principal
from noah.core.session.trail import Entry, Outcome, TrailCode, TrailRow
from noah.errors import NoahError
from noah.keep_running import keep_running, repeat
from noah.settings import GrantSettings
from noah.store.trail import TrailStore

log = logging.getLogger(__name__)

COLLECTING_S: Final = 0.2  # a killed gateway loses so much at most
MOST_WAITING: Final = 10_000  # rows; at some 500 bytes each
DENIALS_PER_MINUTE: Final = 60  # of one person, or of all who are not known
PRINTING_S: Final = 1.0
LAST_S: Final = 2.0  # a gateway that stops does not wait longer for its database
STDOUT: Final = "-"


class Trail:
    def __init__(self, store: TrailStore, *, clock: Callable[[], datetime], lines_to: str = "") -> None:
        """*lines_to*: the file that every row is appended to as a line of JSON; "-": stdout; "": none."""
        self._store = store
        self._clock = clock
        self._lines_to = lines_to
        self._printed = -1  # the number of the last row that was printed; -1: not known yet
        self._waiting: deque[Entry] = deque()
        self._lost = 0
        self._denials: Counter[str] = Counter()
        self._minute = 0
        self._rung = asyncio.Event()
        self._stopping = asyncio.Event()

    def record(
        self,
        code: TrailCode,
        *,
        who: Principal | None = None,
        outcome: Outcome = Outcome.DONE,
        **more: Any,
    ) -> None:
        """Add a row; *more* is what Entry has. Never fails, and never waits."""
        now = self._clock()
        is_too_much = outcome is Outcome.DENIED and self._is_flooded(who, now)
        if is_too_much or len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(Entry(code=code, at=now, who=who, outcome=outcome, **more))
        self._rung.set()

    def _is_flooded(self, who: Principal | None, now: datetime) -> bool:
        minute = int(now.timestamp() // 60)
        if minute != self._minute:
            self._minute = minute
            self._denials.clear()
        key = who.id if who else ""
        self._denials[key] += 1
        return self._denials[key] > DENIALS_PER_MINUTE

    async def flush(self) -> None:
        """Add what is waiting. Raises Unavailable, and keeps it then."""
        waiting, lost = list(self._waiting), self._lost
        entries = list(waiting)
        if lost:
            sentence = f"{lost} rows were not kept: too many came at once."
            entries.append(Entry(code=TrailCode.LOST, at=self._clock(), sentence=sentence, more={"rows": lost}))
        if entries:
            await self._store.add(entries)
        self._lost -= lost
        for _ in waiting:
            self._waiting.popleft()

    async def keep_writing(self) -> None:
        backoff = Backoff(first_s=1.0, longest_s=15.0)
        while not self._stopping.is_set():
            await self._rung.wait()
            self._rung.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(COLLECTING_S):
                    await self._stopping.wait()
            try:
                await self.flush()
                backoff.reset()
            except NoahError as e:
                log.warning("the trail is written later: %s", e.sentence)
                self._rung.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next_s()):
                        await self._stopping.wait()

    def stop(self) -> None:
        """Let keep_writing() return once it has added what is waiting, or has failed to."""
        self._stopping.set()
        self._rung.set()

    async def flush_last(self) -> None:
        try:
            async with asyncio.timeout(LAST_S):
                await self.flush()
                if self._printed >= 0:
                    await self._print_new()
        except (TimeoutError, NoahError):
            log.warning("the last rows of the trail are not kept: the database does not answer")

    async def note_grants(self, configured: Sequence[GrantSettings]) -> None:
        """Record that the configuration grants something else than it did when that was recorded last."""
        grants, fingerprint = await asyncio.to_thread(_written, configured)
        before = await self._store.find(code=TrailCode.RIGHTS_CHANGED, limit=1)
        if not (before or grants) or (before and json.loads(before[0].text)["more"]["fingerprint"] == fingerprint):
            return
        sentence = f"The configuration grants something else than before: {len(grants)} in all."
        more = {"fingerprint": fingerprint, "grants": grants}
        self.record(TrailCode.RIGHTS_CHANGED, via="configuration", sentence=sentence, more=more)

    async def confirmed_removals(self, *, within: timedelta) -> Collection[str]:
        """Return what names the removals from the inventory that somebody has confirmed in this time."""
        rows = [json.loads(row.text) for row in await self._store.find(code=TrailCode.REMOVAL_CONFIRMED, limit=100)]
        since = self._clock() - within
        return {
            name for row in rows if datetime.fromisoformat(row["at"]) > since for name in row["more"].get("named", ())
        }

    # -- lines of JSON

    async def keep_printing(self) -> None:
        """Append every row to the file, those of other transactions included, from where the file ends."""
        if self._printed < 0:
            last = await asyncio.to_thread(_last_number, self._lines_to)
            self._printed = await self._store.last_number() if last is None else last
        await repeat(self._print_new, name="print the trail", every_s=PRINTING_S)

    async def _print_new(self) -> None:
        while rows := await self._store.after(self._printed):
            await asyncio.to_thread(_print, rows, self._lines_to)
            self._printed = rows[-1].number


def line_of(row: TrailRow) -> str:
    """Return the row as one JSON object, with its number and its hash."""
    return json.dumps({"number": row.number, **json.loads(row.text), "hash": row.hash}, ensure_ascii=False)


def _written(configured: Sequence[GrantSettings]) -> tuple[Sequence[Any], str]:
    """Return grants as JSON has them, and their fingerprint."""
    grants = [one.model_dump(mode="json") for one in configured]
    return grants, hashlib.sha256(json.dumps(grants, sort_keys=True, default=str).encode()).hexdigest()


def _print(rows: Iterable[TrailRow], lines_to: str) -> None:
    text = "".join(f"{line_of(row)}\n" for row in rows)
    if lines_to == STDOUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    with Path(lines_to).open("a", encoding="utf-8") as file:
        file.write(text)


def _last_number(lines_to: str) -> int | None:
    """Return the number of the file's last whole line; None if there is none."""
    try:
        with Path(lines_to).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64 * 1024))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["number"]) if lines else None
    except (OSError, ValueError, KeyError):
        return None


@asynccontextmanager
async def open_trail(store: TrailStore, *, clock: Callable[[], datetime], lines_to: str = "") -> AsyncIterator[Trail]:
    """Write rows as long as the context lasts; leave it after everything that records."""
    trail = Trail(store, clock=clock, lines_to=lines_to)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(keep_running(trail.keep_writing, "write the trail"), name="write the trail")
        printing = None
        if lines_to:
            name = "print the trail"
            printing = group.create_task(keep_running(trail.keep_printing, name), name=name)
        try:
            yield trail
        finally:
            if printing is not None:
                printing.cancel()
            trail.stop()
            await asyncio.wait([writing], timeout=LAST_S)
            writing.cancel()
    await trail.flush_last()
