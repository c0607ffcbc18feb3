"""The gateway's byte path alone: python -m benchmarks.gateway FIRST_PORT PORTS JVM_PORT [--uvloop], until it is ended.

Each port is one session, as in the gateway; the observer is on.
"""

import argparse
import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from noah.proxy.listener import Listener
from noah.proxy.slot import Slot


async def run(first: int, count: int, jvm_port: int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)

    async def dial(protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await loop.create_connection(protocol, "127.0.0.1", jvm_port)
        return transport

    async with AsyncExitStack() as stack:
        for number in range(first, first + count):
            slot = Slot(
                session_id=f"s{number}",
                dial=dial,
                allow_exit=False,
                clock=lambda: datetime.now(UTC),
                changed=lambda: None,
                noticed=lambda kind, data: None,
            )
            listener = Listener(slot, host="127.0.0.1", port=number, admits=lambda _: True)
            await slot.open()
            await listener.open()
            stack.push_async_callback(slot.close, "the benchmark is over")
            stack.callback(listener.close)
        await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("first", "count", "jvm_port"):
        parser.add_argument(name, type=int)
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    factory = None
    if arguments.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run(arguments.first, arguments.count, arguments.jvm_port))


if __name__ == "__main__":
    main()
