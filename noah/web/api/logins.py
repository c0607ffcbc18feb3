"""Logins of clients that are not browsers: how one can log in, the two ways of `noah login`, and who one is."""

import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from noah.access.oidc import DeviceLogin, Granted
from noah.access.pending import Pending
from noah.core.pkce import challenge_of
from noah.core.session.rights import Right
from noah.core.session.trail import TrailCode
from noah.errors import BadInput, Forbidden, NotFound, Unauthenticated, Unavailable
from noah.web.api.route import Call, Reply, Routes
from noah.web.api.sessions import PrincipalJson, principal_json
from noah.web.forwarded import remote_for_log
from noah.web.identity import bearer_of, principal_of
from noah.web.keys import AUTHENTICATOR, CLOCK
from noah.web.pages.login import ALLOWED, end_at_provider
from noah.web.permission import demand, record
from noah.web.wire import Model, Moment, Nothing, Text, moment

ROUTES = Routes()
DEVICE_LASTS_S = 1800.0  # at most; a provider's codes last shorter
MOST_DEVICES, MOST_DEVICES_EACH = 500, 10  # strangers may begin them

SLACK_S = 0.5  # a client's clock is not ours

Secret = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9._~-]+$")]


@dataclass(slots=True)
class OnDevice:
    provider: str
    login: DeviceLogin
    asked_at: float = 0.0  # the provider, last; by the machine's monotonic clock


DEVICES: web.AppKey[Pending[OnDevice]] = web.AppKey("devices")


class ProviderJson(TypedDict):
    name: str
    kind: Literal["oidc", "kubernetes"]
    issuer: str | None  # its URL


class ProvidersJson(TypedDict):
    items: list[ProviderJson]


class BeginBody(Model):
    provider: Text


class DeviceJson(TypedDict):
    device: str  # for the question whether the login is confirmed
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    interval_seconds: int
    expires_in_seconds: int


class LoginBody(Model):
    """Either what the browser brought to the command line, or what began on a device, or a cluster's token."""

    code: Secret | None = None
    verifier: Secret | None = Field(None, description="whose challenge the login was begun with")
    device: Secret | None = None
    cluster: Text | None = Field(None, description="the cluster that knows the token")
    token: Annotated[str, Field(max_length=8192, pattern=r"^[!-~]+$")] | None = None


class LoginJson(TypedDict):
    token: str | None  # for the header Authorization; null: not confirmed yet
    expires_at: Moment | None
    principal: PrincipalJson | None


class MeJson(TypedDict):
    principal: PrincipalJson
    groups: list[str]
    proof: str
    actor: PrincipalJson | None


class EndedJson(TypedDict):
    ended: int  # logins


class EndQuery(Model):
    everywhere: bool = Field(False, description="all logins of the person who asks")


@ROUTES.get("/api/v1/logins/providers", right=Right.ANYBODY, summary="Where one can log in.")
async def list_providers(call: Call[Nothing, Nothing]) -> Reply[ProvidersJson]:
    authenticator = call.request.app[AUTHENTICATOR]
    items: list[ProviderJson] = [
        {"name": one.name, "kind": "oidc", "issuer": one.settings.issuer} for one in authenticator.providers.values()
    ]
    items += [{"name": name, "kind": "kubernetes", "issuer": None} for name in authenticator.kubernetes.clusters]
    return Reply({"items": items})


@ROUTES.post(
    "/api/v1/logins/devices",
    right=Right.ANYBODY,
    summary="Begin a login that a person confirms on another device (RFC 8628).",
    statuses=(201,),
    errors=(NotFound, Forbidden, Unavailable),
)
async def begin_on_device(call: Call[Nothing, BeginBody]) -> Reply[DeviceJson]:
    provider = call.request.app[AUTHENTICATOR].providers.get(call.body.provider)
    if provider is None:
        raise NotFound(f"There is no provider {call.body.provider[:80]!r}.")
    login = await provider.begin_on_device()
    shown: DeviceJson = {
        "device": call.request.app[DEVICES].put(OnDevice(provider.name, login), by=remote_for_log(call.request)),
        "user_code": login.user_code,
        "verification_uri": login.verification_uri,
        "verification_uri_complete": login.verification_uri_complete,
        "interval_seconds": login.interval_s,
        "expires_in_seconds": login.expires_in_s,
    }
    return Reply(shown, 201)


@ROUTES.post(
    "/api/v1/logins",
    right=Right.ANYBODY,
    summary="Fetch a login that a person has confirmed: 201 with its token; 202 if it is not confirmed yet.",
    statuses=(201, 202),
    errors=(Unauthenticated, Forbidden, NotFound, Unavailable),
)
async def fetch_login(call: Call[Nothing, LoginBody]) -> Reply[LoginJson]:
    authenticator, body = call.request.app[AUTHENTICATOR], call.body
    if body.cluster is not None and body.token is not None:
        principal = await authenticator.kubernetes.reviewed(body.token, body.cluster)
        login_id, lasts = await authenticator.log_in(principal, None)
    else:
        found = await _confirmed(call)
        if found is None:
            return Reply({"token": None, "expires_at": None, "principal": None}, 202)
        principal = found[1].principal
        login_id, lasts = await authenticator.log_in(principal, found)
    record(call.request, TrailCode.LOGIN, who=principal)
    until = call.request.app[CLOCK]() + lasts
    answer: LoginJson = {
        "token": login_id,
        "expires_at": moment(until),
        "principal": principal_json(principal),
    }
    return Reply(answer, 201)


@ROUTES.delete("/api/v1/logins/mine", right=Right.SEE, summary="End the login that asks.", errors=(Unavailable,))
async def end_login(call: Call[EndQuery, Nothing]) -> Reply[EndedJson]:
    await demand(call.request, Right.SEE)
    record(call.request, TrailCode.LOGOUT)
    authenticator, token, count = call.request.app[AUTHENTICATOR], bearer_of(call.request), 0
    if token is not None and (ended := await authenticator.log_out(token)) is not None:
        await end_at_provider(*ended, back_to="")
        count = 1
    if call.query.everywhere:
        person = principal_of(call.request)
        count += await authenticator.log_out_everywhere(lambda one: one == person)
    return Reply({"ended": count})


@ROUTES.delete(
    "/api/v1/logins/{name}",
    right=Right.OPERATE,
    summary="End all logins of the people of this name; their tokens stay: `noah token revoke`.",
    errors=(Forbidden, Unavailable),
)
async def end_logins(call: Call[Nothing, Nothing]) -> Reply[EndedJson]:
    await demand(call.request, Right.OPERATE)
    name = call.path("name")
    ended = await call.request.app[AUTHENTICATOR].log_out_everywhere(lambda one: one.name == name)
    record(call.request, TrailCode.LOGOUT, sentence=f"All {ended} logins of {name[:200]!r} were ended.")
    return Reply({"ended": ended})


@ROUTES.get("/api/v1/me", right=Right.SEE, summary="Who asks, as the gateway knows it.")
async def me(call: Call[Nothing, Nothing]) -> Reply[MeJson]:
    await demand(call.request, Right.SEE)
    principal = principal_of(call.request)
    answer: MeJson = {
        "principal": principal_json(principal),
        "groups": sorted(principal.groups),
        "proof": principal.proof,
        "actor": principal_json(principal.actor) if principal.actor else None,
    }
    return Reply(answer)


async def _confirmed(call: Call[Nothing, LoginBody]) -> tuple[str, Granted] | None:
    app, body = call.request.app, call.body
    if body.device is not None:
        begun = app[DEVICES].look(body.device)
        if begun is None:
            raise Unauthenticated("This login is over: begin it again.")
        now = time.monotonic()
        if now - begun.asked_at < begun.login.interval_s - SLACK_S:
            return None
        begun.asked_at = now
        granted = await app[AUTHENTICATOR].providers[begun.provider].poll_device(begun.login)
        if granted is not None:
            app[DEVICES].take(body.device)
        return None if granted is None else (begun.provider, granted)
    if body.code is None or body.verifier is None:
        raise BadInput("A login is fetched with code and verifier, with device, or with cluster and token.")
    allowed = app[ALLOWED].take(body.code)
    if allowed is None or not secrets.compare_digest(challenge_of(body.verifier), allowed.challenge):
        raise Unauthenticated("This login is over, or somebody else's: begin it again.")
    return allowed.provider, allowed.granted
