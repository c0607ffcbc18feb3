"""Who asks, and whether a page of ours has sent it. When there is a login, this file is what changes."""

import ipaddress
import socket
from urllib.parse import quote, unquote, urlsplit

from aiohttp import web

from noah.errors import BadInput, Forbidden, NoahError
from noah.settings import GatewaySettings
from noah.web.forwarded import asked_host
from noah.web.keys import SETTINGS

HEADER = "Noah-User"
COOKIE = "noah_user"  # of the pages, percent-encoded
REMEMBERED = 90 * 24 * 3600  # seconds
LONGEST = 128  # characters
READS = frozenset({"GET", "HEAD", "OPTIONS"})
OTHER_SITE = "Another site's page may not change anything here."


class Misdirected(NoahError):
    """This gateway does not answer to that name."""

    http_status = 421


def who(request: web.Request) -> str:
    user = claimed(request)
    if user is None:
        raise BadInput(f"Say who you are: set the header {HEADER}.")
    return user


def claimed(request: web.Request) -> str | None:
    """Return who the request says it is from, if it does. Raises BadInput when that is not a name."""
    user = request.headers.get(HEADER)
    if user is None:
        return _remembered(request)
    if not _is_name(user):
        raise BadInput(f"The header {HEADER} has 1 to {LONGEST} printable characters of UTF-8.")
    return user


def remember(request: web.Request, response: web.Response, user: str) -> None:
    """Keep the name in a cookie that no script can read. Raises BadInput when that is not a name."""
    if not _is_name(user):
        raise BadInput(f"A name has 1 to {LONGEST} printable characters.")
    # TLS may end at a proxy: the browser's own word for how it reaches us is its Origin.
    secure = request.secure or request.headers.get("Origin", "").startswith("https://")
    response.set_cookie(COOKIE, quote(user, safe=""), max_age=REMEMBERED, httponly=True, samesite="Lax", secure=secure)


def _remembered(request: web.Request) -> str | None:
    """Return the cookie's name; for a change, only if it is certain that one of our own pages sends it."""
    user = unquote(request.cookies.get(COOKIE, ""))
    ours = request.method in READS or _is_own_page(request)
    return user if ours and _is_name(user) else None


def _is_own_page(request: web.Request) -> bool:
    # Browsers send Sec-Fetch-Site to https and to localhost only.
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    return _is_here(request.headers.get("Origin", ""), request)


def _is_here(origin: str, request: web.Request) -> bool:
    # SCHEME://HOST[:PORT] and nothing else, or "null": what is not an origin is not parsed, it is just not ours.
    host = asked_host(request)
    if host and origin.partition("://")[2] == host:
        return True
    return bool(origin) and origin == request.app[SETTINGS].gateway.public_origin


def _is_name(user: str) -> bool:
    return bool(user.strip()) and user.isprintable() and len(user) <= LONGEST


def refuse_other_sites(request: web.Request) -> None:
    """Raise Forbidden for a change that a page of another site had a browser send.

    Such a page can send forms without asking, but not our header: browsers would ask first, and get no CORS.
    """
    if request.method in READS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site not in (None, "same-origin", "none"):
        raise Forbidden(OTHER_SITE)
    # Only where nothing better is known: a proxy in front of the gateway may have changed Host.
    if site is None and origin is not None and HEADER not in request.headers and not _is_here(origin, request):
        raise Forbidden(
            f"{OTHER_SITE} The page is at {origin[:99]}, and its request was for {asked_host(request)[:99]!r}. If a "
            "reverse proxy in front of the gateway changed that, let it pass the Host header on (nginx: "
            "proxy_set_header Host $http_host), or set public_url of [gateway] to the page's address."
        )


def refuse_other_names(request: web.Request) -> None:
    """Raise Misdirected for a name that a gateway on loopback does not have.

    A page may make its own name lead to 127.0.0.1 (DNS rebinding), and is then the same site. It cannot do so with an
    address, and gains nothing where every machine of the network may ask anyway.
    """
    gateway = request.app[SETTINGS].gateway
    host = request.headers.get("Host", "")
    if host and gateway.is_on_loopback and not _is_ours(_without_port(host), gateway):
        raise Misdirected(
            f"A gateway on loopback does not answer to {host[:99]!r}: use localhost, or, if a reverse proxy serves it "
            "by that name, set public_url of [gateway] to the address that browsers use."
        )


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).strip("[]").rstrip(".").lower()


def _is_ours(name: str, gateway: GatewaySettings) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if name.endswith(".localhost"):  # which browsers and RFC 6761 keep on loopback
            return True
        public = urlsplit(gateway.public_url or "").hostname
        named = {gateway.host.lower(), gateway.advertised_host.lower(), socket.gethostname().lower()}
        return name in {"localhost", public} | named
    return True
