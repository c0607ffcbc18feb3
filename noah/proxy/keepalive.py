"""Finding out that the machine at the other end of a connection is gone, though nothing says so.

A laptop that falls asleep sends no FIN. A JVM whose debugger is gone like that stands still for ever. So: 10 s after
the last sign of life the kernel probes, every 5 s, and after 35 s without an answer it gives the connection up, with
data on its way or without. A machine that answers may be quiet for days.

TCP_USER_TIMEOUT knows no other measure than data that is not taken: a debugger that is alive, has megabytes waiting for
it and reads none of them for 35 s is given up as well [seen].
"""

import asyncio
import socket
from typing import Final

IDLE: Final = 10  # seconds
INTERVAL: Final = 5  # seconds
PROBES: Final = 5
SILENCE: Final = 35_000  # milliseconds; IDLE + PROBES * INTERVAL


def find_out_when_gone(transport: asyncio.BaseTransport) -> None:
    """If it is TCP; any other has a heartbeat of its own."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family in (socket.AF_INET, socket.AF_INET6):
        set_keepalive(sock.fileno())


def set_keepalive(fd: int) -> None:
    """Set it on a listener, and all that it accepts have it too (Linux copies it)."""
    # uvloop's sockets make a new object for each option that is set.
    sock = socket.socket(fileno=fd)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)
    finally:
        sock.detach()
