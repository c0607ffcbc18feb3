"""What every kind of target can do. A kind knows how to find its targets; a Link is one session's way to one JVM.

A kind never decides what happens to a session; the lifecycle does (core/session/lifecycle.py), from what look() says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from noah.catalog.target_info import TargetInfo
from noah.core.session.session import Presence, Session, Word
from noah.core.session.target import Target, Wanted
from noah.proxy.relay import Dial


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The result of one look at a target."""

    presence: Presence
    reason: str = ""
    successor: Target | None = None
    forwarder_alive: bool = False
    taken: bool = False  # a debugger has the agent's only slot, through the gateway or past it


class Link(Protocol):
    """One session's way to one JVM, and what it holds open there. Every verb may be called again after any failure."""

    async def look(self, session: Session) -> Observation:
        """Return what is true, from what is known here where that is enough.

        Raises Unavailable when the target cannot be asked, CannotDebug, with the one thing to do, when waiting would
        not help.
        """

    async def is_taken(self, session: Session) -> bool:
        """Ask the target itself, after a look, whether a debugger has the agent's only slot. Nothing changes there."""

    async def start(self, session: Session, *, word: Word, now: datetime) -> Observation:
        """Bring up the forwarder, with its own deadline at the session's end, and the report; or hold what is there."""

    @property
    def is_held(self) -> bool:
        """True while write() can reach what start() brought up."""

    async def write(self, session: Session, word: Word, *, now: datetime) -> None:
        """Write what the JVM is doing, and how long the session lasts, for the target's probe.

        Raises Unavailable when it does not get there.
        """

    @property
    def trouble(self) -> str | None:
        """One sentence when what was written did not arrive, or cannot be kept there."""

    @property
    def beat_s(self) -> float:
        """Seconds after which a word is repeated while a debugger is attached; liveness.sh believes one for 3 s."""

    @property
    def idle_beat_s(self) -> float | None:
        """Seconds after which it is repeated while nobody is attached; None: it is not."""

    async def stop(self, session: Session) -> None:
        """End the forwarder and its children, remove the report, and see that they are gone."""

    @property
    def dial(self) -> Dial: ...

    @property
    def look_again(self) -> float:
        """Seconds after which a look may show something that changed() did not announce."""

    async def close(self) -> None:
        """Close what the gateway itself holds (streams, tasks); the target is left as it is."""


class Kind(Protocol):
    """All targets of one kind; which there are, it keeps in the catalog."""

    async def resolve(self, wanted: Wanted) -> TargetInfo:
        """Return the one target that *wanted* means. Raises NotFound, BadInput or CannotDebug."""

    def link(self, session: Session, *, changed: Callable[[], None], step: Callable[[str], None]) -> Link:
        """*changed* is called whenever a new look may show something else, *step* with a sentence for each thing that
        is done on the way."""
