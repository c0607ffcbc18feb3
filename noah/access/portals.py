"""A portal acts for the people who use it: it signs who that is, and the gateway treats the call as that person's.

The assertion is a JWT that the portal has signed with its own key a moment ago, much as in RFC 7523: `iss` is the
portal's name, `sub` the person as their provider calls them, `aud` this gateway. What the portal may have done at most
is configured, and the person's own rights are the limit in any case.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from noah.access.oidc import ALGORITHMS, SKEW_S
from noah.core.session.principal import Principal, PrincipalKind, principal_from_outside
from noah.errors import BadSettings, Unauthenticated
from noah.settings import PortalSettings

AUDIENCE = "noah"
LONGEST_S = 300  # of an assertion; a portal makes one whenever it needs one
_REGISTRY = JWSRegistry(algorithms=list(ALGORITHMS))


class Portals:
    def __init__(self, settings: Sequence[PortalSettings], issuers: Mapping[str, str]) -> None:
        """*issuers*: of the providers that portals name people of, by name. Raises BadSettings for an unusable key."""
        self._known = {one.name: (one, _key_of(one), issuers[one.people_of]) for one in settings}

    def __contains__(self, issuer: object) -> bool:
        return issuer in self._known

    def principal_of(self, assertion: str, issuer: str, now_s: float) -> Principal:
        """Return the person for whom the portal *issuer* acts. Raises Unauthenticated, Forbidden."""
        settings, key, people_issuer = self._known[issuer]
        try:
            claims = jwt.decode(assertion, key, registry=_REGISTRY).claims
        except (JoseError, ValueError, KeyError, TypeError):
            raise Unauthenticated(f"This is not an assertion that the portal {issuer} has signed.") from None
        _check(claims, now_s)
        groups = claims.get("groups", [])
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise Unauthenticated("The assertion's groups are not a list of names.")
        name = claims.get("name")
        portal = Principal(kind=PrincipalKind.PORTAL, issuer="", subject=issuer, name=issuer, proof="its signature")
        return principal_from_outside(
            PrincipalKind.OIDC,
            issuer=people_issuer,
            subject=claims["sub"],
            name=name if isinstance(name, str) else None,
            groups=groups,
            proof=f"the portal {issuer}",
            actor=portal,
            at_most=frozenset({*settings.rights, "see"}),
        )


def _check(claims: Mapping[str, Any], now_s: float) -> None:
    if claims.get("aud") not in (AUDIENCE, [AUDIENCE]):
        raise Unauthenticated(f"The assertion is for somebody else: its audience is not {AUDIENCE!r}.")
    issued, expires, subject = claims.get("iat"), claims.get("exp"), claims.get("sub")
    if not isinstance(issued, int) or not isinstance(expires, int) or not isinstance(subject, str):
        raise Unauthenticated("The assertion does not say for whom it is, and from when until when.")
    if expires - issued > LONGEST_S:
        raise Unauthenticated(f"The assertion lasts longer than {LONGEST_S} s.")
    if issued - SKEW_S > now_s or expires + SKEW_S <= now_s:
        raise Unauthenticated("The assertion is not valid now: is this machine's clock right, and the portal's?")


def _key_of(settings: PortalSettings) -> RSAKey | ECKey | OKPKey:
    try:
        pem = settings.public_key_file.read_bytes()
    except OSError as e:
        raise BadSettings(f"public_key_file of the portal {settings.name!r} cannot be read: {e.strerror}.") from None
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key = kind.import_key(pem)
        except (JoseError, ValueError, TypeError):
            continue
        if key.is_private:
            raise BadSettings(
                f"public_key_file of the portal {settings.name!r} has its private key: that is the portal's."
            )
        return key
    raise BadSettings(f"public_key_file of the portal {settings.name!r} has no public key in PEM form.")
