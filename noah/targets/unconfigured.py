"""The way to a target that an earlier configuration had: a session that was left on it ends, and the gateway starts."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from noah.core.session.session import Presence, Session, Vm
from noah.core.session.target import Target
from noah.errors import Unavailable
from noah.proxy.relay import Dial
from noah.targets.base import Seen


class Unconfigured:
    """It is gone for good, as far as this gateway can tell; nothing is asked of it or done to it."""

    look_again = 60.0  # seconds; only a gateway with another configuration would see something else

    def __init__(self, target: Target) -> None:
        self._sentence = f"The configuration does not have {target} any more."

    async def look(self, session: Session, *, ask: bool = False) -> Seen:
        return Seen(presence=Presence.GONE, reason=self._sentence)

    async def start(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        return await self.look(session)

    async def report(self, session: Session, *, vm: Vm, now: datetime) -> Seen:
        return await self.look(session)

    async def stop(self, session: Session) -> None:
        """Its forwarder and its report end by their own deadlines."""

    @property
    def dial(self) -> Dial:
        return self._dial

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _dial(self, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        raise Unavailable(self._sentence)
