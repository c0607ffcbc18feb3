"""Where a host and what is known of it have drifted apart."""

from typing_extensions import TypedDict

from noah.core.session.rights import Right
from noah.core.session.trail import TrailCode
from noah.targets.host.drift import Drift, Finding
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import HOSTS
from noah.web.permission import record
from noah.web.wire import Nothing

ROUTES = Routes()


class DriftJson(TypedDict):
    target: str
    finding: Finding
    detail: str


class DriftsJson(TypedDict):
    items: list[DriftJson]


@ROUTES.post(
    "/api/v1/drift",
    right=Right.OPERATE,
    summary="Hosts whose debug flags have no session, and sessions whose flags are gone. Asks all hosts.",
)
async def list_drift(call: Call[Nothing, Nothing]) -> Reply[DriftsJson]:
    record(call.request, TrailCode.EXAMINED, sentence="All hosts, for drift.")
    found = await call.request.app[HOSTS].drift()
    return Reply({"items": [_json(one) for one in found]})


def _json(drift: Drift) -> DriftJson:
    return {"target": str(drift.target), "finding": drift.finding, "detail": drift.detail}
