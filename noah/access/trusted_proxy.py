"""What a reverse proxy says of the person whose request it passes on: oauth2-proxy, Apache's mod_auth_openidc, others.

Its headers are read only if the request surely comes from it: from its networks, with its secret, over a connection
with its client certificate, and with all of these that are set. From anybody else they say nothing. A header that comes
twice is refused: the second may be the client's own.
"""

import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from noah.access.followed_file import FollowedFile, secret_of
from noah.core.session.principal import Principal, PrincipalKind, principal_from_outside
from noah.errors import Unauthenticated
from noah.settings import IpAddress, ProxyLoginSettings

SECRET_HEADER = "Noah-Proxy-Secret"  # noqa: S105
ISSUER = "proxy"
SHORTEST_SECRET = 16  # characters


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A request as a proxy passes it on: what shows that it comes from there, and what the proxy says."""

    peer: IpAddress | None
    certified: Collection[str]  # the names of the verified client certificate

    users: Sequence[str]
    names: Sequence[str]
    groups: Sequence[str]
    secrets: Sequence[str]


class TrustedProxy:
    def __init__(self, settings: ProxyLoginSettings) -> None:
        """Raises BadSettings if the secret cannot be read."""
        self.settings = settings
        file, parse = settings.secret_file, partial(secret_of, shortest=SHORTEST_SECRET)
        self._secret = None if file is None else FollowedFile(file, "secret_file of [access.proxy]", parse)

    def principal(self, sent: ProxyRequest) -> Principal | None:
        """Return whom the proxy names; None if it is not the proxy, or names nobody.

        Raises Unauthenticated, Forbidden.
        """
        if not sent.users or not self._is_believed(sent):
            return None
        if len(sent.users) > 1 or len(sent.names) > 1:
            raise Unauthenticated("The proxy names several people: let it remove the headers that clients send.")
        groups = (group.strip() for value in sent.groups for group in value.split(","))
        return principal_from_outside(
            PrincipalKind.PROXY,
            issuer=ISSUER,
            subject=sent.users[0],
            name=sent.names[0] if sent.names else None,
            groups=[group for group in groups if group],
            proof="a header of the proxy",
        )

    def _is_believed(self, sent: ProxyRequest) -> bool:
        networks, names, proofs = self.settings.networks, self.settings.client_names, list[bool]()
        if networks:
            proofs.append(sent.peer is not None and any(sent.peer in network for network in networks))
        if names:
            proofs.append(not set(names).isdisjoint(sent.certified))
        if self._secret is not None:
            proofs.append(len(sent.secrets) == 1 and _is_same(sent.secrets[0], self._secret.current()))
        return bool(proofs) and all(proofs)


def _is_same(given: str, secret: bytes) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), secret)
