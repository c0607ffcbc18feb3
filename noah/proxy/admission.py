"""Who may come in: decided before a JVM is touched.

A connection is admitted when its address is, its user if it comes from the gateway's own machine, and when the 14 bytes
of a debugger's handshake have arrived. Everything else (a scanner, a health check, a browser, half a handshake) is hung
up on and counted, the moment that it shows.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, cast

from noah.per_loop import PerLoop
from noah.proxy.handshake import Handshake
from noah.proxy.local_peer import uid_of_peer

PATIENCE: Final = 5.0  # seconds for the handshake; a debugger sends it as soon as it is connected
# Connections to all ports that have sent no handshake yet, and of one address. When another comes, the one that has
# waited longest goes: a debugger waits only for the time that one packet takes.
MOST_WAITING: Final = 256
MOST_OF_ADDRESS: Final = 32

# By event loop, as descriptors are one for all ports; in the order in which they came.
_waiting = PerLoop[dict["Caller", None]](dict)


class Admitting(Protocol):
    """A slot, or the way to one at another gateway: debuggers are admitted to it."""

    refused: Counter[str]  # connections that were turned away, by reason

    def admit(self, transport: asyncio.Transport, address: str) -> None:
        """Take a debugger that has sent its handshake; *transport* is paused."""

    def turned_away(self, host: str, reason: str) -> None: ...


class Admission:
    def __init__(
        self,
        *,
        admits: Callable[[str], bool],
        admits_user: Callable[[int], bool],
        slot: Admitting,
    ) -> None:
        self.slot = slot  # may be replaced at any time: the session got another gateway
        self._admits = admits
        self._admits_user = admits_user
        self._waiting = _waiting.get()

    def caller(self) -> "Caller":
        return Caller(self)

    def arrived(self, caller: "Caller") -> None:
        if not self._may_come_in(caller):
            return
        longest = next(iter(self._waiting), None)
        same = [one for one in self._waiting if one.host == caller.host]
        if len(same) >= MOST_OF_ADDRESS:
            longest = same[0]
        elif len(self._waiting) < MOST_WAITING:
            longest = None
        if longest is not None:
            longest.admission.give_up(longest)
        self._waiting[caller] = None

    def _may_come_in(self, caller: "Caller") -> bool:
        admitted, why = False, "not_allowed"
        try:
            admitted = bool(caller.host) and self._admits(caller.host)
            if admitted and (uid := caller.uid()) is not None and not self._admits_user(uid):
                admitted, why = False, "other_user"
        finally:  # also when nobody can tell
            if not admitted:
                self._refuse(caller, why)
                self.slot.turned_away(caller.host, why)
        return admitted

    def give_up(self, caller: "Caller") -> None:
        if caller in self._waiting:
            del self._waiting[caller]
            self._refuse(caller, "no_handshake")

    def greeted(self, caller: "Caller") -> None:
        del self._waiting[caller]
        self.slot.admit(caller.leave(), caller.address)

    def close(self) -> None:
        for caller in [one for one in self._waiting if one.admission is self]:
            self.give_up(caller)

    def _refuse(self, caller: "Caller", reason: str) -> None:
        self.slot.refused[reason] += 1
        caller.leave().abort()


class Caller(asyncio.BufferedProtocol):
    """A connection that is not admitted yet."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self._handshake = Handshake()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A peer that is gone already has no name any more.
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self.host = host.removeprefix("::ffff:")
        self.address = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.admission.give_up, self)
        self.admission.arrived(self)

    def uid(self) -> int | None:
        """Return whose the connection is, if it comes from the gateway's own machine."""
        peer, here = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
        return uid_of_peer(peer[:2], here[:2]) if peer and here else None

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._handshake.missing()

    def buffer_updated(self, nbytes: int) -> None:
        self._handshake.took(nbytes)
        if self._handshake.is_wrong:
            self.admission.give_up(self)
        elif self._handshake.is_complete:
            self.admission.greeted(self)

    def eof_received(self) -> None:
        self.admission.give_up(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.admission.give_up(self)

    def leave(self) -> asyncio.Transport:
        """Stop waiting, and return the transport, paused, for others to go on with."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.pause_reading()
        return self._transport
