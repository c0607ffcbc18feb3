"""Which session is on which target, and whose it is. Sessions write it; kinds of target and the site read it."""

from collections import defaultdict
from collections.abc import Collection

from noah.core.session.principal import Principal
from noah.core.session.target import Target


class Holders:
    def __init__(self) -> None:
        self._session_on: dict[Target, str] = {}
        self._target_of: dict[str, Target] = {}
        self._owner_of: dict[str, Principal] = {}
        self._sessions_of: defaultdict[Principal, set[str]] = defaultdict(set)

    @property
    def targets(self) -> Collection[Target]:
        return self._session_on.keys()

    def session_on(self, target: Target) -> str | None:
        """Return the ID of the session that is on *target*."""
        return self._session_on.get(target)

    def sessions_of(self, owner: Principal) -> Collection[str]:
        """Return the IDs of the sessions that are *owner*'s."""
        return tuple(self._sessions_of.get(owner, ()))

    def put(self, session_id: str, target: Target, owner: Principal) -> None:
        """Record that the session is on *target* now and *owner*'s, and no longer what it was before."""
        if (self._target_of.get(session_id), self._owner_of.get(session_id)) != (target, owner):
            self.remove(session_id)
            self._target_of[session_id] = target
            self._session_on[target] = session_id
            self._owner_of[session_id] = owner
            self._sessions_of[owner].add(session_id)

    def remove(self, session_id: str) -> None:
        owner = self._owner_of.pop(session_id, None)
        if owner is not None:
            self._sessions_of[owner].discard(session_id)
            if not self._sessions_of[owner]:
                del self._sessions_of[owner]
        target = self._target_of.pop(session_id, None)
        # A session that is cleared away late must not take the target from the one that has it since.
        if target is not None and self._session_on.get(target) == session_id:
            del self._session_on[target]
