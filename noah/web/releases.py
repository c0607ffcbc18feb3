"""A release as it happens, as server-sent events that end with how it ended."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from aiohttp import web

from noah.errors import BadInput, NotFound
from noah.targets.release import Follower
from noah.web.keys import CLOCK, CLUSTERS
from noah.web.live import PING
from noah.web.route import Call
from noah.web.wire import Model, Nothing, Text, moment

_KINDS = {"deploy": "Deployment", "deployment": "Deployment", "sts": "StatefulSet", "statefulset": "StatefulSet"} | {
    "ds": "DaemonSet",
    "daemonset": "DaemonSet",
}


class ReleaseQuery(Model):
    kind: Text = "deployment"


async def watch_release(call: Call[ReleaseQuery, Nothing]) -> web.StreamResponse:
    cluster = call.request.app[CLUSTERS].get(call.path("cluster"))
    if cluster is None:
        raise NotFound(f"There is no cluster {call.path('cluster')[:80]!r}.")
    kind = _KINDS.get(call.query.kind.lower())
    if kind is None:
        raise BadInput(f"{call.query.kind[:40]!r} has no releases: it takes {', '.join(sorted(_KINDS))}.")
    name = call.path("workload")
    async with Follower(cluster, namespace=call.path("namespace"), kind=kind, name=name) as follower:
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        await response.prepare(call.request)
        with suppress(ConnectionResetError):  # they went away
            await _tell(follower, response, call.request.app[CLOCK])
    return response


async def _tell(follower: Follower, response: web.StreamResponse, clock: Callable[[], datetime]) -> None:
    while True:
        try:
            event = await asyncio.wait_for(follower.next(), PING)
        except TimeoutError:
            await response.write(b": ping\n\n")
            continue
        text = json.dumps({"at": moment(clock()), **event}, ensure_ascii=False, separators=(",", ":"))
        await response.write(f"event: {event['kind']}\ndata: {text}\n\n".encode())
        if event["kind"] == "end":
            return
