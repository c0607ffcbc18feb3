"""The page of the clusters, with what there is in each."""

from collections import Counter

from noah.core.session.rights import Right, area_of
from noah.core.session.target import PodTarget
from noah.web.api import clusters
from noah.web.api.route import Call, Routes
from noah.web.keys import HOLDERS
from noah.web.pages.page import Context, page
from noah.web.permission import is_allowed, seen
from noah.web.wire import Nothing

ROUTES = Routes()


@page(ROUTES, "/clusters", "clusters.html")
async def cluster_list(call: Call[Nothing, Nothing]) -> Context:
    app = call.request.app
    shown = await clusters.shown(call.request)
    targets = app[HOLDERS].targets
    areas = await seen(call.request, map(area_of, targets))
    held = Counter(
        one.cluster for one in targets if isinstance(one, PodTarget) and (areas is None or area_of(one) in areas)
    )
    rows = [(clusters.cluster_json(one, scope.targets), scope, held[one.name]) for one, scope in shown]
    may_operate = await is_allowed(call.request, Right.OPERATE)
    return {"here": "clusters", "clusters": rows, "may_operate": may_operate}
