"""Errors as RFC 9457 writes them: each error becomes JSON here and nowhere else."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NotRequired

from aiohttp import web
from pydantic import ValidationError
from typing_extensions import TypedDict

from noah.errors import AlreadyDebugged, BadInput, NeedsRestart, NoahError, NotFound
from noah.web.paths import root_of

CONTENT_TYPE = "application/problem+json"
BUG = "Something went wrong inside the gateway; its log has the details (request {id})."
# Sentences for what aiohttp itself refuses.
_REFUSALS = {
    404: "There is nothing at {path}; /openapi.json says what there is.",
    405: "{path} has no {method}.",
    413: "The body of a request has at most 64 KiB.",
}


class Problem(TypedDict):
    type: str  # a link to what the gateway has to say of the code in its fragment: ../../help#already-debugged
    title: str
    status: int
    detail: str  # one sentence
    instance: str
    holder: NotRequired[str]  # who debugs the target already
    session: NotRequired[str]
    needs_restart: NotRequired[bool]  # the same request with confirm_restart is accepted


class UnsupportedType(NoahError):
    """A body is JSON: set Content-Type: application/json."""

    http_status = 415


class TooSlow(NoahError):
    """The body of the request took too long: send it at once."""

    http_status = 408


def problem_of(request: web.Request, error: NoahError) -> Problem:
    problem = _problem(request, error.http_status, error.code, error.sentence)
    if isinstance(error, AlreadyDebugged):
        problem |= {"holder": error.holder, "session": error.session_id}
    elif isinstance(error, NeedsRestart):
        problem |= {"needs_restart": True}
    return problem


def refusal_of(request: web.Request, error: web.HTTPException) -> Problem:
    sentence = _REFUSALS.get(error.status, f"{error.reason}.")
    code = NotFound.code if error.status == 404 else BadInput.code
    return _problem(request, error.status, code, sentence.format(path=request.path[:200], method=request.method))


def bug_of(request: web.Request, request_id: str) -> Problem:
    return _problem(request, 500, NoahError.code, BUG.format(id=request_id))


def _problem(request: web.Request, status: int, code: str, detail: str) -> Problem:
    return {
        "type": f"{root_of(request)}help#{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.rel_url.raw_path[:200],
    }


def bad_input(error: ValidationError, *, known: Sequence[str]) -> BadInput:
    """One sentence about the first thing that is wrong."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"][:1])
    match first["type"]:
        case "json_invalid":
            return BadInput(f"The body is not JSON ({first['msg'].removeprefix('Invalid JSON: ')}).")
        case "extra_forbidden":
            takes = ", ".join(known) or "none"
            return BadInput(f"Unknown parameter {_shown(field)}; this call takes {takes}.")
        case "missing":
            return BadInput(f"{field} is missing.")
        case "model_type" | "model_attributes_type":
            return BadInput("The body is not a JSON object.")
        case _:
            return BadInput(f"{field}: {_said(first)}.")


def _said(error: Any) -> str:
    message: str = error["msg"].rstrip(".")
    # Pydantic's sentences begin with a capital letter; those of our own validators continue after the colon.
    return (
        message.removeprefix("Value error, ") if error["type"] == "value_error" else message[:1].lower() + message[1:]
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
