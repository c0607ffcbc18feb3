"""A laptop or a node that is gone without a word: another network namespace, whose packets are dropped from then on.

What was attached from there, or to there, is given up within 45 s, with data on its way or without; whoever is only
quiet stays.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import pytest

from noah.core.jdwp.wire import HANDSHAKE
from noah.proxy.listener import Listener
from noah.proxy.slot import Slot
from tests.jdwp import ALL, stop

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not all(map(shutil.which, ["ip", "nft"])), reason="ip or nft is not installed"),
]

NAME = f"noah-{os.getpid()}"
HERE, THERE = "198.18.7.1", "198.18.7.2"  # of the block for benchmarks (RFC 2544), which nobody routes
DEBUGGER = """
import socket, sys, time
one = socket.create_connection((sys.argv[1], int(sys.argv[2])))
one.sendall(b"JDWP-Handshake")
print(one.recv(14).decode(), flush=True)
time.sleep(3600)
"""
JVM = """
import socket, sys, time
server = socket.create_server(("0.0.0.0", 0))
print(server.getsockname()[1], flush=True)
one, _ = server.accept()
one.sendall(one.recv(14))
time.sleep(3600)
"""


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The name of a namespace that is one cable away."""
    near, far = f"n{os.getpid()}", f"f{os.getpid()}"
    try:
        run("ip", "netns", "add", NAME)
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", NAME)
    except subprocess.CalledProcessError as e:
        subprocess.run(["ip", "netns", "del", NAME], check=False, capture_output=True)
        pytest.skip(f"network namespaces cannot be made here: {e.stderr.decode().strip()}")
    try:
        run("ip", "addr", "add", f"{HERE}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        run("ip", "-n", NAME, "addr", "add", f"{THERE}/30", "dev", far)
        run("ip", "-n", NAME, "link", "set", far, "up")
        yield NAME
    finally:
        # The cable first: what a namespace's sockets still have to say keeps it alive, and with it our address, which
        # would be the next test's as well.
        run("ip", "link", "del", near)
        run("ip", "netns", "del", NAME)


def vanish(namespace: str) -> None:
    for hook in ("input", "output"):
        chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
        run("ip", "netns", "exec", namespace, "nft", f"add table inet gone; add chain inet gone {hook} {chain}")


class Here:
    """JVMs of this machine: they greet and stay quiet, until a test has them speak."""

    def __init__(self) -> None:
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(await reader.readexactly(14))
        await reader.read()
        writer.close()


@asynccontextmanager
async def jvms() -> AsyncIterator[Here]:
    here = Here()
    server = await asyncio.start_server(here.accept, "127.0.0.1", 0)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()


@asynccontextmanager
async def opened(jvm: tuple[str, int]) -> AsyncIterator[tuple[Slot, int]]:
    async def dial(protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(protocol, *jvm)
        return transport

    slot = Slot(
        session_id="s1",
        dial=dial,
        allow_exit=False,
        clock=lambda: datetime.now(UTC),
        changed=lambda: None,
        noticed=lambda kind, data: None,
    )
    listener = Listener(slot, host="0.0.0.0", port=0, admits=lambda _: True)
    await slot.open()
    await listener.open()
    try:
        yield slot, listener.port
    finally:
        listener.close()
        await slot.close("the test is over")


@asynccontextmanager
async def process(namespace: str, program: str, *arguments: str) -> AsyncIterator[str]:
    """The first line that *program* says there."""
    started = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", namespace, sys.executable, "-c", program, *arguments), stdout=subprocess.PIPE
    )
    assert started.stdout is not None
    try:
        yield (await asyncio.wait_for(started.stdout.readline(), 20)).decode().strip()
    finally:
        started.kill()
        await started.wait()


async def attach(port: int) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    assert await reader.readexactly(14) == HANDSHAKE
    return writer


async def test_whoever_vanished_is_let_go_of_within_45_seconds_and_whoever_is_quiet_stays(elsewhere: str) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(jvms())
        opened_here = [await stack.enter_async_context(opened(("127.0.0.1", here.port))) for _ in range(3)]
        (quiet_laptop, quiet_port), (told_laptop, told_port), (stays, port_of_stays) = opened_here
        for port in (quiet_port, told_port):
            said = await stack.enter_async_context(process(elsewhere, DEBUGGER, HERE, str(port)))
            assert said == HANDSHAKE.decode()
        told_jvm = here.writers[-1]
        writers = [await attach(port_of_stays)]
        nodes: list[Slot] = []
        for _ in range(2):
            jvm = await stack.enter_async_context(process(elsewhere, JVM))
            node, port = await stack.enter_async_context(opened((THERE, int(jvm))))
            nodes.append(node)
            writers.append(await attach(port))
        await asyncio.to_thread(vanish, elsewhere)
        told_jvm.write(stop(ALL))  # never arrives
        writers[2].write(bytes.fromhex("0000000b 00000001 00 0101"))  # nor does this
        gone = [quiet_laptop, told_laptop, *nodes]
        async with asyncio.timeout(45):
            while any(slot.attached for slot in gone):
                await asyncio.sleep(0.1)
        for slot in gone:
            assert slot.audit()["connections"][0]["ended"].endswith("'s machine stopped answering")
        assert stays.attached is not None
        for writer in writers:
            writer.close()
