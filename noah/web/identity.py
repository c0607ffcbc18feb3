"""Who asks, and whether a page of ours has sent it.

Each request is asked once, before its handler: for what a trusted proxy says, a bearer token, a browser's cookie, and,
on loopback, for the user of this machine who has the other end of the connection. Handlers learn it from `principal_of`
and from nothing else: what a request says of its sender in any other header is not read.
"""

import asyncio
import ipaddress
import re
import socket
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from aiohttp import web

from noah.access.trusted_proxy import SECRET_HEADER, ProxyRequest
from noah.core.session.principal import Principal
from noah.errors import Forbidden, NoahError, Unauthenticated
from noah.settings import GatewaySettings
from noah.web.forwarded import asked_host, is_trusted_proxy, peer_address
from noah.web.keys import AUTHENTICATOR, SETTINGS
from noah.web.paths import path_inside
from noah.web.tls import names_of
from noah.web.unix_socket import uid_of

WHY_NOT = web.RequestKey("why_not", str)  # a sentence: why the sender is not known
PRINCIPAL: web.RequestKey[Principal | None] = web.RequestKey("principal")
READS = frozenset({"GET", "HEAD", "OPTIONS"})
OTHER_SITE = "Another site's page may not change anything here."
# What a reverse proxy adds. What comes through one was not sent by the program at the other end of the connection.
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via")
# A cookie whose name begins so is taken by browsers from https only, for this host only, whatever a subdomain wants
# (RFC 6265bis, section 4.1.3.2). On plain HTTP of loopback they refuse it.
COOKIE, PLAIN_COOKIE = "__Host-noah", "noah-login"
TOKEN_ENDPOINT = "/api/v1/token"  # noqa: S105 - what a portal says there of itself is the handler's to check
WITHOUT_LOGIN = frozenset({"/livez", "/readyz"})  # asked by machines, over plain HTTP too; they say nothing of anybody

# By connection: a browser asks many times over one.
_Peers = WeakKeyDictionary[object, Principal]
PEERS: web.AppKey[_Peers] = web.AppKey("peers")


class Misdirected(NoahError):
    """This gateway does not answer to that name."""

    http_status = 421


def principal_of(request: web.Request) -> Principal:
    """Return who asks. Raises Unauthenticated if nobody has logged in."""
    principal = known_principal(request)
    if principal is None:
        raise Unauthenticated(
            request.get(WHY_NOT)
            or "The gateway does not know who you are: run `noah login`, set NOAH_TOKEN, or open its page to log in."
        )
    return principal


def known_principal(request: web.Request) -> Principal | None:
    return request.get(PRINCIPAL)


async def authenticate(request: web.Request) -> Principal | None:
    """Return who has sent the request; None if it says nothing. Raises Unauthenticated for what is not true."""
    if path_inside(request) == TOKEN_ENDPOINT:
        return None
    if (principal := _by_proxy(request)) is not None:
        return principal
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        return await _by_authorization(request, authorization)
    return await _by_cookie(request) or _by_peer(request)


def bearer_of(request: web.Request) -> str | None:
    """Return the token that a client has sent."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


async def _by_authorization(request: web.Request, authorization: str) -> Principal:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not re.fullmatch(r"[A-Za-z0-9._~+/=-]{1,8192}", token.strip(), re.ASCII):
        raise Unauthenticated("The header Authorization has to be `Bearer TOKEN`.")  # RFC 6750, section 2.1
    return await request.app[AUTHENTICATOR].by_bearer(token.strip())


def _by_proxy(request: web.Request) -> Principal | None:
    """Return whom a trusted proxy names. What a browser sends through it, a page of another site may have sent."""
    proxy = request.app[AUTHENTICATOR].proxy
    if proxy is None or not (request.method in READS or _is_own_page(request)):
        return None
    settings, headers = proxy.settings, request.headers
    sent = ProxyRequest(
        peer=peer_address(request),
        certified=names_of(request.get_extra_info("peercert")),
        users=headers.getall(settings.user_header, []),
        names=headers.getall(settings.name_header, []),
        groups=headers.getall(settings.groups_header, []),
        secrets=headers.getall(SECRET_HEADER, []),
    )
    return proxy.principal(sent)


async def _by_cookie(request: web.Request) -> Principal | None:
    """Return who is logged in; for a change, only if it is certain that one of our own pages sends it."""
    login_id = cookie_of(request)
    if login_id is None or not (request.method in READS or _is_own_page(request)):
        return None
    return await request.app[AUTHENTICATOR].by_login(login_id)


def _by_peer(request: web.Request) -> Principal | None:
    authenticator, transport = request.app[AUTHENTICATOR], request.transport
    if not authenticator.admits_local_users or transport is None:
        return None
    if any(name in request.headers for name in FORWARDED) or not _is_loopback_name(_without_port(request.host)):
        return None
    peers = request.app[PEERS]
    if (principal := peers.get(transport)) is None:
        try:
            principal = _user_at(request, transport)
        except Unauthenticated as e:  # which a page to log in must not depend on
            request[WHY_NOT] = e.sentence
            return None
        if principal is not None:
            peers[transport] = principal
    return principal


def _user_at(request: web.Request, transport: asyncio.BaseTransport) -> Principal | None:
    """Return the user of this machine at the other end of the connection. Raises Unauthenticated."""
    authenticator = request.app[AUTHENTICATOR]
    if (uid := uid_of(request)) is not None:
        return authenticator.by_uid(uid)
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return authenticator.by_peer(peer[:2], own[:2]) if peer and own else None


def cookie_of(request: web.Request) -> str | None:
    """Return the value of our cookie, if the browser has sent it."""
    found = request.cookies.get(COOKIE)
    # Over https nobody else can have set the one, and a neighbour of the same domain may have set the other.
    return found or (None if is_secure(request) else request.cookies.get(PLAIN_COOKIE)) or None


def set_cookie(request: web.Request, response: web.Response, login_id: str, *, lasts_s: int) -> None:
    """Keep the login in a cookie that no script can read, and that only our own pages send with a change."""
    secure = is_secure(request) or request.headers.get("Origin", "").startswith("https://")
    name = COOKIE if secure else PLAIN_COOKIE
    # Lax: a link from a chat to one of our pages opens it logged in.
    response.set_cookie(name, login_id, max_age=lasts_s, path="/", httponly=True, samesite="Lax", secure=secure)


def remove_cookie(request: web.Request, response: web.Response) -> None:
    for name in (COOKIE, PLAIN_COOKIE):
        if name in request.cookies:
            response.del_cookie(name, path="/", httponly=True, samesite="Lax", secure=name == COOKIE)


def is_secure(request: web.Request) -> bool:
    """True if the browser reaches the gateway by https: by its own TLS, or by that of a trusted proxy."""
    if request.secure:
        return True
    peer = peer_address(request)
    if peer is None or not is_trusted_proxy(peer, request):
        return False
    public = request.app[SETTINGS].gateway.public_url
    return request.headers.get("X-Forwarded-Proto", "").lower() == "https" or (public or "").startswith("https://")


def refuse_plain_http(request: web.Request) -> None:
    """Raise Misdirected for plain HTTP that has crossed a network: whatever it carries can have been read."""
    gateway = request.app[SETTINGS].gateway
    if request.secure or gateway.is_on_loopback or request.path in WITHOUT_LOGIN:
        return
    peer = peer_address(request)
    near = peer is not None and (
        peer.is_loopback or is_trusted_proxy(peer, request) or any(peer in one for one in gateway.plain_http_from)
    )
    if not near:
        raise Misdirected(
            f"The gateway does not take plain HTTP from {peer}: use https. If a reverse proxy there does TLS, put "
            "it into trusted_proxies of [gateway]."
        )


def allowed_origin(request: web.Request) -> str | None:
    """Return the origin of the page that asks, if it is one of another site that may call the API with a token."""
    origin = request.headers.get("Origin")
    return origin if origin in request.app[SETTINGS].access.origins else None


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


def refuse_other_sites(request: web.Request) -> None:
    """Raise Forbidden for a change that a page of another site had a browser send.

    Such a page can send forms without asking, but no token: browsers would ask first, and get no CORS.
    """
    if request.method in READS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if "Authorization" in request.headers and allowed_origin(request) is not None:
        return
    if site not in (None, "same-origin", "none"):
        raise Forbidden(OTHER_SITE)
    # Only where nothing better is known: a proxy in front of the gateway may have changed Host.
    if site is None and origin is not None and "Authorization" not in request.headers and not _is_here(origin, request):
        raise Forbidden(
            f"{OTHER_SITE} The page is at {origin[:99]}, and its request was for {asked_host(request)[:99]!r}. If a "
            "reverse proxy in front of the gateway changed that, let it pass the Host header on (nginx: "
            "proxy_set_header Host $http_host), or set public_url of [gateway] to the page's address."
        )


def refuse_other_names(request: web.Request) -> None:
    """Raise Misdirected for a name that a gateway on loopback does not have.

    A page may make its own name lead to 127.0.0.1 (DNS rebinding), and is then the same site, and sent by the same
    user of the machine. It cannot do so with an address, and gains nothing where a login is asked for: a browser has
    no cookie of ours for its name.
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


def _is_loopback_name(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")  # which browsers and RFC 6761 keep on loopback


def _is_ours(name: str, gateway: GatewaySettings) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if _is_loopback_name(name):
            return True
        public = urlsplit(gateway.public_url or "").hostname
        named = {gateway.host.lower(), gateway.advertised_host.lower(), socket.gethostname().lower()}
        return name in {public} | named
    return True
