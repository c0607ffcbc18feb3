"""A Kubernetes API of a few objects in memory, over HTTP: what it lists, watches and gives of logs is what was put in.

For releases that no real cluster can be made to go through at will. The gateway's own client reads it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from noah.kube.clusters import Cluster
from noah.settings import ClusterSettings

Object = dict[str, Any]


class FakeCluster:
    def __init__(self) -> None:
        self.refused: dict[str, int] = {}  # part of a path -> the status that it is answered with
        self.asked: list[str] = []
        self._objects: dict[tuple[str, str], Object] = {}  # by collection and name
        self._lines: dict[tuple[str, str], list[str]] = {}  # by pod and container
        self._closed: set[tuple[str, str]] = set()  # whose log has ended
        self._watches: dict[str, set[asyncio.Queue[Object]]] = {}
        self._changed = asyncio.Condition()
        self._version = 0

    # -- what happens in the cluster

    def put(self, collection: str, name: str, *, made_at: datetime | None = None, **parts: Any) -> Object:
        """Add or change an object of namespace n; *collection* is its resource's name, as "pods"."""
        self._version += 1
        before = self._objects.get((collection, name))
        made = (made_at or datetime.now(UTC)).isoformat()
        meta = {"name": name, "namespace": "n", "uid": f"uid-{name}-{self._version}", "creationTimestamp": made}
        if before is not None:
            meta |= {key: before["metadata"][key] for key in ("uid", "creationTimestamp")}
        meta |= parts.pop("metadata", {}) | {"resourceVersion": str(self._version)}
        found = self._objects[collection, name] = {**parts, "metadata": meta}
        self._publish(collection, {"type": "MODIFIED" if before else "ADDED", "object": found})
        return found

    def delete(self, collection: str, name: str) -> None:
        self._version += 1
        gone = self._objects.pop((collection, name))
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._version)}}
        self._publish(collection, {"type": "DELETED", "object": gone})

    async def print(self, pod: str, container: str, *texts: str, at: str | None = None) -> None:
        at = at or datetime.now(UTC).isoformat().replace("+00:00", "000Z")
        async with self._changed:
            self._lines.setdefault((pod, container), []).extend(f"{at} {text}\n" for text in texts)
            self._changed.notify_all()

    async def close_log(self, pod: str, container: str) -> None:
        async with self._changed:
            self._closed.add((pod, container))
            self._changed.notify_all()

    # -- what a shop with one Deployment is made of

    def deploy(self, revision: int, *, name: str = "shop", replicas: int = 1, uid: str = "") -> None:
        """A Deployment and the ReplicaSet of its newest revision, made now."""
        uid = uid or f"uid-{name}"
        labels = {"app": name, "pod-template-hash": f"h{revision}"}
        owner = {"kind": "Deployment", "name": name, "uid": uid, "controller": True}
        replica_set = {
            "labels": labels,
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [owner],
        }
        self.put("replicasets", f"{name}-h{revision}", metadata=replica_set)
        status = {"observedGeneration": revision, "updatedReplicas": replicas, "replicas": replicas}
        template = {"metadata": {"annotations": {"debug.noah/original": "{}"}}, "spec": {"containers": []}}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        self.put("deployments", name, metadata={"generation": revision, "uid": uid}, spec=spec, status=status)

    def pod(
        self,
        name: str,
        *,
        workload: str = "shop",
        revision: int = 1,
        ready: bool = False,
        state: Object | None = None,
        made_at: datetime | None = None,
    ) -> Object:
        """A pod of a Deployment with one container, "app"."""
        replica_set = f"{workload}-h{revision}"
        meta = {
            "labels": {"app": workload, "pod-template-hash": f"h{revision}"},
            "annotations": {"debug.noah/original": "{}"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": replica_set, "uid": replica_set, "controller": True}],
        }
        app = {"name": "app", "restartCount": 0, "state": state or {"running": {}}}
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [app],
        }
        spec = {"containers": [{"name": "app"}]}
        return self.put("pods", name, made_at=made_at, metadata=meta, spec=spec, status=status)

    def event(self, name: str, about: str, *, reason: str, text: str, at: datetime | None = None) -> None:
        kind, _, subject = about.partition("/")
        involved = {"kind": kind, "name": subject, "namespace": "n", "uid": ""}
        if (pod := self._objects.get(("pods", subject))) and kind == "Pod":
            involved["uid"] = pod["metadata"]["uid"]
        when = (at or datetime.now(UTC)).isoformat()
        self.put(
            "events", name, involvedObject=involved, reason=reason, message=text, lastTimestamp=when, type="Normal"
        )

    # -- what the API answers

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        for part, status in self.refused.items():
            if part in request.path:
                return web.json_response({"kind": "Status", "message": "refused", "code": status}, status=status)
        match request.path.strip("/").split("/"):
            case ["version"]:
                return web.json_response({"gitVersion": "v1.34.0"})
            case [*_, "pods", pod, "log"]:
                return await self._log(request, pod, request.query["container"])
            case [*_, "namespaces", "n", collection, name]:
                return self._one(collection, name)
            case [*_, collection]:
                if "watch" in request.query:
                    return await self._watch(request, collection)
                return self._list(collection)
        raise web.HTTPNotFound

    def _one(self, collection: str, name: str) -> web.Response:
        found = self._objects.get((collection, name))
        if found is None:
            body = {"kind": "Status", "message": f'{collection} "{name}" not found', "code": 404}
            return web.json_response(body, status=404)
        return web.json_response(found)

    def _list(self, collection: str) -> web.Response:
        items = [one for (of, _), one in self._objects.items() if of == collection]
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    def _publish(self, collection: str, event: Object) -> None:
        for queue in self._watches.get(collection, ()):
            queue.put_nowait(event)

    async def _watch(self, request: web.Request, collection: str) -> web.StreamResponse:
        queue: asyncio.Queue[Object] = asyncio.Queue()
        # What changed between the list and this watch.
        for (of, _), one in self._objects.items():
            if of == collection and int(one["metadata"]["resourceVersion"]) > int(request.query["resourceVersion"]):
                queue.put_nowait({"type": "MODIFIED", "object": one})
        self._watches.setdefault(collection, set()).add(queue)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(json.dumps(await queue.get()).encode() + b"\n")
        finally:
            self._watches[collection].discard(queue)

    async def _log(self, request: web.Request, pod: str, container: str) -> web.StreamResponse:
        response, sent = web.StreamResponse(), 0
        await response.prepare(request)
        while True:
            lines = self._lines.get((pod, container), [])
            await response.write("".join(lines[sent:]).encode())
            sent = len(lines)
            if (pod, container) in self._closed:
                return response
            async with self._changed:
                if sent == len(self._lines.get((pod, container), [])) and (pod, container) not in self._closed:
                    await self._changed.wait()


@asynccontextmanager
async def fake_cluster() -> AsyncIterator[tuple[FakeCluster, Cluster]]:
    """A fake API and the gateway's view of it, which has listed its pods."""
    fake = FakeCluster()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with Cluster(ClusterSettings(name="c", url=f"http://127.0.0.1:{port}")) as cluster:
            assert await cluster.informer.wait_synced(30)
            yield fake, cluster
    finally:
        await runner.cleanup()


LONG_AGO = datetime.now(UTC) - timedelta(hours=1)
