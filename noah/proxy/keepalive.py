"""Finding out that the machine at the other end of a connection is gone, though nothing says so.

A laptop that falls asleep sends no FIN. A JVM whose debugger is gone like that is suspended for ever. So: 10 s after
the last sign of life the kernel probes, every 5 s, and after 35 s without an answer it gives the connection up, with
data on its way or without. A machine that answers may be quiet for days.

The JVM's side is probed every second: what the JVM does is known only as long as its network answers.

TCP_USER_TIMEOUT knows no other measure than data that is not taken: a debugger that is alive, has megabytes waiting for
it and reads none of them for 35 s is given up as well [seen].
"""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

IDLE: Final = 10  # seconds
INTERVAL: Final = 5  # seconds
PROBES: Final = 5
SILENCE: Final = 35_000  # milliseconds; IDLE + PROBES * INTERVAL
JVM_INTERVAL: Final = 1  # seconds
# Linux, struct tcp_info: tcpi_last_ack_recv, in milliseconds; a keepalive's answer counts too.
LAST_ACK_RECV: Final = struct.Struct("=56xI")


def find_out_when_gone(transport: asyncio.BaseTransport) -> None:
    """Have the kernel probe the JVM's side, if it is TCP; any other has a heartbeat of its own."""
    fd = _tcp(transport)
    if fd is not None:
        set_keepalive(fd, idle=JVM_INTERVAL, interval=JVM_INTERVAL, probes=SILENCE // 1000 // JVM_INTERVAL - 1)


def silence_of(transport: asyncio.BaseTransport) -> float:
    """Return for how many seconds the other end has not given a sign of life; 0 where that is not known."""
    fd = _tcp(transport)
    if fd is None:
        return 0.0
    try:
        with _socket_of(fd) as sock:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_ACK_RECV.size)
        (milliseconds,) = LAST_ACK_RECV.unpack(info)
    except (OSError, struct.error):
        return 0.0
    return float(milliseconds) / 1000


@contextmanager
def _socket_of(fd: int) -> Iterator[socket.socket]:
    """Lend a socket to set or ask options of: uvloop's own objects make a new one each time. It stays open."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def _tcp(transport: asyncio.BaseTransport) -> int | None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family in (socket.AF_INET, socket.AF_INET6):
        return int(sock.fileno())
    return None


def set_keepalive(fd: int, *, idle: int = IDLE, interval: int = INTERVAL, probes: int = PROBES) -> None:
    """Set it in seconds. All that a listener accepts has it too (Linux copies it)."""
    with _socket_of(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Return whether the other end has closed, though nothing is read: looked for in what the kernel has received."""
    if transport.is_closing():
        return True
    socket_of = transport.get_extra_info("socket")
    if socket_of is None or socket_of.fileno() < 0:
        return False
    try:
        with _socket_of(socket_of.fileno()) as sock:
            return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
