"""Where a host and what is known of it have drifted apart."""

from typing_extensions import TypedDict

from noah.targets.host.drift import Drift, Finding
from noah.web.api.route import Answer, Call
from noah.web.keys import HOSTS
from noah.web.wire import Nothing


class DriftJson(TypedDict):
    target: str
    finding: Finding
    detail: str


class DriftsJson(TypedDict):
    items: list[DriftJson]


async def list_drift(call: Call[Nothing, Nothing]) -> Answer[DriftsJson]:
    found = await call.request.app[HOSTS].drift()
    return Answer({"items": [_json(one) for one in found]})


def _json(drift: Drift) -> DriftJson:
    return {"target": str(drift.target), "finding": drift.finding, "detail": drift.detail}
