"""A call of the API, declared beside its handler: its path, the right it needs, what it takes and answers.

The site and openapi.json are made from the declarations. What a handler takes and answers is read from its annotations,
`Call[QUERY, BODY]` and `Reply[JSON]`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from aiohttp import web
from pydantic import ValidationError

from noah.core.session.rights import Right
from noah.errors import BadInput, NoahError
from noah.http_limits import BODY_WITHIN_S
from noah.web.permission import enter
from noah.web.problems import TooSlow, UnsupportedType, bad_input
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
class Reply(Generic[A]):
    json: A
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


JsonHandler = TypeVar("JsonHandler", bound=Callable[[Call[Any, Any]], Awaitable[Reply[Any]]])
RawHandler = TypeVar("RawHandler", bound=Callable[[Call[Any, Nothing]], Awaitable[web.StreamResponse]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A call that answers JSON. The path's names are aiohttp's and OpenAPI's."""

    method: str
    path: str
    right: Right
    handler: Callable[[Call[Any, Any]], Awaitable[Reply[Any]]]
    summary: str
    query: type[Model]
    body: type[Model]
    answer: Any  # the type of the JSON
    statuses: tuple[int, ...] = (200,)  # that come with an answer
    errors: tuple[type[NoahError], ...] = ()

    async def serve(self, request: web.Request) -> web.Response:
        await enter(request, self.right)
        call = Call(request, _read_query(request, self.query), await _read_body(request, self.body))
        reply = await self.handler(call)
        return web.Response(
            body=json.dumps(reply.json, ensure_ascii=False, separators=(",", ":")).encode(),
            status=reply.status,
            headers=reply.headers,
            content_type="application/json",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A call whose handler writes the answer itself: a file, a stream, a page."""

    method: str = "GET"
    path: str
    right: Right
    handler: Callable[[Call[Any, Nothing]], Awaitable[web.StreamResponse]]
    summary: str
    query: type[Model]
    content_types: tuple[str, ...]
    errors: tuple[type[NoahError], ...] = ()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        await enter(request, self.right)
        return await self.handler(Call(request, _read_query(request, self.query), Nothing()))


AnyRoute = Route | Raw


class Routes:
    """Collects the routes of one resource; its methods are decorators for their handlers."""

    def __init__(self) -> None:
        self.declared: list[AnyRoute] = []

    def get(
        self,
        path: str,
        *,
        right: Right,
        summary: str,
        statuses: tuple[int, ...] = (200,),
        errors: tuple[type[NoahError], ...] = (),
    ) -> Callable[[JsonHandler], JsonHandler]:
        return self._json("GET", path, right=right, summary=summary, statuses=statuses, errors=errors)

    def post(
        self,
        path: str,
        *,
        right: Right,
        summary: str,
        statuses: tuple[int, ...] = (200,),
        errors: tuple[type[NoahError], ...] = (),
    ) -> Callable[[JsonHandler], JsonHandler]:
        return self._json("POST", path, right=right, summary=summary, statuses=statuses, errors=errors)

    def delete(
        self, path: str, *, right: Right, summary: str, errors: tuple[type[NoahError], ...] = ()
    ) -> Callable[[JsonHandler], JsonHandler]:
        return self._json("DELETE", path, right=right, summary=summary, errors=errors)

    def raw(
        self,
        path: str,
        *,
        right: Right,
        summary: str,
        content_types: tuple[str, ...],
        errors: tuple[type[NoahError], ...] = (),
        method: str = "GET",
    ) -> Callable[[RawHandler], RawHandler]:
        def declare(handler: RawHandler) -> RawHandler:
            self.declared.append(
                Raw(
                    method=method,
                    path=path,
                    right=right,
                    handler=handler,
                    summary=summary,
                    query=types_of(handler)[0],
                    content_types=content_types,
                    errors=errors,
                )
            )
            return handler

        return declare

    def _json(self, method: str, path: str, **more: Any) -> Callable[[JsonHandler], JsonHandler]:
        def declare(handler: JsonHandler) -> JsonHandler:
            query, body, answer = types_of(handler)
            route = Route(method=method, path=path, handler=handler, query=query, body=body, answer=answer, **more)
            self.declared.append(route)
            return handler

        return declare


def types_of(handler: Callable[..., Any]) -> tuple[type[Model], type[Model], Any]:
    """Return the handler's types of query, body and answer, as it is annotated."""
    *taken, returned = get_type_hints(handler).values()
    query, body = get_args(taken[0])
    return query, body, next(iter(get_args(returned)), None)


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
    sent = await read_sent(request)
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


async def read_sent(request: web.Request) -> bytes:
    """Return the body. Raises TooSlow, or BadInput if it is cut, or not compressed as its header says."""
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await request.read()
    except TimeoutError:
        raise TooSlow() from None
    except web.RequestPayloadError:
        raise BadInput("The body cannot be read: it is cut, or not compressed as its header says.") from None


def _names(model: type[Model]) -> list[str]:
    return [one.alias or name for name, one in model.model_fields.items()]
