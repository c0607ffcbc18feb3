"""Who on the gateway's own machine has opened a connection, as the kernel says.

/proc/net/tcp and tcp6 have the uid of each socket's creator, and anybody may read them. The client's socket is found by
the connection's four numbers; no program can write another uid there.
"""

import os
import pwd
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from noah.core.session.principal import OPERATORS, Principal, PrincipalKind
from noah.errors import BadSettings

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ESTABLISHED = "01"  # of the kernel's include/net/tcp_states.h
Address = tuple[str, int]


class LocalPeers:
    """The users of this machine who may use the gateway: its own user, and those whom the settings name."""

    def __init__(self, users: Sequence[str]) -> None:
        """*users*: names or uids, beside the gateway's own. Raises BadSettings for a name that nobody has."""
        self._uids = frozenset({os.getuid(), *map(_uid, users)})

    def principal(self, uid: int) -> Principal | None:
        if uid not in self._uids:
            return None
        name = name_of(uid)
        return Principal(
            kind=PrincipalKind.LOCAL,
            issuer="",
            subject=name,
            name=name,
            # Who runs the gateway has its files: there is nothing that it could keep from them.
            groups=frozenset({OPERATORS}) if uid == os.getuid() else frozenset(),
            proof=f"uid {uid} of this machine",
        )


def uid_of(peer: Address, own: Address) -> int | None:
    """Return the uid that has the socket at *peer* which is connected to *own*; None if it is not of this machine."""
    wanted = {(_hex(peer, family), _hex(own, family)) for family in (socket.AF_INET, socket.AF_INET6)}
    for table in TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            # A socket that its program has closed while bytes are under way has nobody: the kernel writes root for it.
            if (fields[1], fields[2]) in wanted and fields[3] == ESTABLISHED and fields[9] != "0":
                return int(fields[7])
    return None


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def _uid(user: str) -> int:
    try:
        return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise BadSettings(f"local_users of [access]: this machine has no user {user[:60]!r}.") from None


def _hex(address: Address, family: socket.AddressFamily) -> str:
    """Write an address as the kernel does in these tables: words of 32 bits in the machine's own order of bytes."""
    host, port = address[:2]
    host = host.removeprefix("::ffff:") if "." in host else host
    if family is socket.AF_INET6 and "." in host:
        host = f"::ffff:{host}"  # an IPv4 client of a socket that takes both
    try:
        packed = socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        return ""
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
