"""VS Code's debug engine (com.microsoft.java.debug.core) as a debugger: its server, and a small client of that."""

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.integration.jdi.harness import eclipse_classpath

FRAMES, STEPS = 5, 5
LINE = 22  # of Shop.java, in price
LONGEST_S = 600.0  # of one answer
_NEEDED = (  # folders of Maven's repository
    "com/microsoft/java",
    "com/google/code/gson",
    "io/reactivex",
    "org/reactivestreams",
    "org/apache/commons",
    "commons-io",
)

Body = dict[str, Any]
Laps = dict[str, float]  # seconds by what was done


class Engine:
    """Asks the engine by the debug adapter protocol, one request after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._serial = 0
        self._events: list[Body] = []

    async def ask(self, command: str, **arguments: Any) -> Body:
        assert self._process.stdin is not None
        self._serial += 1
        text = json.dumps({"seq": self._serial, "type": "request", "command": command, "arguments": arguments}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        while True:
            said = await self._next()
            if said["type"] == "event":
                self._events.append(said)
            elif said["type"] == "response" and said["request_seq"] == self._serial:
                assert said["success"], said
                body: Body = said.get("body") or {}
                return body

    async def event(self, name: str) -> Body:
        while True:
            for at, event in enumerate(self._events):
                if event["event"] == name:
                    del self._events[at]
                    body: Body = event.get("body") or {}
                    return body
            said = await self._next()
            if said["type"] == "event":
                self._events.append(said)

    async def _next(self) -> Body:
        assert self._process.stdout is not None
        async with asyncio.timeout(LONGEST_S):
            size = 0
            while (header := (await self._process.stdout.readline()).strip()) or not size:
                assert header, "the engine has ended"
                size = int(header.partition(b":")[2])
            said: Body = json.loads(await self._process.stdout.readexactly(size))
            return said


def classpath(folder: Path) -> list[Path] | None:
    """Return where the engine, Eclipse's JDI and all that they need are; None if Maven has not brought them here."""
    repository = Path.home() / ".m2" / "repository"
    eclipse = eclipse_classpath(folder)
    jars = [jar for part in _NEEDED for jar in (repository / part).glob("**/*.jar")]
    has_engine = any(jar.name.startswith("com.microsoft.java.debug.core") for jar in jars)
    return [*eclipse, *jars] if eclipse and has_engine else None


def compile_server(folder: Path, jars: list[Path]) -> None:
    source = Path(__file__).with_name("VsCode.java")
    subprocess.run(["javac", "-cp", ":".join(map(str, jars)), "-d", folder, source], check=True)


async def story(port: int, folder: Path, jars: list[Path], *, shows_to_string: bool) -> Laps:
    """Attach, stop at a breakpoint, show the stack and all variables of its top frames, and these after each step."""
    laps: Laps = {}
    began = time.monotonic()

    def lap(name: str) -> None:
        nonlocal began
        laps[name] = laps.get(name, 0.0) + time.monotonic() - began
        began = time.monotonic()

    process = await asyncio.create_subprocess_exec(
        "java", "-cp", ":".join(map(str, [folder, *jars])),
        "VsCode", "org.eclipse.jdi.Bootstrap", "Shop$OrderService", str(shows_to_string).lower(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, limit=1 << 24,
    )  # fmt: skip
    try:
        engine = Engine(process)
        await engine.ask("initialize", clientID="vscode", adapterID="java", linesStartAt1=True, columnsStartAt1=True)
        began = time.monotonic()  # a JVM has come up
        await engine.ask("attach", hostName="127.0.0.1", port=port, timeout=120_000)
        await engine.event("initialized")
        lap("attach")
        source = {"name": "Shop.java", "path": "/src/Shop.java"}
        await engine.ask("setBreakpoints", source=source, lines=[LINE], breakpoints=[{"line": LINE}])
        await engine.ask("configurationDone")
        thread = (await engine.event("stopped"))["threadId"]
        lap("breakpoint")
        await engine.ask("threads")
        lap("threads")
        await _look(engine, thread)
        lap("stack")
        await engine.ask("setBreakpoints", source=source, lines=[], breakpoints=[])
        began = time.monotonic()
        for _ in range(STEPS):
            await engine.ask("next", threadId=thread)
            thread = (await engine.event("stopped"))["threadId"]
            await engine.ask("threads")
            await _look(engine, thread)
            lap("5 steps")
        await engine.ask("disconnect", restart=False, terminateDebuggee=False)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return laps


async def _look(engine: Engine, thread: int) -> None:
    stack = await engine.ask("stackTrace", threadId=thread, startFrame=0, levels=20)
    for frame in stack["stackFrames"][:FRAMES]:
        for scope in (await engine.ask("scopes", frameId=frame["id"]))["scopes"]:
            await _expand(engine, scope["variablesReference"], depth=1)


async def _expand(engine: Engine, reference: int, *, depth: int) -> None:
    for variable in (await engine.ask("variables", variablesReference=reference))["variables"]:
        if depth and variable["variablesReference"]:
            await _expand(engine, variable["variablesReference"], depth=depth - 1)
