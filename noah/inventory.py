"""The hosts and this machine's JVMs that the gateway has, by the configuration as it is now.

It is read again when its file changes, every few minutes if hosts come from a command, and on SIGHUP. What is new
appears. What is gone ends its sessions, and what they changed on hosts stays owed. A configuration that cannot be read
changes nothing. Neither does one in which more than half is gone at once, unless SIGHUP says that this is meant: a CMDB
that answers with half of its hosts must not end half of the sessions.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from noah.core.session.target import Target
from noah.errors import NoahError
from noah.keep_running import keep_running
from noah.settings import Host, Local, Settings, read_settings
from noah.targets.host.hosts import Hosts
from noah.targets.host.inventory import all_hosts
from noah.targets.local import Locals

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 2.0  # at the configuration's file; a look costs some microseconds
FEW = 3  # of what there are not more, any number may go at once


@dataclass(frozen=True, slots=True)
class _Have:
    hosts: tuple[Host, ...]
    local: tuple[Local, ...]


class Inventory:
    def __init__(
        self,
        file: Path | None,
        settings: Settings,
        hosts: Collection[Host],
        *,
        kinds: tuple[Hosts, Locals],
        reconfigured: Callable[[Collection[Target]], None],
    ) -> None:
        """*file*: where the settings are from; without one they stay as they are.

        *reconfigured* is called with the targets that are gone, or that are reached in another way from now on.
        """
        self.trouble: str | None = None  # why the configuration as it is now is not what the gateway goes by
        self._file = file
        self._settings = settings
        self._have = _Have(tuple(hosts), settings.local)
        self._hosts, self._locals = kinds
        self._reconfigured = reconfigured
        self._asked, self._is_confirmed = asyncio.Event(), False
        self._seen = None if file is None else _state_of(file)

    @property
    def has_file(self) -> bool:
        return self._file is not None

    def read_now(self) -> None:
        """Read it again soon, as SIGHUP asks for; what is gone then is meant to be gone."""
        self._is_confirmed = True
        self._asked.set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        if self._file is None:
            return
        loop = asyncio.get_running_loop()
        read_at = loop.time()
        while True:
            try:
                async with asyncio.timeout(LOOK_INTERVAL_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            every_s = self._settings.hosts_command_every.total_seconds()
            is_due = bool(self._settings.hosts_command) and loop.time() >= read_at + every_s
            state = _state_of(self._file)
            if self._asked.is_set() or is_due or state != self._seen:
                self._asked.clear()
                self._seen, read_at = state, loop.time()
                is_confirmed, self._is_confirmed = self._is_confirmed, False
                await self._read(self._file, is_confirmed=is_confirmed)

    async def _read(self, file: Path, *, is_confirmed: bool) -> None:
        try:
            # The file may be on a slow disk, and is validated by rules that take milliseconds per hundred hosts.
            settings = await asyncio.to_thread(read_settings, file)
            have = _Have(await all_hosts(settings), settings.local)
            if not is_confirmed and (refusal := _mass_removal(self._have, have)):
                self._keep(refusal)
                return
            if have != self._have:
                self._apply(have)
        except NoahError as e:
            self._keep(f"The gateway goes by the configuration as it was, because it cannot be used now: {e.sentence}")
            return
        if self.trouble:
            log.info("the configuration is what the gateway goes by again")
        self.trouble = None
        self._settings = settings

    def _apply(self, have: _Have) -> None:
        affected = {*self._hosts.configure(have.hosts), *self._locals.configure(have.local)}
        for what, before, now in (("host", self._have.hosts, have.hosts), ("local", self._have.local, have.local)):
            names, were = {one.name for one in now}, {one.name for one in before}
            for name in sorted(names - were):
                log.info("%s/%s is new in the configuration", what, name)
            for name in sorted(were - names):
                log.info("%s/%s is gone from the configuration", what, name)
        self._have = have
        if affected:
            self._reconfigured(affected)

    def _keep(self, sentence: str) -> None:
        if sentence != self.trouble:
            log.warning("%s", sentence)
        self.trouble = sentence


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


def _mass_removal(before: _Have, now: _Have) -> str | None:
    """Return why *now* is not believed: more than half would be gone at once."""
    for what, were, are in (("hosts", before.hosts, now.hosts), ("JVMs of this machine", before.local, now.local)):
        gone = {one.name for one in were} - {one.name for one in are}
        if len(were) > FEW and 2 * len(gone) > len(were):
            return (
                f"{len(gone)} of {len(were)} {what} are gone from the configuration at once, so the gateway keeps "
                "them: send SIGHUP to it if that is meant."
            )
    return None


def _state_of(file: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file's content; a link to it, as in a ConfigMap, is followed."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
