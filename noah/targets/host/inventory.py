"""Which hosts there are: those of the configuration, of its command, and of HTTP APIs.

Each source is read by a task of its own, so that one that hangs keeps nobody waiting. One that cannot be read, or whose
hosts cannot be used, keeps the hosts that it had. So does one that lacks more than half of them at once, until somebody
says that they are meant to be gone. What a source says is believed otherwise: its hosts are reached by the keys of the
gateway's machine, and its commands are run on them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from noah import command
from noah.core.printable import printable
from noah.errors import BadSettings
from noah.settings import Host, InventorySettings, Settings, parse_settings
from noah.targets.host import hosts_json
from noah.targets.host.host_api import HostApi, without_secrets

log = logging.getLogger(__name__)

COMMAND_TAKES_S = 30.0
MOST_OF_COMMAND = 10_000  # hosts
LONGEST_LAMENT = 300  # characters
AGAIN_AFTER_S = 30.0  # a source that could not be read is read again, if it is not due before
FIRST_TAKE_S = 10.0  # for which the gateway's start waits


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A source as the configuration has it."""

    named: str
    every_s: float
    source: tuple[str, ...] | InventorySettings  # a command or an HTTP API


class _Source:
    """The hosts that a command or an HTTP API has had."""

    def __init__(self, wanted: _Wanted) -> None:
        self.wanted = wanted
        self.hosts: tuple[Host, ...] = ()
        self.is_read = False  # True once it was read
        self.doubted = frozenset[str]()  # names of the hosts that it lacks, if these are more than half
        self._new: tuple[Host, ...] = ()  # what it has without them
        self._trouble: str | None = None
        self._tried, self._is_asked = asyncio.Event(), asyncio.Event()
        self._api, self._printed = HostApi(), (b"", list[Any]())
        self._made_of: tuple[list[Any], tuple[Host, ...]] = [], ()  # what was read last, and the hosts that it says

    @property
    def trouble(self) -> str | None:
        if self.doubted:
            return (
                f"{len(self.doubted)} of {len(self.hosts)} hosts of {self.wanted.named} are gone at once, so the "
                "gateway keeps them: `noah inventory confirm`, or SIGHUP, if that is meant."
            )
        return self._trouble

    async def tried(self) -> None:
        """Return once it was read or could not be read."""
        await self._tried.wait()

    def read_now(self) -> None:
        self._is_asked.set()

    def accept(self, names: frozenset[str]) -> None:
        """Believe that those of its hosts are gone that have these names."""
        if self.doubted and self.doubted <= names:
            self.hosts, self.doubted = self._new, frozenset()

    async def keep_reading(self, changed: asyncio.Event) -> None:
        while True:
            self._is_asked.clear()
            try:
                self._take(await self._read())
                self._trouble = None
            except BadSettings as e:
                self._trouble = e.sentence
            except Exception:  # the task's outermost loop
                log.exception("%s cannot be read", self.wanted.named)
                self._trouble = f"{self.wanted.named} cannot be read, for a reason that only the gateway's log has."
            self._tried.set()
            changed.set()
            every_s = self.wanted.every_s
            with suppress(TimeoutError):
                async with asyncio.timeout(min(every_s, AGAIN_AFTER_S) if self.trouble else every_s):
                    await self._is_asked.wait()

    def _take(self, found: tuple[Host, ...]) -> None:
        self.is_read = True
        gone = frozenset(host.name for host in self.hosts) - {host.name for host in found}
        if 2 * len(gone) > len(self.hosts):
            self.doubted, self._new = gone, found
        else:
            self.doubted, self.hosts = frozenset(), found

    async def _read(self) -> tuple[Host, ...]:
        """Raises BadSettings."""
        source, named = self.wanted.source, self.wanted.named
        if isinstance(source, InventorySettings):
            tree = await self._api.read(source)
        else:
            self._printed = await _printed(source, named, before=self._printed)
            tree = self._printed[1]
        # A thousand hosts take 0.1 s of processor time, and most of the time nothing has changed.
        before, hosts = self._made_of
        if len(tree) != len(before) or any(one is not other for one, other in zip(tree, before, strict=True)):
            hosts = await asyncio.to_thread(_usable, tree, named)
            self._made_of = tree, hosts
        return hosts


class HostSources:
    """All of them."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.changed = asyncio.Event()  # set when one was read
        self.is_complete = False  # True once each was read, and what they have is in force
        self._were_all_read = False  # when it was asked last which hosts there are
        self._group = group
        self._sources: dict[str, tuple[_Source, asyncio.Task[None]]] = {}  # by what names it in the configuration

    @property
    def doubted(self) -> frozenset[str]:
        """Return the names of the hosts that would be gone if somebody confirmed it."""
        return frozenset().union(*(source.doubted for source in self._all()))

    def configure(self, settings: Settings) -> None:
        """Read these sources from now on. One that is configured otherwise keeps what it had until it is read."""
        wanted = _wanted(settings)
        for key in self._sources.keys() - wanted.keys():
            self._sources.pop(key)[1].cancel()
        for key, one in wanted.items():
            if key not in self._sources:
                source = _Source(one)
                reading = self._group.create_task(source.keep_reading(self.changed), name=f"read {one.named}")
                self._sources[key] = source, reading
            elif (source := self._sources[key][0]).wanted != one:
                source.wanted = one
                source.read_now()

    def read_now(self) -> None:
        for source in self._all():
            source.read_now()

    async def tried(self) -> None:
        """Return once each was read or could not be read."""
        for source in self._all():
            await source.tried()

    def accept(self, names: frozenset[str]) -> None:
        """Believe the sources that hosts of these names are gone."""
        for source in self._all():
            source.accept(names)

    def of(self, settings: Settings) -> tuple[tuple[Host, ...], Sequence[str]]:
        """Return all hosts, and a sentence for each source that is not followed and each host that is left out."""
        self.configure(settings)
        self._were_all_read = all(source.is_read for source in self._all())
        found, troubles = {host.name: host for host in settings.hosts}, list[str]()
        for source in self._all():
            if source.trouble is not None:
                troubles.append(source.trouble)
            for host in source.hosts:
                if found.setdefault(host.name, host) is not host:
                    where = f"{host.name} of {source.wanted.named}"
                    troubles.append(f"{where} is left out: there is another host of that name.")
        return tuple(found.values()), troubles

    def in_force(self) -> None:
        """Note that the hosts that were returned last are those of the gateway now."""
        self.is_complete = self._were_all_read

    def close(self) -> None:
        for _, reading in self._sources.values():
            reading.cancel()

    def _all(self) -> Sequence[_Source]:
        return [source for source, _ in self._sources.values()]


@asynccontextmanager
async def open_host_sources(
    settings: Settings, *, first_take_s: float = FIRST_TAKE_S
) -> AsyncIterator[tuple[Sequence[Host], HostSources]]:
    """Read the sources for as long as this context lasts.

    It begins with the hosts to be had first, once all sources were read or after *first_take_s*.
    """
    async with asyncio.TaskGroup() as group:
        sources = HostSources(group)
        sources.configure(settings)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(first_take_s):
                    await sources.tried()
            hosts, _ = sources.of(settings)
            sources.in_force()
            yield hosts, sources
        finally:
            sources.close()


def _wanted(settings: Settings) -> Mapping[str, _Wanted]:
    """Return the sources, by what stays the same when one is configured otherwise."""
    found = {one.url: _Wanted(without_secrets(one.url), one.every.total_seconds(), one) for one in settings.inventory}
    if argv := settings.hosts_command:
        every_s = settings.hosts_command_every.total_seconds()
        found["hosts_command"] = _Wanted(f"hosts_command ({argv[0]})", every_s, argv)
    return found


def _usable(tree: list[Any], named: str) -> tuple[Host, ...]:
    """Return the hosts. Raises BadSettings, with *named* and what is wrong, if one of them cannot be used."""
    hosts = parse_settings({"hosts": tree}, origin=named).hosts
    if hosts:
        from noah.targets.host.ssh import pinned  # 7 MiB, for those who have hosts

        try:
            for host in hosts:
                pinned(host)
        except BadSettings as e:
            raise BadSettings(f"{named}: {e.sentence}") from None
    return hosts


async def _printed(argv: Sequence[str], named: str, *, before: tuple[bytes, list[Any]]) -> tuple[bytes, list[Any]]:
    """Return what the command prints, and what that says. *before*: what that was the last time.

    Raises BadSettings, with what it said, if it fails or prints something else.
    """
    try:
        code, out, err = await command.run(argv, timeout=COMMAND_TAKES_S, reads_stderr=True)
    except TimeoutError:  # which is an OSError too
        raise BadSettings(f"{named} took longer than {COMMAND_TAKES_S:.0f} s.") from None
    except OSError as e:
        raise BadSettings(f"{named} cannot be run: {e.strerror}.") from None
    if code:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        said = printable(lines[-1])[:LONGEST_LAMENT] if lines else "it printed nothing"
        raise BadSettings(f"{named} failed with exit code {code}: {said}.")
    if before[0] == out and out:
        return before
    try:
        hosts = await asyncio.to_thread(hosts_json.read_list, out)
    except ValueError as e:
        raise BadSettings(f"{named} has to print a JSON list of hosts: {e}.") from None
    if len(hosts) > MOST_OF_COMMAND:
        raise BadSettings(f"{named} prints more than {MOST_OF_COMMAND} hosts: use [[inventory]], which has pages.")
    return out, hosts
