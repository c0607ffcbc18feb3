"""The pages of sessions: all of a filter, and one."""

from pydantic import Field

from noah.core.session.rights import area_of
from noah.core.session.session import EndReason
from noah.core.session.target import parse_target
from noah.web.api import sessions
from noah.web.api.route import Call, Routes
from noah.web.pages.page import PER_PAGE, Context, filled_in, links, page
from noah.web.permission import may_do
from noah.web.wire import MOST, Nothing, WaitQuery

ROUTES = Routes()


class SessionsPage(sessions.SessionsQuery):
    status: None = None
    state: str = Field("all", pattern="^(all|live|ended)$")  # type: ignore[assignment]
    end_reason: str = Field("", pattern=f"^({'|'.join(EndReason)})?$")  # type: ignore[assignment]
    limit: int = Field(PER_PAGE, ge=1, le=MOST)


@page(ROUTES, "/sessions", "sessions.html")
async def session_list(call: Call[SessionsPage, Nothing]) -> Context:
    asked = filled_in(call.query)
    query = sessions.SessionsQuery.model_validate(asked)
    rows = await sessions.find(call.request, query, limit=query.limit, after=query.after)
    return {
        "here": "sessions",
        "query": query,
        "rows": [sessions.json_of(call.request, live) for live in rows.items],
        "total": rows.total,
        "links": links(call.request, rows),
        "wanted": {name: value for name, value in asked.items() if name not in ("limit", "continue")},
    }


@page(ROUTES, "/sessions/{id}", "session.html")
async def session(call: Call[Nothing, Nothing]) -> Context:
    reply = await sessions.show_session(Call(call.request, WaitQuery.model_validate({}), Nothing()))
    area = area_of(parse_target(reply.json["target"]))
    return {"here": "sessions", "session": reply.json, **await may_do(call.request, area)}
