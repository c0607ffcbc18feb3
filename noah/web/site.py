"""The gateway's site: what every request goes through, around the routes and the pages."""

import ipaddress
import json
import logging
import re
import resource
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.typedefs import Handler

from noah.access.authenticator import Authenticator
from noah.access.pending import Pending
from noah.access.permissions import Permissions
from noah.access.trail import Trail
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.session.rights import may_do_everything
from noah.core.session.trail import Outcome, TrailCode
from noah.errors import Forbidden, NoahError, NotFound, Unauthenticated
from noah.http_limits import LIMITS, Limits, within_limits
from noah.kube.clusters import Cluster
from noah.releases.releases import Releases
from noah.sessions.broker import Broker
from noah.settings import Settings
from noah.store import Store
from noah.store.feed import Feed
from noah.targets.host.hosts import Hosts
from noah.targets.pod.doctor import Doctor
from noah.traces import span
from noah.web.api.health import HEALTH, Health
from noah.web.api.inventory import INVENTORY, InventoryView
from noah.web.api.logins import DEVICE_LASTS_S, DEVICES, MOST_DEVICES, MOST_DEVICES_EACH
from noah.web.api.metrics import METRICS, GatewayReader, Metrics
from noah.web.api.route import AnyRoute, Raw
from noah.web.api.routes import ROUTES
from noah.web.budget import BUDGET, Budget
from noah.web.foreign_pages import refuse_foreign_reads
from noah.web.forwarded import remote_for_log
from noah.web.identity import (
    FORWARDED,
    PEERS,
    PRINCIPAL,
    allowed_origin,
    authenticate,
    known_principal,
    refuse_other_names,
    refuse_other_sites,
    refuse_plain_http,
)
from noah.web.keys import (
    AUTHENTICATOR,
    BROKER,
    CATALOG,
    CLOCK,
    CLUSTERS,
    DOCTOR,
    FEED,
    HOLDERS,
    HOSTS,
    PERMISSIONS,
    RELEASES,
    REQUEST_ID,
    SETTINGS,
    TRAIL,
    TRAIL_ROWS,
)
from noah.web.pages.login import prepare_logins
from noah.web.pages.page import PageRoute, prepare_templates, refusal, wants_page
from noah.web.pages.routes import PAGES
from noah.web.paths import path_inside
from noah.web.permission import forgot_to_ask, record
from noah.web.problems import CONTENT_TYPE, Problem, bug_of, problem_of, refusal_of
from noah.web.sse import STREAMS, Streams
from noah.web.until_shutdown import UNTIL_SHUTDOWN, UntilShutdown

log = logging.getLogger(__name__)
access = logging.getLogger("noah.web.access")

MOST_CONNECTIONS, MOST_OF_ADDRESS = 4000, 200  # a person's browsers and scripts have some dozens
LONGEST_BODY = 64 * 1024  # bytes; the longest sensible one is some hundred
# Bytes of a request's first line, and of a header; for the server's max_line_size and max_field_size. aiohttp answers
# longer ones itself, and not as RFC 9457 says: more is let through, to the handlers that do.
LONGEST_LINE = 16 * 1024
QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # asked every few seconds by machines

SENTENCE = web.RequestKey("sentence", str)  # what a problem said, for the log

# Unless an answer says otherwise: nothing here is to be run, framed, guessed or kept.
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def make_site(
    *,
    authenticator: Authenticator,
    catalog: Catalog,
    holders: Holders,
    permissions: Permissions,
    broker: Broker,
    releases: Releases,
    feed: Feed,
    clusters: Mapping[str, Cluster],
    doctor: Doctor,
    hosts: Hosts,
    settings: Settings,
    store: Store,
    trail: Trail,
    metrics: Metrics,
    clock: Callable[[], datetime],
    health: Health,
    inventory: InventoryView,
) -> web.Application:
    site = web.Application(client_max_size=LONGEST_BODY, middlewares=[within_limits, _log, _explain, _guard])
    site[LIMITS] = _limits(settings)
    site[AUTHENTICATOR], site[PEERS] = authenticator, WeakKeyDictionary()
    site[CATALOG], site[HOLDERS], site[PERMISSIONS] = catalog, holders, permissions
    site[BROKER], site[FEED], site[CLUSTERS], site[DOCTOR] = broker, feed, clusters, doctor
    site[HOSTS], site[RELEASES] = hosts, releases
    site[SETTINGS], site[CLOCK], site[UNTIL_SHUTDOWN] = settings, clock, UntilShutdown()
    site[HEALTH] = health
    site[METRICS], site[STREAMS] = metrics, Streams()
    site[BUDGET] = Budget()
    site[TRAIL], site[TRAIL_ROWS] = trail, store.trail
    site[INVENTORY] = inventory
    metrics.read_from(GatewayReader(broker=broker, clusters=clusters, health=health, inventory=inventory, clock=clock))
    prepare_templates(site)
    prepare_logins(site)
    site[DEVICES] = Pending(lasts_s=DEVICE_LASTS_S, most=MOST_DEVICES, most_each=MOST_DEVICES_EACH)
    # A proxy may leave the public path in the requests or take it off.
    for prefix in dict.fromkeys(("", settings.gateway.public_path)):
        for route in (*ROUTES, *PAGES):
            _add(site, prefix, route)
    site.on_response_prepare.append(_sign)
    site.on_shutdown.append(_let_go)
    return site


def _limits(settings: Settings) -> Limits:
    """Return the limits of the site's connections: the other descriptors are for debuggers, pods and the database."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    proxies = settings.gateway.trusted_proxies

    def is_proxy(address: str) -> bool:
        return any(ipaddress.ip_address(address.partition("%")[0]) in one for one in proxies)

    most = min(MOST_CONNECTIONS, descriptors // 4)
    return Limits(most=most, most_of_address=min(MOST_OF_ADDRESS, most), has_many=is_proxy)


def _add(site: web.Application, prefix: str, route: AnyRoute) -> None:
    if route.method == "GET":
        allow_head = not isinstance(route, Raw) or isinstance(route, PageRoute)
        site.router.add_get(prefix + route.path, route.serve, allow_head=allow_head)
    else:
        site.router.add_route(route.method, prefix + route.path, route.serve)


async def _let_go(site: web.Application) -> None:
    site[UNTIL_SHUTDOWN].end()


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every answer has, event streams and refusals included."""
    if response.status < 400 and forgot_to_ask(request):
        raise RuntimeError(f"{request.rel_url.raw_path} would answer without having asked for a right")
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    _open_to_others(request, response)
    response.headers["Server"] = "noah"  # aiohttp would give its version, and Python's
    # A request with an Expect that aiohttp does not know is refused by it before _log has seen it.
    response.headers["X-Request-Id"] = request.get(REQUEST_ID) or _request_id(request)


def _open_to_others(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of the sites that the settings name read the answer, and show ours in a frame."""
    if (origin := allowed_origin(request)) is not None:
        # Without Access-Control-Allow-Credentials: no cookie of ours ever goes with such a call.
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "Location, X-Request-Id"
    ancestors = request.app[SETTINGS].access.frame_ancestors
    # A page on which one logs in or allows something is never in a frame, where it could be covered.
    if ancestors and not path_inside(request).startswith("/login"):
        policy = response.headers["Content-Security-Policy"]
        allowed = " ".join(("'self'", *ancestors))
        response.headers["Content-Security-Policy"] = policy.replace(
            "frame-ancestors 'none'", f"frame-ancestors {allowed}"
        )
        response.headers.pop("X-Frame-Options", None)  # which knows no list; browsers follow the policy
    if request.app[SETTINGS].access.origins:
        varies = response.headers.get("Vary")
        response.headers["Vary"] = f"{varies}, Origin" if varies else "Origin"


def _preflight(request: web.Request) -> web.Response:
    """Answer what a browser asks before it lets another site's page send a token."""
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID, Traceparent",
            "Access-Control-Max-Age": "600",
        },
    )


@web.middleware
async def _log(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log one line per request when it ends."""
    began = time.perf_counter()
    request[REQUEST_ID] = _request_id(request)
    status = 499  # nginx's: the client was gone before there was an answer
    try:
        with _traced(request):
            response = await handler(request)
        status = response.status
        return response
    finally:
        access.log(
            logging.DEBUG if path_inside(request) in QUIET and status < 400 else logging.INFO,
            "%s %s %d %.1f ms %s %s %s%s",
            request.method,
            _shown(request),
            status,
            (time.perf_counter() - began) * 1000,
            ascii(principal.name) if (principal := known_principal(request)) else "-",
            remote_for_log(request),
            request[REQUEST_ID],
            f" {request[SENTENCE]}" if SENTENCE in request else "",
        )


def _traced(request: web.Request) -> AbstractContextManager[object]:
    """Begin the span of a request that changes something; those that only look are far too many."""
    matched = request.match_info.route.resource
    if request.method in ("GET", "HEAD", "OPTIONS") or matched is None:
        return nullcontext()
    return span(f"{request.method} {matched.canonical}", traceparent=request.headers.get("traceparent"))


def _shown(request: web.Request) -> str:
    """Return the path and the query for the log. Where logins pass, a query has codes and tokens."""
    path = request.rel_url.raw_path
    return path[:300] if path_inside(request).startswith("/login") else request.rel_url.raw_path_qs[:300]


def _request_id(request: web.Request) -> str:
    """Return a proxy's ID, so that all logs have the same one; otherwise a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if re.fullmatch(r"[A-Za-z0-9._-]{8,64}", given, re.ASCII) else secrets.token_hex(8)


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem with one sentence."""
    try:
        return await handler(request)
    except NoahError as e:
        if wants_page(request):
            return refusal(request, e.sentence, e.http_status, e.code)
        return _answer(request, problem_of(request, e))
    except web.HTTPException as e:
        if e.status < 400:
            raise
        if e.status == 404 and wants_page(request):
            return refusal(request, _no_page(request), e.status, NotFound.code)
        headers = {"Allow": e.headers["Allow"]} if "Allow" in e.headers else {}
        return _answer(request, refusal_of(request, e), headers)
    except Exception:  # the request's outermost: a bug is one request's, and its traceback is in the log
        log.exception("%s %s failed (request %s)", request.method, request.rel_url.raw_path, request[REQUEST_ID])
        return _answer(request, bug_of(request, request[REQUEST_ID]))


def _no_page(request: web.Request) -> str:
    sentence = f"There is no page at {request.path[:200]}."
    if not any(name in request.headers for name in FORWARDED):
        return sentence
    return (
        f"{sentence} If a reverse proxy serves the gateway under a path, set public_url of [gateway] to the address "
        "that browsers use."
    )


def _answer(request: web.Request, problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    request[SENTENCE] = problem["detail"]
    body: Any = json.dumps(problem, ensure_ascii=False).encode()
    return web.Response(body=body, status=problem["status"], content_type=CONTENT_TYPE, headers=headers)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    refuse_other_names(request)
    refuse_plain_http(request)
    if request.method == "OPTIONS" and allowed_origin(request) is not None:
        return _preflight(request)
    refuse_other_sites(request)
    refuse_foreign_reads(request)
    try:
        principal = request[PRINCIPAL] = await authenticate(request)
    except (Unauthenticated, Forbidden) as e:
        record(request, TrailCode.DENIED, outcome=Outcome.DENIED, sentence=e.sentence)
        raise
    if principal is not None and not may_do_everything(principal):
        request.app[BUDGET].spend(principal.id, per_minute=request.app[PERMISSIONS].limits.requests_per_minute)
    return await handler(request)
