"""Which user of the gateway's own machine has connected: its loopback is open to all of them.

The kernel is asked for that one socket (NETLINK_SOCK_DIAG, linux/inet_diag.h), which takes some microseconds however
many connections there are.
"""

import errno
import ipaddress
import socket
import struct
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST: Final = 1
_ANY_COOKIE: Final = b"\xff" * 8
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_QUESTION: Final = struct.Struct("=BBBBI2s2s16s16sI8s")  # struct inet_diag_req_v2
_ERROR: Final = 2  # the type of an answer that has an error's number, negative
_ESTABLISHED: Final = 1
_STATE_AT: Final = _HEADER.size + 1
_UID_AT: Final = _HEADER.size + 4 + 48 + 12  # in the answer: behind struct inet_diag_sockid and three numbers
_ANSWERS_WITHIN_S: Final = 0.5

NOBODY: Final = -1  # the socket's program has closed it already: the kernel does not say whose it was, and writes root


def uid_of_peer(peer: tuple[str, int], here: tuple[str, int]) -> int | None:
    """Return the user whose socket at *peer* is connected to ours at *here*, or NOBODY.

    None if it is of another machine, or the kernel cannot be asked.
    """
    address, ours = _parse(peer[0]), _parse(here[0])
    if address.version != ours.version or not (address.is_loopback or address == ours):
        return None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    ends = peer[1].to_bytes(2), here[1].to_bytes(2), address.packed.ljust(16, b"\0"), ours.packed.ljust(16, b"\0")
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF, *ends, 0, _ANY_COOKIE)
    head = _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_ANSWERS_WITHIN_S)
            kernel.send(head + question)
            answer = kernel.recv(4096)
    except OSError:
        return None
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        return NOBODY if struct.unpack_from("=i", answer, _HEADER.size)[0] == -errno.ENOENT else None
    if len(answer) < _UID_AT + 8 or kind != _SOCK_DIAG_BY_FAMILY:
        return None
    uid, inode = struct.unpack_from("=II", answer, _UID_AT)
    return int(uid) if inode and answer[_STATE_AT] == _ESTABLISHED else NOBODY


def user_that_listens(port: int) -> int | None:
    """Return the uid of a program of this machine that listens at *port*. Blocks: the kernel's tables may be long."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as rows:
                fields = [row.split() for row in rows]
        except OSError:
            continue
        for row in fields[1:]:
            if row[1].endswith(f":{port:04X}") and row[3] == "0A":
                return int(row[7])
    return None


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
