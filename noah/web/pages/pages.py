"""The pages that people see: the answers of the API, rendered.

One template makes both the first paint and every later one: a page that is told of a change asks for its part anew and
puts it in place. Changes go through the API only. Everything is escaped by the templates; nothing is trusted.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import Field

from noah.core import ide
from noah.core.session.rights import Right
from noah.core.session.session import EndReason
from noah.core.session.target import parse_wanted
from noah.duration import format_duration
from noah.errors import NoahError, NotFound
from noah.sessions.live_session import Live
from noah.store import Page as Rows
from noah.web.api import clusters, releases, sessions, targets
from noah.web.api.route import AnyRoute, Call, Raw
from noah.web.identity import claimed, remember
from noah.web.keys import BROKER, FEED, SETTINGS
from noah.web.pages import filters
from noah.web.pages import releases as release_pages
from noah.web.pages.environment import by_app, per_cluster
from noah.web.wire import MOST, Model, Nothing, Wait

HERE = Path(__file__).parent
PART = "Noah-Part"  # the header of a page that wants only what changes of itself
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PER_PAGE = 50  # rows; some more than a screen has, few enough to be painted in one frame
PAST = 10  # sessions that a target's page shows of its past

Context = Mapping[str, Any]
Page = Callable[[Call[Any, Nothing]], Awaitable[Context]]


class TargetsPage(targets.TargetsQuery):
    # A form sends its empty fields too.
    kind: str = Field("", pattern="^(pod|host|local)?$")  # type: ignore[assignment]
    limit: int = Field(PER_PAGE, ge=1, le=MOST)


class SessionsPage(sessions.SessionsQuery):
    status: None = None
    state: str = Field("all", pattern="^(all|live|ended)$")  # type: ignore[assignment]
    end_reason: str = Field("", pattern=f"^({'|'.join(EndReason)})?$")  # type: ignore[assignment]
    limit: int = Field(PER_PAGE, ge=1, le=MOST)


async def environment(call: Call[TargetsPage, Nothing]) -> Context:
    request = call.request
    query = targets.TargetsQuery.model_validate(_asked(call.query))
    infos = targets.matching(request, query)
    shown = by_app(infos, targets.held_now(request), after=query.after, limit=query.limit)
    narrowed = [(name, getattr(query, name)) for name in ("app", "cluster", "namespace") if getattr(query, name)]
    narrowed += [("label", label) for label in query.label]
    return {
        "here": "environment",
        "query": query,
        "shown": shown,
        "narrowed": narrowed,
        "links": _links(request, shown.page),
    }


async def target(call: Call[Nothing, Nothing]) -> Context:
    request = call.request
    shown, live, restart = await _found(request, call.path("target"))
    name = str(shown["target"])
    past = await request.app[BROKER].find(target=name, state="ended", limit=PAST)
    return {
        "here": "environment",
        "target": shown,
        "restart": restart,
        "session": sessions.json_of(request, live) if live else None,
        "past": [sessions.json_of(request, one) for one in past.items if str(one.session.target) == name],
    }


async def session_list(call: Call[SessionsPage, Nothing]) -> Context:
    asked = _asked(call.query)
    query = sessions.SessionsQuery.model_validate(asked)
    page = await sessions.find(call.request, query, limit=query.limit, after=query.after)
    return {
        "here": "sessions",
        "query": query,
        "rows": [sessions.json_of(call.request, live) for live in page.items],
        "total": page.total,
        "links": _links(call.request, page),
        "wanted": {name: value for name, value in asked.items() if name not in ("limit", "continue")},
    }


async def session(call: Call[Nothing, Nothing]) -> Context:
    answer = await sessions.show_session(Call(call.request, Wait.model_validate({}), Nothing()))
    return {"here": "sessions", "session": answer.json}


async def cluster_list(call: Call[Nothing, Nothing]) -> Context:
    answer = await clusters.list_clusters(Call(call.request, Nothing(), Nothing()))
    counts = per_cluster(call.request.app[BROKER].targets(), targets.held_now(call.request))
    return {"here": "clusters", "clusters": [(one, counts[one["name"]]) for one in answer.json["items"]]}


def add_pages(site: web.Application) -> None:
    environment = aiohttp_jinja2.setup(
        site,
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        path=filters.in_a_path,
        bytes=filters.in_bytes,
        lasting=filters.lasting,
        clock=filters.clock,
        kinds=filters.kinds,
    )
    environment.globals.update(formats=list(ide.FORMATS), several=filters.several, end_reasons=filters.END_REASONS)
    for page in PAGES:
        site.router.add_get(page.path, _explained(page.serve))
    site.router.add_get(r"/static/{name:[a-z-]+\.(?:js|css|svg)}", _static)
    site.router.add_post("/who", _say_who)


def _rendered(template: str, page: Page) -> Callable[[Call[Any, Nothing]], Awaitable[web.StreamResponse]]:
    async def serve(call: Call[Any, Nothing]) -> web.StreamResponse:
        last_event = call.request.app[FEED].last_id  # before anything is read: the page's stream goes on from here
        return _render(call.request, template, {**await page(call), "last_event": last_event})

    return serve


def _explained(serve: Handler) -> Handler:
    """A refusal is a page too, for a link that was mistyped as well as for a database that is away."""

    async def explained(request: web.Request) -> web.StreamResponse:
        try:
            return await serve(request)
        except NoahError as e:
            return refusal(request, e.sentence, e.http_status)

    return explained


def refusal(request: web.Request, sentence: str, status: int) -> web.Response:
    """The page that says why there is no other."""
    context = {"here": "", "sentence": sentence, "last_event": request.app[FEED].last_id}
    return _render(request, "error.html", context, status)


def wants_page(request: web.Request) -> bool:
    """A person's browser asks, and for no part of the API."""
    accepts = request.headers.get("Accept", "")
    return request.method == "GET" and "text/html" in accepts and not request.path.startswith("/api/")


def _render(request: web.Request, template: str, context: Context, status: int = 200) -> web.Response:
    nonce = secrets.token_urlsafe(16)
    layout = "part.html" if PART in request.headers else "base.html"
    text = aiohttp_jinja2.render_string(
        template,
        request,
        {
            **context,
            "layout": layout,
            "nonce": nonce,
            "user": claimed(request),
            "url": str(request.rel_url),
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


async def _static(request: web.Request) -> web.StreamResponse:
    file = HERE / "static" / request.match_info["name"]
    if not file.is_file():
        raise NotFound(f"There is no {request.path[:200]}.")
    return web.FileResponse(file, headers={"Cache-Control": "no-cache"})


async def _say_who(request: web.Request) -> web.Response:
    form = await request.post()
    back = str(form.get("next", "/"))
    # Only into this site: "//elsewhere" and "/\elsewhere" lead out of it.
    response = web.Response(status=303, headers={"Location": back if re.match(r"/(?![/\\])[!-~]*$", back) else "/"})
    remember(request, response, str(form.get("user", "")).strip())
    return response


async def _found(request: web.Request, name: str) -> tuple[targets.TargetJson, Live | None, str | None]:
    """The target, who has it, and the sentence to be confirmed; one that is gone while somebody has it is shown so."""
    broker = request.app[BROKER]
    try:
        info = await broker.resolve(parse_wanted(name))
    except NotFound:
        live = next((one for one in broker.live() if str(one.session.target) == name), None)
        if live is None:
            raise
        return _gone(live), live, None
    live = broker.holder(info.target)
    return targets.target_json(info, live), live, info.needs_restart


def _gone(live: Live) -> targets.TargetJson:
    session = live.session
    return {
        "target": str(session.target),
        "kind": session.target.kind,
        "app": session.app,
        "workload": session.workload,
        "cluster": None,
        "namespace": None,
        "labels": {},
        "ready": False,
        "phase": "gone",
        "restarts": 0,
        "version": None,
        "started_at": None,
        "checkurl": None,
        "session": None,
    }


def _asked(query: Model) -> dict[str, Any]:
    """Without the empty fields of a form."""
    asked = query.model_dump(by_alias=True, exclude_none=True)
    return {name: value for name, value in asked.items() if value not in ("", [])}


def _links(request: web.Request, page: Rows[Any]) -> Mapping[str, str | None]:
    """To the pages after and before this one, with all else that was asked for."""
    first = request.rel_url.without_query_params("continue")

    def at(token: str | None) -> str | None:
        return None if token is None else str(first.update_query({"continue": token}) if token else first)

    return {"next": at(page.after), "previous": at(page.before), "first": str(first)}


PAGES: tuple[AnyRoute, ...] = tuple(
    Raw(
        path=path,
        handler=_rendered(template, page),
        right=Right.SEE,
        summary="",
        query=query,
        content_types=("text/html",),
    )
    for path, template, page, query in (
        ("/", "environment.html", environment, TargetsPage),
        ("/targets/{target:(?s:.+)}", "target.html", target, Nothing),
        ("/sessions", "sessions.html", session_list, SessionsPage),
        ("/sessions/{id}", "session.html", session, Nothing),
        ("/releases", "releases.html", release_pages.release_list, release_pages.ReleasesPage),
        ("/releases/current", "error.html", release_pages.asked_for, release_pages.AskedPage),
        ("/releases/{id}", "release.html", release_pages.release, release_pages.ReleasePage),
        ("/releases/{cluster}/{namespace}/{workload}", "error.html", release_pages.current, releases.KindQuery),
        ("/clusters", "clusters.html", cluster_list, Nothing),
    )
)
