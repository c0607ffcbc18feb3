"""The webhook for tests: a gateway of its own that the API server asks about the pods of one namespace."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.cluster.conftest import Kubectl
from tests.gateway import Process, serving
from tests.ports import free_port


@contextlib.asynccontextmanager
async def injecting(kubectl: Kubectl, folder: Path) -> AsyncIterator[Process]:
    """Found by a URL: the API server runs on this machine, as the gateway does."""
    listen, kept = f"127.0.0.1:{free_port()}", folder / "webhook"
    config = f'[webhook]\nlisten = "{listen}"\nnames = ["127.0.0.1"]\nfolder = "{kept}"\n'
    kubectl("label", "namespace", kubectl.namespace, "debug.noah/inject=true", "--overwrite")
    async with serving(folder, config) as (process, _):
        with registered(kubectl, await printed(process.file, "--name", kubectl.namespace)):
            yield process


async def printed(config: Path, *options: str) -> str:
    """What `noah webhook` prints."""
    argv = (sys.executable, "-m", "noah", "webhook", "--config", str(config), *options)
    noah = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await noah.communicate()
    assert noah.returncode == 0
    return out.decode()


@contextlib.contextmanager
def registered(kubectl: Kubectl, text: str) -> Iterator[None]:
    """Under the namespace's name, so that two runs do not meet."""
    kubectl("apply", "-f", "-", stdin=text)
    try:
        yield
    finally:
        kubectl("delete", "mutatingwebhookconfiguration", kubectl.namespace)
