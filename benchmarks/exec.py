"""exec and the ways through the API server against kubectl, side by side, on a real cluster.

    python -m benchmarks.exec KUBECONFIG [--uvloop]

Makes a pod with image noah.test/java17:1, in which a small Java server echoes (port 7001) and sends (7002), as a JVM's
debug agent would; measures `kubectl exec POD -- true` against Exec.run(), and `kubectl port-forward` against
Exec.connect() with `socat - TCP:127.0.0.1:PORT`: round trips of 32 bytes, 512 MiB in writes
of 256 KiB, and the time to a first reply on a new connection. Three rounds, taken in turns; the median counts.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from noah.kube.clusters import Cluster
from noah.kube.exec.commands import Container
from noah.settings import ClusterSettings

NAMESPACE = "noah-bench-exec"
BULK = 512 << 20
SERVER = """
import java.io.*; import java.net.*;
public class Bench {
  interface Talk { void with(InputStream in, OutputStream out) throws IOException; }
  static void serve(int port, Talk talk) throws IOException {
    ServerSocket server = new ServerSocket(port);
    new Thread(() -> { while (true) try {
      Socket socket = server.accept();
      socket.setTcpNoDelay(true);
      new Thread(() -> {
        try (Socket s = socket) { talk.with(s.getInputStream(), s.getOutputStream()); } catch (IOException e) { }
      }).start();
    } catch (IOException e) { return; } }).start();
  }
  public static void main(String[] args) throws IOException {
    byte[] packet = new byte[256 << 10];
    serve(7001, (in, out) -> { byte[] b = new byte[65536]; int n; while ((n = in.read(b)) > 0) out.write(b, 0, n); });
    serve(7002, (in, out) -> { if (in.read() > 0) for (int i = 0; i < BULK / packet.length; i++) out.write(packet); });
    System.out.println("up");
  }
}
""".replace("BULK", str(BULK))
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "bench"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "app", "image": "noah.test/java17:1", "imagePullPolicy": "Never"}],
    },
}
POD_APP = Container(NAMESPACE, "bench", "app")
Connect = Callable[[int, Callable[[], asyncio.BufferedProtocol]], Awaitable[asyncio.Transport]]


class Counting(asyncio.BufferedProtocol):
    """Waits for numbers of bytes."""

    def __init__(self) -> None:
        self._room = memoryview(bytearray(256 << 10))
        self._got = 0
        self._wanted = 1 << 60
        self._enough = asyncio.Event()

    async def bytes(self, number: int) -> None:
        self._wanted = number
        if self._got < number:
            self._enough.clear()
            await self._enough.wait()
        self._got -= number
        self._wanted = 1 << 60

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._got += nbytes
        if self._got >= self._wanted:
            self._enough.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            raise exc


async def round_trip(connect: Connect, times: int = 1500) -> list[float]:
    """Microseconds, each."""
    counting = Counting()
    transport = await connect(7001, lambda: counting)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        transport.write(b"x" * 32)
        await counting.bytes(32)
        took.append((time.perf_counter() - began) * 1e6)
    transport.close()
    return took[times // 10 :]


async def first_reply(connect: Connect) -> float:
    """Seconds from nothing to the first byte back."""
    began = time.perf_counter()
    counting = Counting()
    transport = await connect(7001, lambda: counting)
    transport.write(b"x")
    await counting.bytes(1)
    took = time.perf_counter() - began
    transport.close()
    return took


async def bulk(connect: Connect) -> float:
    """MiB/s."""
    counting = Counting()
    transport = await connect(7002, lambda: counting)
    began = time.perf_counter()
    transport.write(b"x")
    await counting.bytes(BULK)
    took = time.perf_counter() - began
    transport.close()
    return BULK / 2**20 / took


async def seconds(work: Callable[[], Awaitable[object]], times: int = 20) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


async def command(*argv: str, stdin: str = "") -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = await process.communicate(stdin.encode())
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit code {process.returncode}")
    return out.decode()


@asynccontextmanager
async def port_forward(kubectl: list[str], port: int) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        *kubectl, "port-forward", "pod/bench", f":{port}", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        said = (await process.stdout.readline()).decode()
        found = re.search(r":(\d+) ->", said)
        assert found is not None, said
        yield int(found[1])
    finally:
        process.terminate()
        await process.wait()


def server_class() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "Bench.java")
        source.write_text(SERVER)
        subprocess.run(["javac", "--release", "17", "-d", folder, source], check=True)
        return subprocess.run(["tar", "-C", folder, "-cf", "-", "."], check=True, capture_output=True).stdout


async def start_server(cluster: Cluster) -> None:
    unpacked = await cluster.exec.run(POD_APP, ["tar", "-C", "/dev/shm", "-xf", "-"], stdin=server_class(), timeout=10)
    assert unpacked.code == 0, unpacked
    # It goes on when its stream is closed.
    start = ["java", "-cp", "/dev/shm", "Bench"]
    await (await cluster.exec.hold(POD_APP, start, until="up", first_line_timeout=60)).close()


@asynccontextmanager
async def bench_pod(kubeconfig: Path) -> AsyncIterator[tuple[Cluster, list[str]]]:
    """A cluster with the pod in it, its server running; and kubectl in the pod's namespace."""
    kubectl = ["kubectl", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE]
    await command(*kubectl, "create", "namespace", NAMESPACE)
    try:
        await command(*kubectl, "apply", "-f", "-", stdin=json.dumps(POD))
        await command(*kubectl, "wait", "--for=condition=Ready", "pod/bench", "--timeout=60s")
        async with Cluster(ClusterSettings(name="bench", kubeconfig=kubeconfig)) as cluster:
            await start_server(cluster)
            yield cluster, kubectl
    finally:
        await command(*kubectl, "delete", "namespace", NAMESPACE)


def ways(cluster: Cluster, port_of: Mapping[int, int] = {}) -> tuple[Connect, Connect]:
    """Connect by an exec stream, and by kubectl's forwarded ports."""

    async def by_exec(port: int, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        argv = ["socat", "-b65536", "-", f"TCP:127.0.0.1:{port},nodelay"]
        return await cluster.exec.connect(POD_APP, argv, factory)

    async def by_kubectl(port: int, factory: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        return (await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port_of[port]))[0]

    return by_exec, by_kubectl


async def measure(cluster: Cluster, kubectl: list[str]) -> dict[str, float]:
    figures = {
        "run, ms": await seconds(lambda: cluster.exec.run(POD_APP, ["true"], timeout=10)) * 1e3,
        "kubectl exec, ms": await seconds(lambda: command(*kubectl, "exec", "bench", "--", "true")) * 1e3,
    }
    rounds: dict[str, list[float]] = {}
    async with port_forward(kubectl, 7001) as echo, port_forward(kubectl, 7002) as source:
        by_exec, by_kubectl = ways(cluster, {7001: echo, 7002: source})
        for _ in range(3):
            for name, way in (("connect", by_exec), ("port-forward", by_kubectl)):
                took = sorted(await round_trip(way))
                rounds.setdefault(f"{name} p50, us", []).append(took[len(took) // 2])
                rounds.setdefault(f"{name} p99, us", []).append(took[len(took) * 99 // 100])
                rounds.setdefault(f"{name} bulk, MiB/s", []).append(await bulk(way))
                rounds.setdefault(f"{name} first reply, ms", []).append(await first_reply(way) * 1e3)
    return figures | {name: statistics.median(each) for name, each in rounds.items()}


async def main(kubeconfig: Path) -> None:
    async with bench_pod(kubeconfig) as (cluster, kubectl):
        figures = await measure(cluster, kubectl)
    for name, figure in figures.items():
        print(f"{name:28} {figure:10.1f}")
    round_trips = figures["connect p50, us"] / figures["port-forward p50, us"]
    bulks = figures["connect bulk, MiB/s"] / figures["port-forward bulk, MiB/s"]
    print(f"{'connect : port-forward':28} {round_trips:10.2f} of the round trip, {bulks:.2f} of the bulk")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    if given.uvloop:
        import uvloop

        uvloop.install()
    sys.exit(asyncio.run(main(given.kubeconfig)))
