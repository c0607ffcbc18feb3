"""Every answer from memory is the JVM's: real debuggers, and a random one, in the shadow mode, before a real JVM."""

import asyncio
import itertools
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.accelerator.line import Line, accelerated
from tests.integration.accelerator.talk import converse
from tests.integration.jdi.harness import build, eclipse_classpath
from tests.jdb import Jdb, attached
from tests.ports import free_port
from tests.processes import output_of

pytestmark = [
    pytest.mark.jvm,
    pytest.mark.skipif(not all(map(shutil.which, ["java", "javac", "jdb"])), reason="no JDK on this machine"),
]

HERE = Path(__file__).parent
LISTENS_AGAIN_S = 10.0
SESSION_S = 120.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accelerator")
    build(folder)
    subprocess.run(["javac", "-g", "-d", folder, HERE / "Ide.java"], check=True)
    return folder


@pytest.fixture(scope="module")
def jvm(built: Path) -> Iterator[int]:
    port = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{port}"
    process = subprocess.Popen(
        ["java", "-XX:TieredStopAtLevel=1", agent, "-cp", built, "Target"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield port
    alive = process.poll() is None
    process.kill()
    process.wait()
    process.stdout.close()
    assert alive, "the JVM survived all that was asked of it"


@asynccontextmanager
async def shadowed(jvm: int) -> AsyncIterator[tuple[int, list[Line]]]:
    """Wait for the JVM to listen, and yield a port that leads to it by an accelerated line in the shadow mode."""
    deadline = asyncio.get_running_loop().time() + LISTENS_AGAIN_S
    while not _listens(jvm):
        assert asyncio.get_running_loop().time() < deadline, "the JVM listens again"
        await asyncio.sleep(0.05)
    async with accelerated(jvm, is_shadow=True) as (port, lines):
        yield port, lines


def _listens(port: int) -> bool:
    """Whether somebody listens, without connecting: that would take the JVM's one place for a debugger."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return True
    return False


def judge(line: Line, *, at_least: int) -> None:
    assert line.near is not None
    assert line.failure is None
    assert line.near.notes == []
    assert line.near.answered >= at_least
    # All were compared but the few during whose check an event came, and the last, as the connection ended.
    assert line.near.checked >= 0.9 * line.near.answered


async def test_jdb_sees_through_an_accelerated_line_what_the_jvm_says(jvm: int) -> None:
    async with shadowed(jvm) as (port, lines), attached(port) as jdb:
        await look_around(jdb)
        await jdb.quit()
    judge(lines[0], at_least=80)


async def look_around(jdb: Jdb) -> None:
    at_prompt = r"\w[\w-]*\[1\] "
    await jdb.ask("stop in Target$Order.price", until=r"Set breakpoint|Breakpoint hit")
    await jdb.said(at_prompt)
    await jdb.ask("clear Target$Order.price", until=at_prompt)
    # Two threads may have hit it at once, and then there was a prompt more.
    await jdb.ask('print "all read"', until=r'"all read" = "all read"\s+' + at_prompt)
    assert "worker-" in await jdb.ask("threads", until=at_prompt)
    assert "Target$Order.price" in await jdb.ask("where all", until=at_prompt)
    assert "item" in await jdb.ask("locals", until=at_prompt)
    assert "size" in await jdb.ask("dump this", until=at_prompt)
    for _ in range(3):
        await jdb.ask("next", until=r"Step completed[\s\S]*" + at_prompt)
        await jdb.ask("locals", until=at_prompt)
    assert "Order " in await jdb.ask("print this.toString()", until=at_prompt)
    await jdb.ask("set sum = 5", until=at_prompt)
    assert re.search(r"sum = 5\b", await jdb.ask("locals", until=at_prompt))
    await jdb.ask("pop", until=at_prompt)
    await jdb.ask("where", until=at_prompt)


async def ide(built: Path, port: int, *, client: str, steps: int, work: str = "change") -> None:
    classpath = [built, *((eclipse_classpath(built) or []) if client == "eclipse" else [])]
    process = await asyncio.create_subprocess_exec(
        "java", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, classpath)),
        "Ide", str(port), client, "Target$Order", "price", "5", str(steps), work,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    said, _ = await output_of(process, within_s=SESSION_S)
    assert b"SEEN" in said, said.decode()


@pytest.mark.parametrize(("work", "at_least"), [("change", 700), ("change-one", 300)])
async def test_an_ide_sees_through_an_accelerated_line_what_the_jvm_says(
    built: Path, jvm: int, work: str, at_least: int
) -> None:
    async with shadowed(jvm) as (port, lines):
        await ide(built, port, client="jdk", steps=8, work=work)
    judge(lines[0], at_least=at_least)


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_commands_get_the_jvms_answers_in_order(jvm: int, seed: int) -> None:
    async with shadowed(jvm) as (port, lines):
        await asyncio.wait_for(asyncio.to_thread(converse, port, seed, rounds=60), SESSION_S)
    judge(lines[0], at_least=80)


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_a_hundred_thousand_answers_are_the_jvms(built: Path, jvm: int) -> None:
    clients = ["jdk", *(["eclipse"] if eclipse_classpath(built) else [])]
    checked = 0
    seed = 100
    while checked < 100_000:
        for client, work in itertools.product(clients, ["change", "change-one"]):
            async with shadowed(jvm) as (port, lines):
                await ide(built, port, client=client, steps=60, work=work)
            judge(lines[0], at_least=3000 if work == "change" else 1500)
            assert lines[0].near is not None
            checked += lines[0].near.checked
        async with shadowed(jvm) as (port, lines):
            seed += 1
            await asyncio.wait_for(asyncio.to_thread(converse, port, seed, rounds=150), SESSION_S)
        judge(lines[0], at_least=150)
        assert lines[0].near is not None
        checked += lines[0].near.checked
        print(checked, "answers were the JVM's", flush=True)
