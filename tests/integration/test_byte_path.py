"""A real JVM and jdb through a port."""

import asyncio
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from noah.core.jdwp.wire import HANDSHAKE
from noah.core.session.session import Vm
from noah.proxy.listener import Listener
from noah.proxy.slot import Slot
from tests import jdwp
from tests.java import SHOP, compiled
from tests.jdb import attached
from tests.jdwp import Debugger, JdwpError, integer
from tests.ports import free_port

pytestmark = [
    pytest.mark.jvm,
    pytest.mark.skipif(not all(map(shutil.which, ["java", "javac", "jdb"])), reason="no JDK on this machine"),
]


@dataclass
class Shop:
    """The JVM, and where its classes and its log are."""

    port: int
    classes: Path
    log: Path
    process: subprocess.Popen[bytes]


@dataclass
class Through:
    slot: Slot
    listener: Listener
    shop: Shop
    notices: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def until(self, condition: Callable[[], object], within: float = 60) -> None:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.005)

    def is_in(self, state: Vm) -> bool:
        return self.slot.vm is not None and self.slot.vm.vm is state


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(SHOP, tmp_path_factory.mktemp("classes"))


@pytest.fixture
def shop(classes: Path, tmp_path: Path) -> Iterator[Shop]:
    port, log = free_port(), tmp_path / "shop.log"
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(["java", agent, "-cp", classes, "Shop", "20"], stdout=out, stderr=out)
    try:
        yield Shop(port=port, classes=classes, log=log, process=process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def through(shop: Shop) -> AsyncIterator[Through]:
    async def dial(protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(protocol, "127.0.0.1", shop.port)
        return transport

    notices: list[tuple[str, Mapping[str, Any]]] = []
    slot = Slot(
        session_id="s1",
        dial=dial,
        allow_exit=False,
        clock=lambda: datetime.now(UTC),
        changed=lambda: None,
        noticed=lambda kind, data: notices.append((kind, data)),
    )
    listener = Listener(slot, host="127.0.0.1", port=0, admits=lambda _: True)
    made = Through(slot=slot, listener=listener, shop=shop, notices=notices)
    await slot.open()
    await listener.open()
    await made.until(lambda: b"open" in shop.log.read_bytes(), within=30)
    try:
        yield made
    finally:
        listener.close()
        await slot.close("the test is over")
        # Whatever happened: no word in the app's own log.
        assert shop.log.read_text() == "open\n"


async def test_the_state_agrees_with_jdb_at_every_stop(through: Through) -> None:
    stops = re.compile(r'(?:Breakpoint hit|Step completed): "thread=(.*?)", (\S+)\(\), line=(\d+) bci')
    prompt = r"bci=\d+\n.*\n\n?main\[1\] "
    async with attached(through.listener.port) as jdb:
        assert through.slot.attached is not None
        assert through.slot.attached.debugger == "jdb"
        said = await jdb.ask("stop in Shop$OrderService.total", until=prompt)
        for _ in range(200):
            [(thread, method, line)] = stops.findall(said)
            assert through.slot.vm is not None
            assert through.is_in(Vm.SUSPENDED)
            assert (through.slot.vm.thread, through.slot.vm.location) == (thread, f"{method}:{line}")
            said = await jdb.ask("step", until=prompt)
        assert "CountDownLatch.await" in await jdb.ask("where all", until=r"idle-19:[\s\S]*main\[1\] ")
        await jdb.ask("clear Shop$OrderService.total")
        await jdb.ask("cont")
        await through.until(lambda: through.is_in(Vm.RUNNING))
        await jdb.ask("suspend", until="All threads suspended")
        assert through.is_in(Vm.SUSPENDED)
        await jdb.ask("resume", until="All threads resumed")
        assert through.is_in(Vm.RUNNING)
        await jdb.quit()
    await through.until(lambda: through.slot.attached is None)
    assert through.slot.audit()["commands"]["breakpoints set"] == 1
    assert through.slot.audit()["connections"][0]["ended"] == "the debugger detached"


async def test_a_thread_that_jdb_holds_alone_is_told_as_that(through: Through) -> None:
    async with attached(through.listener.port) as jdb:
        # jdb numbers threads by their IDs in the JVM, and "main" is among the first.
        [thread] = re.findall(
            r"\(java\.lang\.Thread\)(\d+) +main ", await jdb.ask("threads", until=r"Common-Cleaner.*")
        )
        await jdb.ask(f"suspend {thread}")
        await through.until(lambda: through.is_in(Vm.THREAD))
        await jdb.ask(f"resume {thread}")
        await through.until(lambda: through.is_in(Vm.RUNNING))
        await jdb.quit()


async def test_jdb_redefines_a_class(through: Through, tmp_path: Path) -> None:
    (tmp_path / "Shop.java").write_text(SHOP.read_text().replace("base + 19", "base + 20"))
    await asyncio.to_thread(compiled, tmp_path / "Shop.java", tmp_path)
    async with attached(through.listener.port) as jdb:
        await jdb.ask("stop in Shop$OrderService.total", until=r"bci=0[\s\S]*main\[1\] ")
        assert "= 719" in await jdb.ask("print this.price(7)", until=r"= \d+")
        await jdb.ask(f"redefine Shop$OrderService {tmp_path}/Shop$OrderService.class")
        assert "= 720" in await jdb.ask("print this.price(7)", until=r"= \d+")
        await jdb.quit()
    await through.until(lambda: through.slot.attached is None)
    commands = through.slot.audit()["commands"]
    assert (commands["classes redefined"], commands["methods invoked"]) == (1, 2)


async def test_two_hundred_debuggers_attach_one_after_the_other(through: Through) -> None:
    def attach(number: int) -> None:
        with Debugger(through.listener.port) as debugger:
            assert b"OpenJDK" in debugger.ask(jdwp.VERSION)
            debugger.ask(jdwp.SUSPEND)
            if number % 2:
                debugger.ask(jdwp.DISPOSE)

    for number in range(200):
        if number % 50 == 25:
            async with attached(through.listener.port) as jdb:
                await jdb.quit()
        else:
            await asyncio.to_thread(attach, number)
    assert not through.slot.refused
    await through.until(lambda: through.slot.attached is None)
    assert await asyncio.to_thread(suspended_threads, through) == 0


def past_the_gateway(port: int) -> Debugger:
    for _ in range(60):
        try:
            return Debugger(port)
        except ConnectionError:
            time.sleep(0.05)  # the JVM listens again in a moment
    return Debugger(port)


def suspended_threads(through: Through) -> int:
    """How many threads the JVM itself says are held, asked past the gateway."""
    with past_the_gateway(through.shop.port) as debugger:
        listed = debugger.ask(jdwp.ALL_THREADS)
        ids = [listed[i : i + 8] for i in range(4, len(listed), 8)]
        return sum(int.from_bytes(debugger.ask(jdwp.SUSPEND_COUNT, thread)) > 0 for thread in ids)


async def test_a_debugger_that_is_killed_at_a_stop_frees_the_jvm_at_once(through: Through) -> None:
    async with attached(through.listener.port) as jdb:
        await jdb.ask("stop in Shop$OrderService.price", until=r"main\[1\] ")
        assert through.is_in(Vm.SUSPENDED)
        jdb.process.kill()
        await through.until(lambda: through.slot.attached is None, within=30)  # milliseconds, on a quiet machine
    assert await asyncio.to_thread(suspended_threads, through) == 0


async def test_detach_resumes_everything_that_was_held(through: Through) -> None:
    def hold() -> Debugger:
        debugger = Debugger(through.listener.port)
        debugger.ask(jdwp.SUSPEND)
        debugger.ask(jdwp.SUSPEND)
        debugger.ask(jdwp.THREAD_SUSPEND, debugger.ask(jdwp.ALL_THREADS)[4:12])
        return debugger

    with await asyncio.to_thread(hold):
        assert through.is_in(Vm.SUSPENDED)
        await through.slot.detach("the pause budget is used up")
        assert await asyncio.to_thread(suspended_threads, through) == 0


async def test_a_jvm_is_not_ended_by_a_debugger(through: Through) -> None:
    def exits() -> None:
        with Debugger(through.listener.port) as debugger:
            with pytest.raises(JdwpError, match="99"):
                debugger.ask(jdwp.EXIT, integer(3))
            assert b"OpenJDK" in debugger.ask(jdwp.VERSION)

    await asyncio.to_thread(exits)
    assert through.shop.process.poll() is None
    assert [kind for kind, _ in through.notices].count("exit_refused") == 1


async def test_a_thousand_scanners_leave_no_trace_in_the_jvm(through: Through) -> None:
    """Its log is looked at when the port closes."""
    kinds = [
        b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
        bytes.fromhex("16030100a5010000a10303"),
        HANDSHAKE[:13],
        HANDSHAKE,
    ]
    loop = asyncio.get_running_loop()
    scanners = []
    for i in range(1000):
        scanner = socket.socket()
        scanner.setblocking(False)
        await loop.sock_connect(scanner, ("127.0.0.1", through.listener.port))
        scanners.append((scanner, kinds[i % 4]))
        if i % 4 < 3:
            scanner.send(kinds[i % 4])

    async def one_byte_a_second() -> None:
        for at in range(14):
            for scanner, said in scanners[3::4]:
                try:
                    scanner.send(said[at : at + 1])
                except OSError:
                    scanner.close()
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as tasks:
        slow = tasks.create_task(one_byte_a_second())
        async with attached(through.listener.port) as jdb:
            await jdb.ask("stop in Shop$OrderService.price", until=r"main\[1\] ")
            await jdb.quit()
        await through.until(lambda: through.slot.refused["no_handshake"] == 1000)
        slow.cancel()
    for scanner, _ in scanners:
        scanner.close()
    assert len(through.slot.audit()["connections"]) == 1
