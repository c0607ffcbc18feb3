"""The clusters that the gateway knows, whether they answer, and what stands in the way there."""

from pydantic import Field
from typing_extensions import TypedDict

from noah.core.session.rights import Right
from noah.core.session.target import WantedPod, parse_wanted
from noah.errors import CannotDebug, NotFound, Unavailable
from noah.kube.clusters import Cluster
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import CATALOG, CLUSTERS, DOCTOR
from noah.web.wire import Model, Moment, Nothing, Text, moment

ROUTES = Routes()


class DoctorQuery(Model):
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
    app = call.request.app
    catalog = app[CATALOG]
    return Reply({"items": [_cluster_json(c, catalog.cluster(c.name).targets) for c in app[CLUSTERS].values()]})


@ROUTES.get(
    "/api/v1/clusters/{name}/doctor",
    right=Right.OPERATE,
    summary="What stands in the way of debugging in a cluster, or in one of its pods.",
    errors=(NotFound, CannotDebug, Unavailable),
)
async def examine(call: Call[DoctorQuery, Nothing]) -> Reply[FindingsJson]:
    doctor, name = call.request.app[DOCTOR], call.path("name")
    if call.query.pod is None:
        findings = await doctor.cluster(name)
    else:
        wanted = parse_wanted(f"pod/{name}/{call.query.pod}")
        assert isinstance(wanted, WantedPod)
        findings = await doctor.pod(wanted)
    return Reply({"findings": [{"level": str(f.level), "check": f.check, "message": f.message} for f in findings]})


def _cluster_json(cluster: Cluster, targets: int) -> ClusterJson:
    return {
        "name": cluster.name,
        "reach": cluster.settings.reach,
        "reachable": cluster.reachable,
        "since": moment(cluster.since),
        "reason": cluster.reason,
        "watch_age_seconds": cluster.watch_age,
        "targets": targets,
    }
