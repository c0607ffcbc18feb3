"""JVMs on hosts, reached by SSH: a report for the app's own health check, and a channel for each debugger.

There is no forwarder: sshd is it. What a session changed on a host is taken back by its end, or, when the host was not
reached then, as soon as it is back; the edits in the store are the memory of that.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from noah.backoff import Backoff
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.catalog.target_info import UNKNOWN, TargetInfo
from noah.core.forwarder import Agent, Answer, word_arguments
from noah.core.host.edits import HostEdit
from noah.core.session.session import Presence, Session, Word
from noah.core.session.target import HostTarget, Target, Wanted
from noah.errors import CannotDebug, NoahError, NotFound, Unavailable
from noah.keep_running import repeat
from noah.proxy.relay import Dial
from noah.settings import Host
from noah.store.claims import ClaimStore
from noah.store.edits import EditStore
from noah.store.lease import Lease
from noah.targets import verdict
from noah.targets.base import Link, Observation
from noah.targets.host import drift
from noah.targets.host.app import HostedApp, sleeps
from noah.targets.host.drift import Drift
from noah.targets.host.restart import Restarts, needs_restart
from noah.targets.unconfigured import Unconfigured
from noah.turns import in_turns

if TYPE_CHECKING:
    from noah.targets.host.ssh import Ssh

log = logging.getLogger(__name__)

LOOK_AGAIN = 5.0  # seconds; a look costs a shell on the host, and nothing tells us of a JVM that ends
TAKE_BACK_EVERY_S = 3.0
CLAIM = "host-edit"  # that is taken back by one gateway of several
BEAT_S = 2.0  # each is a shell on the host, for as long as a debugger is attached
SETTLES_WITHIN = 10.0  # seconds; three times AGENT_COMES_WITHIN, for a host whose looks are slow
SETTLING_LOOK = 0.5  # seconds between looks at a JVM that was started just now
LONGEST_PAUSE_S = 30.0  # between attempts at a host that does not answer


class HostLink:
    look_again = LOOK_AGAIN
    beat_s = BEAT_S
    idle_beat_s = None
    trouble = None

    def __init__(
        self, app: HostedApp, edits: EditStore, *, changed: Callable[[], None], step: Callable[[str], None]
    ) -> None:
        self._app = app
        self._edits = edits
        self._restarts = Restarts(app, edits)
        self._step = step
        self._asked = False
        self.is_held = False
        self._unwatch = app.ssh.watch(changed)

    def __repr__(self) -> str:
        return f"<{self._app!r}>"

    async def look(self, session: Session) -> Observation:
        if not self._asked:
            return Observation(presence=Presence.READY)  # start() asks, and takes over what is there already
        try:
            seen = self._observed(await self._app.forwarder("look", session.id))
        except Unavailable as e:
            return _away(e)
        if seen.presence is Presence.NOT_READY and await self._restarts.interrupted():
            return Observation(presence=Presence.READY)  # start() goes on with what was begun
        return seen

    async def is_taken(self, session: Session) -> bool:
        return (await self._app.forwarder("look", session.id)).agent is Agent.TAKEN

    async def start(self, session: Session, *, word: Word, now: datetime) -> Observation:
        self._asked = True
        async with self._app.changing:
            await self._restarts.take_over(session)
            try:
                await self._restarts.wake(self._step)
            except Unavailable as e:
                return _away(e)
            answer = await self._start(session, word, now)
            if sleeps(answer) or await self._restarts.interrupted():
                began = asyncio.get_running_loop().time()
                await self._restarts.have_agent_listen(session, self._step)
                took = timedelta(seconds=asyncio.get_running_loop().time() - began)
                answer = await self._start(session, word, now + took)
        observation = self._observed(answer)
        self.is_held = observation.forwarder_alive
        return observation

    async def _start(self, session: Session, word: Word, now: datetime) -> Answer:
        return await self._app.forwarder("start", session.id, *word_arguments(session, word, now), "none")

    async def write(self, session: Session, word: Word, *, now: datetime) -> None:
        answer = await self._app.forwarder("word", session.id, *word_arguments(session, word, now))
        verdict.check(answer, where=self._app.where)

    async def stop(self, session: Session) -> None:
        """End the session there. A host that is away does not hold it up: its flags are taken back once it answers."""
        try:
            async with self._app.changing:
                verdict.check(await self._app.forwarder("stop", session.id), where=self._app.where)
                edit = await self._edits.open_of(self._app.target)
                if edit is not None and edit.session == session.id:
                    await self._restarts.take_back(edit, self._step)
        except (Unavailable, CannotDebug) as e:
            self._step(f"{e.sentence} What this session changed there is put back when that is possible.")

    @property
    def dial(self) -> Dial:
        return self._dial

    async def close(self) -> None:
        self._unwatch()

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        return await self._app.ssh.dial(factory, self._app.app.jdwp_port)

    def _observed(self, answer: Answer) -> Observation:
        verdict.check(answer, where=self._app.where)
        if answer.java is None:
            return Observation(presence=Presence.NOT_READY, reason=f"No Java process runs on {self._app.where}.")
        if sleeps(answer):
            return Observation(presence=Presence.READY)  # start() knows what it takes
        return verdict.observed(answer, where=str(self._app.target), jdwp_port=self._app.app.jdwp_port)


def _away(error: Unavailable) -> Observation:
    """Return that it is not reachable: no debugger gets through either, so earlier observations say nothing."""
    return Observation(presence=Presence.NOT_READY, reason=error.sentence)


class _Attempts:
    """Says when an edit that could not be taken back is tried again."""

    def __init__(self) -> None:
        self.not_before = 0.0  # by the loop's clock
        self.backoff = Backoff(first_s=2 * TAKE_BACK_EVERY_S, longest_s=LONGEST_PAUSE_S)


class Hosts:
    """The apps on all hosts."""

    def __init__(
        self,
        edits: EditStore,
        *,
        catalog: Catalog,
        holders: Holders,
        lease: Lease,
        claims: ClaimStore,
        is_complete: Callable[[], bool] = lambda: True,
    ) -> None:
        """*is_complete* says False as long as there may be hosts that nobody has named yet."""
        self._is_complete = is_complete
        self._edits = edits
        self._lease = lease
        self._claims = claims
        self._attempts: dict[str, _Attempts] = {}  # at edits that could not be taken back, by their ids
        self._catalog = catalog
        self._holders = holders
        self._ssh: dict[str, Ssh] = {}  # by the host's name
        self._apps: dict[HostTarget, HostedApp] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def configure(self, hosts: Iterable[Host]) -> Collection[Target]:
        """Have these hosts from now on, of which there may be thousands. One call at a time.

        Return the targets that are new, gone, or reached or restarted otherwise. What has not changed keeps its
        connection, and so its debuggers. Edits of what is gone stay owed. Raises BadSettings, and changes nothing, if
        one of the hosts cannot be used.
        """
        wanted = {host.name: host for host in hosts}
        reached = {name: self._reached(host) async for name, host in in_turns(wanted.items())}
        affected = set[Target]()
        async for name in in_turns(dict.fromkeys((*self._ssh, *wanted))):
            # Between two hosts others run: of each, they see what it was, or what it is now.
            affected.update(self._configure(name, wanted.get(name), reached.get(name)))
        return affected

    def _configure(self, name: str, host: Host | None, ssh: "Ssh | None") -> Iterable[Target]:
        """Have a host, or not any more, and return its targets of which something has changed."""
        before = self._ssh.pop(name, None)
        had = [] if before is None else self._targets_on(before.host)
        wanted = {} if host is None else dict(zip(self._targets_on(host), host.apps, strict=True))
        if before is not None and before is not ssh:
            self._close_later(before)
        changed = [one for one in had if self._apps[one].ssh is not ssh or self._apps[one].app != wanted.get(one)]
        for target in changed:
            del self._apps[target]
            if target not in wanted:
                self._catalog.remove(target)
        if host is None or ssh is None:
            return changed
        self._ssh[name], ssh.host = ssh, host
        new = {target: HostedApp(ssh, app) for target, app in wanted.items() if target not in self._apps}
        self._apps |= new
        self._list(name)
        return {*changed, *new}

    def _reached(self, host: Host) -> "Ssh":
        """Return the connection to a host: the one that there is, if the host is reached as before."""
        ssh = self._ssh.get(host.name)
        if ssh is not None and _is_reached_alike(ssh.host, host):
            return ssh
        return _ssh(host, changed=partial(self._list, host.name))

    def _targets_on(self, host: Host) -> Sequence[HostTarget]:
        return [HostTarget(host.name, app.name) for app in host.apps]

    def _close_later(self, ssh: "Ssh") -> None:
        """Close a connection beside everything else: its host may not answer."""
        task = asyncio.get_running_loop().create_task(ssh.close(), name=f"close the connection to {ssh.host.name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        assert isinstance(wanted, HostTarget)
        app = self._find(wanted)
        if await app.asleep():
            return _info(app)
        answer = await _look_until_settled(app)
        if answer.java is None:
            raise CannotDebug(f"No Java process runs on {app.where}: start {wanted.app}, then enable debugging.")
        return _info(app, needs_restart=_what_it_takes(app, answer))

    def link(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> Link:
        assert isinstance(session.target, HostTarget)
        if session.target not in self._apps:
            return Unconfigured(session.target, is_certain=self._is_complete)
        return HostLink(self._find(session.target), self._edits, changed=changed, step=step)

    async def drift(self) -> Sequence[Drift]:
        """Ask every host at once; one that hangs is a line, and costs the others nothing."""
        held = set(self._holders.targets)
        forgotten = [drift.forgotten(edit) for edit in await self._edits.left_over() if edit.target not in self._apps]
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(drift.of(app, held=app.target in held)) for app in self._apps.values()]
        return [*(found for task in asked if (found := task.result()) is not None), *forgotten]

    def names(self) -> Collection[str]:
        return list(self._ssh)

    def configured(self) -> Sequence[Host]:
        return [ssh.host for ssh in self._ssh.values()]

    async def examine(self, host: str) -> tuple[list[str], list[str]]:
        """Look at a host's apps. Return what is well and what is not, in sentences. Raises Unavailable, NotFound."""
        if host not in self._ssh:
            raise NotFound("It is gone from the configuration by now.")
        apps = [self._apps[target] for target in self._targets_on(self._ssh[host].host)]
        good, bad = [], []
        for app in apps:
            name = app.target.app
            answer = await app.forwarder("look", "doctor")
            try:
                verdict.check(answer, where=app.where)
                if answer.java is None:
                    bad.append(f"No Java process of {name} runs.")
                elif sleeps(answer):
                    good.append(f"{name}: {_what_it_takes(app, answer)}")
                else:
                    good.append(f"{name} can be debugged.")
            except CannotDebug as e:
                bad.append(f"{name}: {e.sentence}")
        return good, bad

    async def take_back_left_over(self) -> None:
        """Take back what sessions that are over left on hosts that were not reached then."""
        if not self._apps:
            return
        left = await self._edits.left_over()
        self._attempts = {edit.id: self._attempts.get(edit.id) or _Attempts() for edit in left}
        async with asyncio.TaskGroup() as group:
            for edit in left:
                group.create_task(self._take_back(edit), name=f"take back {edit.target}")

    async def close(self) -> None:
        await asyncio.gather(*self._closing, *(ssh.close() for ssh in self._ssh.values()), return_exceptions=True)

    async def _take_back(self, edit: HostEdit) -> None:
        app, clock, attempts = self._apps.get(edit.target), asyncio.get_running_loop().time, self._attempts[edit.id]
        try:
            if app is None or app.changing.locked() or clock() < attempts.not_before:
                return
            async with app.changing, self._lease.acting():
                claim = await self._claims.take(CLAIM, edit.id, gateway=self._lease.gateway_id)
                if claim is None:
                    return  # another gateway does it
                now = await self._edits.open_of(edit.target)
                if now is not None and now.session == edit.session:
                    await Restarts(app, self._edits).take_back(now, lambda text: log.info("%s %s", edit.target, text))
                await self._claims.forget(claim)
                return
        except NoahError as e:
            log.info("%s is put back later: %s", edit.target, e.sentence)
        except Exception:  # the task's outermost loop: the gateway and the other hosts go on
            log.exception("%s is not put back", edit.target)
        attempts.not_before = clock() + attempts.backoff.next_s()

    def _list(self, host: str) -> None:
        if (ssh := self._ssh.get(host)) is not None:
            for target in self._targets_on(ssh.host):
                self._catalog.put(_info(self._apps[target]))

    def _find(self, target: HostTarget) -> HostedApp:
        if target not in self._apps:
            known = ", ".join(map(str, self._apps)) or "none"
            raise NotFound(f"The configuration has no {target}; it has {known[:300]}.")
        return self._apps[target]


@asynccontextmanager
async def open_hosts(
    hosts: Iterable[Host],
    edits: EditStore,
    *,
    catalog: Catalog,
    holders: Holders,
    lease: Lease,
    claims: ClaimStore,
    is_complete: Callable[[], bool] = lambda: True,
    every_s: float = TAKE_BACK_EVERY_S,
) -> AsyncIterator[Hosts]:
    kind = Hosts(edits, catalog=catalog, holders=holders, lease=lease, claims=claims, is_complete=is_complete)
    try:
        await kind.configure(hosts)
        async with asyncio.TaskGroup() as group:
            taking_back = repeat(kind.take_back_left_over, name="take edits back", every_s=every_s)
            task = group.create_task(taking_back, name="take edits back")
            yield kind
            task.cancel()
    finally:
        await kind.close()


def _is_reached_alike(one: Host, other: Host) -> bool:
    """Return whether they differ at most in their apps, and in the environment that these are in."""
    alike = {"apps": (), "environment": ""}
    return one.model_copy(update=alike) == other.model_copy(update=alike)


def _ssh(host: Host, *, changed: Callable[[], None]) -> "Ssh":
    from noah.targets.host.ssh import Ssh  # 7 MiB, for those who have hosts

    return Ssh(host, changed=changed)


async def _look_until_settled(app: HostedApp) -> Answer:
    """Look at the app. Just after its JVM's start nobody can know whether an agent comes: look again until it is known.

    Otherwise a session would begin without the question whether the app may be restarted, and then fail for that.
    """
    until = asyncio.get_running_loop().time() + SETTLES_WITHIN
    while True:
        answer = await app.forwarder("look", "doctor")
        verdict.check(answer, where=app.where)
        if answer.java is None or answer.agent is not Agent.NONE or sleeps(answer):
            return answer
        if asyncio.get_running_loop().time() > until:
            raise Unavailable(f"{app.target} is being started again and again: try again when it runs.")
        await asyncio.sleep(SETTLING_LOOK)


def _what_it_takes(app: HostedApp, answer: Answer) -> str | None:
    """Return what has to be confirmed first."""
    if not sleeps(answer):
        return None
    if app.app.options_file is None or app.app.restart_command is None:
        raise CannotDebug(
            f"The JVM of {app.target} does not listen for a debugger on port {app.app.jdwp_port}: start it with "
            f"{verdict.FLAG.format(port=app.app.jdwp_port)}, or put options_file and a way to restart it into the "
            "configuration."
        )
    return needs_restart(app).sentence


def _info(app: HostedApp, *, needs_restart: str | None = None) -> TargetInfo:
    return TargetInfo(
        name=str(app.target),
        app=app.app.name,
        environment=app.ssh.host.environment,
        ready=not app.ssh.is_away,
        # What the host would say is not asked for a list; a session's own looks say more.
        phase="Unreachable" if app.ssh.is_away else "Running" if app.ssh.is_connected else UNKNOWN,
        checkurl=app.app.checkurl,
        needs_restart=needs_restart,
    )
