"""The pages on which a browser logs in and out, and on which a person lets the command line log in through it."""

import json
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from pydantic import ConfigDict, Field

from noah.access.oidc import Granted, OidcProvider
from noah.access.pending import Pending
from noah.core.session.rights import Right
from noah.core.session.trail import Outcome, TrailCode
from noah.errors import BadInput, NoahError, NotFound, Unauthenticated
from noah.web.api.route import Call, Routes, read_sent
from noah.web.forwarded import asked_host
from noah.web.identity import (
    cookie_of,
    is_secure,
    remove_cookie,
    set_cookie,
)
from noah.web.keys import AUTHENTICATOR, SETTINGS
from noah.web.pages.page import render_form
from noah.web.paths import link_to
from noah.web.permission import record
from noah.web.wire import Model, Nothing, Text

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

ROUTES = Routes()
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 10  # the form has two
COMES_BACK_WITHIN_S = 900  # from the provider, where a person may have to find a second factor
ALLOWED_WITHIN_S = 300.0
CODE_USED_WITHIN_S = 60.0  # the command line waits for it
MOST_WAITING, MOST_EACH = 1000, 20


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The command line of a person, which waits at a port of their machine's loopback (RFC 8252, section 7.3)."""

    port: int
    challenge: str
    state: str


@dataclass(frozen=True, slots=True)
class AllowedLogin:
    """A login that the command line may fetch with the verifier of its challenge."""

    provider: str
    granted: Granted
    challenge: str


# What is sealed with it is in the cookie of the browser that has begun a login; it does not outlive the process.
SEAL: "web.AppKey[Fernet]" = web.AppKey("seal")
ASKED: web.AppKey[Pending[tuple[str, Granted, CommandLine]]] = web.AppKey("asked")
ALLOWED: web.AppKey[Pending[AllowedLogin]] = web.AppKey("allowed")


class NotAForm(NoahError):
    """A form is sent as application/x-www-form-urlencoded."""

    http_status = 415


class LoginQuery(Model):
    next: Text = "/"
    cli_port: int | None = Field(None, ge=1024, le=65535)
    cli_challenge: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")] | None = None
    cli_state: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")] | None = None


class BackQuery(Model):
    """The part of an address that a provider adds; it may add more than is known here."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    state: Text = ""
    code: Text | None = None
    iss: Text | None = None
    error: Text | None = None
    error_description: Text | None = None


def prepare_logins(site: web.Application) -> None:
    if site[AUTHENTICATOR].providers:
        from cryptography.fernet import Fernet  # 8 MiB, for those who have a provider

        site[SEAL] = Fernet(Fernet.generate_key())
    site[ASKED] = Pending(lasts_s=ALLOWED_WITHIN_S, most=MOST_WAITING, most_each=MOST_EACH)
    site[ALLOWED] = Pending(lasts_s=CODE_USED_WITHIN_S, most=MOST_WAITING, most_each=MOST_EACH)


@ROUTES.raw("/login", right=Right.ANYBODY, summary="Where a browser logs in.", content_types=("text/html",))
async def login_page(call: Call[LoginQuery, Nothing]) -> web.StreamResponse:
    return _page(call.request, call.query)


@ROUTES.raw(
    "/login", method="POST", right=Right.ANYBODY, summary="Log a browser in by a token.", content_types=("text/html",)
)
async def log_in(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    form = await _form(call.request)
    authenticator, query = call.request.app[AUTHENTICATOR], LoginQuery.model_validate({"next": form.get("next", "/")})
    token = form.get("token", "").strip()
    if not token:
        raise BadInput("The form has no token.")
    try:
        principal, login_id, lasts = await authenticator.log_in_by_token(token)
    except Unauthenticated as e:
        record(call.request, TrailCode.LOGIN, outcome=Outcome.DENIED, sentence=e.sentence)
        return _page(call.request, query, sentence=e.sentence)
    record(call.request, TrailCode.LOGIN, who=principal)
    response = web.Response(status=303, headers={"Location": link_to(call.request, inside(query.next))})
    set_cookie(call.request, response, login_id, lasts_s=int(lasts.total_seconds()))
    return response


@ROUTES.raw(
    "/login/with/{provider}", right=Right.ANYBODY, summary="Send a browser to a provider.", content_types=("text/html",)
)
async def begin(call: Call[LoginQuery, Nothing]) -> web.StreamResponse:
    request, provider = call.request, _provider(call)
    begun: dict[str, Any] = {
        "provider": provider.name,
        "nonce": secrets.token_urlsafe(32),
        "verifier": secrets.token_urlsafe(48),
        "query": call.query.model_dump(),
    }
    state = secrets.token_urlsafe(32)
    url = await provider.authorization_url(
        redirect_uri=_back_to(request, f"/login/back/{provider.name}"),
        state=state,
        nonce=begun["nonce"],
        verifier=begun["verifier"],
    )
    response = web.Response(status=303, headers={"Location": url})
    response.set_cookie(
        _state_cookie(request, state),
        request.app[SEAL].encrypt(json.dumps({**begun, "state": state}).encode()).decode(),
        max_age=COMES_BACK_WITHIN_S,
        path="/",
        httponly=True,
        samesite="Lax",  # the provider's redirect is another site's
        secure=is_secure(request),
    )
    return response


@ROUTES.raw(
    "/login/back/{provider}", right=Right.ANYBODY, summary="Where a provider sends back.", content_types=("text/html",)
)
async def come_back(call: Call[BackQuery, Nothing]) -> web.StreamResponse:
    request, sent, provider = call.request, call.query, _provider(call)
    begun = _begun(request, sent.state, provider)
    query = LoginQuery.model_validate(begun["query"])
    if sent.error is not None or sent.code is None:
        said = (sent.error_description or sent.error or "no code")[:200].rstrip(".")
        return _page(request, query, sentence=f"The provider {provider.name} did not log you in: {said}.")
    try:
        granted = await provider.redeem(
            sent.code,
            redirect_uri=_back_to(request, f"/login/back/{provider.name}"),
            nonce=begun["nonce"],
            verifier=begun["verifier"],
            issuer=sent.iss,
        )
    except Unauthenticated as e:
        return _page(request, query, sentence=e.sentence)
    if command_line := _command_line(query):
        handle = request.app[ASKED].put((provider.name, granted, command_line), by=granted.principal.id)
        return render_form(
            request,
            "allow.html",
            {"handle": handle, "name": granted.principal.name, "port": command_line.port},
            leads_to=f"http://127.0.0.1:{command_line.port}",
        )
    login_id, lasts = await request.app[AUTHENTICATOR].log_in(granted.principal, (provider.name, granted))
    record(request, TrailCode.LOGIN, who=granted.principal)
    response = web.Response(status=303, headers={"Location": link_to(request, inside(query.next))})
    response.del_cookie(_state_cookie(request, sent.state), path="/", secure=is_secure(request))
    set_cookie(request, response, login_id, lasts_s=int(lasts.total_seconds()))
    return response


@ROUTES.raw(
    "/login/allow",
    method="POST",
    right=Right.ANYBODY,
    summary="Let the command line of this machine log in.",
    content_types=("text/html",),
)
async def allow(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    form = await _form(call.request)
    asked = call.request.app[ASKED].take(form.get("handle", ""))
    if asked is None:
        raise BadInput("This login is over: run `noah login` again.")
    provider, granted, command_line = asked
    login = AllowedLogin(provider, granted, command_line.challenge)
    code = call.request.app[ALLOWED].put(login, by=granted.principal.id)
    answer = urlencode({"code": code, "state": command_line.state})
    return web.Response(status=303, headers={"Location": f"http://127.0.0.1:{command_line.port}/?{answer}"})


@ROUTES.raw("/logout", method="POST", right=Right.ANYBODY, summary="Log a browser out.", content_types=("text/html",))
async def log_out(call: Call[Nothing, Nothing]) -> web.StreamResponse:
    request = call.request
    response = web.Response(status=303, headers={"Location": link_to(request, "/login")})
    if login_id := cookie_of(request):
        record(request, TrailCode.LOGOUT)
        ended = await request.app[AUTHENTICATOR].log_out(login_id)
        if ended is not None:
            provider, granted = ended
            url = await end_at_provider(provider, granted, back_to=_back_to(request, "/login"))
            if url is not None:
                # A page that goes on by itself: browsers hold a redirect that answers a form to our form-action.
                context = {"provider": provider.name, "provider_url": url}
                response = render_form(request, "logged-out.html", context)
    remove_cookie(request, response)
    return response


async def end_at_provider(provider: OidcProvider, granted: Granted, *, back_to: str) -> str | None:
    """Revoke what the provider gave; return where a browser logs out of it. It may be away: the login is over here."""
    try:
        await provider.end(granted)
        return await provider.logout_url(granted.id_token, back_to=back_to)
    except NoahError:
        return None


def inside(path: str) -> str:
    """Return *path* if it leads to a page of this site: "//elsewhere" and "/\\elsewhere" lead out of it."""
    return path if re.match(r"/(?![/\\])[!-~]*$", path) else "/"


def _page(request: web.Request, query: LoginQuery, *, sentence: str | None = None) -> web.Response:
    given = query.model_dump(exclude_none=True) | {"next": inside(query.next)}
    context = {
        "next_page": given["next"],
        "query": urlencode(given),
        "sentence": sentence,
        "providers": list(request.app[AUTHENTICATOR].providers),
        "for_command_line": _command_line(query) is not None,
    }
    return render_form(request, "login.html", context, status=401 if sentence else 200, leads_to="")


def _provider(call: Call[Any, Any]) -> OidcProvider:
    name = call.path("provider")
    provider = call.request.app[AUTHENTICATOR].providers.get(name)
    if provider is None:
        raise NotFound(f"There is no provider {name[:80]!r}.")
    return provider


def _command_line(query: LoginQuery) -> CommandLine | None:
    if query.cli_port is None or query.cli_challenge is None or query.cli_state is None:
        return None
    return CommandLine(query.cli_port, query.cli_challenge, query.cli_state)


def _begun(request: web.Request, state: str, provider: OidcProvider) -> dict[str, Any]:
    """Return what this browser has begun. Raises BadInput if it has not, or not at this provider."""
    from cryptography.fernet import InvalidToken  # loaded with the seal

    sealed = request.cookies.get(_state_cookie(request, state), "") if state else ""
    try:
        begun: dict[str, Any] = json.loads(request.app[SEAL].decrypt(sealed.encode(), ttl=COMES_BACK_WITHIN_S))
    except InvalidToken:
        begun = {}
    if not secrets.compare_digest(str(begun.get("state", "")), state) or begun.get("provider") != provider.name:
        raise BadInput("This browser has not begun this login, or too long ago: log in again, from the page.")
    return begun


def _state_cookie(request: web.Request, state: str) -> str:
    """Return the name of the cookie of one login; a browser may begin several at once, in its tabs."""
    mark = re.sub(r"[^A-Za-z0-9]", "", state)[:16]
    return ("__Host-" if is_secure(request) else "") + f"noah-begun-{mark}"


def _back_to(request: web.Request, path: str) -> str:
    """Return the whole address of a page of this site, as the provider has to know it."""
    public = request.app[SETTINGS].gateway.public_url
    root = public.rstrip("/") if public else f"{'https' if is_secure(request) else 'http'}://{asked_host(request)}"
    return root + path


async def _form(request: web.Request) -> dict[str, str]:
    sent = await read_sent(request)
    if request.content_type != FORM:
        raise NotAForm()
    try:
        return dict(parse_qsl(sent.decode(), errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError:  # also what is not UTF-8
        raise BadInput(f"The form cannot be read: it has at most {MOST_FIELDS} fields, in UTF-8.") from None
