"""What every kind of target can do. A kind knows how to find its targets; a Line is one session's way to one JVM.

A kind never decides what happens to a session; the lifecycle does (core/lifecycle.py), from what look() says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from noah.catalog.target_info import TargetInfo
from noah.core.session.session import Presence, Session, Vm
from noah.core.session.target import Target, Wanted
from noah.proxy.relay import Dial


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look at a target showed."""

    presence: Presence
    reason: str = ""
    successor: Target | None = None
    forwarder_alive: bool = False
    taken: bool = False  # a debugger has the agent's only slot, through the gateway or past it
    reported: Vm | None = None
    reported_until: datetime | None = None


class Line(Protocol):
    """One session's way to one JVM, and what it holds open there. Every verb may be called again after any failure."""

    async def look(self, session: Session, *, ask: bool = False) -> Seen:
        """What is true, from what is known here unless *ask* says to ask the target itself.

        Unavailable when it cannot be asked; CannotDebug, with the one thing to do, when waiting would not help.
        """

    async def start(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        """Bring up the forwarder, with its own deadline at the session's end, and the report."""

    async def report(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        """Tell the target's probe what the VM is doing, for as long as the session lasts."""

    async def stop(self, session: Session) -> None:
        """End the forwarder and its children, remove the report, and see that they are gone."""

    @property
    def dial(self) -> Dial: ...

    @property
    def look_again(self) -> float:
        """Seconds after which a look may show something that changed() did not tell."""

    async def close(self) -> None:
        """Let go of what the gateway itself holds (streams, tasks); the target is left as it is."""


class Kind(Protocol):
    """All targets of one kind; which there are, it keeps in the catalog."""

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        """The one target that *wanted* means. NotFound, BadInput or CannotDebug, each with one sentence."""

    def line(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> Line:
        """*changed* is called whenever a new look may show something else, *step* with a sentence for each thing that
        is done on the way."""
