"""Which session is on which target. Sessions write it; kinds of target and the site read it."""

from collections.abc import Collection

from noah.core.session.target import Target


class Holders:
    def __init__(self) -> None:
        self._session_on: dict[Target, str] = {}
        self._target_of: dict[str, Target] = {}

    @property
    def targets(self) -> Collection[Target]:
        return self._session_on.keys()

    def session_on(self, target: Target) -> str | None:
        """Return the ID of the session that is on *target*."""
        return self._session_on.get(target)

    def put(self, session_id: str, target: Target) -> None:
        """Record that the session is on *target* now, and no longer on the one before."""
        if self._target_of.get(session_id) != target:
            self.remove(session_id)
            self._target_of[session_id] = target
            self._session_on[target] = session_id

    def remove(self, session_id: str) -> None:
        target = self._target_of.pop(session_id, None)
        # A session that is cleared away late must not take the target from the one that has it since.
        if target is not None and self._session_on.get(target) == session_id:
            del self._session_on[target]
