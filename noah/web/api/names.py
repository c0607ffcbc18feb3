"""Names that begin with what somebody has typed: a shell's completion needs a few of them, whatever there is."""

from typing import Literal

from typing_extensions import TypedDict

from noah.catalog.catalog import TargetFilter
from noah.core.session.rights import Right
from noah.web.api.route import Call, Reply, Routes
from noah.web.keys import CATALOG
from noah.web.permission import seen
from noah.web.wire import Model, Nothing, Text

ROUTES = Routes()
MOST = 200  # more proposals than that do not help a reader


class NamesQuery(Model):
    of: Literal["apps", "namespaces"] = "apps"
    prefix: Text = ""
    environment: Text | None = None
    cluster: Text | None = None
    namespace: Text | None = None


class NamesJson(TypedDict):
    items: list[str]


@ROUTES.get("/api/v1/names", right=Right.SEE, summary="Names of apps or namespaces that begin with a text, in order.")
async def list_names(call: Call[NamesQuery, Nothing]) -> Reply[NamesJson]:
    query, catalog = call.query, call.request.app[CATALOG]
    areas = await seen(call.request, catalog.areas())
    where = TargetFilter(environment=query.environment, cluster=query.cluster, namespace=query.namespace, areas=areas)
    find = catalog.app_names if query.of == "apps" else catalog.namespaces
    return Reply({"items": list(find(where, prefix=query.prefix, most=MOST))})
