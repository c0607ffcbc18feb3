"""Debug sessions: enable, list, show, extend, resume, end; and the files that point an IDE at one."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, Field, StrictBool
from typing_extensions import TypedDict

from noah.core import ide
from noah.core.page import Page
from noah.core.session.audit import foreseen
from noah.core.session.principal import Principal
from noah.core.session.rights import Right, area_of
from noah.core.session.session import Attachment, EndReason, Share, Status, VmState
from noah.core.session.target import PodTarget
from noah.core.session.trail import TrailCode
from noah.errors import BadInput, CannotDebug, Conflict, Forbidden, NotFound, Unavailable
from noah.proxy.tunnel import LineInfo
from noah.sessions.broker import no_such_session
from noah.sessions.live_session import LiveSession
from noah.settings import GatewaySettings, Network
from noah.web.api.route import Call, Reply, Routes
from noah.web.api.targets import find_target
from noah.web.forwarded import client_address
from noah.web.identity import known_principal, principal_of
from noah.web.keys import BROKER, CLOCK, PERMISSIONS, SETTINGS
from noah.web.paths import link_to
from noah.web.permission import demand, may, record, seen
from noah.web.until_shutdown import UNTIL_SHUTDOWN
from noah.web.wire import Length, Model, Moment, Nothing, Paged, Text, WaitQuery, maybe, moment

ROUTES = Routes()
LOOPBACK = ("127.0.0.0/8", "::1/128")  # where the debugger is, if the port is on loopback
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


def _network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is neither an address nor a network like 10.1.0.0/16") from None
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    return f"{mapped}/{network.prefixlen - 96}" if mapped and network.prefixlen >= 96 else str(network)


class EnableBody(Model):
    target: str = Field(
        description="pod/CLUSTER/NAMESPACE/POD[/CONTAINER], host/HOST/APP, local/NAME, app=NAME, or a workload: "
        "deploy/NAME, sts/NAME, ds/NAME, job/NAME, rollout/NAME"
    )
    length: Length | None = Field(None, alias="for")
    allow: list[Annotated[str, AfterValidator(_network)]] | None = Field(
        None, max_length=64, description="where a debugger may come from; the caller's own address unless given"
    )
    allow_exit: StrictBool = Field(False, description="let a debugger end the JVM")
    pause_budget: Length | None = Field(
        None, description="how long the whole VM may stand still; null: no limit; the configuration's unless given"
    )
    take_over: StrictBool = Field(False, description="the next debugger ends the one that is attached")
    confirm_restart: StrictBool = Field(
        False,
        description="an app on a host may be restarted for it; without that, 409 with needs_restart when it has to",
    )


class ExtendBody(Model):
    length: Length = Field(alias="for")


class ShareBody(Model):
    with_: Annotated[Text, Field(max_length=255)] = Field(
        alias="with", description="the name by which a colleague logs in, in the way in which the owner does"
    )
    to: Share | None = Field(Share.JOIN, description="join, take (become the owner too), or null: not any more")


class AskBody(Model):
    text: Annotated[Text, Field(max_length=500)] | None = Field(None, description="what for, in a few words")


class SessionsFilter(Model):
    owner: Text | None = Field(None, description="a person's name")
    mine: bool = Field(False, description="only those of the person who asks")
    environment: Text | None = None
    target: Text | None = Field(None, description="a target, or the beginning of one")
    status: Status | None = None
    end_reason: EndReason | None = None
    state: Literal["live", "ended", "all"] | None = Field(
        None, description="live, unless it is given, or an end_reason is asked for"
    )


class SessionsQuery(SessionsFilter, Paged):
    pass


class PrincipalJson(TypedDict):
    """A person, or a machine's account: the same if `id` is; the name is for people and not unique."""

    id: str
    kind: str
    issuer: str
    subject: str
    name: str


class AttachedJson(TypedDict):
    address: str
    since: Moment
    debugger: str | None
    vm_name: str | None


class VmJson(TypedDict):
    state: Literal["running", "thread-suspended", "suspended", "unknown"]
    since: Moment
    thread: str | None
    location: str | None


class LineJson(TypedDict):
    state: Literal["connected", "lost"]
    since: Moment
    address: str


class ConnectionJson(TypedDict):
    address: str
    debugger: str | None
    since: Moment
    until: Moment | None
    bytes_in: int
    bytes_out: int
    ended: str | None


class AuditJson(TypedDict):
    commands: dict[str, int]
    foreseen: dict[str, int]  # asked of the JVM by an accelerated line, ahead of a debugger
    connections: list[ConnectionJson]


class StepJson(TypedDict):
    at: Moment
    text: str


class SessionJson(TypedDict):
    id: str
    target: str
    status: str
    owner: str  # a name, for people
    owner_principal: PrincipalJson
    mine: bool
    app: str
    environment: str  # in which its target is, or was when it was there last
    workload: str | None
    host: str
    port: int
    needs_connect: bool
    created_at: Moment
    expires_at: Moment
    expires_in_seconds: int
    ended_at: Moment | None
    end_reason: str | None
    end_detail: str | None
    ended_by: str | None
    ended_by_principal: PrincipalJson | None
    reason: str | None
    attached: AttachedJson | None
    vm: VmJson | None
    line: LineJson | None
    allow: list[str]
    shares: dict[str, Share]
    allow_exit: bool
    pause_budget_seconds: float | None
    audit: AuditJson | None
    steps: list[StepJson]


SessionsJson = TypedDict("SessionsJson", {"items": list[SessionJson], "continue": str | None, "total": int})


@ROUTES.post(
    "/api/v1/sessions",
    right=Right.DEBUG,
    summary="Enable debugging: 201 when the session is new, 200 when the same person has it already.",
    statuses=(200, 201),
    errors=(Forbidden, NotFound, Conflict, CannotDebug, Unavailable),
)
async def enable(call: Call[WaitQuery, EnableBody]) -> Reply[SessionJson]:
    app, body = call.request.app, call.body
    info = await find_target(call.request, body.target, Right.DEBUG)
    told_budget = "pause_budget" in body.model_fields_set
    live, new = await app[BROKER].enable(
        info,
        owner=principal_of(call.request),
        length=body.length,
        allow=_allowed(call.request, body.allow),
        allow_exit=body.allow_exit,
        pause_budget=body.pause_budget if told_budget else app[SETTINGS].sessions.pause_budget,
        take_over=body.take_over,
        confirm_restart=body.confirm_restart,
    )
    if new:
        session = live.session
        more = {"until": moment(session.expires_at), "allow": list(session.allow), "port": session.port}
        _record(call.request, TrailCode.ENABLED, live, more=more)
    live = await _settled(call, live)
    location = {"Location": link_to(call.request, f"/api/v1/sessions/{live.session.id}")} if new else {}
    return Reply(json_of(call.request, live), 201 if new else 200, location)


def _allowed(request: web.Request, wanted: list[str] | None) -> tuple[str, ...]:
    """Return where a debugger may come from. Raises Forbidden for more than the configuration permits."""
    gateway, permitted = request.app[SETTINGS].gateway, request.app[PERMISSIONS].limits.allow_at_most
    if wanted is None:
        return LOOPBACK if _is_forwarded(gateway) else (_network(client_address(request)),)
    for text in wanted if not gateway.are_debug_ports_near else ():
        network = ipaddress.ip_network(text)
        if not any(_lies_within(network, one) for one in permitted) and not _is_own_address(request, text):
            most = ", ".join(map(str, permitted))
            raise Forbidden(f"allow: {text} is more than the gateway's configuration permits, which is {most}.")
    return tuple(wanted)


def _is_forwarded(gateway: GatewaySettings) -> bool:
    """True if debuggers come from the gateway's loopback, whatever the address of their people is."""
    return gateway.are_debug_ports_near and not gateway.is_on_loopback


def _lies_within(network: Network, other: Network) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]


def _is_own_address(request: web.Request, network: str) -> bool:
    try:
        return network == _network(client_address(request))
    except BadInput:
        return False


@ROUTES.get("/api/v1/sessions", right=Right.SEE, summary="Sessions, the newest first.", errors=(Unavailable,))
async def list_sessions(call: Call[SessionsQuery, Nothing]) -> Reply[SessionsJson]:
    page = await find(call.request, call.query, limit=call.query.limit, after=call.query.after)
    items = [json_of(call.request, live) for live in page.items]
    return Reply({"items": items, "continue": page.after, "total": page.total})


async def find(request: web.Request, wanted: SessionsFilter, *, limit: int, after: str | None) -> Page[LiveSession]:
    broker = request.app[BROKER]
    areas = await seen(request, await broker.areas())
    return await broker.find(
        seen_by=None if areas is None else (principal_of(request).id, areas),
        owner=wanted.owner,
        owner_id=principal_of(request).id if wanted.mine else None,
        environment=wanted.environment,
        target=wanted.target,
        status=wanted.status,
        end_reason=wanted.end_reason,
        state=wanted.state or ("all" if wanted.end_reason else "live"),
        limit=limit,
        after=after,
    )


@ROUTES.get(
    "/api/v1/sessions/{id}",
    right=Right.SEE,
    summary="One session; with wait, once it is ready, in use or ended.",
    errors=(NotFound, Unavailable),
)
async def show_session(call: Call[WaitQuery, Nothing]) -> Reply[SessionJson]:
    live = await visible_session(call.request)
    return Reply(json_of(call.request, await _settled(call, live)))


async def visible_session(request: web.Request) -> LiveSession:
    """Return the session in the path. One that the person may not see does not exist, unless it is their own."""
    session_id = _id(request)
    live = await request.app[BROKER].get(session_id)
    if not await may(request, Right.SEE, area_of(live.session.target)) and not _is_own(request, live):
        raise no_such_session(session_id)
    return live


async def _to_be_changed(request: web.Request) -> LiveSession:
    """Return the session in the path: one's own, or one that is shared with one, by DEBUG; any other by FREE."""
    live = await visible_session(request)
    is_theirs = _is_own(request, live) or principal_of(request).id in live.session.shares
    right = Right.DEBUG if is_theirs else Right.FREE
    await demand(request, right, area_of(live.session.target), called=f"session {live.session.id}")
    return live


def _record(request: web.Request, code: TrailCode, live: LiveSession, **more: Any) -> None:
    record(request, code, target=str(live.session.target), session=live.session.id, **more)


def _is_own(request: web.Request, live: LiveSession) -> bool:
    return principal_of(request) == live.session.owner


@ROUTES.post(
    "/api/v1/sessions/{id}/extend",
    right=Right.DEBUG,
    summary="Let a session last for so long from now, if that is later than it lasts already.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def extend(call: Call[Nothing, ExtendBody]) -> Reply[SessionJson]:
    await _to_be_changed(call.request)
    extended = call.request.app[BROKER].extend(
        _id(call.request), by=principal_of(call.request), length=call.body.length
    )
    live = await extended
    _record(call.request, TrailCode.EXTENDED, live, more={"until": moment(live.session.expires_at)})
    return Reply(json_of(call.request, live))


@ROUTES.post(
    "/api/v1/sessions/{id}/share",
    right=Right.DEBUG,
    summary="Let a colleague join the session, or take it over. They need the right to debug all the same.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def share_session(call: Call[Nothing, ShareBody]) -> Reply[SessionJson]:
    live, body = await visible_session(call.request), call.body
    owner = live.session.owner
    if not _is_own(call.request, live):
        raise Forbidden(f"Session {live.session.id} is {owner.name}'s, who may share it.")
    await demand(call.request, Right.DEBUG, area_of(live.session.target))
    # Somebody who logs in as its owner does: a name alone could be anybody's.
    colleague = replace(owner, subject=body.with_, name=body.with_)
    if colleague == owner:
        raise BadInput("with: this is you.")
    live = await call.request.app[BROKER].share(live.session.id, with_=colleague.id, share=body.to)
    sentence = f"{body.with_} may {body.to} it." if body.to else f"{body.with_} may do nothing with it any more."
    _record(call.request, TrailCode.SHARED, live, sentence=sentence, more={"with": colleague.id})
    return Reply(json_of(call.request, live))


@ROUTES.post(
    "/api/v1/sessions/{id}/join",
    right=Right.DEBUG,
    summary="Attach to a session that is shared with one: debuggers may come from one's address too.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def join_session(call: Call[Nothing, Nothing]) -> Reply[SessionJson]:
    live = await _shared(call.request, Share.JOIN, Share.TAKE)
    gateway = call.request.app[SETTINGS].gateway
    networks = LOOPBACK if _is_forwarded(gateway) else (_network(client_address(call.request)),)
    for network in networks:
        live = await call.request.app[BROKER].join(live.session.id, network=network)
    _record(call.request, TrailCode.JOINED, live, more={"allow": list(networks)})
    return Reply(json_of(call.request, live))


@ROUTES.post(
    "/api/v1/sessions/{id}/take",
    right=Right.DEBUG,
    summary="Become the owner of a session that its owner hands over.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def take_session(call: Call[Nothing, Nothing]) -> Reply[SessionJson]:
    live = await _shared(call.request, Share.TAKE)
    before = live.session.owner
    live = await call.request.app[BROKER].take(live.session.id, by=principal_of(call.request))
    _record(call.request, TrailCode.HANDED_OVER, live, sentence=f"It was {before.name}'s.", more={"before": before.id})
    return Reply(json_of(call.request, live))


async def _shared(request: web.Request, *shares: Share) -> LiveSession:
    """Return the session in the path, if it is shared so with the person, who may debug its target."""
    live = await visible_session(request)
    if live.session.shares.get(principal_of(request).id) not in shares:
        owner = live.session.owner.name
        raise Forbidden(f"Session {live.session.id} is {owner}'s, who has not shared it with you so: ask them.")
    await demand(request, Right.DEBUG, area_of(live.session.target))
    return live


@ROUTES.post(
    "/api/v1/sessions/{id}/resume",
    right=Right.DEBUG,
    summary="Resume the whole VM by closing the debugger's connection.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def resume(call: Call[Nothing, Nothing]) -> Reply[SessionJson]:
    await _to_be_changed(call.request)
    resumed = call.request.app[BROKER].resume(_id(call.request), by=principal_of(call.request))
    live = await resumed
    _record(call.request, TrailCode.RESUMED, live)
    return Reply(json_of(call.request, live))


@ROUTES.post(
    "/api/v1/sessions/{id}/ask",
    right=Right.SEE,
    summary="Ask the owner of a session to resume; their page shows it.",
    errors=(NotFound, Conflict, Unavailable),
)
async def ask(call: Call[Nothing, AskBody]) -> Reply[SessionJson]:
    await visible_session(call.request)
    asked = call.request.app[BROKER].ask(_id(call.request), by=principal_of(call.request), text=call.body.text)
    live = await asked
    _record(call.request, TrailCode.ASKED, live)
    return Reply(json_of(call.request, live))


@ROUTES.delete(
    "/api/v1/sessions/{id}",
    right=Right.DEBUG,
    summary="End a session; with wait, once nothing of it is left.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def end(call: Call[WaitQuery, Nothing]) -> Reply[SessionJson]:
    app, session_id, wait = call.request.app, _id(call.request), call.query.wait
    found = await visible_session(call.request)
    if not _is_own(call.request, found):  # one's own may be ended without any right
        await demand(call.request, Right.FREE, area_of(found.session.target), called=f"session {session_id}")
    live = await app[BROKER].end(session_id, by=principal_of(call.request))
    if wait:
        live = await app[UNTIL_SHUTDOWN].result_of(lambda: app[BROKER].ended(session_id, within=wait)) or live
    return Reply(json_of(call.request, live))


@ROUTES.raw(
    "/api/v1/sessions/{id}/ide/{format}",
    right=Right.DEBUG,
    summary="A run configuration for intellij, vscode or eclipse; the command line for jdb.",
    content_types=tuple(sorted({one.content_type for one in ide.FORMATS.values()})),
    errors=(NotFound, Unavailable),
)
async def ide_file(call: Call[Nothing, Nothing]) -> web.Response:
    request, kind = call.request, call.path("format")
    if kind not in ide.FORMATS:
        raise NotFound(f"There are no files for {kind[:40]!r}; there are {', '.join(ide.FORMATS)}.")
    live = await visible_session(request)
    session = live.session
    await demand(request, Right.DEBUG, area_of(session.target), called=f"session {session.id}")
    name = session.app
    if isinstance(session.target, PodTarget):
        name += f" ({session.target.namespace})"
    address = _address(live, request.app[SETTINGS].gateway, live.line_of(principal_of(request)))
    text = ide.FORMATS[kind].text(*address, name)
    return web.Response(
        text=text,
        content_type=ide.FORMATS[kind].content_type,
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{ide.filename(kind, name)}"'},
    )


def session_json(
    live: LiveSession, *, gateway: GatewaySettings, now: datetime, asked_by: Principal | None
) -> SessionJson:
    session, facts = live.session, live.facts
    line = live.line_of(asked_by)
    host, port = _address(live, gateway, line)
    return {
        "id": session.id,
        "target": str(session.target),
        "status": str(live.status),
        "owner": session.owner.name,
        "owner_principal": principal_json(session.owner),
        "mine": session.owner == asked_by,
        "app": session.app,
        "environment": session.environment,
        "workload": session.workload,
        "host": host,
        "port": port,
        "needs_connect": (_is_forwarded(gateway) or not gateway.plain_ports) and line is None,
        "created_at": moment(session.created_at),
        "expires_at": moment(session.expires_at),
        "expires_in_seconds": 0 if session.is_over else max(0, int((session.expires_at - now).total_seconds())),
        "ended_at": maybe(moment, session.ended_at),
        "end_reason": maybe(str, session.end_reason),
        "end_detail": session.end_detail,
        "ended_by": session.ended_by.name if session.ended_by else None,
        "ended_by_principal": maybe(principal_json, session.ended_by),
        "reason": live.reason,
        "attached": maybe(_attached_json, facts.attached),
        "vm": maybe(_vm_json, facts.vm),
        "line": maybe(_line_json, line),
        "allow": list(session.allow),
        "shares": dict(session.shares),
        "allow_exit": session.allow_exit,
        "pause_budget_seconds": maybe(timedelta.total_seconds, session.pause_budget),
        "audit": maybe(_audit_json, live.audit),
        "steps": [{"at": moment(step.at), "text": step.text} for step in live.steps],
    }


def principal_json(principal: Principal) -> PrincipalJson:
    return {
        "id": principal.id,
        "kind": principal.kind,
        "issuer": principal.issuer,
        "subject": principal.subject,
        "name": principal.name,
    }


def _attached_json(attached: Attachment) -> AttachedJson:
    return {
        "address": attached.address,
        "since": moment(attached.since),
        "debugger": attached.debugger,
        "vm_name": attached.vm_name,
    }


def _vm_json(vm: VmState) -> VmJson:
    return {"state": vm.vm.value, "since": moment(vm.since), "thread": vm.thread, "location": vm.location}


def _line_json(line: LineInfo) -> LineJson:
    return {"state": "lost" if line.is_lost else "connected", "since": moment(line.since), "address": line.address}


def _address(live: LiveSession, gateway: GatewaySettings, line: LineInfo | None) -> tuple[str, int]:
    """Return where a debugger is pointed at: the gateway's port, or that of `noah connect` on the laptop."""
    return (gateway.shown_debug_host, live.session.port) if line is None else ("localhost", line.port)


def _audit_json(audit: Mapping[str, Any]) -> AuditJson:
    return {
        "commands": dict(audit["commands"]),
        "foreseen": dict(foreseen(audit)),
        "connections": [_connection_json(c) for c in audit["connections"]],
    }


def _connection_json(summary: Mapping[str, Any]) -> ConnectionJson:
    return {
        "address": summary["address"],
        "debugger": summary["debugger"],
        "since": _reread(summary["since"]),
        "until": maybe(_reread, summary["until"]),
        "bytes_in": summary["bytes_in"],
        "bytes_out": summary["bytes_out"],
        "ended": summary["ended"],
    }


def _reread(at: str) -> Moment:
    """Write a moment of an audit, which is text in the database, as the API does."""
    return moment(datetime.fromisoformat(at))


def json_of(request: web.Request, live: LiveSession) -> SessionJson:
    app = request.app
    return session_json(live, gateway=app[SETTINGS].gateway, now=app[CLOCK](), asked_by=known_principal(request))


def _id(request: web.Request) -> str:
    """Return the ID in the path. Raises NotFound for what cannot be one: no database takes a NUL in a text."""
    session_id = request.match_info["id"]
    if not _ID.fullmatch(session_id):
        raise NotFound(f"There is no session {session_id[:40]!r}.")
    return session_id


async def _settled(call: Call[WaitQuery, Any], live: LiveSession) -> LiveSession:
    broker, wait = call.request.app[BROKER], call.query.wait
    if not wait:
        return live
    return (
        await call.request.app[UNTIL_SHUTDOWN].result_of(lambda: broker.settled(live.session.id, within=wait)) or live
    )
