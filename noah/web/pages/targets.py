"""The page of one target: who debugs it, what they may do about it, and what was before."""

from datetime import datetime, timedelta

from aiohttp import web

from noah.core.session.rights import Right, area_of
from noah.core.session.session import EndReason
from noah.core.session.target import parse_target
from noah.errors import NotFound
from noah.sessions.live_session import LiveSession
from noah.web.api import sessions, targets
from noah.web.api.route import Call, Routes
from noah.web.keys import BROKER, CLOCK
from noah.web.pages.page import Context, page
from noah.web.permission import may, may_do
from noah.web.wire import Nothing

ROUTES = Routes()
PAST = 10  # sessions that a target's page shows of its past
JUST_FAILED = timedelta(minutes=10)  # how long a failure is shown above the history


@page(ROUTES, "/targets/{target:(?s:.+)}", "target.html")
async def target(call: Call[Nothing, Nothing]) -> Context:
    request, now = call.request, call.request.app[CLOCK]()
    shown, live, restart = await _found(request, call.path("target"))
    name = str(shown["target"])
    found = await request.app[BROKER].find(target=name, state="ended", limit=PAST)
    past = [one for one in found.items if str(one.session.target) == name]
    return {
        "here": "targets",
        "target": shown,
        "restart": restart,
        "session": sessions.json_of(request, live) if live else None,
        "failed": sessions.json_of(request, past[0]) if past and _has_just_failed(past[0], now) else None,
        **await may_do(request, area_of(parse_target(name))),
        "past": [sessions.json_of(request, one) for one in past],
    }


def _has_just_failed(live: LiveSession, now: datetime) -> bool:
    session = live.session
    recently = session.ended_at is not None and now - session.ended_at < JUST_FAILED
    return recently and session.end_reason is EndReason.FAILED


async def _found(request: web.Request, name: str) -> tuple[targets.TargetJson, LiveSession | None, str | None]:
    """Return the target, who has it, and the sentence to be confirmed.

    One that is gone while somebody has it is shown so.
    """
    broker = request.app[BROKER]
    try:
        info = await targets.find_target(request, name, Right.SEE)
    except NotFound:
        live = next((one for one in broker.live() if str(one.session.target) == name), None)
        if live is None or not await may(request, Right.SEE, area_of(live.session.target)):
            raise
        return _gone(live), live, None
    live = broker.holder(info.target)
    return targets.target_json(info, live), live, info.needs_restart


def _gone(live: LiveSession) -> targets.TargetJson:
    session = live.session
    return {
        "target": str(session.target),
        "kind": session.target.kind,
        "app": session.app,
        "environment": session.environment,
        "workload": session.workload,
        "cluster": None,
        "namespace": None,
        "labels": {},
        "ready": False,
        "phase": "gone",
        "restarts": 0,
        "version": None,
        "started_at": None,
        "checkurl": None,
        "session": None,
    }
