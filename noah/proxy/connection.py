"""One debugger's connection through a port, from its admission to its end."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from noah.backoff import Backoff
from noah.core.jdwp.conversation import Event
from noah.core.jdwp.observer import Observer
from noah.errors import NoahError, Unavailable
from noah.proxy.ends import NotGreeted
from noah.proxy.keepalive import find_out_when_gone, has_hung_up, silence_of
from noah.proxy.relay import Dial, Relay

DIALLING: Final = 10.0  # seconds for a connection and the JVM's handshake
# How long a debugger is held while its JVM cannot be reached: a session starts, follows its pod, gets a new forwarder,
# or the debugger before has just gone (the agent then listens again after some milliseconds).
HELD_FOR: Final = 15.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between two attempts
QUIET_FOR: Final = 0.5  # seconds of being held before it is announced
CLOSING: Final = 5.0  # seconds; a transport that takes longer to say that it is closed is not waited for


class Unreachable(NoahError):
    """The JVM could not be reached."""


class Connection:
    """Made in the task that carries it."""

    def __init__(self, *, address: str, since: datetime) -> None:
        self.address = address
        self.since = since
        self.until: datetime | None = None
        self.ended: str | None = None  # why, once it has or is about to
        self.debugger: str | None = None
        self.exits_refused = 0
        self.over = asyncio.Event()
        self._relay: Relay | None = None
        self._is_reached = False  # the JVM
        self._task = asyncio.current_task()

    async def reach(
        self,
        dial: Callable[[], Dial],
        transport: asyncio.Transport,
        *,
        allow_exit: bool,
        changed: Callable[[], None],
        waits: Callable[[str], None],
        held_for_s: float,
    ) -> Relay:
        """Return when bytes pass between a JVM and *transport*, the debugger's. Raise Unreachable with the reason.

        *waits* is called once with a sentence when it takes long; after *held_for_s* it is given up.
        """
        loop = asyncio.get_running_loop()
        began, is_quiet = loop.time(), True
        backoff = Backoff(first_s=FIRST_PAUSE, longest_s=LONGEST_PAUSE)
        while True:
            observer = Observer(allow_exit=allow_exit)
            self._relay = relay = Relay(transport=transport, observer=observer, changed=changed)
            try:
                await _greeting(relay, dial())
                self._is_reached = True
                return relay
            except (OSError, NotGreeted, NoahError) as e:
                relay.end("the JVM could not be reached")
                may_pass = isinstance(e, ConnectionRefusedError | NotGreeted | Unavailable)
                if not may_pass or loop.time() >= began + held_for_s:
                    raise Unreachable(_sentence(e)) from e
                if is_quiet and loop.time() >= began + QUIET_FOR:
                    is_quiet = False
                    waits(_sentence(e))
            if has_hung_up(transport):
                raise Unreachable("The debugger did not wait until the JVM could be reached.")
            await asyncio.sleep(backoff.next_s())

    async def let_go(self) -> None:
        """Whatever happened: nothing of it is open any more."""
        if self._relay is not None and not self._relay.over.done():
            self._relay.end(self.ended or "the gateway closed the connection")
            await asyncio.wait([self._relay.over], timeout=CLOSING)

    @property
    def is_leaving(self) -> bool:
        """Its debugger or its JVM has closed it, and the other has not yet."""
        return self.ended is not None or (self._is_reached and self._relay is not None and self._relay.why is not None)

    async def end(self, why: str) -> None:
        """Closes it, the JVM's side first, and waits until it is gone."""
        self.ended = self.ended or (self._relay and self._relay.why) or why
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()
        await self.over.wait()

    def take_events(self) -> list[Event]:
        return self._relay.take_events() if self._relay else []

    def commands(self) -> Counter[str]:
        return self._relay.counts() if self._relay else Counter()

    def foreseen(self) -> Counter[str]:
        return self._relay.foreseen() if self._relay else Counter()

    @property
    def silence_s(self) -> float:
        """Return for how long the JVM's side has not given a sign of life."""
        transport = self._relay.jvm.transport if self._relay else None
        return 0.0 if transport is None else silence_of(transport)

    def carried(self) -> Counter[str]:
        """Bytes, in from the debugger and out to it."""
        return Counter({"in": self._relay.debugger.bytes, "out": self._relay.jvm.bytes}) if self._relay else Counter()

    def summary(self) -> Mapping[str, Any]:
        """Return JSON that is kept with the session."""
        carried = self.carried()
        return {
            "address": self.address,
            "debugger": self.debugger,
            "since": self.since.isoformat(),
            "until": self.until and self.until.isoformat(),
            "bytes_in": carried["in"],
            "bytes_out": carried["out"],
            "ended": self.ended,
        }


async def _greeting(relay: Relay, dial: Dial) -> None:
    async with asyncio.timeout(DIALLING):
        transport = await dial(lambda: relay.jvm)
        find_out_when_gone(transport)
        await relay.jvm.greeted


def _sentence(error: OSError | NotGreeted | NoahError) -> str:
    match error:
        case NoahError():
            return error.sentence
        case TimeoutError():
            return f"The JVM did not answer within {DIALLING:.0f} s."
        case NotGreeted() | ConnectionRefusedError():
            return "The JVM takes no debugger: another is attached past the gateway, or its debug agent is not running."
        case _:
            return f"The JVM could not be reached: {error.strerror or error}."
