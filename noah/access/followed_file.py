"""A secret or a key in a file that somebody replaces while the gateway runs."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from noah.errors import BadSettings
from noah.file_state import content_of, state_if_there

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class FollowedFile(Generic[_T]):
    """Holds what a file says; if that cannot be used, what it said before."""

    def __init__(self, file: Path, what: str, parse: Callable[[bytes], _T]) -> None:
        """*what*: the file, in a sentence. *parse* raises ValueError with what is wrong, as "is empty".

        Raises BadSettings if it cannot be used now.
        """
        self._file, self._what, self._parse = file, what, parse
        self._state = state_if_there(file)
        self._current = self._read()

    def current(self) -> _T:
        state = state_if_there(self._file)
        if state != self._state:
            self._state = state
            try:
                self._current = self._read()
                log.info("%s has changed, and is used as it is now", self._what)
            except BadSettings as e:
                log.warning("%s The gateway uses what it said before.", e.sentence)
        return self._current

    def _read(self) -> _T:
        try:
            return self._parse(content_of(self._file))
        except OSError as e:
            raise BadSettings(f"{self._what} cannot be read: {e.strerror}.") from None
        except ValueError as e:
            raise BadSettings(f"{self._what} {e}.") from None


def secret_of(content: bytes, *, shortest: int) -> bytes:
    """Return a secret as a file has it, which may end with a line end. Raises ValueError if it is too short."""
    secret = content.strip()
    if len(secret) < shortest:
        raise ValueError(f"has fewer than {shortest} characters")
    return secret
