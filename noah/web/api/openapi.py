"""openapi.json (3.1), made from the table of routes and from the very types that validate."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter

from noah import __version__
from noah.core.session.rights import Right
from noah.errors import BadInput, NoahError, Unauthenticated
from noah.web import problems
from noah.web.api.route import AnyRoute, Raw, Route
from noah.web.problems import Problem, UnsupportedType
from noah.web.wire import Nothing

Json = dict[str, Any]

REFS = "#/components/schemas/{model}"
_RAW = {"application/json": "object"}  # what an answer that is not of a type of ours is; any other is text


def document(routes: Iterable[AnyRoute]) -> Json:
    routes = list(routes)
    schemas, components = _schemas(routes)
    paths: Json = {}
    for route in routes:
        paths.setdefault(_plain_path(route.path), {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Noah", "version": __version__, "summary": "Debug sessions for JVMs in test environments."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _schemas(routes: Iterable[AnyRoute]) -> tuple[Mapping[Any, Json], Json]:
    """Return the schema of each type in its role (query, body, answer), and the schemas that those refer to."""
    types: dict[tuple[str, Any], tuple[Any, Any]] = {("answer", Problem): (Problem, "serialization")}
    for route in routes:
        types["query", route.query] = (route.query, "validation")
        if isinstance(route, Route):
            types["answer", route.answer] = (route.answer, "serialization")
            if route.body is not Nothing:
                types["body", route.body] = (route.body, "validation")
    adapters = [(key, mode, TypeAdapter(type_)) for key, (type_, mode) in types.items()]
    found, definitions = TypeAdapter.json_schemas(adapters, ref_template=REFS)
    components = definitions["$defs"]
    schemas = {key: schema for (key, _), schema in found.items()}
    for role, query in [key for key in schemas if key[0] == "query"]:
        # A query is not an object when it is sent: its properties are parameters.
        schemas[role, query] = components.pop(query.__name__)
    return schemas, components


def _operation(route: AnyRoute, schemas: Mapping[Any, Json]) -> Json:
    operation: Json = {
        "summary": route.summary,
        "operationId": getattr(route.handler, "__name__", route.path),
        "parameters": [*_of_path(route.path), *_of_query(schemas["query", route.query])],
        "responses": {**_answers(route, schemas), **_problems(_errors(route), schemas["answer", Problem])},
    }
    if route.right is not Right.ANYBODY:
        operation["security"] = [{"bearer": []}]
    if isinstance(route, Route) and route.body is not Nothing:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas["body", route.body]}},
        }
    return operation


def _answers(route: AnyRoute, schemas: Mapping[Any, Json]) -> Json:
    if isinstance(route, Raw):
        content = {kind: {"schema": {"type": _RAW.get(kind, "string")}} for kind in route.content_types}
        return {"200": {"description": "OK", "content": content}}
    content = {"application/json": {"schema": schemas["answer", route.answer]}}
    return {str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in route.statuses}


def _errors(route: AnyRoute) -> list[type[NoahError]]:
    bodies = [UnsupportedType] if isinstance(route, Route) and route.body is not Nothing else []
    logins = [] if route.right is Right.ANYBODY else [Unauthenticated]
    return [BadInput, *logins, *bodies, *route.errors]


def _problems(errors: Iterable[type[NoahError]], problem: Json) -> Json:
    content = {problems.CONTENT_TYPE: {"schema": problem}}
    statuses = sorted({error.http_status for error in errors})
    return {str(status): {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def _of_path(path: str) -> list[Json]:
    names = re.findall(r"{(\w+)}", _plain_path(path))
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _of_query(schema: Json) -> list[Json]:
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": one}
        for name, one in schema.get("properties", {}).items()
    ]


def _plain_path(path: str) -> str:
    """Return the path without the pattern of a part that may have slashes."""
    return re.sub(r"{(\w+):.*}", r"{\1}", path)
