"""A Kubernetes API with very many pods, in a process of its own.

    python -m benchmarks.scale_api PORT NAMESPACES PODS_EACH

Every first part of a path (/a, /b, ...) is a cluster, and part of its namespaces' names. A line on stdin changes how it
answers: "churn RATE" (pods per second), "gone yes" (each watch ends with 410), "busy SHARE" (429 with Retry-After: 1),
"drop SECONDS" (watches end), "counts" (prints the requests, and the versions of the pods that have changed).

Commands in pods answer as the forwarder of a JVM that waits for a debugger, and as its agent, which says no more than
its handshake.
"""

import asyncio
import base64
import json
import random
import sys
from collections import Counter
from hashlib import md5, sha1
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

JDWP = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:50005,quiet=y"
BEGAN = "2026-01-01T00:00:00Z"
READY = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
ANSWER = "tool socat\nwritable\nagent free\njvms 1\njava 7 100\njava-age 600\ncontainer-age 600\n"
HELD = f"{ANSWER}forwarder 9 100 0\ndone\n"
HANDSHAKE = b"JDWP-Handshake"
WORDS = (b"free ", b"running ", b"suspended ", b"unknown ")
SUCCESS = b'{"metadata":{},"status":"Success"}'
STDIN, STDOUT, STATUS = 0, 1, 3  # channels
BINARY, CLOSE, PING, PONG = 0x82, 0x88, 0x89, 0x8A  # first bytes of frames
ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
PROBE = ["sh", "-c", "echo probe" + "#" * 800, "noah-liveness", "http://127.0.0.1:8080/checkurl"]


def template() -> dict[str, Any]:
    """Return a pod of 6 KiB, as large as real ones; N stands for its number and M for its namespace's.

    Words in capitals stand for what each pod has of its own.
    """
    app = "scale-M-app-N"
    env = [{"name": f"SETTING_{k}", "value": "x" * 40} for k in range(25)]
    managed: dict[str, Any] = {f"f:field-{i}": {"f:a": {}, "f:b": {}} for i in range(50)}
    return {
        "metadata": {
            "name": f"{app}-7d9c5b8f6-x",
            "namespace": "scale-M",
            "uid": "UID",
            "resourceVersion": "VERSION",
            "creationTimestamp": "2026-01-01T0STARTEDZ",
            "labels": {"app": app, "pod-template-hash": "7d9c5b8f6", "team": "scale-M"},
            "annotations": {"prometheus.io/scrape": "true", "sidecar.istio.io/status": "y" * 300},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-7d9c5b8f6", "uid": "OWNER",
                 "controller": True, "blockOwnerDeletion": True}
            ],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": managed}],
        },
        "spec": {
            "nodeName": "node-of-M",
            "terminationGracePeriodSeconds": 30,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "app",
                    "image": "registry.example/shop/app:1.2.3",
                    "env": [*env, {"name": "JAVA_TOOL_OPTIONS", "value": JDWP}],
                    "ports": [{"containerPort": 8080}],
                    "resources": {"requests": {"cpu": "1m"}},
                    "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
                    "livenessProbe": {"exec": {"command": PROBE}},
                }
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.ADDRESS",
            "hostIP": "10.0.0.1",
            "startTime": BEGAN,
            "conditions": [{"type": one, "status": "True", "lastTransitionTime": BEGAN} for one in READY],
            "containerStatuses": [
                {
                    "name": "app",
                    "ready": True,
                    "restartCount": "RESTARTS",
                    "image": "registry.example/shop/app:1.2.3",
                    "imageID": "sha256:" + "a" * 64,
                    "containerID": "containerd://" + "b" * 64,
                    "state": {"running": {"startedAt": "2026-01-01T0STARTEDZ"}},
                }
            ],
        },
    }  # fmt: skip


class Api:
    def __init__(self, namespaces: int, each: int) -> None:
        text = json.dumps(template(), separators=(",", ":")).replace('"RESTARTS"', "RESTARTS")
        self._template = text.replace("%", "%%")
        for word, form in (
            ("-M", "-%(m)s"),
            ("-N", "-%(n)d"),
            ("RESTARTS", "%(r)d"),
            ("VERSION", "%(v)d"),
            ("UID", "%(u)s"),
            ("OWNER", "%(o)s"),
            ("ADDRESS", "%(a)s"),
            ("STARTED", "%(s)s"),
        ):
            self._template = self._template.replace(word, form)
        self._each = each
        self.count = namespaces * each
        self._version = 1000
        self.versions: dict[tuple[str, int], int] = {}  # of the pods that have changed, by cluster and number
        self.watches: dict[str, set[asyncio.StreamWriter]] = {}
        self.requests: Counter[str] = Counter()
        self.changes = self.held = 0  # held: forwarders
        self.rate = self.busy = self.drop_s = 0.0
        self.is_gone = False

    def pod(self, cluster: str, number: int) -> bytes:
        version = self.versions.get((cluster, number), 1)
        about = {
            "m": f"{cluster}-{number // self._each:05d}",
            "n": number % self._each,
            "r": version if version > 1 else 0,
            "v": version,
            "u": _uid(f"{cluster} {number}"),
            "o": _uid(f"owner in {cluster} of {number}"),
            "a": f"{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "s": f"{number // 3600 % 10}:{number // 60 % 60:02d}:{number % 60:02d}",
        }
        return (self._template % about).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                text = head.decode()
                target = text.split(" ")[1]
                if "/exec?" in target:
                    self.requests["exec"] += 1
                    return await self._exec(text, parse_qs(urlsplit(target).query)["command"], reader, writer)
                await self._answer(target, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        cluster, query = url.path.split("/")[1], {k: v[0] for k, v in parse_qs(url.query).items()}
        if not url.path.endswith("/pods"):
            self.requests["other"] += 1
            if "watch" in query:  # of which nothing ever comes
                return await self._watch("", writer, 0, float(query.get("timeoutSeconds", 3600)))
            return _send(writer, 200, b'{"metadata":{"resourceVersion":"1"},"items":[]}')
        kind = "watch" if "watch" in query else "list" if "continue" not in query else "page"
        self.requests[kind] += 1
        if random.random() < self.busy:
            self.requests["refused"] += 1
            return _send(writer, 429, b'{"message":"too many requests"}', "Retry-After: 1\r\n")
        if kind == "watch":
            since, lasts_s = int(query.get("resourceVersion", 0)), float(query.get("timeoutSeconds", 3600))
            return await self._watch(cluster, writer, since, self.drop_s or lasts_s)
        begin, limit = int(query.get("continue", 0)), int(query.get("limit") or self.count)
        end = min(begin + limit, self.count)
        more = f',"continue":"{end}"' if end < self.count else ""
        items = b",".join(self.pod(cluster, n) for n in range(begin, end))
        head = f'{{"metadata":{{"resourceVersion":"{self._version}"{more}}},"items":['.encode()
        _send(writer, 200, head + items + b"]}")
        await writer.drain()
        return None

    async def _exec(
        self, head: str, argv: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = (line.partition(": ") for line in head.split("\r\n")[1:])
        headers = {name.lower(): value for name, _, value in lines}
        accept = base64.b64encode(sha1(headers["sec-websocket-key"].encode() + ACCEPT, usedforsecurity=False).digest())
        protocol = headers["sec-websocket-protocol"].partition(",")[0]
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept.decode()}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
        )
        is_held = argv[:4] == ["sh", "-s", "--", "start"]
        if is_held:
            _say(writer, STDOUT, HELD.encode())
        elif argv[0] == "sh":
            _say(writer, STDOUT, f"{ANSWER}done\n".encode())
            _say(writer, STATUS, SUCCESS)
        self.held += is_held
        try:
            await _converse(reader, writer)
        finally:
            self.held -= is_held

    async def _watch(self, cluster: str, writer: asyncio.StreamWriter, since: int, lasts_s: float) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
        if self.is_gone:
            writer.write(b'{"type":"ERROR","object":{"code":410,"message":"too old","metadata":{}}}\n')
            raise ConnectionError
        missed = sorted((v, number) for (c, number), v in self.versions.items() if c == cluster and v > since)
        for _, number in missed:
            writer.write(self._event(cluster, number))
        self.watches.setdefault(cluster, set()).add(writer)
        try:
            await asyncio.sleep(lasts_s)
        finally:
            self.watches[cluster].discard(writer)
        raise ConnectionError

    async def churn(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            for _ in range(round(self.rate * 0.05)):
                if not self.watches:
                    continue
                # Also one that nobody watches just now: its next watch begins with what has changed meanwhile.
                cluster, number = random.choice(list(self.watches)), random.randrange(self.count)
                self._version += 1
                self.changes += 1
                self.versions[cluster, number] = self._version
                for writer in self.watches[cluster]:
                    if not writer.is_closing():
                        writer.write(self._event(cluster, number))

    def _event(self, cluster: str, number: int) -> bytes:
        return b'{"type":"MODIFIED","object":' + self.pod(cluster, number) + b"}\n"


async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next frame of a client, whose frames are masked: its first byte and its payload."""
    first, size = await reader.readexactly(2)
    size &= 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    mask, payload = await reader.readexactly(4), await reader.readexactly(size)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return first, (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def _say(writer: asyncio.StreamWriter, channel: int, content: bytes) -> None:
    size = len(content) + 1
    length = bytes((size,)) if size < 126 else bytes((126,)) + size.to_bytes(2, "big")
    writer.write(bytes((BINARY,)) + length + bytes((channel,)) + content)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer words and debuggers' handshakes until the client closes the stream."""
    while (frame := await _frame(reader))[0] != CLOSE:
        first, payload = frame
        if first == PING:
            writer.write(bytes((PONG, len(payload))) + payload)
        elif payload[:1] == bytes((STDIN,)):
            heard = payload[1:]
            if heard.startswith(WORDS):
                _say(writer, STDOUT, b"ok free\n" if heard.startswith(b"free") else b"ok\n")
            elif heard == HANDSHAKE:
                _say(writer, STDOUT, HANDSHAKE)
    writer.write(bytes((CLOSE, len(frame[1]))) + frame[1])


def _uid(of: str) -> UUID:
    return UUID(bytes=md5(of.encode(), usedforsecurity=False).digest())


def _send(writer: asyncio.StreamWriter, status: int, body: bytes, more: str = "") -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def main(port: int, namespaces: int, each: int) -> None:
    api = Api(namespaces, each)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with await asyncio.start_server(api.serve, "127.0.0.1", port), asyncio.TaskGroup() as group:
        churning = group.create_task(api.churn())
        print("ready", flush=True)
        while line := await lines.readline():
            match line.decode().split():
                case ["churn", rate]:
                    api.rate = float(rate)
                case ["gone", yes]:
                    api.is_gone = yes == "yes"
                case ["busy", share]:
                    api.busy = float(share)
                case ["drop", seconds]:
                    api.drop_s = float(seconds)
                    for watches in api.watches.values():
                        for writer in list(watches):
                            writer.close()
                case ["counts"]:
                    changed = [[c, n // each, n % each, v] for (c, n), v in api.versions.items()]
                    counts = {"requests": api.requests, "changed": changed, "changes": api.changes, "held": api.held}
                    print(json.dumps(counts), flush=True)
        churning.cancel()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:4])))
