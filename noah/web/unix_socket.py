"""Listening on a UNIX socket, where the kernel says whose each connection is (SO_PEERCRED, unix(7)).

Anybody of the machine may connect, as to a port of loopback: who they are decides what they may.
"""

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiohttp import web

from noah.errors import BadSettings

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@contextlib.contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """Listen as long as the context lasts. Raises BadSettings if that is not possible, or another program does.

    A socket that a gateway left behind when it was killed is replaced.
    """
    try:
        _refuse_open_folder(path.parent)
        _remove_left_behind(path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            ours = os.stat(path)
            path.chmod(0o666)  # whatever the umask is
            listener.listen()
            try:
                yield listener
            finally:
                with contextlib.suppress(OSError):
                    if os.path.samestat(os.stat(path), ours):
                        path.unlink()
    except OSError as e:
        raise BadSettings(f"The gateway cannot listen on unix:{path}: {e.strerror}.") from None


def uid_of(request: web.Request) -> int | None:
    """Return the user at the other end of a UNIX socket; None if the request comes in another way."""
    connection = _socket_of(request)
    if connection is None:
        return None
    # Of a copy: asyncio's and uvloop's own objects for it know no getsockopt, or not for long.
    with socket.socket(fileno=os.dup(connection.fileno())) as copy:
        sent = copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(sent)[1]
    return uid


def is_by_unix_socket(request: web.Request) -> bool:
    return _socket_of(request) is not None


def _socket_of(request: web.Request) -> socket.socket | None:
    transport = request.transport
    found: socket.socket | None = transport.get_extra_info("socket") if transport is not None else None
    return found if found is not None and found.family == socket.AF_UNIX else None


def _refuse_open_folder(folder: Path) -> None:
    mode = os.stat(folder).st_mode
    if mode & _OTHERS_MAY_WRITE and not mode & stat.S_ISVTX:
        raise BadSettings(f"Others may write in {folder}, and so put a socket of theirs there: chmod go-w {folder}.")


def _remove_left_behind(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise BadSettings(f"The gateway cannot listen on unix:{path}: there is something else at that path.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise BadSettings(f"The gateway cannot listen on unix:{path}: another program does.")
