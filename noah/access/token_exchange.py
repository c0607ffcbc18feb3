"""Token exchange (RFC 8693): a portal shows a person's token of their provider, and gets one of ours for that person.

The portal proves itself by a secret (RFC 6749, section 2.3.1) or by an assertion that it signs (RFC 7523, section 2.2).
The token that it gets lasts for some minutes, and is good for what both the person and the portal's rights allow.
Whatever is refused is an error of RFC 6749, section 5.2, with one sentence.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from noah.access.logins import Logins
from noah.access.oidc import OidcProvider, issuer_of
from noah.access.portals import AUDIENCE, Portal, Portals
from noah.core.session.principal import Principal
from noah.errors import Forbidden, NoahError, Unauthenticated

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
SUBJECT_TYPES: Final = (ACCESS_TOKEN, *(f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("id_token", "jwt")))
LASTS: Final = timedelta(minutes=5)  # a portal exchanges again whenever it needs to


class ExchangeRefused(NoahError):
    """The token is not exchanged."""

    http_status = 400

    def __init__(self, error: str, sentence: str) -> None:
        super().__init__(sentence)
        self.error = error  # of RFC 6749, section 5.2, or RFC 8693, section 2.2.2


class ClientUnknown(ExchangeRefused):
    """The portal has not proved who it is."""

    http_status = 401

    def __init__(self, sentence: str) -> None:
        super().__init__("invalid_client", sentence)


@dataclass(frozen=True, slots=True)
class Exchanged:
    token: str
    principal: Principal
    scope: str  # the rights that the token is good for at most, with blanks between them


class TokenExchange:
    def __init__(
        self,
        portals: Portals,
        providers: Mapping[str, OidcProvider],
        logins: Logins,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._portals = portals
        self._providers = providers
        self._logins = logins
        self._clock = clock

    async def exchange(
        self, form: Mapping[str, str], basic: tuple[str, str] | None, *, endpoint: str, gateway: str
    ) -> Exchanged:
        """Return a token for the person of the form's subject_token.

        *basic*: the name and the secret of the header Authorization; *endpoint*, *gateway*: the URLs at which the
        portal has asked. Raises ExchangeRefused; Unavailable if the provider or the database does not answer.
        """
        if "grant_type" not in form:
            raise ExchangeRefused("invalid_request", "grant_type is missing.")
        if form["grant_type"] != GRANT_TYPE:
            raise ExchangeRefused("unsupported_grant_type", f"The only grant_type is {GRANT_TYPE}.")
        portal = self._client(form, basic, endpoint)
        _check_wishes(form, gateway)
        rights = _rights(form.get("scope"), portal)
        person = await self._subject(form, portal)
        principal = replace(
            person, actor=portal.principal, at_most=rights, proof=f"the portal {portal.name}, with {person.proof}"
        )
        return Exchanged(await self._logins.open(principal, lasts=LASTS), principal, " ".join(sorted(rights)))

    def _client(self, form: Mapping[str, str], basic: tuple[str, str] | None, endpoint: str) -> Portal:
        proofs = [basic is not None, "client_secret" in form, "client_assertion" in form]
        if sum(proofs) > 1:
            raise ExchangeRefused("invalid_request", "The portal proves itself in more than one way: use one.")
        if "client_assertion" in form:
            if form.get("client_assertion_type") != ASSERTION_TYPE:
                raise ExchangeRefused("invalid_request", f"The client_assertion_type has to be {ASSERTION_TYPE}.")
            return self._by_assertion(form["client_assertion"], form.get("client_id"), endpoint)
        name, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
        portal = self._portals.get(name)
        known = portal.secret.current() if portal is not None and portal.secret is not None else None
        if portal is None or known is None or not hmac.compare_digest(secret.encode(errors="replace"), known):
            raise ClientUnknown("The portal is not known here by this name and secret.")
        return portal

    def _by_assertion(self, assertion: str, client_id: str | None, endpoint: str) -> Portal:
        name = issuer_of(assertion)
        portal = self._portals.get(name) if name is not None else None
        if portal is None or portal.key is None or client_id not in (None, name):
            raise ClientUnknown("The client_assertion is not that of a portal that is known here.")
        try:
            # For this address alone: what the portal signs for a person is for another audience.
            claims = portal.read(assertion, self._clock().timestamp(), audience=endpoint)
        except Unauthenticated as e:
            raise ClientUnknown(e.sentence) from None
        if claims["sub"] != name:
            raise ClientUnknown("The client_assertion is about somebody else: its sub has to be the portal.")
        return portal

    async def _subject(self, form: Mapping[str, str], portal: Portal) -> Principal:
        token = form.get("subject_token")
        if not token:
            raise ExchangeRefused("invalid_request", "subject_token is missing: the person's, of their provider.")
        if form.get("subject_token_type") not in SUBJECT_TYPES:
            known = " or ".join(SUBJECT_TYPES)
            raise ExchangeRefused("invalid_request", f"The subject_token_type has to be {known}.")
        provider = self._providers[portal.people_of]
        try:
            return await provider.principal_of(token, audiences=portal.audiences)
        except (Unauthenticated, Forbidden) as e:
            raise ExchangeRefused("invalid_request", f"The subject_token is not accepted. {e.sentence}") from None


def _check_wishes(form: Mapping[str, str], gateway: str) -> None:
    if "actor_token" in form:
        raise ExchangeRefused("invalid_request", "The actor is the portal, which proves itself: send no actor_token.")
    if form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise ExchangeRefused("invalid_request", f"The only requested_token_type is {ACCESS_TOKEN}.")
    if form.get("audience", AUDIENCE) != AUDIENCE:
        raise ExchangeRefused("invalid_target", f"The only audience is {AUDIENCE}.")
    if form.get("resource", gateway).rstrip("/") != gateway.rstrip("/"):
        raise ExchangeRefused("invalid_target", f"The only resource is {gateway}.")


def _rights(scope: str | None, portal: Portal) -> frozenset[str]:
    """Return the rights that are asked for; those of the portal, if none are."""
    wanted = frozenset((scope or "").split()) or portal.rights
    if not wanted <= portal.rights:
        known = " ".join(sorted(portal.rights))
        raise ExchangeRefused("invalid_scope", f"The portal {portal.name} may have done at most: {known}.")
    return wanted | {"see"}
