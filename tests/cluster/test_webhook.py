"""The webhook on a real API server: labelled pods in labelled namespaces, what ends, and a gateway that is away."""

import asyncio
import contextlib
import json
import signal
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noah.core.inject.hooks import SIDECAR
from noah.core.inject.manifest import is_injected
from noah.settings import WebhookSettings
from noah.webhook.certificates import AUTHORITY_LASTS, LASTS, Certificates
from noah.webhook.server import PATH, manifest, serving
from tests.cluster.conftest import Kubectl, java_app, until
from tests.cluster.webhooks import injecting, printed, registered
from tests.ports import free_port

pytestmark = pytest.mark.cluster

PROBE = {"httpGet": {"path": "/checkurl", "port": 8080}, "periodSeconds": 2}
APP: dict[str, Any] = {"command": ["java", "-Xmx32m", "-cp", "/app", "App"], "livenessProbe": PROBE}


@pytest.fixture
def labelled(kubectl: Kubectl) -> Kubectl:
    kubectl("label", "namespace", kubectl.namespace, "debug.noah/inject=true", "--overwrite")
    return kubectl


def made(kubectl: Kubectl, name: str, *, label: bool = True) -> bool:
    """Makes a pod; whether it was injected."""
    pod = java_app(name, options="-Xmx32m", **APP)
    if label:
        pod["metadata"]["labels"]["debug.noah/inject"] = "true"
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", **pod})
    return is_injected(kubectl.get("pod", name))


async def test_labelled_pods_are_injected_and_come_online(kubectl: Kubectl, tmp_path: Path) -> None:
    numbers = iter(range(100))
    async with injecting(kubectl, tmp_path) as gateway:
        # A configuration reaches the API server's admission within a second or so.
        until(lambda: made(kubectl, f"labelled-{next(numbers)}"))
        last = f"labelled-{next(numbers) - 1}"
        assert not made(kubectl, "plain", label=False)
        pod = kubectl.get("pod", last)
        assert [c["name"] for c in pod["spec"]["initContainers"]] == [SIDECAR]
        kubectl.wait(f"pod/{last}", "condition=Ready")
        assert kubectl("exec", last, "-c", "app", "--", "cat", "/noah/healthcheck.html") == "online\n"
        # Who is away is in nobody's way.
        await gateway.stop(signal.SIGKILL)
        assert not made(kubectl, "while-away")
        kubectl.wait("pod/while-away", "condition=Ready")


class Moment:
    """A clock that stands still until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Way:
    """From the node's address to the webhook; API servers keep a connection, and a certificate, until it is cut."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.taken = 0
        self.open: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def from_address(self, address: str) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._accept, address, 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self.open:
            writer.transport.abort()
        self.open.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        self.open += [writer, far_writer]
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_pass(reader, far_writer), _pass(far_reader, writer))
        self.cut()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(65536):
        writer.write(some)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def service(kubectl: Kubectl, name: str, wanted: WebhookSettings) -> AsyncIterator[Way]:
    """A Service that leads to a webhook on this machine, which is the node too."""
    addresses = kubectl.get("node", kubectl("get", "nodes", "-o", "name").split()[0].removeprefix("node/"))
    address = next(a["address"] for a in addresses["status"]["addresses"] if a["type"] == "InternalIP")
    way = Way(wanted.port)
    async with way.from_address(address) as port:
        ports = {"port": 443, "targetPort": port}
        kubectl.apply(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [ports]}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [address]}],
                "ports": [{"port": port}],
            },
        )
        yield way


def webhook_of(kubectl: Kubectl, name: str, folder: Path) -> tuple[WebhookSettings, Path]:
    """What a gateway that is reached by a Service has in its configuration, and the file."""
    wanted = WebhookSettings(
        listen=f"127.0.0.1:{free_port()}", names=(f"{name}.{kubectl.namespace}.svc",), folder=folder / "w"
    )
    file = folder / f"{name}.toml"
    file.write_text(
        f'[webhook]\nlisten = "{wanted.listen}"\nnames = ["{wanted.names[0]}"]\nfolder = "{wanted.folder}"\n'
    )
    return wanted, file


def offered(wanted: WebhookSettings) -> str:
    return ssl.get_server_certificate((wanted.host, wanted.port))


async def test_a_renewed_certificate_needs_no_new_manifest(labelled: Kubectl, tmp_path: Path) -> None:
    wanted, file = webhook_of(labelled, "renewed", tmp_path)
    # One that ends in two days, and so is due; the gateway does not know yet.
    clock = Moment(datetime.now(UTC) - LASTS + timedelta(days=2))
    numbers = iter(range(100))
    async with serving(wanted, clock, look_again=0.1), service(labelled, "renewed", wanted) as way:
        options = ("--service", f"{labelled.namespace}/renewed", "--name", labelled.namespace)
        with registered(labelled, await printed(file, *options)):
            await asyncio.to_thread(until, lambda: made(labelled, f"before-{next(numbers)}"))
            first, taken = await asyncio.to_thread(offered, wanted), way.taken
            clock.now = datetime.now(UTC)
            await asyncio.to_thread(until, lambda: offered(wanted) != first)
            way.cut()
            assert await asyncio.to_thread(made, labelled, "after")
            assert way.taken > taken


async def test_an_authority_that_has_ended_costs_the_injection_and_the_log_says_what_to_do(
    labelled: Kubectl, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted, file = webhook_of(labelled, "ended", tmp_path)
    real = datetime.now(UTC)
    began, clock = real - AUTHORITY_LASTS - timedelta(minutes=30), Moment(real - timedelta(hours=1))
    authority = Certificates(wanted.folder, wanted.names).authority(began)
    client = {"service": {"namespace": labelled.namespace, "name": "ended", "path": PATH}}
    old = manifest(name=labelled.namespace, client=client, authority=authority)
    numbers = iter(range(100))
    async with serving(wanted, clock, look_again=0.1), service(labelled, "ended", wanted) as way:
        with registered(labelled, json.dumps(old)):

            def asked() -> bool:
                assert not made(labelled, f"ended-{next(numbers)}")
                return way.taken > 0

            await asyncio.to_thread(until, asked)
            assert "from then on nothing is injected" in caplog.text
            clock.now = datetime.now(UTC)
            await asyncio.to_thread(until, lambda: "has ended" in caplog.text)
            assert "`noah webhook | kubectl apply -f -`" in caplog.text
            options = ("--service", f"{labelled.namespace}/ended", "--name", labelled.namespace)
            labelled("apply", "-f", "-", stdin=await printed(file, *options))
            await asyncio.to_thread(until, lambda: made(labelled, f"anew-{next(numbers)}"))
