"""Every call of the API: what its resources declare, and the document that describes them."""

import json
from functools import cache

from aiohttp import web

from noah.core.session.rights import Right
from noah.web.api import (
    clusters,
    doctor,
    drift,
    environments,
    events,
    export,
    health,
    inventory,
    line,
    logins,
    metrics,
    names,
    openapi,
    releases,
    sessions,
    targets,
    token,
    trail,
)
from noah.web.api.route import AnyRoute, Call, Routes
from noah.web.permission import demand
from noah.web.wire import Nothing

RESOURCES = (
    environments,
    clusters,
    doctor,
    inventory,
    drift,
    targets,
    names,
    sessions,
    line,
    export,
    events,
    releases,
    logins,
    token,
    trail,
    health,
    metrics,
)
_own = Routes()


@_own.raw("/openapi.json", right=Right.SEE, summary="This document.", content_types=("application/json",))
async def openapi_json(call: Call[Nothing, Nothing]) -> web.Response:
    await demand(call.request, Right.SEE)
    return web.Response(body=_document(), content_type="application/json")


ROUTES: tuple[AnyRoute, ...] = (
    *(route for resource in RESOURCES for route in resource.ROUTES.declared),
    *_own.declared,
)


@cache
def _document() -> bytes:
    return json.dumps(openapi.document(ROUTES), ensure_ascii=False).encode()
