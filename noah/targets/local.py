"""JVMs of this machine. The gateway reaches their loopback port itself, so there is no forwarder; only a report."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

from noah import command
from noah.catalog.catalog import Catalog
from noah.catalog.target_info import TargetInfo
from noah.core.forwarder import Answer, Where, arguments, read_answer, word_arguments
from noah.core.session.session import Session, Word
from noah.core.session.target import LocalTarget, Target, Wanted
from noah.errors import NotFound, Unavailable
from noah.inpod import script
from noah.keep_running import repeat
from noah.proxy.relay import Dial
from noah.settings import Local
from noah.targets import verdict
from noah.targets.base import Link, Observation
from noah.targets.unconfigured import Unconfigured

SCRIPT_TAKES = 10.0  # seconds at most; it reads /proc
BEAT_S = 1.5  # each is a process
LOOK_AGAIN = 2.0  # seconds; a look costs a process, and nothing tells us of a JVM that ends
TABLES = Path("/proc/net/tcp"), Path("/proc/net/tcp6")
LISTEN, ESTABLISHED = "0A", "01"


class LocalLink:
    look_again = LOOK_AGAIN
    beat_s = BEAT_S
    idle_beat_s = None
    trouble = None

    def __init__(self, local: Local) -> None:
        self._local = local
        self._where = f"local/{local.name}"
        self.is_held = False
        self._is_taken = False

    async def look(self, session: Session) -> Observation:
        return self._observed(await self._run("look", session))

    async def is_taken(self, session: Session) -> bool:
        return self._is_taken  # a look asks the target itself, and has just done so

    async def start(self, session: Session, *, word: Word, now: datetime) -> Observation:
        observation = self._observed(await self._run("start", session, *word_arguments(session, word, now), "none"))
        self.is_held = observation.forwarder_alive
        return observation

    async def write(self, session: Session, word: Word, *, now: datetime) -> None:
        verdict.check(await self._run("word", session, *word_arguments(session, word, now)), where=self._where)

    async def stop(self, session: Session) -> None:
        verdict.check(await self._run("stop", session), where=self._where)

    @property
    def dial(self) -> Dial:
        return self._dial

    async def close(self) -> None:
        """Do nothing: this link holds nothing open."""

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", self._local.jdwp_port)
        return transport

    def _observed(self, answer: Answer) -> Observation:
        observed = verdict.observed(answer, where=self._where, jdwp_port=self._local.jdwp_port)
        self._is_taken = observed.taken
        return observed

    async def _run(self, verb: str, session: Session, *more: str) -> Answer:
        local = self._local
        about = arguments(
            verb, session.id, name=local.name, jdwp_port=local.jdwp_port, where=Where.HOST, checkurl=local.checkurl
        )
        argv = ["sh", "-c", script("forwarder"), "noah-forwarder", *about, *more]
        try:
            _, out, _ = await command.run(argv, timeout=SCRIPT_TAKES)
        except TimeoutError:
            raise Unavailable(f"Looking at {self._where} took longer than {SCRIPT_TAKES:.0f} s.") from None
        return read_answer(out.decode("utf-8", "replace").splitlines())


class Locals:
    """The kind."""

    def __init__(self, locals_: Iterable[Local], *, catalog: Catalog) -> None:
        self._locals: dict[str, Local] = {}
        self._catalog = catalog
        self.configure(locals_)

    def configure(self, locals_: Iterable[Local]) -> Collection[Target]:
        """Have these JVMs from now on. Return the targets that are gone or have another port or checkurl."""
        before, self._locals = self._locals, {local.name: local for local in locals_}
        for name in before.keys() - self._locals.keys():
            self._catalog.remove(LocalTarget(name))
        self._list()
        return {LocalTarget(name) for name, local in before.items() if not _is_alike(local, self._locals.get(name))}

    async def list_again(self) -> None:
        self._list()

    def _list(self) -> None:
        ports = _ports_in_use() if self._locals else None
        for local in self._locals.values():
            self._catalog.put(_info(local, ports))

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        assert isinstance(wanted, LocalTarget)
        return _info(self._find(wanted.name), _ports_in_use())

    def link(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> Link:
        assert isinstance(session.target, LocalTarget)
        local = self._locals.get(session.target.name)
        return LocalLink(local) if local is not None else Unconfigured(session.target)

    def _find(self, name: str) -> Local:
        if name not in self._locals:
            known = ", ".join(self._locals) or "none"
            raise NotFound(f"The configuration has no [[local]] named {name!r}; it has {known}.")
        return self._locals[name]


@asynccontextmanager
async def open_locals(locals_: Iterable[Local], *, catalog: Catalog) -> AsyncIterator[Locals]:
    kind = Locals(locals_, catalog=catalog)
    async with asyncio.TaskGroup() as group:
        name = "list this machine's JVMs"
        listing = group.create_task(repeat(kind.list_again, name=name, every_s=LOOK_AGAIN), name=name)
        try:
            yield kind
        finally:
            listing.cancel()


def _is_alike(one: Local, other: Local | None) -> bool:
    """Return whether they differ at most in their environment."""
    return other is not None and one == other.model_copy(update={"environment": one.environment})


def _info(local: Local, ports: set[int] | None) -> TargetInfo:
    """*ports*: None when this machine does not tell, and then nothing is held against the JVM."""
    there = ports is None or local.jdwp_port in ports
    return TargetInfo(
        name=str(LocalTarget(local.name)),
        app=local.name,
        environment=local.environment,
        ready=there,
        phase="Running" if there else "Down",
        checkurl=local.checkurl,
    )


def _ports_in_use() -> set[int] | None:
    """Return the ports where somebody listens, or, like an agent that has its debugger, did.

    A JVM's port is its identity here: a process without one looks like any other. Both tables take 3 ms on a
    machine with some hundred connections.
    """
    found: set[int] | None = None
    for table in TABLES:
        with suppress(OSError):
            rows = [line.split(maxsplit=4) for line in table.read_text().splitlines()[1:]]
            found = (found or set()) | {int(row[1][-4:], 16) for row in rows if row[3] in (LISTEN, ESTABLISHED)}
    return found
