"""The forwarder's script with a real JVM, a real socat and each shell: what it starts, what it says, what it leaves."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from noah.inpod import script
from tests.unit.inpod.containers import SHELLS, Process, path_with, process, state, uptime

pytestmark = pytest.mark.jvm

HANDSHAKE = b"JDWP-Handshake"
FORWARDER = script("forwarder")
LIVENESS = script("liveness")


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return int(some.getsockname()[1])


def said_by(lines: list[str]) -> dict[str, str]:
    """Of lines of `key value`; several tools are one."""
    return {key: value.strip() for key, _, value in (line.strip().partition(" ") for line in lines)}


def until(true: Callable[[], object], *, within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def debugger_at(port: int, *, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def shakes_hands(debugger: socket.socket) -> bool:
    try:
        debugger.sendall(HANDSHAKE)
        return debugger.recv(64) == HANDSHAKE
    except ConnectionError:
        return False


@dataclass(frozen=True)
class Jvm:
    process: Process
    jdwp: int


@pytest.fixture(scope="module")
def jvm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jvm]:
    source = tmp_path_factory.mktemp("java") / "Waits.java"
    source.write_text("class Waits { public static void main(String[] a) throws Exception { Thread.sleep(600000); } }")
    port = free_port()
    agent = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=127.0.0.1:{port},quiet=y"
    with subprocess.Popen(["java", agent, str(source)]) as java:
        try:
            until(lambda: f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text())
            yield Jvm(process(java.pid), port)
        finally:
            java.kill()


@dataclass
class Session:
    """One session's forwarder: runs the verbs, and knows the processes of `start` that it made."""

    shell: tuple[str, ...]
    jvm: Jvm
    reports: Path
    path: str = os.environ["PATH"]
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    name: str = "orders"
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": self.path, "NOAH_REPORTS": str(self.reports)}

    @property
    def file(self) -> Path:
        return self.reports / f"noah-{self.name}.{self.id}"

    def argv(self, verb: str, *more: object) -> list[str]:
        words = (verb, self.id, self.name, self.jvm.jdwp, *more)
        return [*self.shell, "-c", FORWARDER, "noah-forwarder", *map(str, words)]

    def run(self, verb: str, *more: object) -> list[str]:
        """The lines of a verb that ends."""
        done = subprocess.run(
            self.argv(verb, *more), env=self.env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert done.returncode == (3 if lines[-1].startswith("error ") else 0), lines
        return lines

    def start(self, *way: object, seconds: int = 60, state: str = "running") -> dict[str, str]:
        """What `start` says; it goes on."""
        argv = self.argv("start", seconds, state, *(way or ("tcp", "127.0.0.1", free_port())))
        child = subprocess.Popen(argv, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(child)
        assert child.stdout is not None
        lines: list[str] = []
        while not lines or lines[-1].split()[0] not in {"done", "error"}:
            line = child.stdout.readline()
            assert line, (lines, child.stderr and child.stderr.read())
            lines.append(line)
        return said_by(lines)

    def look(self) -> dict[str, str]:
        return said_by(self.run("look"))

    def report(self) -> list[str]:
        return self.file.read_text().split()

    def processes(self) -> list[int]:
        """All socats of this session, zombies too."""
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (directory / "cmdline").read_bytes().split(b"\0")
                if words[0] == b"socat" and f"noah-{self.id}".encode() in words:
                    found.append(int(directory.name))
        return found

    def left(self) -> list[int]:
        """All processes that this session ever started and that are still there."""
        mark = f"NOAH_REPORTS={self.reports}".encode()
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (directory / "environ").read_bytes().split(b"\0"):
                    found.append(int(directory.name))
        return found

    def alive(self) -> bool:
        """What the liveness probe says of it, with a checkurl that refuses."""
        argv = [*self.shell, "-c", LIVENESS, "noah-liveness", "http://127.0.0.1:1/", "1", self.name]
        return subprocess.run(argv, env=self.env, capture_output=True, check=False).returncode == 0


@pytest.fixture(params=SHELLS)
def session(request: pytest.FixtureRequest, jvm: Jvm) -> Iterator[Session]:
    with tempfile.TemporaryDirectory(prefix="noah test ", dir="/dev/shm") as reports:
        made = Session(SHELLS[request.param], jvm, Path(reports))
        try:
            yield made
        finally:
            made.run("stop")
            for child in made.started:
                child.wait(timeout=15)
                for pipe in (child.stdout, child.stderr):
                    assert pipe is not None
                    pipe.close()


def forwarder(said: dict[str, str]) -> tuple[int, int]:
    """Its pid and its port."""
    pid, _, port = said["forwarder"].split()
    return int(pid), int(port)


def test_a_start_makes_the_jvm_reachable_and_tells_the_probe(session: Session, jvm: Jvm) -> None:
    said = session.start(seconds=60, state="suspended")
    pid, port = forwarder(said)
    assert said["agent"] == "free"
    assert said["java"] == str(jvm.process)
    version, *processes, end, told, since = session.report()
    assert (version, processes, told) == ("1", [*str(process(pid)).split(), *str(jvm.process).split()], "suspended")
    assert abs(int(end) - uptime() - 60) <= 2
    assert abs(int(since) - uptime()) <= 2
    assert session.alive()
    with debugger_at(port) as debugger:
        assert shakes_hands(debugger)
        assert session.look()["agent"] == "taken"
    until(lambda: session.look()["agent"] == "free")


def test_a_look_says_what_start_said(session: Session) -> None:
    started = session.start()
    seen = session.look()
    assert {**seen, "report": "", "java-age": "", "container-age": ""} == {
        **started, "report": "", "java-age": "", "container-age": "",
    }  # fmt: skip
    assert seen["report"].split()[0] == "running"
    assert 55 <= int(seen["report"].split()[1]) <= 60


def test_only_the_gateway_gets_through(session: Session) -> None:
    _, port = forwarder(session.start("tcp", "127.0.0.2", free_port()))
    with debugger_at(port) as somebody:
        assert not shakes_hands(somebody)
    with debugger_at(port, source="127.0.0.2") as gateway:
        assert shakes_hands(gateway)


def test_a_gateway_with_an_ipv6_address_gets_through(session: Session) -> None:
    _, port = forwarder(session.start("tcp", "::1", free_port()))
    with socket.create_connection(("::1", port), timeout=10) as gateway:
        assert shakes_hands(gateway)


def test_a_port_that_is_taken_is_passed_over(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert forwarder(session.start("tcp", "127.0.0.1", port))[1] > port


def test_the_unix_way_takes_connections_that_come_by_exec(session: Session) -> None:
    said = session.start("unix")
    assert forwarder(said)[1] == 0
    address = f"UNIX-CONNECT:{session.reports}/.noah-{session.id}.sock"
    with subprocess.Popen(["socat", "-", address], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as exec_stream:
        assert exec_stream.stdin is not None
        assert exec_stream.stdout is not None
        exec_stream.stdin.write(HANDSHAKE)
        exec_stream.stdin.flush()
        assert exec_stream.stdout.read(14) == HANDSHAKE
    session.run("stop")
    assert [path.name for path in session.reports.iterdir()] == []


def test_the_none_way_writes_a_report_only(session: Session, jvm: Jvm) -> None:
    lines = session.run("start", 60, "suspended", "none")
    assert "forwarder - - 0" in lines
    assert session.report()[:5] == ["1", "-", "-", *str(jvm.process).split()]
    assert session.processes() == []
    assert session.alive()
    assert "report unknown 120" in session.run("report", 120, "unknown")
    session.run("stop")
    assert not session.alive()


def test_a_second_start_takes_over_what_the_first_one_left(session: Session) -> None:
    first = session.start(state="running")
    again = session.start(state="suspended", seconds=90)
    assert again["forwarder"] == first["forwarder"]
    assert again["report"] == "suspended 90"
    assert len(session.processes()) == 1


def test_a_report_extends_it_and_remembers_since_when(session: Session) -> None:
    session.start(seconds=2, state="suspended")
    since, first_end = session.report()[7], int(session.report()[5])
    until(lambda: uptime() > int(since))
    assert "report suspended 60" in session.run("report", 60, "suspended")
    assert session.report()[7] == since
    until(lambda: uptime() > first_end)  # when the watchdog wakes
    session.run("report", 60, "running")
    assert int(session.report()[7]) >= uptime() - 1 > int(since)
    assert len(session.processes()) == 1


def test_it_ends_by_itself_when_nobody_extends_it(session: Session) -> None:
    _, port = forwarder(session.start(seconds=2, state="suspended"))
    with debugger_at(port) as debugger:
        assert shakes_hands(debugger)
        assert len(session.processes()) == 2
        until(lambda: session.started[0].poll() == 0)
        assert session.left() == []
        assert debugger.recv(64) == b""
    assert list(session.reports.iterdir()) == []
    assert not session.alive()


def test_a_stop_leaves_nothing_and_cuts_who_is_attached(session: Session) -> None:
    _, port = forwarder(session.start())
    with debugger_at(port) as debugger:
        assert shakes_hands(debugger)
        assert session.run("stop") == ["done"]
        assert session.processes() == []
        assert debugger.recv(64) == b""
    assert list(session.reports.iterdir()) == []
    assert session.started[0].wait(timeout=5) == 0
    assert session.left() == []
    until(lambda: session.look()["agent"] == "free")
    assert "forwarder" not in session.look()
    assert session.run("stop") == ["done"]


def test_a_killed_socat_speaks_for_nobody_and_can_be_started_again(session: Session) -> None:
    pid, _ = forwarder(session.start(state="suspended"))
    assert session.alive()
    os.kill(pid, 9)
    until(lambda: session.started[0].poll() is not None)
    assert session.left() == []
    assert not session.alive()
    assert "forwarder" not in session.look()
    assert "report" not in session.look()

    assert forwarder(session.start(state="suspended"))[0] != pid
    assert session.alive()


def test_a_start_that_was_killed_is_no_reason_for_two_socats(session: Session) -> None:
    pid, port = forwarder(session.start())
    session.started[0].kill()
    session.started[0].wait()
    assert forwarder(session.start())[0] == pid
    with debugger_at(port) as debugger:
        assert shakes_hands(debugger)
    session.run("stop")
    assert [p for p in session.processes() if state(p) != "Z"] == []


def test_a_debugger_that_outlives_its_socat_is_ended_too(session: Session) -> None:
    pid, port = forwarder(session.start())
    with debugger_at(port) as debugger:
        assert shakes_hands(debugger)
        os.kill(pid, 9)
        until(lambda: session.started[0].poll() is not None)
        assert session.run("stop") == ["done"]
        assert debugger.recv(64) == b""


def test_nothing_is_started_where_no_agent_listens(session: Session) -> None:
    session.jvm = Jvm(session.jvm.process, free_port())
    lines = session.run("start", 60, "running", "tcp", "127.0.0.1", free_port())
    assert "agent none" in lines
    assert lines[-1] == "done"
    assert list(session.reports.iterdir()) == []
    assert session.processes() == []


def test_a_port_of_somebody_who_is_no_java_is_no_agent(session: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        session.jvm = Jvm(session.jvm.process, other.getsockname()[1])
        assert session.look()["agent"] == "none"


def test_without_socat_it_says_so(session: Session, tmp_path: Path) -> None:
    tools = ("sh", "tr", "ls", "sleep", "rm", "mv", "cat")
    session.path = path_with(tmp_path / "bin", **{tool: tool for tool in tools})
    assert session.run("start", 60, "running", "unix") == ["error no-socat"]
    seen = session.run("look")
    assert "tool socat" not in seen
    assert "agent free" in seen


def test_without_a_place_for_the_report_it_says_so_and_starts_nothing(session: Session) -> None:
    session.reports = Path("/proc/nowhere")
    assert session.run("start", 60, "running", "tcp", "127.0.0.1", free_port()) == ["error report"]
    assert session.processes() == []


def test_a_full_dev_shm_is_said_and_nothing_is_left_running(session: Session, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    if os.getuid() != 0:
        pytest.skip("mounting takes root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", full], check=True)
    try:
        (full / "filler").write_bytes(b"x" * 4096)
        session.reports = full
        assert session.run("start", 60, "running", "tcp", "127.0.0.1", free_port())[-1] == "error report"
        assert session.processes() == []
    finally:
        subprocess.run(["umount", full], check=True)


def test_arguments_are_never_evaluated(session: Session, tmp_path: Path) -> None:
    trap = tmp_path / "evaluated"
    for evil in (f"$(touch {trap})", f"`touch {trap}`", f"';touch {trap};'", f'";touch {trap};"', "* ?", "a b"):
        session.name = evil.replace("/", "\\")
        session.run("look")
        session.run("start", 60, evil, "none")
        session.run("report", 60, evil)
        session.run("stop")
    assert not trap.exists()
