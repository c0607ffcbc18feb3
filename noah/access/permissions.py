"""What a principal may do now: decide() with what the configuration grants and what the clusters answer."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from noah.access.reviews import KEPT_S, ClusterReviews
from noah.catalog.catalog import Catalog
from noah.core.session.principal import Principal
from noah.core.session.rights import (
    Allowed,
    Denied,
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
MOST_KEPT = 500_000  # areas that are remembered for all who ask; 100 bytes each, and most share them


class Permissions:
    def __init__(
        self,
        *,
        reviews: Callable[[str], ClusterReviews | None],
        grants: Sequence[Grant] = (),
        system_namespaces: Sequence[str] = (),
        environment_of: Callable[[str], str | None] = lambda area: None,
    ) -> None:
        """*reviews*: those of the cluster of a name, if there is one; *environment_of*: of an area in no cluster."""
        self.limits = AccessSettings()  # those of a person
        self._kept: dict[object, _Kept] = {}  # by who asks and for what
        self._reviews = reviews
        self._grants = grants
        self._system_namespaces = system_namespaces
        self._environment_of = environment_of

    def configure(self, settings: Settings) -> None:
        """Go by its grants and limits from now on. A session asks again every few seconds, and ends if it has to."""
        self._grants, self._system_namespaces = _grants(settings.grants), settings.access.system_namespaces
        self.limits = settings.access
        self._kept.clear()

    async def decide(self, right: Right, area: str | None, principal: Principal) -> Verdict:
        reviewed: Mapping[Right, bool | None] = {}
        place = place_in_cluster(area) if area is not None else None
        if place is not None and not may_do_everything(principal):
            cluster, namespace = place
            reviews = self._reviews(cluster)
            if reviews is not None and reviews.user_of(principal) is not None:
                reviewed = {right: await reviews.may(principal, right, namespace)}
        environment = self._environment_of(area) if area is not None and place is None else None
        return decide(right, area, principal, Grants(self._grants, reviewed, self._system_namespaces, environment))

    async def among(self, areas: Iterable[str], principal: Principal, right: Right = Right.SEE) -> frozenset[str]:
        """Return those of *areas* in which *principal* has the right; the clusters are asked in parallel.

        There may be tens of thousands: between each hundred of them everybody else has a turn, and the same areas are
        not decided about again before the first answer of a cluster has to be asked for again.
        """
        wanted, now = frozenset(areas), asyncio.get_running_loop().time()
        key = principal.id, principal.groups, principal.at_most, right
        kept = self._kept.get(key)
        if kept is not None and kept.areas is wanted and now < kept.until:
            return kept.allowed
        allowed, until, listed = set[str](), now + KEPT_S, list(wanted)  # by grants alone it holds until these change
        for start in range(0, len(listed), AT_ONCE):
            part = listed[start : start + AT_ONCE]
            verdicts, soonest = self._decided(right, part, principal)
            asked = [area for area in part if area not in verdicts]
            answers = await asyncio.gather(*(self.decide(right, area, principal) for area in asked))
            if asked:
                soonest = min(soonest, self._decided(right, asked, principal)[1])
            if any(isinstance(one, Denied) and not one.is_certain for one in answers):
                soonest = now  # a cluster that was silent may answer the next time
            verdicts.update(zip(asked, answers, strict=True))
            allowed.update(area for area, verdict in verdicts.items() if isinstance(verdict, Allowed))
            until = min(until, soonest)
            await asyncio.sleep(0)
        made = _Kept(wanted, frozenset(allowed), until)
        if kept is None or kept.until <= now or len(kept.areas) <= len(wanted):  # which cost more to decide about
            self._keep(key, made)
        return made.allowed

    def _keep(self, key: object, made: "_Kept") -> None:
        self._kept.pop(key, None)
        while self._kept and sum(len(one.areas) for one in self._kept.values()) + len(made.areas) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = made

    def _decided(self, right: Right, areas: Iterable[str], principal: Principal) -> tuple[dict[str, Verdict], float]:
        """Return the verdicts that need no cluster to be asked, and until when these hold, by the loop's clock.

        It takes an eighth of the time of asking one by one.
        """
        users: dict[str, tuple[ClusterReviews, tuple[str, tuple[str, ...]]] | None] = {}
        theirs = [grant for grant in self._grants if grant.covers(right, None, principal)]
        found, soonest = dict[str, Verdict](), math.inf
        for area in areas:
            reviewed: Mapping[Right, bool | None] = {}
            place = place_in_cluster(area)
            if place is not None and not may_do_everything(principal):
                cluster, namespace = place
                if cluster not in users:
                    reviews = self._reviews(cluster)
                    user = None if reviews is None else reviews.user_of(principal)
                    users[cluster] = None if reviews is None or user is None else (reviews, user)
                if (known := users[cluster]) is not None:
                    answer, until = known[0].remembered(known[1], right, namespace)
                    if answer is None:
                        continue
                    reviewed, soonest = {right: answer}, min(soonest, until)
            environment = self._environment_of(area) if place is None else None
            grants = Grants(theirs, reviewed, self._system_namespaces, environment)
            found[area] = decide(right, area, principal, grants)
        return found, soonest


@dataclass(frozen=True, slots=True)
class _Kept:
    """The answer to in which of *areas* somebody has a right; these are compared by identity."""

    areas: frozenset[str]
    allowed: frozenset[str]
    until: float  # by the loop's clock


def open_permissions(settings: Settings, clusters: Mapping[str, Cluster], catalog: Catalog) -> Permissions:
    """*clusters* may come and go."""
    made = Permissions(reviews=_Reviews(clusters), environment_of=catalog.environment_of)
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
            environments=one.environments or None,
        )
        for one in settings
    ]
