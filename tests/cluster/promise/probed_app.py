"""Apps in pods of a test's own, probed by the liveness expression: what the kubelet and the app itself say about them.

The app is asked over the pod network, so that the API server's audit log has the gateway's execs only.
"""

import asyncio
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from noah.core.inject.probe import probe_spec
from tests.cluster.conftest import STARTS, Kubectl, java_app
from tests.gateway import Api

CHECKURL = "http://127.0.0.1:8080/checkurl"
# A rhythm that a busy node bears: the kubelet counts the start of an exec into its timeout. An app that hangs and that
# nothing spares is killed after 15 to 20 s.
PERIOD_S, FAILURES, TIMEOUT_S = 5, 3, 5
# The bound for a dead app: 2 x threshold x period, here 30 s.
BOUND_S = 2 * FAILURES * PERIOD_S
# A container has its grace period of one second, and a busy node needs a moment to end it.
MARGIN_S = 3
OURS = probe_spec(checkurl=CHECKURL, timeout_seconds=TIMEOUT_S, period_seconds=PERIOD_S, failure_threshold=FAILURES)


READY_WITHIN_S = 180.0


def probed_app(name: str, **more: Any) -> dict[str, Any]:
    """A pod's metadata and spec, as a workload's template has them. *more* is java_app()'s."""
    return java_app(name, **{"livenessProbe": OURS, "startupProbe": STARTS, **more})


def pod_of(name: str, **more: Any) -> dict[str, Any]:
    """A pod's manifest. *more* is java_app()'s."""
    return {"apiVersion": "v1", "kind": "Pod", **probed_app(name, **more)}


class ProbedApp:
    """One container in which App.java runs. *name* is the pod's, and the value of its label `app`."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.kubectl = kubectl
        self.name = name
        self.ip = ""
        self._working: list[asyncio.StreamWriter] = []
        self._restarts = 0  # when it came up

    def __repr__(self) -> str:
        return f"<{self.kubectl.namespace}/{self.name}>"

    async def pod(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.kubectl.get, "pod", self.name)

    async def come_up(self) -> None:
        await asyncio.to_thread(self.kubectl.wait, f"pod/{self.name}", "condition=Ready", timeout=180)
        self.ip = (await self.pod())["status"]["podIP"]
        self._restarts = (await self._container())["restartCount"]

    async def exec(self, *argv: str) -> str:
        return await asyncio.to_thread(self.kubectl, "exec", self.name, "--", *argv)

    # The kubelet's word

    async def restarts(self) -> int:
        """How often the container was restarted since it came up."""
        return int((await self._container())["restartCount"]) - self._restarts

    async def _container(self) -> dict[str, Any]:
        statuses: list[dict[str, Any]] = (await self.pod())["status"]["containerStatuses"]
        return statuses[0]

    # The app's own word

    async def get(self, path: str, *, port: int = 8080, within: float = 10) -> str:
        """The answer to a GET, with its head. TimeoutError or OSError when there is none."""
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(self.ip, port)
            try:
                writer.write(_request(path))
                answer = await reader.read()
            finally:
                writer.transport.abort()
        if not answer:
            raise ConnectionError(f"{self.name} hung up without an answer to {path}")
        return answer.decode()

    async def hang(self) -> datetime:
        """Makes checkurl hang from now on; the time."""
        at = datetime.now(UTC)
        assert "hanging" in await self.get("/hang")
        return at

    async def killed_after(self, since: datetime, *, within: float, port: int = 8080) -> float | None:
        """Seconds from *since* until the container ended; None when it lives for *within* seconds from now.

        Its end closes the connection to what hangs at *port*. The kubelet kills in time and, on a busy node, reports
        minutes later when that was: three containers that ended 21 s after a hang looked as if they were alive.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                try:
                    answer = await self.get("/checkurl", port=port, within=within)
                except ConnectionError:
                    return (datetime.now(UTC) - since).total_seconds()
                raise AssertionError(f"{self.name} does not hang, it answered {answer}")
        return None

    async def work(self, *, port: int = 8080) -> None:
        """Begins a request that runs into a breakpoint in App.compute; nobody waits for its answer."""
        _, writer = await asyncio.open_connection(self.ip, port)
        writer.write(_request("/work"))
        self._working.append(writer)

    async def answers(self, *, within: float = 3) -> bool:
        try:
            return "200 OK" in await self.get("/checkurl", within=within)
        except (OSError, TimeoutError):
            return False

    async def stands(self, *, within: float = 60) -> None:
        """Waits until checkurl hangs, as it does at a breakpoint."""
        async with asyncio.timeout(within):
            # Twice, since a busy machine may be that slow once.
            while await self.answers(within=4) or await self.answers(within=4):
                await asyncio.sleep(0.1)

    async def runs(self, *, within: float = 60) -> None:
        """Waits until checkurl answers."""
        async with asyncio.timeout(within):
            while not await self.answers():
                await asyncio.sleep(0.2)

    def close(self) -> None:
        for writer in self._working:
            writer.transport.abort()


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode()


async def come_up(kubectl: Kubectl, *manifests: dict[str, Any]) -> dict[str, ProbedApp]:
    """The apps of these pods, ready, by name."""
    await asyncio.to_thread(kubectl.apply, *manifests)
    apps = {manifest["metadata"]["name"]: ProbedApp(kubectl, manifest["metadata"]["name"]) for manifest in manifests}
    # One after the other: nobody waits longer than for the slowest.
    for app in apps.values():
        await app.come_up()
    return apps


async def session_on(api: Api, target: str, **more: Any) -> dict[str, Any]:
    """A session that is ready, however long that takes on a busy node. *more* is the request's."""
    async with asyncio.timeout(READY_WITHIN_S):
        while (session := await api.enable(target, **more))["status"] != "ready":
            await asyncio.sleep(0.2)
    return session


def pods_named(kubectl: Kubectl, app: str) -> list[dict[str, Any]]:
    """The pods of a workload, those that are going away as well."""
    items: list[dict[str, Any]] = json.loads(kubectl("get", "pods", "-l", f"app={app}", "-o", "json"))["items"]
    return items
