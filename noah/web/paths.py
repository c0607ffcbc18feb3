"""Where a request is within the site, whatever path a reverse proxy serves the site under.

Links are relative to the page that they stand on, so a proxy that takes its own path off the request (`location /noah/
{ proxy_pass http://gateway/; }`) needs no setting. One that leaves it there needs public_url, whose path is taken off
here.
"""

from aiohttp import web
from yarl import URL

from noah.web.keys import SETTINGS

DEEPEST = 64  # parts of a path; no page is so deep, and each link of an error page would be as long as the path


def path_inside(request: web.Request) -> str:
    """Return the path of the request below the site's root, still percent-encoded: "/sessions/s-1"."""
    path, prefix = request.rel_url.raw_path, request.app[SETTINGS].gateway.public_path
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path


def root_of(request: web.Request) -> str:
    """Return what leads from the page of *request* to the site's root: "./", "../", "../../"."""
    depth = path_inside(request).count("/") - 1
    if depth > DEEPEST:
        return f"{request.app[SETTINGS].gateway.public_path}/"
    return "../" * depth or "./"


def link_to(request: web.Request, url: URL | str) -> str:
    """Return *url*, a path from the site's root and its query, relative to the page of *request*."""
    return root_of(request) + str(url).removeprefix("/")
