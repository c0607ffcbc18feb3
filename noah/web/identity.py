"""Who asks. One function of the request; when there is a login, this file is what changes."""

from urllib.parse import urlsplit

from aiohttp import web

from noah.errors import BadInput, Forbidden

HEADER = "Noah-User"
LONGEST = 128  # characters
READS = frozenset({"GET", "HEAD", "OPTIONS"})


def who(request: web.Request) -> str:
    user = claimed(request)
    if user is None:
        raise BadInput(f"Say who you are: set the header {HEADER}.")
    return user


def claimed(request: web.Request) -> str | None:
    """Who the request says it is from, if it does. BadInput when that is no name."""
    user = request.headers.get(HEADER)
    if user is None:
        return None
    if not user.strip() or not user.isprintable() or len(user) > LONGEST:
        raise BadInput(f"The header {HEADER} has 1 to {LONGEST} printable characters of UTF-8.")
    return user


def refuse_other_sites(request: web.Request) -> None:
    """Forbidden for a change that a page of another site had a browser send.

    Such a page can send forms without asking, but not our header: browsers would ask first, and get no CORS.
    """
    if request.method in READS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    from_elsewhere = site not in (None, "same-origin", "none")
    # Only where nothing better is known: a proxy before the gateway may have changed Host.
    if site is None and origin is not None and HEADER not in request.headers:
        from_elsewhere = urlsplit(origin).netloc != request.host
    if from_elsewhere:
        raise Forbidden("Another site's page may not change anything here.")
