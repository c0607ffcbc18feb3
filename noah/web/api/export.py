"""All sessions of a filter as a file of any length: it is written while the database is read, page by page."""

import asyncio
import csv
import io
import json
import logging
import re
from collections.abc import Callable, Iterable

from aiohttp import web

from noah.core.session.rights import Right
from noah.errors import NoahError, Unavailable
from noah.sessions.live_session import LiveSession
from noah.web.api.route import Call, Routes
from noah.web.api.sessions import SessionJson, SessionsFilter, find, json_of
from noah.web.wire import Nothing

log = logging.getLogger(__name__)

ROUTES = Routes()

AT_ONCE = 500  # sessions; some hundred KiB
READS_WITHIN = 30.0  # seconds; a client that reads slower than AT_ONCE in that time has gone away
PLAIN = (
    "id", "target", "app", "workload", "owner", "status", "port",
    "created_at", "expires_at", "ended_at", "end_reason", "end_detail", "ended_by",
)  # fmt: skip
COLUMNS = (*PLAIN, "connections", "debuggers", "bytes_in", "bytes_out", "commands")
# What a spreadsheet would take for a formula, and run: at a cell's beginning, where some drop blanks first, and behind
# what some take for a separator of cells. The signs exist in full width too, and Excel takes those for the same.
FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@＝＋－＠]|[;\t\r\n])")

Written = Callable[[Iterable[SessionJson]], str]


@ROUTES.raw(
    "/api/v1/sessions.csv",
    right=Right.SEE,
    summary="All sessions of a filter as a table.",
    content_types=("text/csv",),
    errors=(Unavailable,),
)
async def export_csv(call: Call[SessionsFilter, Nothing]) -> web.StreamResponse:
    return await _export(call, _table([COLUMNS]), _rows, content_type="text/csv", name="sessions.csv")


@ROUTES.raw(
    "/api/v1/sessions.jsonl",
    right=Right.SEE,
    summary="All sessions of a filter, each a line of JSON.",
    content_types=("application/jsonl",),
    errors=(Unavailable,),
)
async def export_lines(call: Call[SessionsFilter, Nothing]) -> web.StreamResponse:
    return await _export(call, "", _lines, content_type="application/jsonl", name="sessions.jsonl")


async def _export(
    call: Call[SessionsFilter, Nothing], head: str, written: Written, *, content_type: str, name: str
) -> web.StreamResponse:
    request = call.request
    page = await find(request, call.query, limit=AT_ONCE, after=None)  # what it refuses is still an answer
    response = web.StreamResponse(headers={"Content-Disposition": f'attachment; filename="{name}"'})
    response.content_type, response.charset = content_type, "utf-8"
    await response.prepare(request)
    try:
        await _write(response, head + written(_json(request, page.items)))
        while page.after is not None:
            page = await find(request, call.query, limit=AT_ONCE, after=page.after)
            await _write(response, written(_json(request, page.items)))
    except ConnectionResetError:
        pass  # the client went away
    except (NoahError, TimeoutError) as e:
        # A file that ends early must not look like a whole one: its last chunk is never sent.
        log.warning("the export of sessions is cut short: %s", str(e) or "the client does not read")
        if request.transport is not None:
            request.transport.abort()
    return response


async def _write(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(READS_WITHIN):
        await response.write(text.encode(errors="replace"))


def _json(request: web.Request, sessions: Iterable[LiveSession]) -> Iterable[SessionJson]:
    return (json_of(request, live) for live in sessions)


def _lines(sessions: Iterable[SessionJson]) -> str:
    return "".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) + "\n" for one in sessions)


def _rows(sessions: Iterable[SessionJson]) -> str:
    return _table(_row(one) for one in sessions)


def _row(session: SessionJson) -> Iterable[object]:
    audit = session["audit"]
    connections = audit["connections"] if audit else []
    yield from (session[name] for name in PLAIN)  # type: ignore[literal-required]
    yield len(connections)
    yield ", ".join(sorted({one["debugger"] for one in connections if one["debugger"]}))
    yield sum(one["bytes_in"] for one in connections)
    yield sum(one["bytes_out"] for one in connections)
    yield " ".join(f"{name}:{count}" for name, count in (audit["commands"] if audit else {}).items())


def _table(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([plain_cell(value) for value in row] for row in rows)
    return text.getvalue()


def plain_cell(value: object) -> object:
    """Return *value* as a spreadsheet shows it instead of running it: with an apostrophe before each formula."""
    return FORMULA.sub(r"\1'", value) if isinstance(value, str) else value
