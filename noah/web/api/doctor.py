"""What stands in the way of debugging, in all of the inventory at once."""

from typing_extensions import TypedDict

from noah.catalog.catalog import TargetFilter
from noah.core.session.rights import Right
from noah.core.session.trail import TrailCode
from noah.targets.survey import survey
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import CATALOG, CLUSTERS, DOCTOR, HOSTS
from noah.web.permission import demand, record
from noah.web.wire import Nothing, WaitQuery

ROUTES = Routes()
MOST_LOCAL = 1000
WITHIN_S = 25.0  # for all of it, unless the caller waits longer; clients give up after 30


class ExaminedJson(TypedDict):
    what: str
    level: str
    message: str
    took_seconds: float


class AllExaminedJson(TypedDict):
    items: list[ExaminedJson]


@ROUTES.post(
    "/api/v1/doctor",
    right=Right.OPERATE,
    summary="What stands in the way in each cluster, on each host and of each JVM of this machine. Asks them all.",
)
async def examine_all(call: Call[WaitQuery, Nothing]) -> Reply[AllExaminedJson]:
    await demand(call.request, Right.OPERATE)
    record(call.request, TrailCode.EXAMINED, sentence="All clusters, hosts and JVMs of this machine.")
    app = call.request.app
    local = app[CATALOG].find(TargetFilter(kind="local"), after=None, limit=MOST_LOCAL)
    within_s = call.query.wait or WITHIN_S
    lines = await survey(app[CLUSTERS].keys(), app[DOCTOR], app[HOSTS], local.items, within_s=within_s)
    return Reply(
        {
            "items": [
                {
                    "what": one.what,
                    "level": str(one.level),
                    "message": one.message,
                    "took_seconds": round(one.took_s, 3),
                }
                for one in lines
            ]
        }
    )
