"""A portal acts for the people who use it: it signs who that is, and the gateway treats the call as that person's.

For a portal that has the tokens of people instead, there is token_exchange.py.

The assertion is a JWT that the portal has signed with its own key a moment ago, much as in RFC 7523: `iss` is the
portal's name, `sub` the person as their provider calls them, `aud` this gateway. What the portal may have done at most
is configured, and the person's own rights are the limit in any case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noah.access.followed_file import FollowedFile, secret_of
from noah.access.oidc import SKEW_S
from noah.core.session.principal import Principal, PrincipalKind, principal_from_outside
from noah.errors import Unauthenticated
from noah.settings import PortalSettings

AUDIENCE = "noah"
LONGEST_S = 300  # of an assertion; a portal makes one whenever it needs one
SHORTEST_SECRET = 32  # characters; nobody has to type it

if TYPE_CHECKING:
    from noah.access.signatures import Key


@dataclass(frozen=True, slots=True)
class Portal:
    name: str
    people_of: str  # the name of their provider
    rights: frozenset[str]
    audiences: tuple[str, ...]
    key: "FollowedFile[Key] | None"
    secret: FollowedFile[bytes] | None

    @property
    def principal(self) -> Principal:
        return Principal(
            kind=PrincipalKind.PORTAL, issuer="", subject=self.name, name=self.name, proof="its own credential"
        )

    def read(self, assertion: str, now_s: float, *, audience: str = AUDIENCE) -> Mapping[str, Any]:
        """Return the claims of what the portal has signed for *audience*. Raises Unauthenticated."""
        from noah.access.signatures import decoded  # loaded with the key

        try:
            if self.key is None:
                raise ValueError
            claims = decoded(assertion, self.key.current()).claims
        except ValueError:
            raise Unauthenticated(f"This is not an assertion that the portal {self.name} has signed.") from None
        _check(claims, now_s, audience)
        return claims


class Portals:
    def __init__(self, settings: Sequence[PortalSettings], issuers: Mapping[str, str]) -> None:
        """*issuers*: of the providers that portals name people of, by name.

        Raises BadSettings for a key or a secret that cannot be used.
        """
        self._known = {one.name: (_portal_of(one), issuers[one.people_of]) for one in settings}

    def __contains__(self, issuer: object) -> bool:
        return issuer in self._known

    def get(self, name: str) -> Portal | None:
        return self._known[name][0] if name in self._known else None

    def principal_of(self, assertion: str, issuer: str, now_s: float) -> Principal:
        """Return the person for whom the portal *issuer* acts. Raises Unauthenticated, Forbidden."""
        portal, people_issuer = self._known[issuer]
        claims = portal.read(assertion, now_s)
        groups = claims.get("groups", [])
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise Unauthenticated("The assertion's groups are not a list of names.")
        name = claims.get("name")
        return principal_from_outside(
            PrincipalKind.OIDC,
            issuer=people_issuer,
            subject=claims["sub"],
            name=name if isinstance(name, str) else None,
            groups=groups,
            proof=f"the portal {issuer}",
            actor=portal.principal,
            at_most=portal.rights,
        )


def _check(claims: Mapping[str, Any], now_s: float, audience: str) -> None:
    if claims.get("aud") not in (audience, [audience]):
        raise Unauthenticated(f"The assertion is for somebody else: its audience is not {audience!r}.")
    issued, expires, subject = claims.get("iat"), claims.get("exp"), claims.get("sub")
    if not isinstance(issued, int) or not isinstance(expires, int) or not isinstance(subject, str):
        raise Unauthenticated("The assertion does not say for whom it is, and from when until when.")
    if expires - issued > LONGEST_S:
        raise Unauthenticated(f"The assertion lasts longer than {LONGEST_S} s.")
    if issued - SKEW_S > now_s or expires + SKEW_S <= now_s:
        raise Unauthenticated("The assertion is not valid now: is this machine's clock right, and the portal's?")


def _portal_of(settings: PortalSettings) -> Portal:
    return Portal(
        name=settings.name,
        people_of=settings.people_of,
        rights=frozenset({*settings.rights, "see"}),
        audiences=settings.audiences,
        key=_key_of(settings.name, settings.public_key_file) if settings.public_key_file else None,
        secret=_secret_of(settings.name, settings.secret_file) if settings.secret_file else None,
    )


def _secret_of(name: str, file: Path) -> FollowedFile[bytes]:
    return FollowedFile(file, f"secret_file of the portal {name!r}", partial(secret_of, shortest=SHORTEST_SECRET))


def _key_of(name: str, file: Path) -> "FollowedFile[Key]":
    return FollowedFile(file, f"public_key_file of the portal {name!r}", _parsed_key)


def _parsed_key(content: bytes) -> "Key":
    from noah.access.signatures import key_of_pem  # 8 MiB, for those who have portals

    key = key_of_pem(content)
    if key is None:
        raise ValueError("has no public key in PEM form")
    if key.is_private:
        raise ValueError("has its private key: that is the portal's")
    return key
