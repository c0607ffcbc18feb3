"""A chaos run: gateways are killed, frozen and cut off under load, and afterwards it is checked what they have done.

What is checked comes from outside of the gateways: the database's own log of writes (a trigger), the log of the
scripts that were run (a shell that notes them), the trail, and what clients were answered.
"""

import asyncio
import json
import random
import shutil
import signal
import stat
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from noah.store import Store
from tests.faults import RECOVERED_AFTER_S
from tests.gateway import Refused
from tests.jdwp import CLASSES_BY_SIGNATURE, Debugger, JdwpError, string
from tests.postgres import Postgres, new_folder
from tests.replicas import Replica, Replicas

# The lease, the grace that a gateway has after an outage, one round of looks; twice that on a busy machine.
SETTLED_WITHIN_S = 60.0
# A shell that a gateway has begun when it still had the session; less than MARGIN_S of a lease.
RUNS_WITHIN_S = 2.0
RECOVERING_S = 30.0  # on a busy machine: new connections, a lease, and then what others have done meanwhile
DRAINED_WITHIN_S = 240.0  # clients detach after 6 s, on a machine that is not busy
TRIGGER = """
CREATE TABLE chaos (at timestamptz, writer text, id text, gateway text, fence bigint, was_gateway text,
    was_fence bigint, was_there boolean, is_live_changed boolean, is_over boolean, was_over boolean);
CREATE FUNCTION note_chaos() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos VALUES (clock_timestamp(), current_setting('application_name'), NEW.id, NEW.gateway, NEW.fence,
        OLD.gateway, OLD.fence, EXISTS (SELECT FROM gateways WHERE gateways.id = OLD.gateway),
        NEW.live::text IS DISTINCT FROM OLD.live::text, NEW.ended_at IS NOT NULL, OLD.ended_at IS NOT NULL);
    RETURN NULL; END $$;
CREATE TRIGGER chaos AFTER UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION note_chaos();
"""
SHELL = """#!/bin/sh
printf '%s %s %s %s\\n' "$(date +%s.%N)" "$NOAH_TEST_GATEWAY" "$4" "$5" >> "$NOAH_TEST_ACTS"
exec /bin/sh "$@"
"""


@dataclass
class Watcher:
    """A client of the event stream, which goes to any gateway with the last ID that it has seen."""

    replicas: Replicas
    ids: list[str] = field(default_factory=list)
    reloads: int = 0

    async def run(self) -> None:
        while True:
            gateway = random.choice(self.replicas.gateways)
            with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                await self._watch(gateway)
            await asyncio.sleep(0.2)

    async def _watch(self, gateway: Replica) -> None:
        outages = self.replicas.outages(gateway)
        headers = gateway.api.headers("ada")
        if self.ids:
            headers["Last-Event-ID"] = self.ids[-1]
        timeout = aiohttp.ClientTimeout(total=random.uniform(2, 20), sock_connect=3)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{gateway.url}/api/v1/events", headers=headers) as answer,
        ):
            if answer.status != 200:
                return
            id, kind = "", ""
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("id: "):
                    id = line[4:]
                elif line.startswith("event: "):
                    kind = line[7:]
                elif not line and kind:
                    is_recovering = time.monotonic() < gateway.disturbed_at + RECOVERING_S
                    self._seen(id, kind, is_excused=outages or is_recovering or self.replicas.outages(gateway))
                    kind = ""
                elif not line and not self.ids and id:
                    self.ids.append(id)  # where the stream begins

    def _seen(self, id: str, kind: str, *, is_excused: bool) -> None:
        """*is_excused*: the gateway is, or was just now, without its database, or it stood still."""
        (epoch, before), (epoch_now, number) = (one.rsplit("-", 1) for one in (self.ids[-1] if self.ids else id, id))
        if kind == "reload":
            assert is_excused or epoch != epoch_now, f"after event {self.ids[-1:]} a reload came: {id}"
            self.reloads += 1
        else:
            assert (epoch_now, int(number)) == (epoch, int(before) + 1), f"after event {self.ids[-1]} came {id}"
        self.ids.append(id)


@dataclass
class Client:
    """Somebody who debugs one JVM again and again, by whatever gateway answers."""

    replicas: Replicas
    name: str  # of the JVM's main class
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)  # as they were answered last
    attached: int = 0
    _is_current: bool = True  # the last answer is from a gateway that had the database

    async def run(self, until: Callable[[], bool]) -> None:
        while not (until() and self.attached):
            session = await self._enable()
            for _ in range(random.randint(1, 6)):
                with suppress(OSError, ConnectionError, JdwpError, AssertionError):
                    await self._debug(session)
                await self._extend(session)
            await self._end(session)

    async def _enable(self) -> dict[str, Any]:
        target = f"local/{self.name.lower()}"
        while True:
            body = {"target": target, "allow": ["127.0.0.0/8"]}
            try:
                session: dict[str, Any] = await self._ask("POST", "sessions?wait=20", body)
            except Refused as e:
                if e.status != 409:
                    raise
                # An answer was lost, and the session is there; or the earlier one is not over yet.
                found = (await self._ask("GET", f"sessions?target={target}&state=live"))["items"]
                if not found:
                    await asyncio.sleep(0.3)
                    continue
                session = found[0]
            self._note(session)
            return session

    async def _debug(self, session: dict[str, Any]) -> None:
        gateway = random.choice(self.replicas.gateways)
        await asyncio.to_thread(self._attach, gateway.host, session["port"])

    def _attach(self, host: str, port: int) -> None:
        with Debugger(port, host=host) as debugger:
            for _ in range(random.choice((1, 20, 60))):
                found = debugger.ask(CLASSES_BY_SIGNATURE, string(f"L{self.name};"))
                if found[:4] != b"\0\0\0\1":
                    raise RuntimeError(f"port {port} of {host} leads to another JVM than {self.name}")
                time.sleep(0.1)
            self.attached += 1

    async def _extend(self, session: dict[str, Any]) -> None:
        with suppress(Refused):
            self._note(await self._ask("POST", f"sessions/{session['id']}/extend", {"for": "2h"}))
        self._note(await self._ask("GET", f"sessions/{session['id']}"))

    async def _end(self, session: dict[str, Any]) -> None:
        for _ in range(5):
            ended = await self._ask("DELETE", f"sessions/{session['id']}?wait=20")
            self._note(ended)
            if ended["ended_at"]:
                return
        raise AssertionError(f"{session['id']} does not end: {ended}")

    def _note(self, now: dict[str, Any]) -> None:
        """History is one line: what was answered once is never taken back, whichever gateway is asked.

        A gateway without the database, which is not ready then, shows what it has seen last.
        """
        before = self.sessions.get(now["id"], now)
        if self._is_current:
            assert now["expires_at"] >= before["expires_at"], (before, now)
            assert not (before["ended_at"] and not now["ended_at"]), (before, now)
            self.sessions[now["id"]] = now
        assert now["end_reason"] in (None, "closed"), now

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        random.shuffle(order := list(self.replicas.gateways))
        async with asyncio.timeout(180):
            while True:
                for gateway in order:
                    with suppress(aiohttp.ClientError, TimeoutError, json.JSONDecodeError):
                        async with asyncio.timeout(30):
                            outages = self.replicas.outages(gateway)
                            try:
                                found = await gateway.api.ask(method, path, body)
                                self._is_current = not outages and not self.replicas.outages(gateway)
                                return found
                            except Refused as e:
                                if e.status not in (502, 503, 504):
                                    raise
                await asyncio.sleep(0.3)


class Chaos:
    def __init__(self, replicas: Replicas, *, longest_s: float) -> None:
        self.replicas = replicas
        self.done: Counter[str] = Counter()
        self._first = replicas.postgres
        self._last: Replica | None = None
        self._longest_s = longest_s
        self._faults: list[Callable[[], Awaitable[None]]] = [
            self.kill,
            self.stop_cleanly,
            self.freeze,
            self.cut_off,
            self.hang,
            self.slow,
            self.restart_database,
            self.fail_over,
        ]

    async def run(self, seconds: float) -> None:
        """Cause one fault after another: each of them once, and all of them again as time goes on, in any order."""
        until, left = time.monotonic() + seconds, list[Callable[[], Awaitable[None]]]()
        while time.monotonic() < until or len(self.done) < len(self._faults):
            left = left or random.sample(self._faults, len(self._faults))
            fault = left.pop()
            self.done[fault.__name__] += 1
            began = datetime.now()  # noqa: DTZ005 - as the gateways log it
            await fault()
            is_for_all = fault in (self.restart_database, self.fail_over)
            for gateway in self.replicas.gateways:
                if is_for_all or gateway is self._last:
                    gateway.disturbed_at = time.monotonic()
            print(f"{began:%H:%M:%S}: {datetime.now() - began} of {fault.__name__} {self._last}")  # noqa: DTZ005
            await asyncio.sleep(random.uniform(0.5, 4))

    def _any(self) -> Replica:
        """Choose one of those that have a session, if any has."""
        owners = (self.replicas.named(gateway) for _, gateway, _ in self.replicas.sessions())
        self._last = random.choice([owner for owner in owners if owner] or self.replicas.gateways)
        return self._last

    def _while(self) -> float:
        return random.uniform(1, self._longest_s)

    async def kill(self) -> None:
        gateway = self._any()
        await gateway.stop(signal.SIGKILL)
        await asyncio.sleep(random.uniform(0, 4))
        await gateway.start()

    async def stop_cleanly(self) -> None:
        gateway = self._any()
        async with asyncio.timeout(DRAINED_WITHIN_S):
            await gateway.stop()
        await gateway.start()

    async def freeze(self) -> None:
        gateway = self._any()
        gateway.send(signal.SIGSTOP)
        await asyncio.sleep(self._while())
        gateway.send(signal.SIGCONT)

    async def cut_off(self) -> None:
        database = self._any().to_database
        await database.cut()
        await asyncio.sleep(self._while())
        await database.mend()

    async def hang(self) -> None:
        database = self._any().to_database
        database.freeze()
        await asyncio.sleep(self._while())
        database.thaw()

    async def slow(self) -> None:
        database = self._any().to_database
        database.delay_s = random.uniform(0.05, 0.5)
        await asyncio.sleep(self._while())
        database.delay_s = 0.0
        database.thaw()

    async def restart_database(self) -> None:
        self.replicas.is_without_database = True
        await asyncio.to_thread(self.replicas.postgres.kill)
        await asyncio.sleep(random.uniform(0, 3))
        await asyncio.to_thread(self.replicas.postgres.start)
        await asyncio.sleep(RECOVERED_AFTER_S)
        self.replicas.is_without_database = False

    async def fail_over(self) -> None:
        self.replicas.is_without_database = True
        before = self.replicas.postgres
        after = await asyncio.to_thread(before.standby, new_folder())
        await asyncio.to_thread(before.kill)
        await asyncio.to_thread(after.promote)
        self.replicas.move_to(after)
        self._drop(before)
        await asyncio.sleep(RECOVERED_AFTER_S)
        self.replicas.is_without_database = False

    def _drop(self, server: Postgres) -> None:
        if server is not self._first:
            shutil.rmtree(server.folder, ignore_errors=True)

    async def heal(self) -> None:
        """Have the first server be the one that others use after this run, whatever became of it."""
        if (last := self.replicas.postgres) is not self._first:
            await asyncio.to_thread(last.stop)
            self._drop(last)
        await asyncio.to_thread(self._first.start_again)
        await asyncio.to_thread(self._first.forget_standby)


@asynccontextmanager
async def watched_acts(replicas: Replicas) -> AsyncIterator[Path]:
    """Have each gateway's shell note what it runs; yield the file. Before the gateways are started."""
    shell, acts = replicas.folder / "bin" / "sh", replicas.folder / "acts"
    shell.parent.mkdir()
    shell.write_text(SHELL)
    shell.chmod(shell.stat().st_mode | stat.S_IXUSR)
    for gateway in replicas.gateways:
        gateway.env["PATH"] = f"{shell.parent}:{gateway.env['PATH']}"
        gateway.env |= {"NOAH_TEST_ACTS": str(acts), "NOAH_TEST_GATEWAY": gateway.host}
    acts.touch()
    yield acts


def check_fences(replicas: Replicas) -> dict[str, list[tuple[float, str | None]]]:
    """Check what the database noted of its writes; return which gateway had each session from which time on.

    A session gets another gateway when the one that has it hands it over, or when that one is not there any more and
    the other takes it over. What is true of it, and that it has ended, is written by the one that has it.
    """
    columns = "extract(epoch from at), writer, id, gateway, fence, was_gateway, was_fence, was_there"
    owners: dict[str, list[tuple[float, str | None]]] = defaultdict(list)
    had: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in replicas.postgres.ask(
        f"SELECT {columns}, is_live_changed, is_over, was_over FROM chaos ORDER BY at", url=replicas.url
    ):
        at, writer, id, gateway, fence, was_gateway, was_fence, was_there, is_live_changed, is_over, was_over = row
        assert not (was_over and not is_over), row
        is_owner_s = writer == replicas.host_of(was_gateway)
        if (gateway, fence) != (was_gateway, was_fence):
            assert fence == was_fence + 1, row
            assert is_owner_s or (not was_there and writer == replicas.host_of(gateway)), row
        if is_live_changed or is_over != was_over:
            assert is_owner_s, row
        if gateway is not None:
            had[id, fence].add(gateway)
        owners[id].append((float(at), gateway))
    assert all(len(gateways) == 1 for gateways in had.values()), had
    return owners


def check_acts(replicas: Replicas, acts: Path, owners: dict[str, list[tuple[float, str | None]]]) -> int:
    """Check that no gateway started or stopped anything for a session that another one had; return how many acts."""
    checked = 0
    for line in acts.read_text().splitlines():
        at_text, host, verb, session = [*line.split(" "), "", ""][:4]
        times = owners.get(session)
        if verb not in ("start", "stop") or not times:
            continue
        at = float(at_text)
        last = bisect_right(times, at, key=lambda one: one[0]) - 1
        if last < 0:  # it has just been enabled: nothing is noted of its first gateway
            continue
        first = max(bisect_right(times, at - RUNS_WITHIN_S, key=lambda one: one[0]) - 1, 0)
        hosts = {replicas.host_of(owner) for _, owner in times[first : last + 1]}
        assert host in hosts, f"{host} ran {verb} for {session} at {at}, which {hosts} had: {times}"
        checked += 1
    return checked


async def check_settled(replicas: Replicas, clients: list[Client]) -> None:
    """Check that nothing was lost or is left over, once nobody debugs any more."""
    ids = {id for client in clients for id in client.sessions}
    rows = {row[0]: row[1:] for row in replicas.sessions("id, ended_at, end_reason", where="true")}
    assert ids <= rows.keys(), f"sessions are lost: {ids - rows.keys()}"
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while left := [*replicas.sessions(), *(replicas.folder / "reports").iterdir()]:
        assert time.monotonic() < deadline, f"left over: {left}"
        # A session whose client never got an answer is ended here.
        for id, *_ in (one for one in left if isinstance(one, tuple)):
            with suppress(Refused):
                await replicas.ask("DELETE", f"sessions/{id}?wait=10")
        await asyncio.sleep(0.5)
    reasons = Counter(reason for _, reason in rows.values() if reason)
    assert reasons.keys() <= {"closed", "canceled"}, reasons
    twice = replicas.postgres.ask(
        "SELECT a.id, b.id FROM sessions a JOIN sessions b ON a.port = b.port AND a.id < b.id"
        " AND a.created_at < b.ended_at AND b.created_at < a.ended_at",
        url=replicas.url,
    )
    assert not twice, f"ports were given twice: {twice}"
    store = Store.open(replicas.url)
    try:
        chain = await store.trail.verify()
    finally:
        await store.close()
    assert chain.verdict() == []


async def run(replicas: Replicas, names: list[str], *, seconds: float, longest_s: float) -> str:
    """Run load and chaos for *seconds*, then check everything; return what happened."""
    replicas.postgres.ask(TRIGGER, url=replicas.url)
    async with watched_acts(replicas) as acts:
        await replicas.start()
        chaos = Chaos(replicas, longest_s=longest_s)
        clients = [Client(replicas, name) for name in names]
        watchers = [Watcher(replicas) for _ in range(3)]
        try:
            await _under_load(chaos, clients, watchers, seconds=seconds)
            await check_settled(replicas, clients)
            checked = check_acts(replicas, acts, check_fences(replicas))
            moved = replicas.postgres.ask("SELECT count(*) FROM chaos WHERE fence > was_fence", url=replicas.url)[0][0]
        finally:
            await chaos.heal()
    done = sum(len(client.sessions) for client in clients)
    seen = [len(watcher.ids) for watcher in watchers]
    return (
        f"{seconds:.0f} s: {dict(chaos.done)}; {done} sessions, {sum(client.attached for client in clients)} debuggers,"
        f" {moved} changes of owner, {checked} starts and stops, events {seen}, reloads"
        f" {[watcher.reloads for watcher in watchers]}"
    )


async def _under_load(chaos: Chaos, clients: list[Client], watchers: list[Watcher], *, seconds: float) -> None:
    is_over = False
    async with asyncio.TaskGroup() as group:
        working = [group.create_task(client.run(lambda: is_over), name=client.name) for client in clients]
        watching = [group.create_task(watcher.run(), name="watch") for watcher in watchers]
        await chaos.run(seconds)
        is_over = True
        async with asyncio.timeout(300):
            await asyncio.gather(*working)
        await asyncio.sleep(3)
        for task in watching:
            task.cancel()
