"""Whom the gateway believes: a token, a login, a user of its own machine."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from noah.access.kubernetes_tokens import KubernetesTokens
from noah.access.local_users import LocalUsers, name_of
from noah.access.logins import PREFIX, Logins
from noah.access.oidc import Granted, LoginOver, OidcProvider, issuer_of
from noah.access.portals import Portals
from noah.access.token_exchange import TokenExchange
from noah.access.tokens import PREFIX as OWN_PREFIX
from noah.access.tokens import TokenFile
from noah.access.trusted_proxy import TrustedProxy
from noah.core.session.principal import OPERATORS, Principal, PrincipalKind
from noah.errors import Forbidden, Unauthenticated, Unavailable
from noah.proxy.local_peer import NOBODY, uid_of_peer
from noah.settings import Settings
from noah.store import Store

log = logging.getLogger(__name__)

# A login by a token whose maker cannot be asked again; the tokens themselves last about as long.
UNRENEWED_LASTS = timedelta(hours=1)
FRESH_S = 5.0  # a page asks every few seconds; a login that is revoked ends within these
# A database that is away must not log people out who look at a page meanwhile.
AWAY_S = 600.0
MOST_REMEMBERED = 10_000  # logins; some hundred bytes each


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    at: float  # of the machine's monotonic clock


class Authenticator:
    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        providers: Mapping[str, OidcProvider],
        kubernetes: KubernetesTokens,
        clock: Callable[[], datetime],
        fresh_s: float = FRESH_S,
    ) -> None:
        """*providers*: by name; *fresh_s*: how long a login is believed without asking the database.

        Raises BadSettings.
        """
        access = settings.access
        self._clock = clock
        self._fresh_s = fresh_s
        self.providers = providers
        self.kubernetes = kubernetes
        issuers = {one.name: one.issuer for one in access.oidc}
        self._portals = Portals(access.portals, issuers)
        self.proxy = TrustedProxy(access.proxy) if access.proxy else None
        self.tokens = TokenFile(access.tokens)
        self.logins = Logins(store.logins, idle=access.login_idle)
        self.exchange = TokenExchange(self._portals, providers, self.logins, clock=clock)
        self._longest, self._longest_unrenewed = access.login_longest, min(access.login_longest, access.login_idle)
        self._local_users = LocalUsers(access.local_users) if settings.gateway.is_own_machines else None
        if (providers or kubernetes.clusters or self.proxy) and not access.local_users:
            self._local_users = None  # who sets up a provider wants logins by it, also on loopback
        self._remembered: dict[str, _Remembered] = {}
        # For as long as somebody holds one or waits for it.
        self._renewing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def admits_local_users(self) -> bool:
        return self._local_users is not None

    async def by_bearer(self, token: str) -> Principal:
        """Return whose token it is. Raises Unauthenticated, Unavailable."""
        if token.startswith(PREFIX):
            found = await self.by_login(token)
        elif token.startswith(OWN_PREFIX):
            found = self.tokens.find(token, self._clock())
        else:
            found = await self._by_others_token(token)
        if found is None:
            raise Unauthenticated("This token is not known here, has expired or was revoked: log in again.")
        return found

    async def _by_others_token(self, token: str) -> Principal | None:
        issuer = issuer_of(token)
        if issuer is not None and issuer in self._portals:
            return self._portals.principal_of(token, issuer, self._clock().timestamp())
        for provider in self.providers.values():
            if issuer is not None and provider.settings.issuer == issuer:
                return await provider.principal_of(token)
        return await self.kubernetes.principal_of(token, issuer=issuer)

    async def by_login(self, login_id: str) -> Principal | None:
        """Return who is logged in by this, if somebody is. Raises Unavailable."""
        now, remembered = time.monotonic(), self._remembered.get(login_id)
        if remembered is not None and now - remembered.at < self._fresh_s:
            return remembered.principal
        try:
            principal = await self._looked_up(login_id)
        except Unavailable:
            if remembered is not None and now - remembered.at < AWAY_S:
                return remembered.principal
            raise
        self._remembered.pop(login_id, None)
        if principal is None:
            return None
        while len(self._remembered) >= MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[login_id] = _Remembered(principal, now)
        return principal

    def by_peer(self, peer: tuple[str, int], own: tuple[str, int]) -> Principal | None:
        """Return the user of this machine who has opened a connection from *peer* to *own*, the gateway's address.

        None if the gateway asks everybody for a login. Raises Unauthenticated for a user who may not do without one.
        """
        uid = uid_of_peer(peer, own) if self._local_users is not None else None
        return None if uid is None or uid == NOBODY else self.by_uid(uid)

    def by_uid(self, uid: int) -> Principal | None:
        """Return that user of this machine, as by_peer does."""
        if self._local_users is None:
            return None
        principal = self._local_users.principal(uid)
        if principal is None:
            raise Unauthenticated(
                f"This gateway serves only its own user without a login, and you are {name_of(uid)}: ask for a token "
                "(`noah token create`), or to be named in local_users of [access]."
            )
        return principal

    async def log_in_by_token(self, token: str) -> tuple[Principal, str, timedelta]:
        """Keep a login for a browser that has sent a token; return whose it is, and what log_in does.

        A login by a token of the gateway's own ends with the token. Raises Unauthenticated, Unavailable.
        """
        principal = await self.by_bearer(token)
        if principal.actor is not None:
            raise Unauthenticated("What a portal signs or gets for somebody is for its calls, and not for a login.")
        own = principal.kind is PrincipalKind.TOKEN
        lasts = self._longest if own else min(self._longest, UNRENEWED_LASTS)
        secret = json.dumps({"token": token}).encode() if own else None
        return principal, await self.logins.open(principal, lasts=lasts, secret=secret), lasts

    async def log_in(self, principal: Principal, granted: tuple[str, Granted] | None) -> tuple[str, timedelta]:
        """Keep a login; return what a cookie or a client has of it, and how long it lasts.

        *granted*: the provider, and what it gave. A login about which nobody can be asked later is a short one.
        """
        if granted is None:
            lasts = min(self._longest, UNRENEWED_LASTS)
        else:
            lasts = self._longest if granted[1].refresh_token is not None else self._longest_unrenewed
        secret = None if granted is None else _sealed(*granted)
        return await self.logins.open(principal, lasts=lasts, secret=secret), lasts

    async def log_out(self, login_id: str) -> tuple[OidcProvider, Granted] | None:
        """End a login here; return the provider and what it gave, if one did."""
        self._remembered.pop(login_id, None)
        found = await self.logins.find(login_id)
        await self.logins.close(login_id)
        if found is None or found[1] is None:
            return None
        kept = json.loads(found[1])
        provider = self.providers.get(kept.get("provider"))
        return None if provider is None else (provider, _granted(found[0], kept))

    async def log_out_everywhere(self, is_theirs: Callable[[Principal], bool]) -> int:
        """End all logins of those people here; return how many. What providers gave for them just runs out."""
        ended = await self.logins.close_all(is_theirs)
        for login_id in [one for one, kept in self._remembered.items() if is_theirs(kept.principal)]:
            del self._remembered[login_id]
        return ended

    def first_token(self) -> str | None:
        """Return a token for the person who has started the gateway, if nobody could come in otherwise."""
        now = self._clock()
        others = self.admits_local_users or self.providers or self.kubernetes.clusters or self.proxy
        if others or any(not one.has_expired(now) for one in self.tokens.all()):
            return None
        return self.tokens.create("operator", groups=[OPERATORS], now=now, expires_at=None)

    async def _looked_up(self, login_id: str) -> Principal | None:
        found = await self.logins.find(login_id)
        if found is None:
            return None
        principal, secret = found
        if secret is None:
            return principal
        # One at a time: a provider takes a refresh token that comes twice for a stolen one.
        async with self._renewing.setdefault(login_id, asyncio.Lock()):
            return await self._renewed(login_id)

    async def _renewed(self, login_id: str) -> Principal | None:
        """Return whom the provider names, asked again if its last word is too old."""
        found = await self.logins.find(login_id)
        if found is None or found[1] is None:
            return None
        kept = json.loads(found[1])
        if "token" in kept:
            return self.tokens.find(kept["token"], self._clock())
        provider = self.providers.get(kept["provider"])
        if provider is None:
            return None  # the configuration does not have it any more
        login = _granted(found[0], kept)
        age_s = self._clock().timestamp() - login.checked_at
        if login.refresh_token is None or age_s < provider.settings.recheck_every.total_seconds():
            return login.principal
        try:
            renewed = await provider.refresh(login)
        except (LoginOver, Forbidden, Unauthenticated) as e:
            log.info("the login of %s is over: %s", ascii(login.principal.name), e.sentence)
            await self.logins.close(login_id)
            return None
        except Unavailable as e:
            log.warning("%s The login of %s stays as it is.", e.sentence, ascii(login.principal.name))
            return login.principal
        await self.logins.change(login_id, renewed.principal, _sealed(provider.name, renewed))
        return renewed.principal


def _sealed(provider: str, granted: Granted) -> bytes:
    kept = {
        "provider": provider,
        "refresh_token": granted.refresh_token,
        "id_token": granted.id_token,
        "checked_at": granted.checked_at,
    }
    return json.dumps(kept).encode()


def _granted(principal: Principal, kept: Mapping[str, Any]) -> Granted:
    return Granted(
        principal=principal,
        refresh_token=kept["refresh_token"],
        id_token=kept["id_token"],
        checked_at=kept["checked_at"],
    )
