"""Which session is on which target, and whose it is. Sessions write it; kinds of target and the site read it.

There may be thousands of them: who asks for a person's, an app's or a namespace's is not shown all.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator

from noah.core.session.principal import Principal
from noah.core.session.session import Session
from noah.core.session.target import PodTarget, Target


class Holders:
    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._session_on: dict[Target, str] = {}
        self._having: defaultdict[Hashable, set[str]] = defaultdict(set)  # sessions' IDs, by what they are found by

    @property
    def targets(self) -> Collection[Target]:
        return self._session_on.keys()

    def session_on(self, target: Target) -> str | None:
        """Return the ID of the session that is on *target*."""
        return self._session_on.get(target)

    def sessions_of(self, owner: Principal) -> Collection[str]:
        """Return the IDs of the sessions that are *owner*'s."""
        return tuple(self._having.get(owner, ()))

    def sessions_in(self, cluster: str, namespace: str) -> Collection[str]:
        """Return the IDs of the sessions on pods of a namespace."""
        return tuple(self._having.get((cluster, namespace), ()))

    def targets_of(self, app: str) -> Collection[Target]:
        """Return the targets of that app that sessions are on."""
        return [self._sessions[id].target for id in self._having.get(app, ())]

    def targets_in(self, cluster: str, namespace: str) -> Collection[Target]:
        """Return the pods of a namespace that sessions are on."""
        return [self._sessions[id].target for id in self.sessions_in(cluster, namespace)]

    def put(self, session: Session) -> None:
        """Record the session as it is now, and no longer as it was before."""
        before = self._sessions.get(session.id)
        if before is None or (before.target, before.owner, before.app) != (session.target, session.owner, session.app):
            self.remove(session.id)
            self._sessions[session.id] = session
            self._session_on[session.target] = session.id
            for key in _keys(session):
                self._having[key].add(session.id)

    def remove(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        for key in _keys(session):
            self._having[key].discard(session_id)
            if not self._having[key]:
                del self._having[key]
        # A session that is cleared away late must not take the target from the one that has it since.
        if self._session_on.get(session.target) == session_id:
            del self._session_on[session.target]


def _keys(session: Session) -> Iterator[Hashable]:
    yield session.owner
    yield session.app
    if isinstance(session.target, PodTarget):
        yield session.target.cluster, session.target.namespace
