"""Tokens that a cluster vouches for: a ServiceAccount's, for CI, and what a kubeconfig yields.

The cluster is asked by a TokenReview for an audience of ours, so that a token that was made for something else is not
one for the gateway. A token goes to one cluster only: who gets somebody's token can use it.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from noah.core.session.principal import Principal, PrincipalKind, principal_from_outside
from noah.errors import NoahError, NotFound, Unauthenticated, Unavailable
from noah.kube.clusters import Cluster
from noah.settings import KubernetesLoginSettings

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
KEPT_S = 30.0  # so long an account that was deleted may still be believed
AT_ONCE = 10  # reviews; strangers can send tokens, and a cluster has other work
MOST_KEPT = 10_000  # answers; some hundred bytes each
# Every user of a cluster is in it, so it says nothing.
AUTHENTICATED = "system:authenticated"


class KubernetesTokens:
    def __init__(self, settings: Sequence[KubernetesLoginSettings], clusters: Mapping[str, Cluster]) -> None:
        """*clusters* may come and go."""
        self._known = {one.cluster: one for one in settings}
        self._clusters = clusters
        self._asking = asyncio.Semaphore(AT_ONCE)
        self._answers: dict[tuple[str, bytes], tuple[float, Principal]] = {}  # by the machine's monotonic clock

    @property
    def clusters(self) -> list[str]:
        return list(self._known)

    async def principal_of(self, token: str, *, issuer: str | None) -> Principal | None:
        """Return whom the token names; None if it is not clear which cluster is to be asked.

        *issuer*: as a signed token has it. Raises Unauthenticated, Unavailable.
        """
        fitting = [one.cluster for one in self._known.values() if one.issuer in (None, issuer)]
        return await self.reviewed(token, fitting[0]) if len(fitting) == 1 else None

    async def reviewed(self, token: str, cluster: str) -> Principal:
        """Return whom the cluster names. Raises NotFound, Unauthenticated, Unavailable, Forbidden."""
        if cluster not in self._known:
            raise NotFound(f"Cluster {cluster[:80]!r} vouches for nobody here.")
        key = cluster, hashlib.sha256(token.encode()).digest()
        now = time.monotonic()
        until, principal = self._answers.get(key, (0.0, None))
        if principal is not None and now < until:
            return principal
        found = _principal(await self._review(token, cluster), self._known[cluster])
        while len(self._answers) >= MOST_KEPT:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = now + KEPT_S, found
        return found

    async def _review(self, token: str, cluster: str) -> Mapping[str, Any]:
        audiences = list(self._known[cluster].audiences)
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        }
        asked = self._clusters.get(cluster)
        if asked is None:
            raise Unavailable(f"The gateway does not know cluster {cluster} at present: nobody can log in by it.")
        try:
            async with self._asking:
                answer = await asked.post(PATH, review)
        except NoahError as e:  # also a right that is missing: it is not the caller's fault
            raise Unavailable(f"Nobody can log in by cluster {cluster} now: {e.sentence}") from None
        status = answer.get("status")
        return status if isinstance(status, Mapping) else {}


def _principal(status: Mapping[str, Any], known: KubernetesLoginSettings) -> Principal:
    if status.get("authenticated") is not True:
        raise Unauthenticated(f"Cluster {known.cluster} does not know this token, or it is not for this gateway.")
    # An API server that knows nothing of audiences answers without them.
    if set(known.audiences).isdisjoint(status.get("audiences") or ()):
        raise Unauthenticated(f"Cluster {known.cluster} does not say for whom this token is.")
    user = status.get("user") or {}
    username = user.get("username")
    if not isinstance(username, str):
        raise Unauthenticated(f"Cluster {known.cluster} names nobody.")
    groups = [group for group in user.get("groups") or () if isinstance(group, str) and group != AUTHENTICATED]
    return principal_from_outside(
        PrincipalKind.KUBERNETES,
        issuer=known.cluster,
        subject=username,
        name=_shown(username),
        groups=groups,
        proof=f"a token of cluster {known.cluster}",
    )


def _shown(username: str) -> str:
    """Return "team-a/ci" for the ServiceAccount ci of namespace team-a."""
    account = username.removeprefix("system:serviceaccount:")
    return username if account == username else account.replace(":", "/")
