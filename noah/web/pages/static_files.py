"""The pages' scripts, styles and icon."""

from pathlib import Path

from aiohttp import web

from noah.core.session.rights import Right
from noah.errors import NotFound
from noah.web.api.route import Call, Routes
from noah.web.wire import Nothing

ROUTES = Routes()
FOLDER = Path(__file__).parent / "static"


@ROUTES.raw(
    r"/static/{name:[a-z-]+\.(?:js|css|svg)}",
    right=Right.ANYBODY,
    summary="A file of the pages.",
    content_types=("text/javascript", "text/css", "image/svg+xml"),
)
async def static_file(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    file = FOLDER / call.path("name")
    if not file.is_file():
        raise NotFound(f"There is no file {call.path('name')[:200]}.")
    return web.FileResponse(file, headers={"Cache-Control": "no-cache"})
