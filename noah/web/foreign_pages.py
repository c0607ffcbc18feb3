"""What a page of another site has a browser ask: no call of the API, not even one that only reads.

A read may be answered to nobody and cost all the same, and an embedded answer may tell something by its size or time.
On loopback a browser is believed for its user, whatever page had it ask. A link to one of our pages is followed; that
is a person's own step. https://www.w3.org/TR/fetch-metadata/ has the headers.
"""

from aiohttp import web

from noah.errors import Forbidden
from noah.web.identity import allowed_origin
from noah.web.keys import SETTINGS
from noah.web.paths import path_inside

_OURS = frozenset({None, "same-origin", "none"})  # none: typed in, or a bookmark
_API, _FILES = "/api/", "/static/"


def refuse_foreign_reads(request: web.Request) -> None:
    """Raise Forbidden for what a browser asks for a page of another site, unless it goes to a page of ours."""
    if request.headers.get("Sec-Fetch-Site") in _OURS or "Authorization" in request.headers:
        return
    inside = path_inside(request)
    if inside.startswith(_FILES) and allowed_origin(request) is not None:
        return  # <noah-debug> on a page of one of the sites that the settings name
    goes_there = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method in ("GET", "HEAD")
    # In whose frame it is, the browser judges by the answer's policy.
    places = ("document", "iframe") if request.app[SETTINGS].access.frame_ancestors else ("document",)
    is_framed = request.headers.get("Sec-Fetch-Dest", "document") not in places
    if not goes_there or is_framed or inside.startswith(_API):
        raise Forbidden("A page of another site may not ask anything here.")
