"""The page of the clusters, with what there is in each."""

from collections import Counter

from noah.core.session.target import PodTarget
from noah.web.api import clusters
from noah.web.api.route import Call, Routes
from noah.web.keys import CATALOG, HOLDERS
from noah.web.pages.page import Context, page
from noah.web.wire import Nothing

ROUTES = Routes()


@page(ROUTES, "/clusters", "clusters.html")
async def cluster_list(call: Call[Nothing, Nothing]) -> Context:
    app, reply = call.request.app, await clusters.list_clusters(call)
    held = Counter(target.cluster for target in app[HOLDERS].targets if isinstance(target, PodTarget))
    shown = [(one, app[CATALOG].cluster(one["name"]), held[one["name"]]) for one in reply.json["items"]]
    return {"here": "clusters", "clusters": shown}
