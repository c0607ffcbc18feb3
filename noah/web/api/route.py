"""One call of the API: its path, what it takes, what it answers; the site and openapi.json are made from the same."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_origin

from aiohttp import web
from pydantic import ValidationError

from noah.errors import BadInput, NoahError
from noah.web.problems import UnsupportedType, bad_input
from noah.web.wire import Model, Nothing

Q = TypeVar("Q", bound=Model)
B = TypeVar("B", bound=Model)
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    request: web.Request
    query: Q
    body: B

    def path(self, name: str) -> str:
        return self.request.match_info[name]


@dataclass(frozen=True, slots=True)
class Answer(Generic[A]):
    json: A
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[Q, B, A]):
    """*answer* is the type of the JSON that the handler gives. The path's names are aiohttp's and OpenAPI's."""

    method: str
    path: str
    handler: Callable[[Call[Q, B]], Awaitable[Answer[A]]]
    summary: str
    query: type[Q]
    body: type[B]
    answer: type[A]
    statuses: tuple[int, ...] = (200,)  # that come with an answer
    errors: tuple[type[NoahError], ...] = ()

    async def serve(self, request: web.Request) -> web.Response:
        call = Call(request, _read_query(request, self.query), await _read_body(request, self.body))
        answer = await self.handler(call)
        return web.Response(
            body=json.dumps(answer.json, ensure_ascii=False, separators=(",", ":")).encode(),
            status=answer.status,
            headers=answer.headers,
            content_type="application/json",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw(Generic[Q]):
    """A GET whose handler writes the answer itself: a file, a stream."""

    path: str
    handler: Callable[[Call[Q, Nothing]], Awaitable[web.StreamResponse]]
    summary: str
    query: type[Q]
    content_types: tuple[str, ...]
    errors: tuple[type[NoahError], ...] = ()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        return await self.handler(Call(request, _read_query(request, self.query), Nothing()))


def _read_query(request: web.Request, model: type[Q]) -> Q:
    several = {name for name, one in model.model_fields.items() if get_origin(one.annotation) is list}
    given: dict[str, Any] = {}
    for name in request.query:
        values = request.query.getall(name)
        if name not in several and len(values) > 1:
            raise BadInput(f"{name[:60]!r} can be given once only.")
        given[name] = values if name in several else values[0]
    try:
        return model.model_validate(given)
    except ValidationError as e:
        raise bad_input(e, known=_names(model)) from None


async def _read_body(request: web.Request, model: type[B]) -> B:
    try:
        sent = await request.read()
    except web.RequestPayloadError:
        raise BadInput("The body cannot be read: it is cut, or not compressed as its header says.") from None
    if not sent and model is Nothing:
        return model()
    if sent and request.content_type != "application/json":
        raise UnsupportedType()
    if not sent:
        raise BadInput(f"The body is missing: JSON, with {', '.join(_names(model))}.")
    try:
        return model.model_validate_json(sent)
    except ValidationError as e:
        raise bad_input(e, known=_names(model)) from None


def _names(model: type[Model]) -> list[str]:
    return [one.alias or name for name, one in model.model_fields.items()]
