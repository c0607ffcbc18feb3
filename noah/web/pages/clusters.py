"""The page of the clusters, with what there is in each."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from noah.core.session.target import PodTarget, Target
from noah.sessions.live_session import Live
from noah.targets.base import TargetInfo
from noah.web.api import clusters, targets
from noah.web.api.route import Call, Routes
from noah.web.keys import BROKER
from noah.web.pages.page import Context, page
from noah.web.wire import Nothing

ROUTES = Routes()


@dataclass(slots=True)
class ClusterCounts:
    pods: int = 0
    ready: int = 0
    sessions: int = 0
    apps: set[str] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)


@page(ROUTES, "/clusters", "clusters.html")
async def cluster_list(call: Call[Nothing, Nothing]) -> Context:
    reply = await clusters.list_clusters(call)
    counts = _per_cluster(call.request.app[BROKER].targets(), targets.held_now(call.request))
    return {"here": "clusters", "clusters": [(one, counts[one["name"]]) for one in reply.json["items"]]}


def _per_cluster(infos: Iterable[TargetInfo], held: Mapping[Target, Live]) -> Mapping[str, ClusterCounts]:
    clusters: dict[str, ClusterCounts] = defaultdict(ClusterCounts)
    for info in infos:
        if isinstance(info.target, PodTarget):
            counts = clusters[info.target.cluster]
            counts.pods += 1
            counts.ready += info.ready
            counts.sessions += info.target in held
            counts.apps.add(info.app)
            counts.namespaces.add(info.target.namespace)
    return clusters
