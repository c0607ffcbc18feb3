"""A gateway at a UNIX socket of this machine: NOAH_URL is unix:/PATH."""

import socket
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import NewConnectionError


class UnixPool(HTTPConnectionPool):
    """Connections to one socket. Requests are for paths; the host's name is the one that every machine has."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        return _UnixConnection(self._path, timeout=self.timeout.connect_timeout, **self.conn_kw)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, **more: Any) -> None:
        super().__init__("localhost", **more)
        self._path = path

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self.timeout)
            connection.connect(self._path)
        except OSError as e:
            connection.close()
            raise NewConnectionError(self, f"Failed to establish a new connection: {e}") from e
        return connection
