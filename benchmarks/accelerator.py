"""How long a debugger waits on a slow line, plain and accelerated: jdb, two JDI clients, VS Code's engine.

    python -m benchmarks.accelerator [--round-trip 100] [--threads 100] [--runs 3] [--only jdb] [--skip-plain]

Both ends of the line are in this process, and so is the delay: no gateway, no WebSocket. The JVM and the debuggers are
real. Eclipse's client and VS Code's engine run if Maven has brought them here, by `mvn dependency:get -Dartifact=` with
org.eclipse.jdt:org.eclipse.jdt.debug:3.21.500 and com.microsoft.java:com.microsoft.java.debug.core:0.25.1.
"""

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import vscode
from tests.integration.accelerator.line import Line, accelerated
from tests.integration.jdi.harness import build, eclipse_classpath
from tests.jdb import attached
from tests.ports import free_port

REPOSITORY = Path(__file__).parent.parent
AT_PROMPT = r"main\[1\] "
LONGEST_S = 600.0  # of one session on a plain line
DEBUGGERS = ("jdb", "jdk", "eclipse", "vscode", "vscode-fields")  # the last without showing objects by toString()

Laps = dict[str, float]  # seconds by what was done


@asynccontextmanager
async def jvm(folder: Path, *arguments: str) -> AsyncIterator[int]:
    port = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec("java", agent, "-cp", folder, *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield port
    finally:
        process.kill()
        await process.wait()


async def jdb_story(port: int, *, threads: int) -> Laps:
    laps: Laps = {}
    began = time.monotonic()

    def lap(name: str) -> None:
        nonlocal began
        laps[name] = laps.get(name, 0.0) + time.monotonic() - began
        began = time.monotonic()

    async with attached(port, deadline_s=LONGEST_S) as jdb:
        lap("attach")
        await jdb.ask("stop at Shop$OrderService:22", until=r"Set breakpoint|Breakpoint hit")
        await jdb.said(AT_PROMPT)
        lap("breakpoint")
        await jdb.ask("threads", until=AT_PROMPT)
        lap("threads")
        await jdb.ask("where all", until=rf"idle-{threads - 1}:[\s\S]*{AT_PROMPT}")
        lap("where all")
        await jdb.ask("locals", until=AT_PROMPT)
        lap("locals")
        for _ in range(5):
            await jdb.ask("next", until=r"Step completed[\s\S]*" + AT_PROMPT)
        lap("5 x next")
        await jdb.quit()
    return laps


async def ide_story(port: int, folder: Path, client: str) -> Laps:
    classpath = [folder, *((eclipse_classpath(folder) or []) if client == "eclipse" else [])]
    process = await asyncio.create_subprocess_exec(
        "java", "-cp", ":".join(map(str, classpath)),
        "Ide", str(port), client, "Shop$OrderService", "price", "5", "5", "look",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), LONGEST_S)
    laps: Laps = {}
    for line in said.decode().splitlines():
        if line.startswith("LAP "):
            _, name, seconds = line.split()
            laps[name] = laps.get(name, 0.0) + float(seconds)
    return laps


async def one_run(folder: Path, what: str, arguments: argparse.Namespace, *, is_plain: bool) -> tuple[Laps, Line]:
    delay_s = arguments.round_trip / 2000
    async with (
        jvm(folder, "Shop", str(arguments.threads)) as jdwp,
        accelerated(jdwp, delay_s=delay_s, is_plain=is_plain) as (port, lines),
    ):
        if what == "jdb":
            laps = await jdb_story(port, threads=arguments.threads)
        elif what.startswith("vscode"):
            jars = vscode.classpath(folder) or []
            laps = await vscode.story(port, folder, jars, shows_to_string=what == "vscode")
        else:
            laps = await ide_story(port, folder, what)
        return laps, lines[0]


def compile_all(folder: Path) -> None:
    build(folder)
    sources = [REPOSITORY / "tests/apps/Shop.java", REPOSITORY / "tests/integration/accelerator/Ide.java"]
    subprocess.run(["javac", "-g", "-d", folder, *sources], check=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--round-trip", type=float, default=100.0, help="in milliseconds")
    parser.add_argument("--threads", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=DEBUGGERS)
    parser.add_argument("--skip-plain", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_all(folder)
        for what in [arguments.only] if arguments.only else DEBUGGERS:
            if what == "eclipse" and eclipse_classpath(folder) is None:
                print("eclipse: not measured, Maven has not brought it here")
                continue
            if what.startswith("vscode"):
                if (jars := vscode.classpath(folder)) is None:
                    print(f"{what}: not measured, Maven has not brought it here")
                    continue
                vscode.compile_server(folder, jars)
            for is_plain in [False] if arguments.skip_plain else [True, False]:
                runs = [await one_run(folder, what, arguments, is_plain=is_plain) for _ in range(arguments.runs)]
                names = runs[0][0]
                medians = {name: statistics.median(laps[name] for laps, _ in runs) for name in names}
                total = statistics.median(sum(laps.values()) for laps, _ in runs)
                print(f"{what} {'plain' if is_plain else 'accelerated'}: {total:.1f} s;", end=" ")
                print(", ".join(f"{name} {seconds:.2f}" for name, seconds in medians.items()), end="")
                line = runs[-1][1]
                if line.near is not None:
                    print(f"; {line.near.answered} answers from memory, {line.near.passed} from the JVM,", end=" ")
                    print(f"{line.up} bytes up, {line.down} down", end="")
                print(flush=True)


if __name__ == "__main__":
    asyncio.run(main())
