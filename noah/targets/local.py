"""JVMs of this machine. The gateway reaches their loopback port itself, so there is no forwarder; only a report."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from noah.core.forwarder import Answer, arguments, read_answer, report_arguments
from noah.core.session import Session, Vm
from noah.core.target import LocalTarget, Wanted
from noah.errors import NotFound, Unavailable
from noah.inpod import script
from noah.proxy.relay import Dial
from noah.settings import Local
from noah.targets import command, inside
from noah.targets.base import Seen, TargetInfo

SCRIPT_TAKES = 10.0  # seconds at most; it reads /proc
LOOK_AGAIN = 2.0  # seconds; a look costs a process, and nothing tells us of a JVM that ends


class LocalLine:
    look_again = LOOK_AGAIN

    def __init__(self, local: Local) -> None:
        self._local = local
        self._where = f"local/{local.name}"

    async def look(self, session: Session, *, ask: bool = False) -> Seen:
        return self._seen(await self._run("look", session))

    async def start(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        return self._seen(await self._run("start", session, *report_arguments(session, vm, now), "none"))

    async def report(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        return self._seen(await self._run("report", session, *report_arguments(session, vm, now)))

    async def stop(self, session: Session) -> None:
        inside.check(await self._run("stop", session), where=self._where)

    @property
    def dial(self) -> Dial:
        return self._dial

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", self._local.jdwp_port)
        return transport

    def _seen(self, answer: Answer) -> Seen:
        return inside.seen(answer, where=self._where, jdwp_port=self._local.jdwp_port, now=datetime.now(UTC))

    async def _run(self, verb: str, session: Session, *more: str) -> Answer:
        told = arguments(verb, session.id, name=self._local.name, jdwp_port=self._local.jdwp_port)
        argv = ["sh", "-c", script("forwarder"), "noah-forwarder", *told, *more]
        try:
            _, out, _ = await command.run(argv, timeout=SCRIPT_TAKES)
        except TimeoutError:
            raise Unavailable(f"Looking at {self._where} took longer than {SCRIPT_TAKES:.0f} s.") from None
        return read_answer(out.decode("utf-8", "replace").splitlines())


class Locals:
    """The kind."""

    def __init__(self, locals_: Iterable[Local]) -> None:
        self._locals = {local.name: local for local in locals_}

    def list(self) -> Iterable[TargetInfo]:
        return [_info(local) for local in self._locals.values()]

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        assert isinstance(wanted, LocalTarget)
        return _info(self._find(wanted.name))

    def line(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> LocalLine:
        assert isinstance(session.target, LocalTarget)
        return LocalLine(self._find(session.target.name))

    def _find(self, name: str) -> Local:
        if name not in self._locals:
            known = ", ".join(self._locals) or "none"
            raise NotFound(f"The configuration has no [[local]] named {name!r}; it has {known}.")
        return self._locals[name]


def _info(local: Local) -> TargetInfo:
    return TargetInfo(
        target=LocalTarget(local.name), app=local.name, ready=True, phase="Running", checkurl=local.checkurl
    )
