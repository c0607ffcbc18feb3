"""The 14 bytes that both sides of a JDWP connection begin with, as they arrive."""

from noah.core.jdwp.wire import HANDSHAKE


class Handshake:
    def __init__(self) -> None:
        self._bytes = bytearray(len(HANDSHAKE))
        self._have = 0

    def missing(self) -> memoryview:
        """Return where to read into, so that what follows the handshake stays in the socket."""
        return memoryview(self._bytes)[self._have :]

    def take(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take what belongs to the handshake; return the rest of *data*."""
        wanted = data[: len(self._bytes) - self._have]
        self._bytes[self._have : self._have + len(wanted)] = wanted
        self._have += len(wanted)
        return data[len(wanted) :]

    def took(self, count: int) -> None:
        self._have += count

    @property
    def is_wrong(self) -> bool:
        return not HANDSHAKE.startswith(self._bytes[: self._have])

    @property
    def is_complete(self) -> bool:
        return self._bytes == HANDSHAKE
