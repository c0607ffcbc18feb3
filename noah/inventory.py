"""Follows the configuration: which clusters, hosts and JVMs of this machine there are, and who may do what to them.

It is read again when its file changes and on SIGHUP, and each part of it whenever a source of it says something else.
What is new appears. What is gone ends its sessions, and what they changed on hosts stays owed. What cannot be read
stays as it is, and the rest changes. So does a list of which more than half is gone at once, unless somebody confirms
that this is meant: a CMDB that answers with half of its hosts must not end half of the sessions.

Each part is followed by a task of its own: one that takes long holds up no other, and no right that is taken away.
"""

import asyncio
import hashlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.core.session.target import Target
from noah.errors import BadSettings, NoahError
from noah.file_state import FileState, state_if_there
from noah.keep_running import keep_running
from noah.kube.cluster_sources import ClusterSources
from noah.kube.clusters import Clusters
from noah.settings import Settings, read_settings
from noah.targets.host.hosts import Hosts
from noah.targets.host.inventory import HostSources
from noah.targets.local import Locals
from noah.turns import in_turns

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0  # at the configuration's file; a look costs some microseconds
# A file may be half of what is being written: it is complete if nothing has changed it for so long, after it took the
# place of another one (which is done at once, mostly), and after it was written over.
REPLACED_WITHIN_S, WRITTEN_WITHIN_S = 1.0, 5.0
CLUSTERS_EVERY_S = 5.0  # their kubeconfigs, folders and Secrets; these are one GET each of some KiB
CONFIRMED_EVERY_S = 10.0  # what was refused may have been confirmed at another gateway of the same database
CONFIRMED_FOR = timedelta(hours=1)  # gateways read their sources minutes apart
MOST_SAID = 5  # things that cannot be read, each in a sentence: pages show them
FEW = 3  # of what there are not more, any number may go at once
READ_AT_START = ("gateway", "sessions", "access", "webhook", "trail")
LIMITS = ("sessions_per_person", "requests_per_minute", "allow_at_most", "system_namespaces")  # of [access]; followed


class Named(Protocol):
    @property
    def name(self) -> str: ...


@dataclass(slots=True)
class Part:
    """One list of the configuration: how it is read, and what is to go by it."""

    what: str  # "hosts"
    one: str  # "host"
    have: Sequence[Named]
    # Returns what there is, and a sentence for each thing that is as it was before, since it cannot be read.
    read: Callable[[Settings], Awaitable[tuple[Sequence[Named], Sequence[str]]]]
    apply: Callable[[Any], Awaitable[None]]
    in_force: Callable[[], None] = lambda: None  # called when what was read last is what there is
    sources: HostSources | None = None  # those that may lack things which somebody has to confirm
    every_s: Callable[[Settings], float | None] = lambda _: None  # None: when it is asked for
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # set when it is to be read
    trouble: str | None = field(default=None, init=False)
    # The names of those that would be gone, of more than half, if somebody confirmed that.
    refused: frozenset[str] = field(default=frozenset(), init=False)
    confirmed: frozenset[str] = field(default=frozenset(), init=False)  # meant to be gone, at the next reading
    reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @property
    def fingerprint(self) -> str:
        """Return by what a confirmation names those that were refused, of which there may be thousands."""
        return hashlib.sha256("\n".join((self.what, *sorted(self.refused))).encode()).hexdigest()

    def due_in_s(self, settings: Settings) -> float | None:
        """Return after how many seconds it is to be read again; None: when it is asked for."""
        every_s = self.every_s(settings)
        if not self.refused:
            return every_s
        return CONFIRMED_EVERY_S if every_s is None else min(every_s, CONFIRMED_EVERY_S)


class Inventory:
    def __init__(
        self,
        file: Path | None,
        settings: Settings,
        parts: Sequence[Part],
        *,
        permit: Callable[[Settings], Awaitable[None]],
        confirmations: Callable[[], Awaitable[Collection[str]]],
    ) -> None:
        """*file*: where the settings are from; without one they stay as they are.

        *permit* is called whenever others may do something, or have other limits. *confirmations* returns the
        fingerprints that were confirmed lately, at whichever gateway of the database.
        """
        self._confirmations = confirmations
        self.parts = parts
        self._permit = permit
        self._at_start = settings
        self._file = file
        self._settings = settings
        self.file_trouble: str | None = None  # why the file as it is now does not count
        self._asked = asyncio.Event()

    @property
    def file(self) -> Path | None:
        return self._file

    @property
    def trouble(self) -> str | None:
        """Say why the gateway does not go by the configuration as it is now, if it does not."""
        return " ".join(filter(None, (self.file_trouble, *(part.trouble for part in self.parts)))) or None

    def read_now(self) -> None:
        """Read everything again soon, as SIGHUP asks for; what was refused to be gone is meant to be gone."""
        for part in self.parts:
            part.confirmed = part.refused
            if part.sources is not None:
                part.sources.read_now()
        self._asked.set()

    async def confirm(self) -> None:
        """Believe that those are gone which were refused, and no others."""
        for part in self.parts:
            if part.refused:
                part.confirmed = part.refused
                await self._read(part)

    async def follow_file(self) -> None:
        """Runs until it is cancelled."""
        assert self._file is not None
        looks = _Looks()
        while True:
            state = await asyncio.to_thread(state_if_there, self._file)
            is_asked = self._asked.is_set()
            if is_asked or looks.is_to_be_read(state, asyncio.get_running_loop().time()):
                self._asked.clear()
                # The file may be on a slow disk, and is validated by rules that take milliseconds per hundred hosts.
                if await self._read_file(self._file, afresh=is_asked):
                    looks.was_read(state)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._asked.wait()

    async def follow(self, part: Part) -> None:
        """Runs until it is cancelled."""
        part.asked.set()  # the sources may have more than they had when the gateway started
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(part.due_in_s(self._settings)):
                    await part.asked.wait()
            part.asked.clear()
            await self._read(part)
            if refused := part.refused:
                await self._look_for_confirmation(part, refused)

    async def _look_for_confirmation(self, part: Part, refused: frozenset[str]) -> None:
        fingerprint = part.fingerprint
        with suppress(NoahError):  # the database is away; it is asked again
            if fingerprint in await self._confirmations():
                log.info("that %d %s are gone was confirmed at another gateway", len(refused), part.what)
                part.confirmed = refused
                await self._read(part)

    async def _read_file(self, file: Path, *, afresh: bool) -> bool:
        """Go by the file, and have all parts read *afresh*; return whether its present content is settled by that."""
        before = self._settings
        try:
            settings, is_permitted_otherwise = await asyncio.to_thread(_changed, file, before)
        except NoahError as e:
            sentence = f"The gateway goes by the configuration as it was, because it cannot be used now: {e.sentence}"
            self.file_trouble = _logged(sentence, before=self.file_trouble)
            return True
        try:
            if is_permitted_otherwise:
                await self._permit(settings)
        except NoahError as e:
            sentence = f"Who may do what has changed in the configuration, which the trail cannot say now: {e.sentence}"
            self.file_trouble = _logged(sentence, before=self.file_trouble)
            return False
        self.file_trouble = _logged(None, before=self.file_trouble)
        if waiting := _waiting(self._at_start, settings) - _waiting(self._at_start, before):
            log.warning("what has changed in %s counts from the gateway's next start on", " and ".join(sorted(waiting)))
        self._settings = settings
        if afresh or settings is not before:
            for part in self.parts:
                part.asked.set()
        return True

    async def _read(self, part: Part) -> None:
        async with part.reading:
            confirmed, part.confirmed = part.confirmed, frozenset()
            try:
                part.trouble = _logged(await self._followed(part, confirmed), before=part.trouble)
            except NoahError as e:
                sentence = f"The gateway keeps its {part.what}, because they cannot be used now: {e.sentence}"
                part.trouble = _logged(sentence, before=part.trouble)
            except Exception:  # which the task's outermost loop logs
                part.trouble = f"The gateway keeps its {part.what}, for a reason that only its log has."
                raise

    async def _followed(self, part: Part, confirmed: frozenset[str]) -> str | None:
        """Read a part and go by it; return what is to be said of that. *confirmed*: those that are meant to be gone."""
        if part.sources is not None:
            part.sources.accept(confirmed)
        found, troubles = await part.read(self._settings)
        gone = _gone(part.have, found)
        is_refused = not gone <= confirmed and len(part.have) > FEW and 2 * len(gone) > len(part.have)
        part.refused = (gone if is_refused else frozenset()) | (part.sources.doubted if part.sources else frozenset())
        if is_refused:
            refused = (
                f"{len(gone)} of {len(part.have)} {part.what} are gone from the configuration at once, so the gateway "
                "keeps them: `noah inventory confirm`, or SIGHUP, if that is meant."
            )
            troubles = (refused, *troubles)
        else:
            if not await _are_alike(part.have, found):
                await self._apply(part, found)
            part.in_force()
        return _together(troubles)

    async def _apply(self, part: Part, found: Sequence[Named]) -> None:
        await part.apply(found)
        async for name in in_turns(sorted(_gone(found, part.have))):
            log.info("%s %s is new in the configuration", part.one, name)
        async for name in in_turns(sorted(_gone(part.have, found))):
            log.info("%s %s is gone from the configuration", part.one, name)
        part.have = found


class _Looks:
    """Says from looks at a file whether it is to be read."""

    def __init__(self) -> None:
        self._read: FileState | None = None  # as it was when it was read
        self._seen: FileState | None = None  # at the last look
        self._seen_since = 0.0

    def is_to_be_read(self, state: FileState | None, now: float) -> bool:
        if state != self._seen:
            self._seen, self._seen_since = state, now
        is_replaced = state is None or self._read is None or state[0] != self._read[0]
        settles_s = REPLACED_WITHIN_S if is_replaced else WRITTEN_WITHIN_S
        return state != self._read and now >= self._seen_since + settles_s

    def was_read(self, state: FileState | None) -> None:
        self._read = state


def make_inventory(
    file: Path | None,
    settings: Settings,
    *,
    clusters: Clusters,
    cluster_sources: ClusterSources,
    hosts: Hosts,
    host_sources: HostSources,
    local: Locals,
    permissions: Permissions,
    trail: Trail,
    reconfigured: Callable[[Collection[Target]], None],
) -> Inventory:
    """*reconfigured* is called with targets that are new, gone or reached otherwise."""

    async def all_local(settings: Settings) -> tuple[Sequence[Named], Sequence[str]]:
        return settings.local, ()

    async def all_hosts(settings: Settings) -> tuple[Sequence[Named], Sequence[str]]:
        return host_sources.of(settings)

    def applied_by(configure: Callable[[Any], Awaitable[Collection[Target]]]) -> Callable[[Any], Awaitable[None]]:
        async def apply(found: Any) -> None:
            if affected := await configure(found):
                reconfigured(affected)

        return apply

    async def configure_local(found: Any) -> Collection[Target]:
        return local.configure(found)

    async def permit(settings: Settings) -> None:
        permissions.configure(settings)
        await trail.note_grants(settings.grants)

    async def confirmations() -> Collection[str]:
        return await trail.confirmed_removals(within=CONFIRMED_FOR)

    def clusters_every_s(settings: Settings) -> float | None:
        are_elsewhere = settings.cluster_folders or settings.cluster_secrets
        return CLUSTERS_EVERY_S if are_elsewhere or any(one.kubeconfig for one in settings.clusters) else None

    return Inventory(
        file,
        settings,
        [
            Part(
                "clusters",
                "cluster",
                tuple(one.settings for one in clusters.values()),
                cluster_sources.read,
                clusters.configure,
                in_force=cluster_sources.in_force,
                every_s=clusters_every_s,
            ),
            Part(
                "hosts",
                "host",
                hosts.configured(),
                all_hosts,
                applied_by(hosts.configure),
                in_force=host_sources.in_force,
                sources=host_sources,
                asked=host_sources.changed,
            ),
            Part("JVMs of this machine", "local", settings.local, all_local, applied_by(configure_local)),
        ],
        permit=permit,
        confirmations=confirmations,
    )


@asynccontextmanager
async def following(inventory: Inventory) -> AsyncIterator[None]:
    """Follow the configuration, and have SIGHUP read it now, as long as this context lasts."""
    if inventory.file is None:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, inventory.read_now)
    work: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("follow the configuration", inventory.follow_file),
        *((f"follow the {part.what}", partial(inventory.follow, part)) for part in inventory.parts),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(keep_running(one, name), name=name) for name, one in work]
            yield
            for task in tasks:
                task.cancel()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _changed(file: Path, before: Settings) -> tuple[Settings, bool]:
    """Return the settings of a file, or *before* if they say the same, and whether others may do something.

    Raises BadSettings, also for an empty file, which may be the beginning of one.
    """
    settings = read_settings(file)
    if settings == before:
        return before, False
    if not settings.model_fields_set:
        raise BadSettings(f"{file} is empty. To remove everything, leave [gateway] there.")
    return settings, (settings.grants, settings.access) != (before.grants, before.access)


def _waiting(at_start: Settings, now: Settings) -> set[str]:
    """Return the parts of the configuration that the gateway reads at its start only, and that have changed since."""
    limits = {one: getattr(now.access, one) for one in LIMITS}
    settled = at_start.model_copy(update={"access": at_start.access.model_copy(update=limits)})
    return {f"[{one}]" for one in READ_AT_START if getattr(settled, one) != getattr(now, one)}


def _together(troubles: Sequence[str]) -> str | None:
    rest = [f"{len(troubles) - MOST_SAID} more cannot be used."] if len(troubles) > MOST_SAID else []
    return " ".join((*troubles[:MOST_SAID], *rest)) or None


async def _are_alike(before: Sequence[Named], now: Sequence[Named]) -> bool:
    if len(before) != len(now):
        return False
    async for one, other in in_turns(zip(before, now, strict=True)):
        if one != other:
            return False
    return True


def _gone(before: Sequence[Named], now: Sequence[Named]) -> frozenset[str]:
    return frozenset(one.name for one in before) - {one.name for one in now}


def _logged(sentence: str | None, *, before: str | None) -> str | None:
    if sentence is not None and sentence != before:
        log.warning("%s", sentence)
    elif sentence is None and before is not None:
        log.info("the configuration is what the gateway goes by again")
    return sentence
