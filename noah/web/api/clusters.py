"""The clusters that the gateway knows, whether they answer, and what stands in the way there."""

from collections.abc import Sequence

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from noah.catalog.catalog import ClusterSummary
from noah.core.session.rights import Right, namespace_area
from noah.core.session.target import WantedPod, parse_wanted
from noah.core.session.trail import TrailCode
from noah.errors import CannotDebug, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import CATALOG, CLUSTERS, DOCTOR
from noah.web.permission import demand, may, record, seen
from noah.web.wire import Model, Moment, Nothing, Text, moment

ROUTES = Routes()


class ExamineBody(Model):
    pod: Text | None = Field(None, description="NAMESPACE/POD[/CONTAINER]: look into this one")


class ClusterJson(TypedDict):
    name: str
    reach: str
    reachable: bool
    since: Moment  # when it began, or ceased, to be reachable
    reason: str | None
    watch_age_seconds: float | None
    targets: int


class ClustersJson(TypedDict):
    items: list[ClusterJson]


class FindingJson(TypedDict):
    level: str
    check: str
    message: str


class FindingsJson(TypedDict):
    findings: list[FindingJson]


@ROUTES.get(
    "/api/v1/clusters", right=Right.SEE, summary="The clusters that the gateway knows, and whether it reaches them."
)
async def list_clusters(call: Call[Nothing, Nothing]) -> Reply[ClustersJson]:
    return Reply({"items": [cluster_json(cluster, scope.targets) for cluster, scope in await shown(call.request)]})


async def shown(request: web.Request) -> Sequence[tuple[Cluster, ClusterSummary]]:
    """Return the clusters in which the person sees something, with what that is; operators are shown all of them."""
    catalog, clusters = request.app[CATALOG], request.app[CLUSTERS].values()
    areas = await seen(request, catalog.areas())
    scopes = [(one, catalog.cluster(one.name, areas)) for one in clusters]
    is_operator = await may(request, Right.OPERATE, None)
    return [(one, scope) for one, scope in scopes if is_operator or scope.targets]


@ROUTES.post(
    "/api/v1/clusters/{name}/doctor",
    right=Right.DEBUG,
    summary="What stands in the way of debugging in a cluster, for operators, or in a pod that one may debug.",
    errors=(NotFound, CannotDebug, Unavailable),
)
async def examine(call: Call[Nothing, ExamineBody]) -> Reply[FindingsJson]:
    doctor, name = call.request.app[DOCTOR], call.path("name")
    if call.body.pod is None:
        await demand(call.request, Right.OPERATE)
        findings = await doctor.cluster(name)
    else:
        wanted = parse_wanted(f"pod/{name}/{call.body.pod}")
        assert isinstance(wanted, WantedPod)
        if not await may(call.request, Right.OPERATE, None):
            await demand(call.request, Right.DEBUG, namespace_area(name, wanted.namespace or ""), called=str(wanted))
        findings = await doctor.pod(wanted)
    examined = f"pod/{name}/{call.body.pod}" if call.body.pod else f"cluster {name}"
    record(call.request, TrailCode.EXAMINED, target=examined)
    return Reply({"findings": [{"level": str(f.level), "check": f.check, "message": f.message} for f in findings]})


def cluster_json(cluster: Cluster, targets: int) -> ClusterJson:
    return {
        "name": cluster.name,
        "reach": cluster.settings.reach,
        "reachable": cluster.reachable,
        "since": moment(cluster.since),
        "reason": cluster.reason,
        "watch_age_seconds": cluster.watch_age,
        "targets": targets,
    }
