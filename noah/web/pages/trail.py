"""The page of the trail: what people and debuggers did."""

from urllib.parse import urlencode

from pydantic import Field

from noah.core.session.rights import Right
from noah.core.session.trail import TrailCode
from noah.web.api import trail
from noah.web.api.route import Call, Routes
from noah.web.keys import TRAIL_ROWS
from noah.web.pages.page import PER_PAGE, Context, filled_in, page
from noah.web.paths import link_to
from noah.web.wire import MOST, Nothing

ROUTES = Routes()


class TrailPage(trail.TrailQuery):
    # A form sends its empty fields too.
    code: str = Field("", pattern=f"^({'|'.join(TrailCode)})?$".replace(".", r"\."))  # type: ignore[assignment]
    limit: int = Field(PER_PAGE, ge=1, le=MOST)


@page(ROUTES, "/trail", "trail.html", right=Right.READ_TRAIL)
async def trail_page(call: Call[TrailPage, Nothing]) -> Context:
    asked = filled_in(call.query)
    query = trail.TrailQuery.model_validate(asked)
    rows, following = await trail.find_rows(call.request.app[TRAIL_ROWS], query)
    older = urlencode({**asked, "continue": following}) if following else None
    return {
        "here": "trail",
        "query": query,
        "codes": list(TrailCode),
        "rows": rows,
        "older": link_to(call.request, f"/trail?{older}") if older else None,
    }
