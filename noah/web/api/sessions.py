"""Debug sessions: enable, list, show, extend, resume, end; and the files that point an IDE at one."""

import ipaddress
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, Field, StrictBool
from typing_extensions import TypedDict

from noah.core import ide
from noah.core.page import Page
from noah.core.session.principal import Principal
from noah.core.session.rights import Right
from noah.core.session.session import Attachment, EndReason, Status, VmState
from noah.core.session.target import PodTarget, parse_wanted
from noah.errors import CannotDebug, Conflict, Forbidden, NotFound, Unavailable
from noah.sessions.live_session import LiveSession
from noah.web.api.route import Call, Reply, Routes
from noah.web.forwarded import client_address
from noah.web.identity import known_principal, principal_of
from noah.web.keys import BROKER, CLOCK, SETTINGS
from noah.web.paths import link_to
from noah.web.until_shutdown import UNTIL_SHUTDOWN
from noah.web.wire import Length, Model, Moment, Nothing, Paged, Text, WaitQuery, maybe, moment

ROUTES = Routes()
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


class AskBody(Model):
    text: Annotated[Text, Field(max_length=500)] | None = Field(None, description="what for, in a few words")


class SessionsFilter(Model):
    owner: Text | None = Field(None, description="a person's name")
    mine: bool = Field(False, description="only those of the person who asks")
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
    workload: str | None
    host: str
    port: int
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
    allow: list[str]
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
    told_budget = "pause_budget" in body.model_fields_set
    live, new = await app[BROKER].enable(
        parse_wanted(body.target),
        owner=principal_of(call.request),
        length=body.length,
        allow=tuple([_network(client_address(call.request))] if body.allow is None else body.allow),
        allow_exit=body.allow_exit,
        pause_budget=body.pause_budget if told_budget else app[SETTINGS].sessions.pause_budget,
        take_over=body.take_over,
        confirm_restart=body.confirm_restart,
    )
    live = await _settled(call, live)
    location = {"Location": link_to(call.request, f"/api/v1/sessions/{live.session.id}")} if new else {}
    return Reply(json_of(call.request, live), 201 if new else 200, location)


@ROUTES.get("/api/v1/sessions", right=Right.SEE, summary="Sessions, the newest first.", errors=(Unavailable,))
async def list_sessions(call: Call[SessionsQuery, Nothing]) -> Reply[SessionsJson]:
    page = await find(call.request, call.query, limit=call.query.limit, after=call.query.after)
    items = [json_of(call.request, live) for live in page.items]
    return Reply({"items": items, "continue": page.after, "total": page.total})


async def find(request: web.Request, wanted: SessionsFilter, *, limit: int, after: str | None) -> Page[LiveSession]:
    return await request.app[BROKER].find(
        owner=wanted.owner,
        owner_id=principal_of(request).id if wanted.mine else None,
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
    live = await call.request.app[BROKER].get(_id(call.request))
    return Reply(json_of(call.request, await _settled(call, live)))


@ROUTES.post(
    "/api/v1/sessions/{id}/extend",
    right=Right.DEBUG,
    summary="Let a session last for so long from now, if that is later than it lasts already.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def extend(call: Call[Nothing, ExtendBody]) -> Reply[SessionJson]:
    extended = call.request.app[BROKER].extend(
        _id(call.request), by=principal_of(call.request), length=call.body.length
    )
    return Reply(json_of(call.request, await extended))


@ROUTES.post(
    "/api/v1/sessions/{id}/resume",
    right=Right.DEBUG,
    summary="Resume the whole VM by closing the debugger's connection.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def resume(call: Call[Nothing, Nothing]) -> Reply[SessionJson]:
    resumed = call.request.app[BROKER].resume(_id(call.request), by=principal_of(call.request))
    return Reply(json_of(call.request, await resumed))


@ROUTES.post(
    "/api/v1/sessions/{id}/ask",
    right=Right.SEE,
    summary="Ask the owner of a session to resume; their page shows it.",
    errors=(NotFound, Conflict, Unavailable),
)
async def ask(call: Call[Nothing, AskBody]) -> Reply[SessionJson]:
    asked = call.request.app[BROKER].ask(_id(call.request), by=principal_of(call.request), text=call.body.text)
    return Reply(json_of(call.request, await asked))


@ROUTES.delete(
    "/api/v1/sessions/{id}",
    right=Right.DEBUG,
    summary="End a session; with wait, once nothing of it is left.",
    errors=(Forbidden, NotFound, Conflict, Unavailable),
)
async def end(call: Call[WaitQuery, Nothing]) -> Reply[SessionJson]:
    app, session_id, wait = call.request.app, _id(call.request), call.query.wait
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
    session = (await request.app[BROKER].get(_id(request))).session
    name = session.app
    if isinstance(session.target, PodTarget):
        name += f" ({session.target.namespace})"
    text = ide.FORMATS[kind].text(request.app[SETTINGS].gateway.advertised_host, session.port, name)
    return web.Response(
        text=text,
        content_type=ide.FORMATS[kind].content_type,
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{ide.filename(kind, name)}"'},
    )


def session_json(live: LiveSession, *, host: str, now: datetime, asked_by: Principal | None) -> SessionJson:
    session, facts = live.session, live.facts
    return {
        "id": session.id,
        "target": str(session.target),
        "status": str(live.status),
        "owner": session.owner.name,
        "owner_principal": principal_json(session.owner),
        "mine": session.owner == asked_by,
        "app": session.app,
        "workload": session.workload,
        "host": host,
        "port": session.port,
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
        "allow": list(session.allow),
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


def _audit_json(audit: Mapping[str, Any]) -> AuditJson:
    return {"commands": dict(audit["commands"]), "connections": [_connection_json(c) for c in audit["connections"]]}


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
    return session_json(
        live, host=app[SETTINGS].gateway.advertised_host, now=app[CLOCK](), asked_by=known_principal(request)
    )


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
