"""Random debug sessions of real JDI clients through a port, compared at every moment with what is true.

    python -m tests.integration.jdi.harness [--moments 100] [--sessions 4] [--client jdk] [--java java]

It prints every moment at which the port said less than is true, or something else, and the sums.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from noah.proxy.listener import Listener
from noah.proxy.slot import Slot
from tests.ports import free_port

HERE: Final = Path(__file__).parent
SETTLES: Final = 0.5  # seconds, at most: the gateway asks the JVM once the debugger is quiet
CLIENT_WAITS: Final = 30  # seconds, at most, for the next moment; it waits for a breakpoint for 2 at most
METHODS: Final = 300  # of a class; more than there are line tables of any other


@dataclass(frozen=True)
class Moment:
    """What was said and what was true: state, thread, location; and what had been done."""

    said: tuple[str, str | None, str | None]
    true: tuple[str, str | None, str | None]
    action: str

    @property
    def verdict(self) -> str:
        (state, thread, location), (is_state, is_thread, is_location) = self.said, self.true
        if state != is_state:
            return "wrong state"
        if self.said == self.true:
            return "right"
        if thread not in (None, is_thread) or not _is_beginning(location, is_location):
            return "wrong place"
        return "less"


def _is_beginning(said: str | None, true: str | None) -> bool:
    return said is None or (true is not None and true.startswith(said) and true[len(said) : len(said) + 1] in ".:")


@dataclass
class Session:
    """One client's session, as far as it has got."""

    moments: list[Moment] = field(default_factory=list)
    skipped: int = 0
    lost: str | None = None  # why the client ended it early: it knew no longer what it had suspended

    def count(self, verdict: str) -> int:
        return sum(moment.verdict == verdict for moment in self.moments)


def build(folder: Path) -> None:
    """Compile the client and the JVM to debug into *folder*."""
    source = (HERE / "Target.java").read_text()
    calls = "\n".join(f"    sum += m{n}(seed);" for n in range(METHODS))
    methods = "\n".join(
        f"  static int m{n}(int x) {{\n    int y = x + {n};\n    return y;\n  }}" for n in range(METHODS)
    )
    source = source.replace("    // METHODS are called here", calls).replace("  // METHODS are here", methods)
    (folder / "Target.java").write_text(source)
    subprocess.run(["javac", "-g", "-d", folder, folder / "Target.java", HERE / "Session.java"], check=True)


def eclipse_classpath(folder: Path) -> list[Path] | None:
    """Return where Eclipse's JDI and all that it needs are; None if Maven has not brought them here."""
    repository = Path.home() / ".m2" / "repository" / "org" / "eclipse"
    jars = [path for name in ("jdt", "platform") for path in (repository / name).glob("**/*.jar")]
    bundle = [path for path in jars if path.name.startswith("org.eclipse.jdt.debug")]
    if not bundle:
        return None
    # The bundle has its classes in a jar of its own.
    shutil.unpack_archive(bundle[0], folder / "jdt.debug", "zip")
    return [folder / "jdt.debug" / "jdimodel.jar", *jars]


@asynccontextmanager
async def target(folder: Path, *, java: str) -> AsyncIterator[tuple[Slot, int]]:
    """Open a slot before a JVM of its own, and the port that leads to it."""
    jdwp = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,address=127.0.0.1:{jdwp}"
    process = await asyncio.create_subprocess_exec(
        java, "-XX:TieredStopAtLevel=1", agent, "-cp", folder, "Target", stdout=subprocess.PIPE
    )

    async def dial(protocol: Callable[[], asyncio.BufferedProtocol]) -> asyncio.Transport:
        transport, _ = await asyncio.get_running_loop().create_connection(protocol, "127.0.0.1", jdwp)
        return transport

    slot = Slot(
        session_id="s1",
        dial=dial,
        allow_exit=False,
        clock=lambda: datetime.now(UTC),
        changed=lambda: None,
        noticed=lambda kind, data: None,
    )
    listener = Listener(slot, host="127.0.0.1", port=0, admits=lambda _: True)
    await slot.open()
    await listener.open()
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield slot, listener.port
    finally:
        listener.close()
        await slot.close("the session is over")
        process.kill()
        await process.wait()


async def debug(folder: Path, *, seed: int, moments: int, client: str = "jdk", java: str = "java") -> Session:
    async with target(folder, java=java) as (slot, port):
        return await _debug(slot, port, folder, seed=seed, moments=moments, client=client)


async def _debug(slot: Slot, port: int, folder: Path, *, seed: int, moments: int, client: str) -> Session:
    classpath = [folder, *((eclipse_classpath(folder) or []) if client == "eclipse" else [])]
    process = await asyncio.create_subprocess_exec(
        "java", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, classpath)),
        "Session", str(port), str(seed), str(moments), client,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    session = Session()
    said: tuple[str, str | None, str | None] = ("", None, None)
    try:
        while True:
            async with asyncio.timeout(CLIENT_WAITS):
                raw = await process.stdout.readline()
                if not raw:
                    break
                word, _, rest = raw.decode().rstrip("\n").partition(" ")
                if word == "EXPECT":
                    said = await _settled(slot, *rest.partition(" at a stop")[:2])
                elif word == "SKIP":
                    session.skipped += 1
                    continue
                elif word == "LOST":
                    session.lost = rest
                    continue
                elif word == "TRUTH":
                    state, thread, location, action = rest.split("\t")
                    true = state, None if thread == "-" else thread, _short(location)
                    session.moments.append(Moment(said, true, action))
                else:
                    continue
                process.stdin.write(b"\n")
        if await process.wait():
            raise RuntimeError("the client failed")
    except BaseException:
        print(f"seed {seed}, after {len(session.moments)} moments; the last:", *session.moments[-3:], sep="\n")
        raise
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return session


async def _settled(slot: Slot, state: str, at_a_stop: str) -> tuple[str, str | None, str | None]:
    """Return what the slot says, once it may say what is expected; or what it says after SETTLES."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLES
    while loop.time() < deadline:
        vm = slot.vm
        if vm is not None and vm.vm == state and (not at_a_stop or (vm.thread and ":" in (vm.location or ""))):
            break
        await asyncio.sleep(0.005)
    vm = slot.vm
    return ("detached", None, None) if vm is None else (str(vm.vm), vm.thread, vm.location)


def _short(location: str) -> str | None:
    """Return a class's name without its package, as a port says it; None for a dash."""
    if location == "-":
        return None
    # Eclipse writes a dot where the JDK writes a slash before the address of a hidden class.
    owner, _, method = location.replace(".0x", "/0x").rpartition(".")
    return f"{owner.rpartition('.')[2]}.{method}"


def is_of_the_jdk(moment: Moment) -> bool:
    location = moment.true[2] or ""
    return not location.startswith(("Target", "Big")) and location != ""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--client", choices=["jdk", "eclipse"], default="jdk")
    parser.add_argument("--java", default="java", help="of the JVM that is debugged")
    arguments = parser.parse_args()
    verdicts: Counter[str] = Counter()
    kinds: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        for seed in range(arguments.seed, arguments.seed + arguments.sessions):
            session = await debug(
                folder, seed=seed, moments=arguments.moments, client=arguments.client, java=arguments.java
            )
            for moment in session.moments:
                verdicts[moment.verdict] += 1
                kinds[moment.action, moment.verdict] += 1
                if moment.verdict != "right":
                    print(seed, moment.verdict, moment.said, "but", moment.true, "after", moment.action, flush=True)
            verdicts["skipped"] += session.skipped
            if session.lost:
                print(seed, "lost after", len(session.moments), session.lost, flush=True)
                verdicts["lost"] += 1
    for (action, verdict), count in sorted(kinds.items()):
        print(f"{count:6} {verdict:12} {action}")
    print(dict(verdicts))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
