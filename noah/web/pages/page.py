"""How a page comes to be: the answer of its handler, rendered by its template.

One template makes both the first paint and every later one: a page that hears of a change asks for its part again and
puts it in place. Changes go through the API only. Everything is escaped by the templates; nothing is trusted.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from yarl import URL

from noah.core import ide
from noah.core.page import Page as Rows
from noah.core.session.event_kind import EventKind
from noah.core.session.principal import Principal
from noah.core.session.rights import Right, may_do_everything
from noah.duration import format_duration
from noah.errors import NoahError, Unauthenticated
from noah.web.api.health import BEHIND, HEALTH
from noah.web.api.route import Call, Raw, Routes, types_of
from noah.web.identity import cookie_of, known_principal
from noah.web.keys import FEED, SETTINGS
from noah.web.pages import filters
from noah.web.paths import link_to, path_inside, root_of
from noah.web.permission import is_allowed
from noah.web.wire import Model, Nothing

PART = "Noah-Part"  # the header of a page that wants only what changes of itself
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PER_PAGE = 50  # rows; some more than a screen has, few enough to be painted in one frame

COMPILED: web.AppKey[asyncio.Event] = web.AppKey("compiled")

Context = Mapping[str, Any]
PageHandler = Callable[[Call[Any, Nothing]], Awaitable[Context]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRoute(Raw):
    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A refusal is a page too, for a link that was mistyped as well as for a database that is away."""
        await _compile_templates(request.app)
        try:
            return await Raw.serve(self, request)
        except Unauthenticated as e:
            if PART in request.headers:  # the script of a page whose login is over: it has no use for another page
                return refusal(request, e.sentence, e.http_status, e.code)
            here = request.rel_url.with_path(path_inside(request), encoded=True, keep_query=True)
            login = URL("/login").with_query(next=str(here))
            return web.Response(status=303, headers={"Location": link_to(request, login)})
        except NoahError as e:
            return refusal(request, e.sentence, e.http_status, e.code)


def page(routes: Routes, path: str, template: str, *, right: Right = Right.SEE) -> Callable[[PageHandler], PageHandler]:
    """Declare the page at *path*, beside the handler that gives its template what it shows."""

    def declare(handler: PageHandler) -> PageHandler:
        async def serve(call: Call[Any, Nothing]) -> web.StreamResponse:
            last_event = call.request.app[FEED].last_id  # before anything is read: the page's stream begins here
            reads_trail = await is_allowed(call.request, Right.READ_TRAIL)
            context = {**await handler(call), "last_event": last_event, "reads_trail": reads_trail}
            return _render(call.request, template, context)

        query = types_of(handler)[0]
        route = PageRoute(
            path=path, right=right, handler=serve, summary=template, query=query, content_types=("text/html",)
        )
        routes.declared.append(route)
        return handler

    return declare


def refusal(request: web.Request, sentence: str, status: int, code: str) -> web.Response:
    """Return the page that says why there is not another one."""
    context = {"here": "", "sentence": sentence, "code": code, "last_event": request.app[FEED].last_id}
    return _render(request, "error.html", context, status)


def wants_page(request: web.Request) -> bool:
    """True if a person's browser asks, and not for a part of the API."""
    return "text/html" in request.headers.get("Accept", "") and not path_inside(request).startswith("/api/")


def links(request: web.Request, rows: Rows[Any]) -> Mapping[str, str | None]:
    """Return the links to the pages after and before this one, with all else that was asked for."""
    first = request.rel_url.with_path(path_inside(request), encoded=True, keep_query=True)
    first = first.without_query_params("continue")

    def at(token: str | None) -> str | None:
        return None if token is None else link_to(request, first.update_query({"continue": token}) if token else first)

    return {"next": at(rows.after), "previous": at(rows.before), "first": link_to(request, first)}


def filled_in(query: Model) -> dict[str, Any]:
    """Return what was asked for, without the empty fields that a form sends."""
    asked = query.model_dump(by_alias=True, exclude_none=True)
    return {name: value for name, value in asked.items() if value not in ("", [])}


def prepare_templates(site: web.Application) -> None:
    environment = aiohttp_jinja2.setup(
        site,
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        path=filters.in_a_path,
        bytes=filters.in_bytes,
        lasting=filters.lasting,
        clock=filters.clock,
        kinds=filters.kinds,
        subject=filters.subject,
    )
    environment.globals.update(
        event_kinds=" ".join(EventKind),
        formats=list(ide.FORMATS),
        several=filters.several,
        end_reasons=filters.END_REASONS,
    )
    site[COMPILED] = asyncio.Event()


async def _compile_templates(site: web.Application) -> None:
    """Compile all before the first page, in a thread: 0.2 s, and 2 MiB that a gateway without pages does not need."""
    if not site[COMPILED].is_set():
        environment = aiohttp_jinja2.get_env(site)
        await asyncio.to_thread(lambda: [environment.get_template(name) for name in environment.list_templates()])
        site[COMPILED].set()


def render_form(
    request: web.Request, template: str, context: Context, *, status: int = 200, leads_to: str = ""
) -> web.Response:
    """Return a page with a form whose answer leads to this site, or to the origin *leads_to*."""
    response = _render(request, template, context, status)
    policy = response.headers["Content-Security-Policy"]
    # Browsers hold the redirect that answers a form to form-action as well.
    response.headers["Content-Security-Policy"] = policy.replace("form-action 'self'", f"form-action 'self' {leads_to}")
    return response


def _behind(request: web.Request, me: Principal | None) -> str | None:
    """Return why the configuration is not followed: which hosts, files and addresses it has is for operators."""
    why = request.app[HEALTH].not_followed()
    if why is None or me is None:
        return None
    return why if may_do_everything(me) else BEHIND


def _render(request: web.Request, template: str, context: Context, status: int = 200) -> web.Response:
    nonce = secrets.token_urlsafe(16)
    layout = "part.html" if PART in request.headers else "base.html"
    me = known_principal(request)
    text = aiohttp_jinja2.render_string(
        template,
        request,
        {
            **context,
            "layout": layout,
            "nonce": nonce,
            "user": me and me.name,
            "me": me and me.id,
            "behind": _behind(request, me),
            "is_logged_in": cookie_of(request) is not None,
            "root": root_of(request),
            "url": path_inside(request) + (f"?{request.rel_url.raw_query_string}" if request.rel_url.query else ""),
            "extension": format_duration(request.app[SETTINGS].sessions.default_length),
        },
    )
    return web.Response(
        text=text,
        content_type="text/html",
        status=status,
        headers={
            "Content-Security-Policy": POLICY.format(nonce=nonce),
            # With "no-referrer" a form's Origin would be null, and so its sender nobody.
            "Referrer-Policy": "same-origin",
            "Vary": f"{PART}, Cookie",
        },
    )
