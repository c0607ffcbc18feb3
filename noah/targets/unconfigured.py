"""The way to a target that an earlier configuration had: a session that was left on it ends, and the gateway starts."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from noah.core.session.session import Presence, Session, Word
from noah.core.session.target import Target
from noah.errors import Unavailable
from noah.proxy.relay import Dial
from noah.targets.base import Observation


class Unconfigured:
    """It is gone for good, as far as this gateway can tell; nothing is asked of it or done to it."""

    look_again = 60.0  # seconds; only a gateway with another configuration would see something else
    is_held = False
    trouble = None
    beat_s = 60.0
    idle_beat_s = None

    def __init__(self, target: Target, *, is_certain: Callable[[], bool] = lambda: True) -> None:
        """*is_certain* says False as long as a source of the configuration was not read yet, which may have it."""
        self._target = target
        self._is_certain = is_certain
        self._sentence = f"The configuration does not have {target} any more."

    async def look(self, session: Session) -> Observation:
        if not self._is_certain():
            raise Unavailable(f"Whether there is {self._target} is not known before all of the inventory was read.")
        return Observation(presence=Presence.REMOVED, reason=self._sentence)

    async def is_taken(self, session: Session) -> bool:
        return False

    async def start(self, session: Session, *, word: Word, now: datetime) -> Observation:
        return await self.look(session)

    async def write(self, session: Session, word: Word, *, now: datetime) -> None:
        raise Unavailable(self._sentence)

    async def stop(self, session: Session) -> None:
        """Its forwarder and its report end by their own deadlines."""

    @property
    def dial(self) -> Dial:
        return self._dial

    async def close(self) -> None:
        """Do nothing: this link holds nothing open."""

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        raise Unavailable(self._sentence)
