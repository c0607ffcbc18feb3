"""The page on which a browser logs in, and the two forms that log it in and out."""

import re
from urllib.parse import parse_qsl

from aiohttp import web

from noah.core.session.rights import Right
from noah.errors import BadInput, NoahError, Unauthenticated
from noah.web.api.route import Call, Routes, read_sent
from noah.web.identity import cookie_of, remove_cookie, set_cookie
from noah.web.keys import AUTHENTICATOR
from noah.web.pages.page import render_login
from noah.web.paths import link_to
from noah.web.wire import Model, Nothing, Text

ROUTES = Routes()
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 10  # the form has two


class NotAForm(NoahError):
    """A form is sent as application/x-www-form-urlencoded."""

    http_status = 415


class LoginQuery(Model):
    next: Text = "/"


@ROUTES.raw("/login", right=Right.ANYBODY, summary="Where a browser logs in.", content_types=("text/html",))
async def login_page(call: Call[LoginQuery, Nothing]) -> web.StreamResponse:
    return render_login(call.request, next_page=inside(call.query.next))


@ROUTES.raw(
    "/login", method="POST", right=Right.ANYBODY, summary="Log a browser in by a token.", content_types=("text/html",)
)
async def log_in(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    form = await _form(call.request)
    authenticator, back = call.request.app[AUTHENTICATOR], inside(form.get("next", "/"))
    token = form.get("token", "").strip()
    if not token:
        raise BadInput("The form has no token.")
    try:
        principal = await authenticator.by_bearer(token)
    except Unauthenticated as e:
        return render_login(call.request, next_page=back, sentence=e.sentence)
    login_id = await authenticator.logins.open(principal, lasts=authenticator.login_lasts)
    response = web.Response(status=303, headers={"Location": link_to(call.request, back)})
    set_cookie(call.request, response, login_id, lasts_s=int(authenticator.login_lasts.total_seconds()))
    return response


@ROUTES.raw("/logout", method="POST", right=Right.ANYBODY, summary="Log a browser out.", content_types=("text/html",))
async def log_out(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    if login_id := cookie_of(call.request):
        await call.request.app[AUTHENTICATOR].log_out(login_id)
    response = web.Response(status=303, headers={"Location": link_to(call.request, "/login")})
    remove_cookie(call.request, response)
    return response


def inside(path: str) -> str:
    """Return *path* if it leads to a page of this site: "//elsewhere" and "/\\elsewhere" lead out of it."""
    return path if re.match(r"/(?![/\\])[!-~]*$", path) else "/"


async def _form(request: web.Request) -> dict[str, str]:
    sent = await read_sent(request)
    if request.content_type != FORM:
        raise NotAForm()
    try:
        return dict(parse_qsl(sent.decode(), errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError:  # also what is not UTF-8
        raise BadInput(f"The form cannot be read: it has at most {MOST_FIELDS} fields, in UTF-8.") from None
