"""The pods of a real API server, which change as those of scale_api.py do: their containers are started again."""

import asyncio
import base64
import random
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import yaml

NAMESPACES = "scale-"  # how their names begin; others are left alone
PAGE = 500  # pods
INTERVAL_S = 0.05
CONNECTIONS = 16
RESTARTS = "/status/containerStatuses/0/restartCount"


class App(NamedTuple):
    namespace: str
    name: str


class RealApi:
    """Lives while it is entered."""

    changes = 0
    refused = 0

    def __init__(self, kubeconfig: str) -> None:
        config = yaml.safe_load(Path(kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        tls = ssl.create_default_context(cafile=_file(cluster, "certificate-authority"))
        tls.load_cert_chain(_file(user, "client-certificate"), _file(user, "client-key"))
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=CONNECTIONS))
        self._pods: dict[App, str] = {}
        self._churning: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()
        await self._http.close()

    async def restarts(self) -> Mapping[App, int]:
        """Return how often each app was started again, by a list of all pods."""
        found, params = dict[App, int](), {"limit": str(PAGE)}
        while True:
            async with self._http.get(f"{self._server}/api/v1/pods", params=params) as answer:
                answer.raise_for_status()
                page = await answer.json()
            for pod in page["items"]:
                metadata = pod["metadata"]
                if metadata["namespace"].startswith(NAMESPACES) and pod["status"].get("containerStatuses"):
                    app = App(metadata["namespace"], metadata["labels"]["app"])
                    self._pods[app] = metadata["name"]
                    found[app] = pod["status"]["containerStatuses"][0]["restartCount"]
            if not (after := page["metadata"].get("continue")):
                return found
            params["continue"] = after

    async def churn(self, rate: float) -> None:
        """Have so many pods change per second until stop()."""
        await self.restarts()
        self._churning = asyncio.create_task(self._churn(rate))  # noqa: TID251 - ends in stop()

    async def stop(self) -> None:
        if self._churning is not None:
            self._churning.cancel()
            await asyncio.gather(self._churning, return_exceptions=True)

    async def _churn(self, rate: float) -> None:
        loop, apps = asyncio.get_running_loop(), list(self._pods)
        began = loop.time()
        while True:
            await asyncio.sleep(INTERVAL_S)
            due = rate * (loop.time() - began) - self.changes - self.refused
            await asyncio.gather(*(self._change(random.choice(apps)) for _ in range(min(round(due), CONNECTIONS))))

    async def _change(self, app: App) -> None:
        body = [{"op": "replace", "path": RESTARTS, "value": self.changes + 1}]
        path = f"{self._server}/api/v1/namespaces/{app.namespace}/pods/{self._pods[app]}/status"
        headers = {"Content-Type": "application/json-patch+json"}
        async with self._http.patch(path, json=body, headers=headers) as answer:
            self.changes += answer.status == 200
            self.refused += answer.status != 200


def _file(part: Mapping[str, Any], key: str) -> str:
    """Return the path of what a kubeconfig names or holds."""
    if key in part:
        return str(part[key])
    with tempfile.NamedTemporaryFile(delete=False, suffix=".pem") as file:
        file.write(base64.b64decode(part[f"{key}-data"]))
    return file.name
