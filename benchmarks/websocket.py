"""The gateway's own WebSocket frames against wsproto's, on the api-server route of a real cluster.

    python -m benchmarks.websocket KUBECONFIG [--uvloop] [--rounds 7]

The pod and the ways are those of benchmarks/exec.py. Both kinds of frames take turns in one process, so that a machine
that is busy for a while is busy for both; what is shown is the median of the rounds, and the processor time of this
process, which is the gateway's share.
"""

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping

from benchmarks.exec import BULK, Connect, Counting, bench_pod, bulk, round_trip, ways
from noah.kube.exec import commands
from noah.kube.exec.stream import ExecStream
from noah.websocket import Data

TRIPS = 1000


class WsprotoStream(ExecStream):
    """The same stream, with what comes parsed and what goes made by wsproto."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._frames = Connection(ConnectionType.CLIENT)
        super().__init__(*args, **more)

    def send_to(self, channel: int, data: Data) -> None:
        self.transport.write(self._frames.send(BytesMessage(b"".join((bytes((channel,)), data)))))

    def _parse(self, view: memoryview) -> None:
        self._frames.receive_data(bytes(view))
        for event in self._frames.events():
            match event:
                case BytesMessage(data, _, is_over):
                    if data and not self._ended:
                        self._piece(memoryview(data))
                    if is_over and not self._ended:
                        self._message_is_over()
                case Ping():
                    self.transport.write(self._frames.send(event.response()))
                case CloseConnection():
                    self._closed_by_peer(int(event.code).to_bytes(2, "big"))
            if self._paused or self.is_gone:
                break


async def measure(connect: Connect) -> dict[str, float]:
    began = time.process_time()
    trips = sorted(await round_trip(connect, TRIPS))
    between = time.process_time()
    speed = await bulk(connect)
    return {
        "round trip p50, us": trips[len(trips) // 2],
        "bulk, MiB/s": speed,
        "CPU per round trip, us": (between - began) / TRIPS * 1e6,
        "CPU per MiB, us": (time.process_time() - between) / (BULK >> 20) * 1e6,
    }


async def main(kubeconfig: Path, rounds: int) -> None:
    measured: dict[str, dict[str, list[float]]] = {}
    async with bench_pod(kubeconfig) as (cluster, _):
        by_exec, _ = ways(cluster)
        (await by_exec(7001, Counting)).close()  # the first connection of a client makes its session
        for _ in range(rounds):
            for name, stream in (("own", ExecStream), ("wsproto", WsprotoStream)):
                with patch.object(commands, "ExecStream", stream):
                    for figure, value in (await measure(by_exec)).items():
                        measured.setdefault(figure, {}).setdefault(name, []).append(value)
    for figure, by_name in measured.items():
        own, other = statistics.median(by_name["own"]), statistics.median(by_name["wsproto"])
        print(f"{figure:24} own {own:9.1f}   wsproto {other:9.1f}   {other / own - 1:+.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if given.uvloop:
        import uvloop

        uvloop.install()
    sys.exit(asyncio.run(main(given.kubeconfig, given.rounds)))
