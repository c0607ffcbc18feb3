"""The trail: what people and debuggers did, the newest first; and whether any of it is missing."""

import json
from typing import Any

from pydantic import Field
from typing_extensions import TypedDict

from noah.core.session.rights import Right
from noah.core.session.trail import Outcome, TrailCode, TrailRow
from noah.errors import BadInput, Unavailable
from noah.store.trail import TrailStore
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import TRAIL_ROWS
from noah.web.wire import Moment, Nothing, Paged, Text

ROUTES = Routes()


class TrailQuery(Paged):
    code: TrailCode | None = None
    who: Text | None = Field(None, description="the name of who did it")
    target: Text | None = Field(None, description="a target, or the beginning of one")
    session: Text | None = None


class WhoJson(TypedDict):
    id: str
    kind: str
    issuer: str
    subject: str
    name: str
    proof: str
    actor: dict[str, str] | None  # what asked for them with a credential of its own


RowJson = TypedDict(
    "RowJson",
    {
        "number": int,
        "at": Moment,
        "code": TrailCode,
        "who": WhoJson | None,
        "via": str,
        "from": str,
        "target": str,
        "session": str,
        "outcome": Outcome,
        "sentence": str,
        "request": str,
        "more": dict[str, Any],
        "hash": str,
    },
)
TrailJson = TypedDict("TrailJson", {"items": list[RowJson], "continue": str | None})


class VerdictJson(TypedDict):
    whole: bool
    first: int | None  # the number of the oldest row that is kept
    last: int | None
    last_hash: str | None  # kept elsewhere, it shows later whether newer rows were cut off
    problems: list[str]


@ROUTES.get("/api/v1/trail", right=Right.READ_TRAIL, summary="The trail, the newest row first.", errors=(Unavailable,))
async def list_trail(call: Call[TrailQuery, Nothing]) -> Reply[TrailJson]:
    rows, following = await find_rows(call.request.app[TRAIL_ROWS], call.query)
    return Reply({"items": rows, "continue": following})


@ROUTES.get(
    "/api/v1/trail/verification",
    right=Right.READ_TRAIL,
    summary="Whether rows of the trail are missing or were changed. Reads all of it.",
    errors=(Unavailable,),
)
async def verify_trail(call: Call[Nothing, Nothing]) -> Reply[VerdictJson]:
    chain = await call.request.app[TRAIL_ROWS].verify()
    last = chain.last
    problems = chain.verdict()
    return Reply(
        {
            "whole": not problems,
            "first": chain.first,
            "last": last.number if last else None,
            "last_hash": last.hash if last else None,
            "problems": problems[:100],
        }
    )


async def find_rows(store: TrailStore, query: TrailQuery) -> tuple[list[RowJson], str | None]:
    """Return a page of rows, and what asks for the next."""
    before = query.after
    if before is not None and not (before.isascii() and before.isdigit() and len(before) < 10):
        raise BadInput("continue: this is not a token; take the one that the page before gave.")
    found = await store.find(
        code=query.code,
        who=query.who,
        target_prefix=query.target,
        session=query.session,
        before=int(before) if before else None,
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    return [_json_of(row) for row in shown], str(shown[-1].number) if len(found) > len(shown) else None


def _json_of(row: TrailRow) -> RowJson:
    found: RowJson = json.loads(row.text) | {"number": row.number, "hash": row.hash}
    return found
