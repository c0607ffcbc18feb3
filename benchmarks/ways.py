"""From enable to ready on a real pod by each way to a JVM, and the round trip of a command by it.

    python -m benchmarks.ways KUBECONFIG

Makes a namespace with four pods, and removes it. The cluster's containerd has to be on this machine: images are put in.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from noah.core.inject.manifest import inject
from tests.cluster import images
from tests.cluster.conftest import Kubectl
from tests.cluster.test_any_image import BARE, SIDECAR, Image, deployment
from tests.gateway import Api, serving

ROUNDS = 20
FEW_ROUNDS = 5  # of what leaves a container in the pod's list each time
COMMANDS = 300
HANDSHAKE = b"JDWP-Handshake"
VERSION = bytes((0, 0, 0, 11, 0, 0, 0, 1, 0, 1, 1))  # VirtualMachine.Version, JDWP's command 1 of set 1
SOCAT = Image("noah.test/java17:1", BARE.breakpoint, BARE.path, way="")


@dataclass
class Way:
    name: str
    app: str
    cluster: str
    rounds: int = ROUNDS
    enable_ms: list[float] = field(default_factory=list)
    trip_ms: list[float] = field(default_factory=list)


WAYS = (
    Way("socat in the image, by TCP", "socat", "pod"),
    Way("socat in the image, by exec", "socat", "api-server"),
    Way("no socat: port-forward", "bare", "pod"),
    Way("no shell: sidecar, by TCP", "no-shell", "pod"),
    Way("no shell: sidecar, by exec", "no-shell", "api-server"),
    Way("no shell: ephemeral container, by TCP", "plain", "with-tools", FEW_ROUNDS),
    Way("no shell: port-forward alone", "plain", "pod"),
)


async def main(kubeconfig: Path) -> None:
    images.give(kubeconfig)
    kubectl = Kubectl(kubeconfig, f"noah-bench-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    clusters = "".join(
        f'[[clusters]]\nname = "{name}"\nkubeconfig = "{kubeconfig}"\n{more}\n'
        for name, more in (
            ("pod", ""),
            ("api-server", 'reach = "api-server"'),
            ("with-tools", f'tools_image = "{images.TOOLS}"'),
        )
    )
    try:
        await asyncio.sleep(1)  # for the namespace's service account
        apps = {"socat": SOCAT, "bare": BARE, "no-shell": SIDECAR}
        kubectl.apply(*(inject(deployment(n, i), tools_image=images.TOOLS).manifest for n, i in apps.items()))
        plain = deployment("plain", SIDECAR, livenessProbe=None, startupProbe=None)
        plain["spec"]["template"]["metadata"]["annotations"]["debug.noah/probe-by"] = "container"
        for off in ("liveness", "prestart", "preonline"):
            plain["spec"]["template"]["metadata"]["annotations"][f"debug.noah/{off}"] = "off"
        kubectl.apply(inject(plain).manifest)
        for app in (*apps, "plain"):
            kubectl.wait(f"deployment/{app}", "condition=Available")
        with tempfile.TemporaryDirectory() as folder:
            async with serving(Path(folder), clusters) as (_, api):
                for way in WAYS:
                    await measure(way, f"pod/{way.cluster}/{kubectl.namespace}/deploy/{way.app}", api)
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
    report()


async def measure(way: Way, target: str, api: Api) -> None:
    for number in range(way.rounds):
        began = time.perf_counter()
        session = await api.ready(target)
        way.enable_ms.append((time.perf_counter() - began) * 1000)
        if number == 0:
            way.trip_ms = await round_trips(session["host"], session["port"])
        await api.end(session)


async def round_trips(host: str, port: int) -> list[float]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(HANDSHAKE)
    assert await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE
    took: list[float] = []
    for _ in range(COMMANDS):
        began = time.perf_counter()
        writer.write(VERSION)
        while True:
            head = await reader.readexactly(11)
            await reader.readexactly(int.from_bytes(head[:4], "big") - 11)
            if head[8] & 0x80:  # the reply, and not an event that comes first
                break
        took.append((time.perf_counter() - began) * 1000)
    writer.close()
    return took


def report() -> None:
    print(f"{'milliseconds, medians':40} {'enable to ready':>16} {'slowest':>9} {'round trip':>11}")
    figures = {}
    for way in WAYS:
        row = statistics.median(way.enable_ms), max(way.enable_ms), statistics.median(way.trip_ms)
        figures[way.name] = dict(zip(("enable", "slowest", "trip"), row, strict=True))
        print(f"{way.name:40} {row[0]:16.0f} {row[1]:9.0f} {row[2]:11.2f}")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-ways.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
