"""No single input of an outsider holds the event loop for more than 50 ms: debuggers, pods, clusters, API servers."""

import asyncio
import contextlib
import io
import json
import os
import signal
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from noah.access.permissions import Permissions
from noah.catalog.catalog import Catalog
from noah.catalog.holders import Holders
from noah.core.inject.manifest import ORIGINAL
from noah.core.jdwp import wire
from noah.core.jdwp.conversation import Conversation
from noah.core.jdwp.observer import FromDebugger, FromJvm
from noah.core.session.rights import Grant, Right
from noah.core.session.target import WantedPod
from noah.errors import BadSettings, NotFound
from noah.kube.bounded_json import LONGEST, TooLarge, parse
from noah.kube.client import Client
from noah.kube.clusters import Cluster
from noah.kube.event_log import EventLog
from noah.kube.informer import Informer
from noah.kube.pods import MOST_CONTAINERS, read_pod
from noah.releases.notice import Noticing
from noah.settings import WebhookSettings, parse_settings
from noah.targets.host.hosts import Hosts
from noah.targets.pod.pods import Pods, _infos
from noah.webhook.process import webhook_process
from tests.ports import free_port
from tests.principals import ADA
from tests.security.hostile_api import api_in_a_thread
from tests.security.loop_time import cpu_of, most_s, watching_the_loop
from tests.unit.kube.fake_api import Call

READ = 256 << 10  # bytes of one read of the byte path
LARGEST = 1_400_000  # bytes of an object that etcd takes
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7A5Kz2zM4E4S4WcS6S7JcV0qkzYyA3bWcmqSxwF3pQ"


def command(number: int, packet_id: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IIBH", 11 + len(payload), packet_id, 0, number) + payload


def thread_by_thread(number: int, payload: Callable[[int], bytes] = lambda i: (i % 1023).to_bytes(8)) -> bytes:
    return b"".join(command(number, i, payload(i)) for i in range(13_000))


DEBUGGERS = {
    "suspends and resumes the VM": b"".join(
        command(wire.VM_SUSPEND if i % 2 else wire.VM_RESUME, i) for i in range(24_000)
    ),
    "suspends the VM": b"".join(command(wire.VM_SUSPEND, i) for i in range(24_000)),
    "suspends threads": thread_by_thread(wire.THREAD_SUSPEND),
    "resumes threads": thread_by_thread(wire.THREAD_RESUME),
    "asks for threads": thread_by_thread(wire.THREAD_STATUS),
    "invokes methods": thread_by_thread(wire.OBJECT_INVOKE, lambda i: i.to_bytes(8) * 5),
    "sends what nobody knows": b"".join(command(0x6363, i) for i in range(24_000)),
    "exits": b"".join(command(wire.VM_EXIT, i, bytes(4)) for i in range(20_000)),
    "uses the gateway's packet IDs": b"".join(
        command(wire.THREAD_NAME, 0xED << 24 | i, bytes(8)) for i in range(14_000)
    ),
}


@pytest.mark.parametrize("what", DEBUGGERS)
def test_no_read_of_a_debugger_that_holds_1023_threads_one_by_one_takes_long(what: str) -> None:
    talk = Conversation()
    debugger = FromDebugger(talk, allow_exit=False)
    debugger.feed(b"".join(command(wire.THREAD_SUSPEND, i, i.to_bytes(8)) for i in range(1023)))
    read = DEBUGGERS[what][:READ]

    def feed() -> None:
        debugger.feed(read)
        talk.take_events()
        talk.take_questions()

    assert cpu_of(feed) < most_s()


def test_no_read_of_a_jvm_that_floods_takes_long() -> None:
    talk = Conversation()
    event = struct.pack(">BIBI", 2, 1, 1, 7) + (5).to_bytes(8) + bytes([1]) + bytes(24)
    jvm = FromJvm(talk)
    flood = (struct.pack(">IIBH", 11 + len(event), 1, 0, 0x4064) + event) * 6000
    assert cpu_of(lambda: jvm.feed(flood[:READ])) < most_s()


def pod(
    *, meta: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **container: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z", **(meta or {}),
        },
        "spec": {"containers": [{"name": "app", "image": "x:1", **container}]},
        "status": {"phase": "Running", **(status or {})},
    }  # fmt: skip


def many_containers(size: int, **more: Any) -> dict[str, Any]:
    made = pod(status={"containerStatuses": [{"name": f"c{i}", "state": {}} for i in range(size)]})
    made["spec"]["containers"] = [{"name": f"c{i}", "image": "x:1", **more} for i in range(size)]
    return made


PODS: dict[str, Callable[[], dict[str, Any]]] = {
    "a probe of a megabyte of words": lambda: pod(livenessProbe={"exec": {"command": ["w"] * (LARGEST // 4)}}),
    "a probe with one long word": lambda: pod(livenessProbe={"exec": {"command": ["sh", "-c", "http://" * 200_000]}}),
    "variables with half an agent": lambda: pod(env=[{"name": "JAVA", "value": "-agentpath:jdwp" * 90_000}]),
    "many variables": lambda: pod(env=[{"name": f"JAVA{i}", "value": "v"} for i in range(LARGEST // 35)]),
    "agents in many variables": lambda: pod(
        env=[{"name": f"JAVA{i}", "value": "-agentpath:" + "/jdwp" * 25_000} for i in range(11)]
    ),
    "many words": lambda: pod(command=["a"] * (LARGEST // 4)),
    "many ports": lambda: pod(ports=[{"containerPort": i} for i in range(LARGEST // 25)]),
    "many labels": lambda: pod(meta={"labels": {f"a{i}": "b" for i in range(LARGEST // 14)}}),
    "many owners": lambda: pod(meta={"ownerReferences": [{"kind": "ReplicaSet", "name": "x"}] * (LARGEST // 40)}),
    "many containers": lambda: many_containers(LARGEST // 60),
    "many containers with agents": lambda: many_containers(
        LARGEST // 150, env=[{"name": "JAVA_OPTS", "value": "-agentlib:jdwp=address=1"}]
    ),
    "many conditions": lambda: pod(status={"conditions": [{"type": "x"}] * (LARGEST // 15)}),
    "an annotation that is nested deeply": lambda: pod(
        meta={"annotations": {"debug.cloud.google.com/config": "[" * 200_000}}
    ),
}


@pytest.mark.parametrize("what", PODS)
def test_no_pod_takes_long_to_read_and_to_list(what: str) -> None:
    text = json.dumps(PODS[what](), separators=(",", ":")).encode()
    settings = SimpleNamespace(app_label="app", jdwp_port=50005)
    cluster: Any = SimpleNamespace(name="c", settings=settings, environment_of=lambda namespace, _: namespace)

    def take() -> None:
        assert len(list(_infos(cluster, read_pod(text)))) <= MOST_CONTAINERS

    assert cpu_of(take) < most_s()


@pytest.mark.parametrize(
    "text", [b"[" + b"{}," * 400_000 + b"{}]", b"[" + b"1.5e3," * 400_000 + b"0]", b'["' + b"a" * LONGEST + b'"]']
)
def test_what_takes_long_to_parse_is_not_parsed(text: bytes) -> None:
    with pytest.raises(TooLarge):
        parse(text)

    def refuse() -> None:
        with contextlib.suppress(TooLarge):
            parse(text)

    assert cpu_of(refuse) < most_s()


async def test_a_list_of_10000_pods_holds_nobody_up() -> None:
    """Also where a page of the usual size is too large to be read at once."""
    objects = [pod(meta={"name": f"p{i}", "labels": {"a": "x" * (100_000 if i < 100 else 10)}}) for i in range(10_000)]
    limits: list[int] = []

    async def pods(call: Call) -> None:
        if call.param("watch"):
            call.begin_watch()
            await call.reader.read()
            return
        limits.append(int(call.param("limit") or 0))
        body = await asyncio.to_thread(json.dumps, page_of(objects, call))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        call.writer.write(f"{head}Connection: close\r\n\r\n".encode() + body.encode())

    async with api_in_a_thread(pods) as api, Client(api.settings) as client:
        informer = Informer(client)
        with watching_the_loop() as longest:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(informer.run())
                assert await informer.wait_synced(120)
                task.cancel()
        assert len(informer) == 10_000
        assert max(limits) > min(limits)
        assert longest.seconds < most_s()


async def test_an_object_that_is_too_large_costs_nobody_the_others() -> None:
    # One string, which the API here writes in no time: it is asked for it in pages of 500, 250, ... and one.
    monster = pod(meta={"name": "monster", "annotations": {"a": "x" * LONGEST}})
    objects = [pod(meta={"name": "a"}), monster, pod(meta={"name": "b"})]

    async def pods(call: Call) -> None:
        if call.param("watch"):
            call.begin_watch()
            call.event("MODIFIED", monster)
            call.event("ADDED", pod(meta={"name": "c"}))
            await call.reader.read()
            return
        call.json(200, page_of(objects, call))

    async with api_in_a_thread(pods) as api, Client(api.settings) as client:
        informer = Informer(client)
        with watching_the_loop() as longest:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(informer.run())
                async with asyncio.timeout(120):
                    while informer.get("n", "c") is None:
                        await asyncio.sleep(0.01)
                task.cancel()
        assert {one["metadata"]["name"] for one in informer.pods()} == {"a", "b", "c"}
        assert longest.seconds < most_s()


async def test_a_namespace_of_very_many_pods_that_changes_its_environment_holds_nobody_up() -> None:
    objects = [pod(meta={"name": f"p{i}"}) for i in range(2_500)]
    is_listed = threading.Event()

    def namespace(environment: str) -> dict[str, Any]:
        return {"metadata": {"name": "n", "resourceVersion": "9", "labels": {"env": environment}}}

    async def answer(call: Call) -> None:
        is_of_pods = call.path.endswith("/pods")
        if call.param("watch"):
            call.begin_watch()
            if not is_of_pods and await asyncio.to_thread(is_listed.wait, 60):
                call.event("MODIFIED", namespace("after"))
            await call.reader.read()
        elif call.path.endswith(("/pods", "/namespaces")):
            call.json(200, page_of(objects if is_of_pods else [namespace("before")], call))
        else:
            call.json(200, {})

    def targets_in(environment: str) -> int:
        found = catalog.environment(environment)
        return 0 if found is None else found.targets

    catalog = Catalog()
    async with api_in_a_thread(answer) as api:
        settings = api.settings.model_copy(update={"environment": "namespace-label:env"})
        async with Cluster(settings) as cluster, asyncio.timeout(120):
            Pods({cluster.name: cluster}, catalog=catalog, holders=Holders())
            while targets_in("before") < len(objects):
                await asyncio.sleep(0.01)
            with watching_the_loop() as longest:
                is_listed.set()
                while targets_in("after") < len(objects):
                    await asyncio.sleep(0.01)
    assert targets_in("before") == 0
    assert longest.seconds < most_s()


def set_member(name: str, of: str, *, made_at: datetime) -> dict[str, Any]:
    """Return an injected pod of a StatefulSet."""
    owner = {"kind": "StatefulSet", "name": of, "uid": of, "controller": True}
    about = {"name": name, "uid": name, "creationTimestamp": made_at.isoformat()}
    return pod(meta={**about, "ownerReferences": [owner], "annotations": {ORIGINAL: "{}"}})


def page_of(objects: Sequence[dict[str, Any]], call: Call) -> dict[str, Any]:
    """Return the page of a list that *call* asks for."""
    begin, limit = int(call.param("continue") or 0), int(call.param("limit") or 0)
    more = {"continue": str(begin + limit)} if begin + limit < len(objects) else {}
    return {"metadata": {"resourceVersion": "9", **more}, "items": objects[begin : begin + limit]}


def listing(
    objects: Sequence[dict[str, Any]], changes: Sequence[tuple[str, dict[str, Any]]] = (), *, after: threading.Event
) -> Callable[[Call], Awaitable[None]]:
    """Return what answers with a list of pods in pages, and with *changes* of them after that event."""

    async def answer(call: Call) -> None:
        if call.param("watch"):
            call.begin_watch()
            if call.path.endswith("/pods") and await asyncio.to_thread(after.wait, 60):
                for kind, changed in changes:
                    call.event(kind, changed)
            await call.reader.read()
        elif call.path.endswith("/pods"):
            call.json(200, page_of(objects, call))
        else:
            call.json(200, {})

    return answer


async def test_an_app_that_is_looked_for_among_very_many_pods_holds_nobody_up() -> None:
    probe = {"exec": {"command": ["sh", "-c", *(f"word-{i}" for i in range(50))]}}
    objects = [pod(meta={"name": f"p{i}"}, livenessProbe=probe, readinessProbe=probe) for i in range(20_000)]
    is_over = threading.Event()
    is_over.set()
    async with api_in_a_thread(listing(objects, after=is_over)) as api, Cluster(api.settings) as cluster:
        assert await cluster.informer.wait_synced(60)
        found = Pods({cluster.name: cluster}, catalog=Catalog(), holders=Holders())
        with watching_the_loop() as longest, pytest.raises(NotFound):
            await found.resolve(WantedPod(cluster.name, "n", app="none"))
    assert longest.seconds < most_s()


async def test_a_workload_of_very_many_pods_that_is_scaled_to_nothing_holds_nobody_up() -> None:
    now = datetime.now(UTC)
    objects = [set_member(f"p{i}", "shop", made_at=now) for i in range(16_000)]
    changes = [("DELETED", {**one, "status": {"phase": "Succeeded"}}) for one in objects[:100]]
    changes.append(("ADDED", set_member("other", "other", made_at=now)))
    is_listed = threading.Event()
    async with api_in_a_thread(listing(objects, changes, after=is_listed)) as api, Cluster(api.settings) as cluster:
        assert await cluster.informer.wait_synced(60)
        noticing = Noticing(cluster, live_in=lambda *_: [], clock=lambda: now)
        async with contextlib.aclosing(noticing.by_pods()) as noticed, asyncio.timeout(60):
            assert (await anext(noticed)).workload.name == "shop"
            with watching_the_loop() as longest:
                is_listed.set()
                assert (await anext(noticed)).workload.name == "other"
    assert longest.seconds < most_s()


async def test_hosts_that_come_and_go_by_the_thousand_hold_nobody_up() -> None:
    known = {"address": "10.0.0.1", "user": "deploy", "key": "/k", "host_key": KEY, "apps": [{"name": "orders"}]}
    tree = [{"name": f"kvm-{number}", **known} for number in range(2_000)]
    catalog = Catalog()
    hosts = Hosts(
        None,  # type: ignore[arg-type]
        catalog=catalog,
        holders=Holders(),
        lease=None,  # type: ignore[arg-type]
        claims=None,  # type: ignore[arg-type]
    )
    first = parse_settings({"hosts": tree}, origin="FILE").hosts
    again = parse_settings({"hosts": tree}, origin="FILE").hosts
    await hosts.configure(first[:1])  # imports what reaches hosts
    await hosts.configure(())
    for wanted, affected in ((first, 2_000), (again, 0), (again[::2], 1_000), ((), 1_000)):
        with watching_the_loop() as longest:
            assert len(await hosts.configure(wanted)) == affected
        assert len(catalog.areas()) == len(wanted)
        assert longest.seconds < most_s()


async def test_rights_in_very_many_namespaces_hold_nobody_up() -> None:
    grant = Grant(rights=frozenset({Right.SEE}), users=frozenset({"ada"}), areas=("pod/dev/shop-1*",))
    permissions = Permissions(reviews=lambda _: None, grants=[grant])
    areas = [f"pod/dev/shop-{number:05}" for number in range(20_000)]
    with watching_the_loop() as longest:
        seen = await permissions.among(areas, replace(ADA, groups=frozenset()))
    assert len(seen) == 10_000
    assert longest.seconds < most_s()


async def test_a_flood_of_events_leaves_everybody_a_turn() -> None:
    about = {"kind": "Pod", "name": "p", "namespace": "n"}

    def event(i: int) -> dict[str, Any]:
        return {
            "metadata": {"uid": f"u{i}", "name": "e", "namespace": "n", "resourceVersion": "1"},
            "involvedObject": about,
            "message": "m" * 900,
        }

    flood = b"".join(json.dumps({"type": "ADDED", "object": event(i)}).encode() + b"\n" for i in range(5_000))

    async def events(call: Call) -> None:
        if not call.param("watch"):
            call.json(200, {"metadata": {"resourceVersion": "1"}, "items": [event(i) for i in range(-200, 0)]})
            return
        call.begin_watch()
        call.writer.write(flood)
        await call.reader.read()

    async with api_in_a_thread(events) as api, Client(api.settings) as client:
        log = EventLog(client)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(log.run())
            await asyncio.sleep(0)
            found = 0
            with contextlib.ExitStack() as stack:
                async for _ in log.follow("n"):
                    found += 1
                    if found == 1:  # what the first connection takes is not the flood's
                        longest = stack.enter_context(watching_the_loop())
                    if found == 5_000:
                        break
            running.cancel()
        assert longest.seconds < most_s()


async def test_reviews_of_a_megabyte_cost_the_gateways_loop_nothing(tmp_path: Path) -> None:
    port = free_port()
    wanted = WebhookSettings(listen=f"127.0.0.1:{port}", names=("127.0.0.1",), folder=tmp_path / "webhook")
    account = json.dumps([["-", ["spec", f"k{i}"]] for i in range(7_000)])
    bad = [
        pod(meta={"annotations": {"debug.noah/original": account}}),
        pod(env=[{"name": f"JAVA{i}", "value": "v"} for i in range(35_000)]),
        pod(command=["java", "-agentpath:" + "/jdwp" * 200_000]),
    ]
    async with webhook_process(wanted) as served:
        await served
        tls = ssl.create_default_context(cafile=str(wanted.folder / "authority.crt"))
        async with aiohttp.ClientSession() as session:
            for each in bad:
                body = json.dumps({"request": {"uid": "u", "object": each}}).encode()
                with watching_the_loop() as longest:
                    url = f"https://127.0.0.1:{port}/webhook/inject"
                    async with session.post(url, data=io.BytesIO(body), ssl=tls) as answer:
                        await answer.read()
                assert answer.status == 200
                assert longest.seconds < most_s()


async def test_a_webhook_that_ends_is_started_again_and_one_that_cannot_listen_says_why(tmp_path: Path) -> None:
    wanted = WebhookSettings(listen=f"127.0.0.1:{free_port()}", names=("127.0.0.1",), folder=tmp_path / "webhook")

    async def connects() -> bool:
        try:
            _, writer = await asyncio.open_connection(wanted.host, wanted.port)
        except OSError:
            return False
        writer.close()
        return True

    async with webhook_process(wanted) as served:
        await served
        (child,) = children("noah.webhook")
        os.kill(child, signal.SIGKILL)
        async with asyncio.timeout(120):
            while await connects():
                await asyncio.sleep(0.02)
            while not await connects():
                await asyncio.sleep(0.1)
        with pytest.RaisesGroup(pytest.RaisesExc(BadSettings, match="cannot listen")):
            async with webhook_process(wanted) as second:
                await second
        assert len(children("noah.webhook")) == 1  # also while it was ending, nothing of the second is left
    async with asyncio.timeout(20):
        while await connects():
            await asyncio.sleep(0.02)


def children(module: str) -> list[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]
