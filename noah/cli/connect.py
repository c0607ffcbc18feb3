"""`noah connect`: a port of one's own machine for each session, through the gateway's HTTP port.

It stays in the foreground with a table, or goes to the background; `noah connect status` and `stop` find it there.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from noah.cli.completion import complete_sessions
from noah.cli.output import Column, print_list, table
from noah.cli.session_text import why
from noah.cli.target_names import Place, find_session, full_name, place_options
from noah.cli.terminal import BAD, CARE, GOOD, QUIET, echo, echo_styled
from noah.cli.times import short
from noah.cli.wait import until_usable
from noah.client.environment import client_from_environment, gateway_url
from noah.client.gateway_client import GatewayClient, Json, session_path
from noah.errors import NoahError, NotFound, Unavailable

if TYPE_CHECKING:
    from noah.connect.connector import Connector
    from noah.connect.session_line import SessionLine

DRAW_EVERY_S = 1.0
ENABLE_WITHIN = timedelta(minutes=2)
DETACHED_WITHIN_S = 30.0  # until the one in the background answers

COLUMNS = (
    Column("TARGET", lambda row: row["target"]),
    Column("ATTACH", lambda row: row["attach"]),
    Column(
        "LINE",
        lambda row: row["line"],
        {"connected": GOOD, "connecting": CARE, "lost": BAD, "over": QUIET},
    ),
    Column("DEBUGGER", lambda row: row["debugger"]),
    Column("IN", lambda row: _size(row["bytes_in"])),
    Column("OUT", lambda row: _size(row["bytes_out"])),
    Column("ROUND TRIP", lambda row: row["round_trip_ms"] and f"{row['round_trip_ms']:.1f} ms"),
    Column("FROM MEMORY", lambda row: row["answered"]),
    Column("WHY", lambda row: row["why"]),
)


@click.command()
@click.argument("targets", metavar="[SESSION|TARGET]...", nargs=-1, shell_complete=complete_sessions)
@place_options
@click.option("--enable", is_flag=True, help="Enable debugging of the targets first.")
@click.option("--take-over", is_flag=True, help="End the line of another `noah connect` of yours.")
@click.option("--no-accelerator", is_flag=True, help="Ask the JVM everything, as over a plain line.")
@click.option("--detach", is_flag=True, help="Go on in the background.")
@click.option("--quiet", is_flag=True, hidden=True)
def connect(
    *,
    targets: tuple[str, ...],
    place: Place,
    enable: bool,
    take_over: bool,
    no_accelerator: bool,
    detach: bool,
    quiet: bool,
) -> int:
    """Point debuggers at this machine: one line to the gateway, no other port.

    All your sessions are connected unless you name some, or with --env those of an environment. A line that is lost
    comes back by itself, and the debugger stays attached meanwhile.

    \b
      noah connect deploy/shop --enable   debug it, at a port of localhost
      noah connect --detach               all your sessions, in the background
      noah connect status                 what runs in the background or elsewhere
      noah connect stop                   end that
    """
    if targets == ("status",):
        return _print_status()
    if targets == ("stop",):
        return _stop()
    if place.is_in_cluster and not targets:
        raise click.UsageError("--cluster and -n go with the short name of a target.")
    client = client_from_environment()
    sessions = list(_sessions(client, targets, place, enable=enable))
    if not sessions:
        where = f" in environment {place.environment}" if place.environment else ""
        raise NotFound(f"You have no session{where}: name a target and let --enable begin one.")
    if detach:
        switches = [
            name for name, is_set in (("--take-over", take_over), ("--no-accelerator", no_accelerator)) if is_set
        ]
        which = [str(session["id"]) for session in sessions] if targets else ["--env", place.environment or ""]
        return _detach(which, switches)
    from noah.connect.connector import connecting

    try:
        lines = partial(connecting, client_from_environment, take_over=take_over, accelerate=not no_accelerator)
        more = None if targets else partial(_mine, client, place.environment)
        asyncio.run(_connect(sessions, lines, more, quiet=quiet))
    except KeyboardInterrupt:
        raise click.Abort from None
    except BaseExceptionGroup as group:
        found = group.subgroup(NoahError)
        if found is None:
            raise
        raise _first(found) from None
    return 0


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sessions(client: GatewayClient, targets: tuple[str, ...], place: Place, *, enable: bool) -> Iterator[Json]:
    if not targets:
        yield from _mine(client, place.environment)
    for target in targets:
        if enable:
            wanted = {"target": full_name(client, target, place)}
            _, session = client.post("/sessions", wanted)
            yield until_usable(client, session, ENABLE_WITHIN, seen=lambda _: None)
        else:
            session_id = find_session(client, target, place, otherwise=", and `--enable` begins a session")
            yield client.get(session_path(session_id))


def _mine(client: GatewayClient, environment: str | None) -> list[Json]:
    wanted = {"state": "live", "mine": "true", "environment": environment}
    items: list[Json] = client.items("/sessions", wanted)["items"]
    return [session for session in items if not session.get("end_reason")]


async def _connect(
    sessions: list[Json],
    lines: "Callable[[], AbstractAsyncContextManager[Connector]]",
    more: Callable[[], list[Json]] | None,
    *,
    quiet: bool,
) -> None:
    """Keep lines to *sessions*, and to those that *more* returns later, until all are over or this is stopped."""
    from noah.connect.running import answering, state_folder

    stopped = asyncio.Event()
    if sys.platform != "win32":  # where a loop has no handlers of signals
        # Killed at once, it would leave lines that the gateway holds for a laptop that comes back.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with lines() as connector, asyncio.TaskGroup() as group:
        await connector.add(sessions)

        def status() -> Json:
            return {"gateway": gateway_url(), "pid": os.getpid(), "lines": _rows(connector)}

        async with answering(state_folder(), status=status, stop=stopped.set):
            tasks = [group.create_task(_until_over(connector, stopped, follow=more is not None), name="end")]
            if not quiet:
                tasks.append(group.create_task(_draw(connector), name="table"))
            if more is not None:
                tasks.append(group.create_task(connector.keep_adding(more), name="new sessions"))
            await stopped.wait()
            for task in tasks:
                task.cancel()
    refusals = [line.refusal for line in connector.lines.values() if line.refusal is not None]
    if refusals and len(refusals) == len(connector.lines):
        raise refusals[0]


async def _until_over(connector: "Connector", stopped: asyncio.Event, *, follow: bool) -> None:
    """End when every line is over; if sessions may come, only if none was ever connected."""
    await connector.until_over()
    if not follow or not any(line.was_connected for line in connector.lines.values()):
        stopped.set()


async def _draw(connector: "Connector") -> None:
    """Draw the table each second on a terminal; elsewhere print a line at the gateway's answer, and when it changes."""
    shown: dict[str, str] = {}
    height = 0
    while True:
        rows = _rows(connector)
        if sys.stdout.isatty():
            lines = table(rows, COLUMNS, width=os.get_terminal_size().columns)
            height = _redraw(lines, height)
        else:
            for row in rows:
                if row["line"] == "connecting":
                    continue
                text = " ".join(str(part) for part in (row["target"], row["attach"], row["line"], row["why"]) if part)
                state = f"{row['line'].partition(' ')[0]} {row['attach']}"
                if shown.get(row["session"]) != state:
                    shown[row["session"]] = state
                    echo(text)
                    sys.stdout.flush()
        await asyncio.sleep(DRAW_EVERY_S)


def _redraw(lines: list[str], height: int) -> int:
    if height:
        sys.stdout.write(f"\x1b[{height}F\x1b[J")
    echo_styled("\n".join(lines))
    return len(lines)


def _rows(connector: "Connector") -> list[Json]:
    return [_row(line) for line in connector.lines.values()]


def _row(line: "SessionLine") -> Json:
    session, (bytes_in, bytes_out) = line.session, line.carried
    since = short(asyncio.get_running_loop().time() - line.since_s)
    attached = session.get("attached")
    return {
        "session": line.id,
        "target": session["target"],
        # The port of a line that is refused leads nowhere.
        "attach": f"localhost:{line.port}" if line.was_connected or line.status == "lost" else None,
        "line": f"lost {since}" if line.status == "lost" else str(line.status),
        "debugger": attached and (attached.get("debugger") or "attached"),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "round_trip_ms": None if line.round_trip_s is None else line.round_trip_s * 1000,
        "answered": line.answered,
        "why": line.sentence or line.note or why(session),
    }


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


# In the background


def _detach(which: list[str], switches: list[str]) -> int:
    """Start the one in the background; return the exit code when it is connected, or has ended at once.

    *which*: sessions' IDs, or the environment whose sessions it connects.
    """
    from noah.connect.running import all_running, state_folder

    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "noah", "connect", *which, "--quiet", *switches]
    log = folder / "connect.log"
    with log.open("wb") as out:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **_apart())
    deadline = time.monotonic() + DETACHED_WITHIN_S
    while time.monotonic() < deadline:
        if (code := child.poll()) is not None:
            echo(log.read_text(errors="replace").strip(), err=True)
            return code
        for _, status in all_running(folder):
            states = {row["line"] for row in status["lines"]}
            if status.get("pid") == child.pid and "connecting" not in states and states != {"over"}:
                return _print([status])
        time.sleep(0.1)
    raise Unavailable(f"The connection in the background does not answer; its log is {log}.")


def _apart() -> dict[str, Any]:
    """Return what makes a child go on when the terminal is closed."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _print_status() -> int:
    from noah.connect.running import all_running, state_folder

    return _print([status for _, status in all_running(state_folder())])


def _print(statuses: list[Json]) -> int:
    rows = [row for status in statuses for row in status["lines"]]
    print_list({"items": rows}, None, COLUMNS, name=lambda row: str(row["session"]), nothing="Nothing is connected.")
    return 0


def _stop() -> int:
    from noah.connect.running import all_running, state_folder

    stopped = [running.ask("stop") for running, _ in all_running(state_folder())]
    echo("Stopped." if any(stopped) else "Nothing is connected.", err=not any(stopped))
    return 0
