"""The pages that people see: the answers of the API, rendered.

One template makes both the first paint and every later one: a page that is told of a change asks for its part anew and
puts it in place. Changes go through the API only. Everything is escaped by the templates; nothing is trusted.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp_jinja2
import jinja2
from aiohttp import web
from pydantic import Field

from noah.broker import KIND_OF, Live
from noah.core import ide
from noah.core.target import parse_wanted
from noah.errors import NoahError, NotFound
from noah.web import clusters, release_pages, releases, sessions, targets
from noah.web.identity import claimed, remember
from noah.web.keys import BROKER, CLOCK, SETTINGS
from noah.web.openapi import AnyRoute
from noah.web.route import Call, Raw
from noah.web.wire import Nothing, Wait

HERE = Path(__file__).parent
PART = "Noah-Part"  # the header of a page that wants only what changes of itself
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAST = 10  # sessions that a target's page shows of its past

Context = Mapping[str, Any]
Page = Callable[[Call[Any, Nothing]], Awaitable[Context]]


class TargetsPage(targets.TargetsQuery):
    # A form sends its empty fields too.
    kind: str = Field("", pattern="^(pod|host|local)?$")  # type: ignore[assignment]


class SessionsPage(sessions.SessionsQuery):
    status: None = None
    state: str = Field("all", pattern="^(all|live|ended)$")  # type: ignore[assignment]


async def environment(call: Call[TargetsPage, Nothing]) -> Context:
    asked = call.query.model_dump(by_alias=True, exclude_none=True)
    asked = {name: value for name, value in asked.items() if value not in ("", [])}
    query = targets.TargetsQuery.model_validate(asked)
    answer = await targets.list_targets(Call(call.request, query, Nothing()))
    return {"here": "environment", "query": query, **_page_of(answer.json)}


async def target(call: Call[Nothing, Nothing]) -> Context:
    request = call.request
    shown, live, restart = await _found(request, call.path("target"))
    name = str(shown["target"])
    past = await request.app[BROKER].find(target=name, state="ended", limit=PAST)
    return {
        "here": "environment",
        "target": shown,
        "restart": restart,
        "session": _session_json(request, live) if live else None,
        "past": [_session_json(request, one) for one in past[0] if str(one.session.target) == name],
    }


async def session_list(call: Call[SessionsPage, Nothing]) -> Context:
    asked = call.query.model_dump(by_alias=True, exclude_none=True)
    query = sessions.SessionsQuery.model_validate({name: value for name, value in asked.items() if value})
    answer = await sessions.list_sessions(Call(call.request, query, Nothing()))
    return {"here": "sessions", "query": query, **_page_of(answer.json)}


async def session(call: Call[Nothing, Nothing]) -> Context:
    answer = await sessions.show_session(Call(call.request, Wait.model_validate({}), Nothing()))
    return {"here": "sessions", "session": answer.json}


async def cluster_list(call: Call[Nothing, Nothing]) -> Context:
    answer = await clusters.list_clusters(Call(call.request, Nothing(), Nothing()))
    return {"here": "clusters", "clusters": answer.json["items"]}


def add_pages(site: web.Application) -> None:
    environment = aiohttp_jinja2.setup(
        site,
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(path=_path, bytes=_bytes, lasting=_length, clock=_clock)
    environment.globals["formats"] = list(ide.FORMATS)
    for page in PAGES:
        site.router.add_get(page.path, page.serve)
    site.router.add_get(r"/static/{name:[a-z-]+\.(?:js|css|svg)}", _static)
    site.router.add_post("/who", _say_who)


def _rendered(template: str, page: Page) -> Callable[[Call[Any, Nothing]], Awaitable[web.StreamResponse]]:
    async def serve(call: Call[Any, Nothing]) -> web.StreamResponse:
        try:
            return _render(call.request, template, await page(call))
        except NoahError as e:
            return _render(call.request, "error.html", {"here": "", "sentence": e.sentence}, e.http_status)

    return serve


def _render(request: web.Request, template: str, context: Context, status: int = 200) -> web.Response:
    nonce = secrets.token_urlsafe(16)
    layout = "part.html" if PART in request.headers else "base.html"
    text = aiohttp_jinja2.render_string(
        template,
        request,
        {**context, "layout": layout, "nonce": nonce, "user": claimed(request), "url": str(request.rel_url)},
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
        "kind": KIND_OF[type(session.target)],
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


def _session_json(request: web.Request, live: Live) -> sessions.SessionJson:
    app = request.app
    return sessions.session_json(live, host=app[SETTINGS].gateway.advertised_host, now=app[CLOCK]())


def _page_of(answer: Any) -> Context:
    return {"rows": answer["items"], "token": answer["continue"], "total": answer["total"]}


def _path(text: str) -> str:
    return quote(text, safe="/")


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _length(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _clock(at: str) -> str:
    """Until the page's script has made it local."""
    return at[11:19] + " UTC"


PAGES: tuple[AnyRoute, ...] = tuple(
    Raw(path=path, handler=_rendered(template, page), summary="", query=query, content_types=("text/html",))
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
