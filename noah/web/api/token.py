"""The endpoint at which portals exchange tokens (RFC 8693): a form comes, JSON as of RFC 6749, section 5 goes."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from aiohttp import web

from noah.access.token_exchange import ACCESS_TOKEN, LASTS, ClientUnknown, ExchangeRefused
from noah.core.session.rights import Right
from noah.core.session.trail import Outcome, TrailCode
from noah.errors import BadInput, Unavailable
from noah.web.api.route import Call, Routes, read_sent
from noah.web.forwarded import asked_host
from noah.web.identity import TOKEN_ENDPOINT, is_secure
from noah.web.keys import AUTHENTICATOR, SETTINGS
from noah.web.permission import record
from noah.web.wire import Nothing

ROUTES = Routes()
MOST_FIELDS = 30


@ROUTES.raw(
    TOKEN_ENDPOINT,
    method="POST",
    right=Right.ANYBODY,
    summary="For portals: exchange a person's token for one of the gateway's (RFC 8693); a form, not JSON.",
    content_types=("application/json",),
)
async def token(call: Call[Nothing, Nothing]) -> web.Response:
    request = call.request
    try:
        form, basic = await _form(request), _basic(request)
        exchanged = await request.app[AUTHENTICATOR].exchange.exchange(
            form, basic, endpoint=_address(request, TOKEN_ENDPOINT), gateway=_address(request, "/")
        )
    except ExchangeRefused as e:
        record(request, TrailCode.DENIED, outcome=Outcome.DENIED, sentence=f"A token was not exchanged. {e.sentence}")
        headers = {"WWW-Authenticate": 'Basic realm="noah"'} if isinstance(e, ClientUnknown) else {}
        refused = {"error": e.error, "error_description": _ascii(e.sentence)}
        return web.json_response(refused, status=e.http_status, headers=headers)
    except Unavailable as e:
        refused = {"error": "temporarily_unavailable", "error_description": _ascii(e.sentence)}
        return web.json_response(refused, status=e.http_status)
    record(request, TrailCode.LOGIN, who=exchanged.principal)
    answer = {
        "access_token": exchanged.token,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": int(LASTS.total_seconds()),
        "scope": exchanged.scope,
    }
    return web.json_response(answer, headers={"Pragma": "no-cache"})


async def _form(request: web.Request) -> Mapping[str, str]:
    """Return the fields. An empty one is as good as none, and none comes twice (RFC 6749, section 3.2)."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise ExchangeRefused("invalid_request", "The body has to be application/x-www-form-urlencoded.")
    try:
        sent = (await read_sent(request)).decode()
        fields = parse_qsl(sent, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except (BadInput, ValueError):
        raise ExchangeRefused("invalid_request", "The body is not a form of UTF-8, or has too many fields.") from None
    form = dict(fields)
    if len(form) < len(fields):
        raise ExchangeRefused("invalid_request", "A field of the form comes twice.")
    return {name: value for name, value in form.items() if value}


def _basic(request: web.Request) -> tuple[str, str] | None:
    """Return the name and the secret of the header Authorization, as RFC 6749, section 2.3.1 writes them."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, encoded = header.partition(" ")
    try:
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if scheme.lower() != "basic" or not colon:
        raise ClientUnknown("The header Authorization has to be `Basic`, with the portal's name and secret.")
    return unquote_plus(name), unquote_plus(secret)


def _address(request: web.Request, path: str) -> str:
    """Return the URL of *path* as the portal sees it."""
    gateway = request.app[SETTINGS].gateway
    origin = gateway.public_origin or f"{'https' if is_secure(request) else 'http'}://{asked_host(request)}"
    return origin + gateway.public_path + path


def _ascii(sentence: str) -> Any:
    """RFC 6749, section 5.2: neither a quote nor a backslash, and ASCII only."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "'" if c in '"\\' else "?" for c in sentence)
