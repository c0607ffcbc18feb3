"""What has begun and waits for its second half for some minutes: held in memory, by a handle that nobody can guess."""

import secrets
import time
from typing import Generic, TypeVar

from noah.errors import Unavailable

T = TypeVar("T")


class Pending(Generic[T]):
    """Values that are taken once, within *lasts_s*. A restart forgets them, and they are begun again."""

    def __init__(self, *, lasts_s: float, most: int, most_each: int) -> None:
        """*most_each*: of one address or one person, so that nobody uses up all."""
        self._lasts_s = lasts_s
        self._most = most
        self._most_each = most_each
        self._waiting: dict[str, tuple[float, str, T]] = {}

    def put(self, value: T, *, by: str) -> str:
        """Return the handle. Raises Unavailable when too many wait."""
        now = time.monotonic()
        for handle in [handle for handle, (until, _, _) in self._waiting.items() if until <= now]:
            del self._waiting[handle]
        theirs = sum(whose == by for _, whose, _ in self._waiting.values())
        if len(self._waiting) >= self._most or theirs >= self._most_each:
            raise Unavailable("Too many logins have begun and not ended: try again in some minutes.")
        handle = secrets.token_urlsafe(32)
        self._waiting[handle] = now + self._lasts_s, by, value
        return handle

    def look(self, handle: str) -> T | None:
        until, _, value = self._waiting.get(handle, (0.0, "", None))
        return value if until > time.monotonic() else None

    def take(self, handle: str) -> T | None:
        found = self.look(handle)
        self._waiting.pop(handle, None)
        return found
