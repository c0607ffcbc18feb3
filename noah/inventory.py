"""Follows the configuration: which clusters, hosts and JVMs of this machine there are, and who may do what to them.

It is read again when its file changes, every few minutes if hosts come from a command, and on SIGHUP. What is new
appears. What is gone ends its sessions, and what they changed on hosts stays owed. What cannot be read stays as it is,
and the rest changes. So does a list of which more than half is gone at once, unless somebody confirms that this is
meant: a CMDB that answers with half of its hosts must not end half of the sessions.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.core.session.target import Target
from noah.errors import NoahError
from noah.file_state import state_if_there
from noah.keep_running import keep_running
from noah.kube.cluster_sources import ClusterSources
from noah.kube.clusters import Clusters
from noah.settings import Settings, read_settings
from noah.targets.host.hosts import Hosts
from noah.targets.host.inventory import HostSources
from noah.targets.local import Locals
from noah.turns import in_turns

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 2.0  # at the configuration's file; a look costs some microseconds
CLUSTERS_EVERY_S = 5.0  # their folders and Secrets; one GET each of some KiB
AGAIN_AFTER_S = 30.0  # what could not be read is read again, if it is not due before
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
    every_s: Callable[[Settings], float | None] = field(default=lambda _: None)  # None: it is in the file
    read_at: float = field(default=0.0, init=False)  # by the loop's clock
    trouble: str | None = field(default=None, init=False)
    # The names of those that would be gone, of more than half, if somebody confirmed that.
    refused: frozenset[str] = field(default=frozenset(), init=False)

    def is_due(self, settings: Settings, now: float) -> bool:
        every_s = self.every_s(settings)
        if every_s is None:
            return False
        return now >= self.read_at + (min(every_s, AGAIN_AFTER_S) if self.trouble else every_s)


class Inventory:
    def __init__(
        self,
        file: Path | None,
        settings: Settings,
        parts: Sequence[Part],
        *,
        permit: Callable[[Settings], Awaitable[None]],
    ) -> None:
        """*file*: where the settings are from; without one they stay as they are.

        *permit* is called whenever others may do something, or have other limits.
        """
        self.parts = parts
        self._permit = permit
        self._at_start = settings
        self._file = file
        self._settings = settings
        self._file_trouble: str | None = None
        self._asked, self._is_confirmed = asyncio.Event(), False
        self._reading = asyncio.Lock()
        self._seen = None if file is None else state_if_there(file)

    @property
    def has_file(self) -> bool:
        return self._file is not None

    @property
    def trouble(self) -> str | None:
        """Say why the gateway does not go by the configuration as it is now, if it does not."""
        return " ".join(filter(None, (self._file_trouble, *(part.trouble for part in self.parts)))) or None

    def read_now(self) -> None:
        """Read it again soon, as SIGHUP asks for; what is gone then is meant to be gone."""
        self._is_confirmed = True
        self._asked.set()

    async def confirm(self) -> None:
        """Believe that those are gone which were refused, and no others."""
        for part in self.parts:
            if part.refused:
                await self._read(part, confirmed=part.refused)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        if self._file is None:
            return
        loop = asyncio.get_running_loop()
        for part in self.parts:
            part.read_at = loop.time()
        while True:
            try:
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            state = await asyncio.to_thread(state_if_there, self._file)
            if self._asked.is_set() or state != self._seen:
                self._asked.clear()
                self._seen = state
                is_confirmed, self._is_confirmed = self._is_confirmed, False
                await self._read_all(self._file, is_confirmed=is_confirmed)
            for part in self.parts:
                if part.is_due(self._settings, loop.time()):
                    await self._read(part)

    async def _read_all(self, file: Path, *, is_confirmed: bool) -> None:
        try:
            # The file may be on a slow disk, and is validated by rules that take milliseconds per hundred hosts.
            settings = await asyncio.to_thread(read_settings, file)
        except NoahError as e:
            sentence = f"The gateway goes by the configuration as it was, because it cannot be used now: {e.sentence}"
            self._file_trouble = _logged(sentence, before=self._file_trouble)
            return
        try:
            if (settings.grants, settings.access) != (self._settings.grants, self._settings.access):
                await self._permit(settings)
        except NoahError as e:
            self._seen = None  # the next look does it again
            sentence = f"Who may do what has changed in the configuration, which the trail cannot say now: {e.sentence}"
            self._file_trouble = _logged(sentence, before=self._file_trouble)
            return
        self._file_trouble = _logged(None, before=self._file_trouble)
        if waiting := _waiting(self._at_start, settings) - _waiting(self._at_start, self._settings):
            log.warning("what has changed in %s counts from the gateway's next start on", " and ".join(sorted(waiting)))
        self._settings = settings
        for part in self.parts:
            await self._read(part, confirmed=None if is_confirmed else frozenset())

    async def _read(self, part: Part, *, confirmed: frozenset[str] | None = frozenset()) -> None:
        """*confirmed*: the names of those that are meant to be gone; None: whichever are."""
        part.read_at = asyncio.get_running_loop().time()
        async with self._reading:
            try:
                found, troubles = await part.read(self._settings)
                sentence = _together(troubles)
                gone = _gone(part.have, found)
                is_meant = confirmed is None or gone <= confirmed
                is_refused = not is_meant and len(part.have) > FEW and 2 * len(gone) > len(part.have)
                part.refused = gone if is_refused else frozenset()
                if is_refused:
                    sentence = (
                        f"{len(gone)} of {len(part.have)} {part.what} are gone from the configuration at once, so the "
                        "gateway keeps them: `noah inventory confirm`, or SIGHUP, if that is meant."
                    )
                elif not await _are_alike(part.have, found):
                    await self._apply(part, found)
            except NoahError as e:
                sentence = f"The gateway keeps its {part.what}, because they cannot be read now: {e.sentence}"
        part.trouble = _logged(sentence, before=part.trouble)

    async def _apply(self, part: Part, found: Sequence[Named]) -> None:
        await part.apply(found)
        async for name in in_turns(sorted(_gone(found, part.have))):
            log.info("%s %s is new in the configuration", part.one, name)
        async for name in in_turns(sorted(_gone(part.have, found))):
            log.info("%s %s is gone from the configuration", part.one, name)
        part.have = found


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

    def clusters_every_s(settings: Settings) -> float | None:
        return CLUSTERS_EVERY_S if settings.cluster_folders or settings.cluster_secrets else None

    def hosts_every_s(settings: Settings) -> float | None:
        every = [one.every for one in settings.inventory]
        every += [settings.hosts_command_every] if settings.hosts_command else []
        return min(every).total_seconds() if every else None

    hosts_part = Part(
        "hosts", "host", host_sources.hosts, host_sources.read, applied_by(hosts.configure), hosts_every_s
    )
    if not host_sources.is_complete:
        hosts_part.trouble = "Not all hosts could be read when the gateway started; they are asked for again."
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
                clusters_every_s,
            ),
            hosts_part,
            Part("JVMs of this machine", "local", settings.local, all_local, applied_by(configure_local)),
        ],
        permit=permit,
    )


@asynccontextmanager
async def following(inventory: Inventory) -> AsyncIterator[None]:
    """Follow the configuration, and have SIGHUP read it now, as long as this context lasts."""
    if not inventory.has_file:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, inventory.read_now)
    try:
        async with asyncio.TaskGroup() as group:
            name = "follow the configuration"
            task = group.create_task(keep_running(inventory.run, name), name=name)
            yield
            task.cancel()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


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
