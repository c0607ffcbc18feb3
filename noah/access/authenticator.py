"""Whom the gateway believes: a token, a browser that is logged in, a user of its own machine."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from noah.access.local_peers import Address, LocalPeers, name_of, uid_of
from noah.access.logins import Logins
from noah.access.tokens import TokenFile
from noah.core.session.principal import OPERATORS, Principal
from noah.errors import Unauthenticated, Unavailable
from noah.settings import Settings
from noah.store import Store

log = logging.getLogger(__name__)

FRESH_S = 5.0  # a page asks every few seconds; a login that is revoked ends within these
# A database that is away must not log people out who look at a page meanwhile.
AWAY_S = 600.0
MOST_REMEMBERED = 10_000  # browsers; some hundred bytes each


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    at: float  # of the loop's clock


class Authenticator:
    def __init__(
        self, settings: Settings, store: Store, *, clock: Callable[[], datetime], fresh_s: float = FRESH_S
    ) -> None:
        """*fresh_s*: how long a browser's login is believed without asking the database. Raises BadSettings."""
        access = settings.access
        self._clock = clock
        self._fresh_s = fresh_s
        self.tokens = TokenFile(access.tokens)
        self.logins = Logins(store.logins, idle=access.login_idle)
        self.login_lasts = access.login_longest
        self._peers = LocalPeers(access.local_users) if settings.gateway.is_own_machines else None
        self._remembered: dict[str, _Remembered] = {}

    @property
    def admits_local_users(self) -> bool:
        return self._peers is not None

    async def by_bearer(self, token: str) -> Principal:
        """Return whose token it is. Raises Unauthenticated, Unavailable."""
        found = self.tokens.find(token, self._clock())
        if found is None:
            raise Unauthenticated("This token is not known here, has expired or was revoked.")
        return found

    async def by_login(self, login_id: str) -> Principal | None:
        """Return who is logged in with this cookie, if somebody is. Raises Unavailable."""
        now, remembered = time.monotonic(), self._remembered.get(login_id)
        if remembered is not None and now - remembered.at < self._fresh_s:
            return remembered.principal
        try:
            found = await self.logins.find(login_id)
        except Unavailable:
            if remembered is not None and now - remembered.at < AWAY_S:
                return remembered.principal
            raise
        self._remembered.pop(login_id, None)
        if found is None:
            return None
        while len(self._remembered) >= MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[login_id] = _Remembered(found[0], now)
        return found[0]

    async def by_peer(self, peer: Address, own: Address) -> Principal | None:
        """Return the user of this machine who has opened a connection from *peer* to *own*, the gateway's address.

        None if the gateway asks everybody for a login. Raises Unauthenticated for a user who may not do without one.
        """
        if self._peers is None:
            return None
        uid = await asyncio.to_thread(uid_of, peer, own)
        if uid is None:
            return None
        principal = self._peers.principal(uid)
        if principal is None:
            raise Unauthenticated(
                f"This gateway serves only its own user without a login, and you are {name_of(uid)}: ask for a token "
                "(`noah token create`), or to be named in local_users of [access]."
            )
        return principal

    async def log_out(self, login_id: str) -> None:
        self._remembered.pop(login_id, None)
        await self.logins.close(login_id)

    def first_token(self) -> str | None:
        """Return a token for whoever has started the gateway, if nobody could come in otherwise."""
        now = self._clock()
        if self.admits_local_users or any(not token.has_expired(now) for token in self.tokens.all()):
            return None
        return self.tokens.create("operator", groups=[OPERATORS], now=now, expires_at=None)
