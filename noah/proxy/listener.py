"""The TCP port that an IDE is pointed at: it admits debuggers to a slot, and is the same one next time."""

import asyncio
from collections.abc import Callable
from typing import Final

from noah.proxy.admission import Admission, Admitting
from noah.proxy.keepalive import set_keepalive

BACKLOG: Final = 1024  # connections that the kernel holds for us; a scanner opens hundreds at once


class Listener:
    def __init__(
        self,
        slot: Admitting,
        *,
        host: str,
        port: int,
        admits: Callable[[str], bool],
        admits_user: Callable[[int], bool] = lambda uid: True,
    ) -> None:
        """*admits*: whether a debugger may come from that address; *admits_user*: of that user, on this machine.

        *port* 0: any that is free.
        """
        self.host = host
        self.port = port
        self._admission = Admission(admits=admits, admits_user=admits_user, slot=slot)
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        return self._server is not None

    def admit_to(self, slot: Admitting) -> None:
        """Let debuggers come to *slot* from now on; whom another one has stays there."""
        self._admission.slot = slot

    async def open(self) -> None:
        """Raises OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._admission.caller, self.host, self.port, backlog=BACKLOG)
        for listener in server.sockets:
            set_keepalive(listener.fileno())
        self.port = server.sockets[0].getsockname()[1]
        self._server = server

    def close(self) -> None:
        """Stop listening, and hang up on who has not been admitted; whom the slot has stays."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._admission.close()
