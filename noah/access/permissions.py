"""What a principal may do now: decide() with what the configuration grants and what the clusters answer."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from noah.access.reviews import ClusterReviews
from noah.core.session.principal import Principal
from noah.core.session.rights import (
    Allowed,
    Grant,
    Grants,
    Right,
    Verdict,
    decide,
    may_do_everything,
    place_in_cluster,
)
from noah.kube.clusters import Cluster
from noah.settings import AccessSettings, GrantSettings, Settings

AT_ONCE = 100  # areas; a few milliseconds


class Permissions:
    def __init__(
        self,
        *,
        reviews: Callable[[str], ClusterReviews | None],
        grants: Sequence[Grant] = (),
        system_namespaces: Sequence[str] = (),
    ) -> None:
        """*reviews*: those of the cluster of a name, if there is one."""
        self.limits = AccessSettings()  # those of a person
        self._reviews = reviews
        self._grants = grants
        self._system_namespaces = system_namespaces

    def configure(self, settings: Settings) -> None:
        """Go by its grants and limits from now on. A session asks again every few seconds, and ends if it has to."""
        self._grants, self._system_namespaces = _grants(settings.grants), settings.access.system_namespaces
        self.limits = settings.access

    async def decide(self, right: Right, area: str | None, principal: Principal) -> Verdict:
        reviewed: Mapping[Right, bool | None] = {}
        place = place_in_cluster(area) if area is not None else None
        if place is not None and not may_do_everything(principal):
            cluster, namespace = place
            reviews = self._reviews(cluster)
            if reviews is not None and reviews.user_of(principal) is not None:
                reviewed = {right: await reviews.may(principal, right, namespace)}
        return decide(right, area, principal, Grants(self._grants, reviewed, self._system_namespaces))

    async def among(self, areas: Iterable[str], principal: Principal, right: Right = Right.SEE) -> frozenset[str]:
        """Return those of *areas* in which *principal* has the right; the clusters are asked in parallel.

        There may be tens of thousands: between each hundred of them everybody else has a turn.
        """
        listed, allowed = list(frozenset(areas)), set[str]()
        for start in range(0, len(listed), AT_ONCE):
            part = listed[start : start + AT_ONCE]
            verdicts = await asyncio.gather(*(self.decide(right, area, principal) for area in part))
            allowed.update(area for area, verdict in zip(part, verdicts, strict=True) if isinstance(verdict, Allowed))
        return frozenset(allowed)


def open_permissions(settings: Settings, clusters: Mapping[str, Cluster]) -> Permissions:
    """*clusters* may come and go."""
    made = Permissions(reviews=_Reviews(clusters))
    made.configure(settings)
    return made


class _Reviews:
    """Those of each cluster; what one has answered is forgotten when it is replaced."""

    def __init__(self, clusters: Mapping[str, Cluster]) -> None:
        self._clusters = clusters
        self._made: dict[str, tuple[Cluster, ClusterReviews]] = {}

    def __call__(self, name: str) -> ClusterReviews | None:
        cluster, made = self._clusters.get(name), self._made.get(name)
        if cluster is None:
            self._made.pop(name, None)
            return None
        if made is None or made[0] is not cluster:
            as_known = cluster.settings
            reviews = ClusterReviews(
                name, cluster.post, user_prefix=as_known.user_prefix, group_prefix=as_known.group_prefix
            )
            made = self._made[name] = cluster, reviews
        return made[1]


def _grants(settings: Sequence[GrantSettings]) -> Sequence[Grant]:
    return [
        Grant(
            rights=frozenset(map(Right, one.rights)),
            users=frozenset(one.users),
            groups=frozenset(one.groups),
            areas=one.targets,
        )
        for one in settings
    ]
