"""Every byte of a real debugging session over a line that is cut at random moments."""

import asyncio
import itertools
import random
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from noah.connect.session_line import Gateway, LineStatus, SessionLine
from noah.core.jdwp.commands import BREAKPOINT_SET, KINDS
from noah.core.jdwp.wire import HANDSHAKE, HEADER_SIZE, header
from noah.proxy.slot import Slot
from noah.proxy.tunnel import Tunnel
from noah.web.api.line import SILENT_AFTER_S, carry
from tests import jdwp
from tests.java import SHOP, compiled
from tests.line import Relay, check_against_the_jvm, debug, digest, without_own_questions
from tests.ports import free_port

pytestmark = [
    pytest.mark.jvm,
    pytest.mark.skipif(not all(map(shutil.which, ["java", "javac"])), reason="no JDK on this machine"),
]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(SHOP, tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def agent_port(classes: Path) -> Iterator[int]:
    with shop(classes) as port:
        yield port


@contextmanager
def shop(classes: Path) -> Iterator[int]:
    """A JVM of its own; the port of its agent."""
    port = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{port}"
    process = subprocess.Popen(["java", "-Xmx64m", agent, "-cp", classes, "Shop", "20"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield port
    finally:
        process.kill()
        process.communicate()


class World:
    """A slot on a JVM whose bytes are recorded, and a laptop's line to it over a network that can be cut."""

    def __init__(self, agent: Relay, network: Relay, slot: Slot, tunnel: Tunnel, line: SessionLine) -> None:
        self.agent = agent
        self.network = network
        self.slot = slot
        self.tunnel = tunnel
        self.line = line


@asynccontextmanager
async def world(agent_port: int, *, accelerates: bool = False) -> AsyncIterator[World]:
    async with Relay(agent_port).open() as agent, aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        agent.keeps = True
        loop = asyncio.get_running_loop()

        async def dial(protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
            return (await loop.create_connection(protocol, "127.0.0.1", agent.port))[0]

        def clock() -> datetime:
            return datetime.now(UTC)

        slot = Slot(
            session_id="s-1", dial=dial, allow_exit=False, clock=clock, changed=lambda: None, noticed=lambda *_: None
        )
        await slot.open()
        tunnel = Tunnel(
            session_id="s-1",
            admit=slot.admit,
            stands=lambda: False,
            clock=clock,
            changed=lambda: None,
            held_running=timedelta(minutes=5),
            held_suspended=timedelta(minutes=5),
        )

        async def serve(request: web.Request) -> web.StreamResponse:
            return await carry(request, tunnel, address="192.0.2.1")

        site = web.Application()
        site.router.add_get("/api/v1/sessions/s-1/line", serve)
        runner = web.AppRunner(site, shutdown_timeout=0.1)
        await runner.setup()
        serving = web.TCPSite(runner, "127.0.0.1", port := free_port())
        await serving.start()
        async with Relay(port).open() as network:
            gateway = Gateway(http=http, url=f"http://127.0.0.1:{network.port}", headers=dict, proxy=None)
            line = SessionLine({"id": "s-1", "port": free_port()}, gateway, take_over=False, accelerate=accelerates)
            await line.open()
            running = group.create_task(line.run())
            try:
                async with asyncio.timeout(60):
                    while line.status is not LineStatus.CONNECTED:
                        await asyncio.sleep(0.01)
                yield World(agent, network, slot, tunnel, line)
            finally:
                running.cancel()
                await asyncio.wait([running])
                await slot.close("the test is over")
                await runner.cleanup()


async def test_a_line_cut_at_random_moments_loses_no_byte_and_detaches_nobody(agent_port: int) -> None:
    choose = random.Random(14)
    async with world(agent_port) as here, asyncio.TaskGroup() as group:
        debugging = group.create_task(asyncio.to_thread(debug, here.line.port, rounds=range(12)))
        cuts = 0
        while not debugging.done():
            async with asyncio.timeout(60):
                while here.line.status is not LineStatus.CONNECTED and not debugging.done():
                    await asyncio.sleep(0.01)
            await asyncio.sleep(choose.uniform(0, 0.2))
            async with here.network.cut():
                await asyncio.sleep(choose.choice([0, 0, 0.1, 0.3]))
            cuts += 1
        sent, got = await debugging
        async with asyncio.timeout(30):
            while here.slot.attached is not None:
                await asyncio.sleep(0.01)
        assert cuts > 5
        assert digest(without_own_questions(bytes(here.agent.up))) == digest(sent)
        assert digest(without_own_questions(bytes(here.agent.down))) == digest(got)
        assert here.agent.connections == 1
        assert len(here.slot.audit()["connections"]) == 1


async def test_a_debugger_that_is_answered_from_memory_over_cuts_gets_what_the_jvm_says(agent_port: int) -> None:
    choose = random.Random(15)
    async with world(agent_port, accelerates=True) as here, asyncio.TaskGroup() as group:
        debugging = group.create_task(asyncio.to_thread(debug, here.line.port, rounds=range(25)))
        cuts = 0
        while not debugging.done():
            async with asyncio.timeout(60):
                while here.line.status is not LineStatus.CONNECTED and not debugging.done():
                    await asyncio.sleep(0.01)
            await asyncio.sleep(choose.uniform(0, 0.2))
            async with here.network.cut():
                await asyncio.sleep(choose.choice([0, 0.1]))
            cuts += 1
        sent, got = await debugging
        assert cuts > 2
        assert here.line.answered is not None
        assert here.line.answered > 100
        assert here.agent.connections == 1
        async with asyncio.timeout(30):
            while here.slot.attached is not None:
                await asyncio.sleep(0.01)
        # What the accelerator asked ahead is not counted as the debugger's, and what it answered is.
        audit = here.slot.audit()
        assert audit["commands"] == asked_by(sent)
        check_against_the_jvm(sent, got, up=bytes(here.agent.up), down=bytes(here.agent.down))
        assert sum(audit["foreseen"].values()) > 100


def asked_by(sent: bytes) -> Counter[str]:
    kinds: Counter[str] = Counter()
    at = len(HANDSHAKE)
    while at < len(sent):
        length, _, _, number = header(sent, at)
        is_breakpoint = number == jdwp.SET and sent[at + HEADER_SIZE] == jdwp.BREAKPOINT
        kinds[KINDS[BREAKPOINT_SET if is_breakpoint else number]] += 1
        at += length
    return kinds


LINES, CUTS_OF_EACH, LENGTHS_S = 10, 5, (1, 10, 30)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_180_cuts_of_1_to_30_s_lose_no_byte_and_detach_nobody(classes: Path) -> None:
    async with asyncio.TaskGroup() as group:
        lines = [group.create_task(debug_over_cuts(classes, seed, accelerates=False)) for seed in range(LINES)]
        lines += [group.create_task(debug_over_cuts(classes, 100 + seed, accelerates=True)) for seed in range(2)]
    print("stops:", *(line.result() for line in lines))


async def debug_over_cuts(classes: Path, seed: int, *, accelerates: bool) -> int:
    """Debug a JVM while the line is cut for each length several times; return how often it stopped."""
    choose, is_over, count = random.Random(seed), threading.Event(), itertools.count()

    def rounds() -> Iterator[int]:
        while not is_over.wait(choose.choice([0, 0, 0.1, 0.5, 1])):
            yield next(count)

    # The loop's own executor has fewer threads than there are lines.
    with shop(classes) as port, ThreadPoolExecutor(1) as thread:
        async with world(port, accelerates=accelerates) as here:
            loop = asyncio.get_running_loop()
            # Between two cuts of 30 s there may be too little time for a single reply.
            patient = partial(debug, here.line.port, rounds=rounds(), patience_s=300)
            debugging = loop.run_in_executor(thread, patient)
            lengths_s = [length for length in LENGTHS_S for _ in range(CUTS_OF_EACH)]
            choose.shuffle(lengths_s)
            for length_s in lengths_s:
                async with asyncio.timeout(60):
                    while here.line.status is not LineStatus.CONNECTED:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(choose.uniform(0, 2))
                assert not debugging.done()
                async with here.network.cut():
                    await asyncio.sleep(length_s)
            is_over.set()
            sent, got = await debugging
            async with asyncio.timeout(60):
                while here.slot.attached is not None:
                    await asyncio.sleep(0.01)
            assert here.agent.connections == 1
            assert len(here.slot.audit()["connections"]) == 1
            if accelerates:
                check_against_the_jvm(sent, got, up=bytes(here.agent.up), down=bytes(here.agent.down))
            else:
                assert digest(without_own_questions(bytes(here.agent.up))) == digest(sent)
                assert digest(without_own_questions(bytes(here.agent.down))) == digest(got)
    stops = next(count)
    assert stops > len(lengths_s)
    return stops


async def test_a_network_that_swallows_everything_is_found_out_and_left(agent_port: int) -> None:
    async with world(agent_port) as here, asyncio.TaskGroup() as group:
        debugging = group.create_task(asyncio.to_thread(debug, here.line.port, rounds=range(3)))
        async with asyncio.timeout(60):
            while here.slot.attached is None:
                await asyncio.sleep(0.01)
            here.network.swallows = True
            began = datetime.now(UTC)
            while not (here.line.status is LineStatus.LOST and here.tunnel.info and here.tunnel.info.is_lost):
                await asyncio.sleep(0.05)
            # The time for which the JVM is held begins with the silence, not when that is noticed.
            assert here.tunnel.info.since - began < timedelta(seconds=SILENT_AFTER_S / 2)
        here.network.swallows = False
        sent, got = await debugging
        assert digest(without_own_questions(bytes(here.agent.up))) == digest(sent)
        assert digest(without_own_questions(bytes(here.agent.down))) == digest(got)
        assert here.agent.connections == 1
