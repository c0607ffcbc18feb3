"""The forwarder's script with a real JVM, a real socat and each shell: what it starts, what it says, what it leaves."""

import contextlib
import os
import shutil
import signal
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
from tests.ports import free_port
from tests.unit.inpod.containers import SHELLS, Process, agent, path_with, process, state, uptime

pytestmark = pytest.mark.jvm

HANDSHAKE = b"JDWP-Handshake"
FORWARDER = script("forwarder")
LIVENESS = script("liveness")
TOKEN = "c0ffee"


def said_by(lines: list[str]) -> dict[str, str]:
    """Of lines of `key value`; several tools are one."""
    return {key: value.strip() for key, _, value in (line.strip().partition(" ") for line in lines)}


def until(true: Callable[[], object], *, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def debugger_at(port: int, *, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


def gateway_at(port: int, *, source: str = "127.0.0.1", token: str = TOKEN) -> socket.socket:
    """As a gateway connects to a forwarder: it sends the session's secret first."""
    gateway = debugger_at(port, source=source)
    gateway.sendall(f"{token}\n".encode())
    return gateway


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
    source.write_text(
        "class Waits { public static void main(String[] a) throws Exception { Thread.sleep(Long.MAX_VALUE); } }"
    )
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
    token: str = TOKEN
    where: str = "host"
    checkport: str = "-"
    word_life: int = 600
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": self.path, "NOAH_REPORTS": str(self.reports)}

    @property
    def old_file(self) -> Path:
        """What probes read that were put in before there was a word."""
        return self.reports / f"noah-{self.name}.{self.id}"

    def argv(self, verb: str, *more: object) -> list[str]:
        words = (verb, self.id, self.name, self.jvm.jdwp, self.where, self.checkport, *more)
        text = f"token={self.token} noah_word_life={self.word_life}\n{FORWARDER}"
        return [*self.shell, "-c", text, "noah-forwarder", *map(str, words)]

    def run(self, verb: str, *more: object) -> list[str]:
        """The lines of a verb that ends."""
        done = subprocess.run(
            self.argv(verb, *more), env=self.env, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        assert done.returncode == (3 if lines[-1].startswith("error ") else 0), lines
        return lines

    def start(self, *way: object, seconds: int = 60, state: str = "running") -> dict[str, str]:
        """What `start` says; it goes on."""
        argv = self.argv("start", seconds, state, *(way or ("tcp", "127.0.0.1", free_port())))
        child = subprocess.Popen(
            argv, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
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

    def say(self, word: str, seconds: int = 60, *, to: int = -1) -> str:
        """What the held one answers to a word."""
        child = self.started[to]
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(f"{word} {seconds}\n")
            child.stdin.flush()
        return child.stdout.readline().strip()

    def report(self) -> list[str]:
        return (self.reports / f"noah-{self.name}.{self.id}.jvm").read_text().split()

    def word(self) -> list[str]:
        return (self.reports / f"noah-{self.name}.{self.id}.word").read_text().split()

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
                assert child.stdin is not None
                with contextlib.suppress(BrokenPipeError, ValueError):
                    child.stdin.close()
                child.wait(timeout=60)
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
    version, *java, end, at, where, owns = session.report()
    assert (version, java, at, where, owns) == ("2", str(jvm.process).split(), f":{jvm.jdwp:04X}", "host", "unseen")
    assert abs(int(end) - uptime() - 60) <= 2
    state, since, at_last = session.word()
    assert (state, since) == ("suspended", "0")
    assert abs(int(at_last) - uptime()) <= 2
    assert session.old_file.read_text().split()[:3] == ["1", *str(process(pid)).split()]
    until(lambda: not session.alive())  # once the word is stale: nobody is attached
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        assert session.alive()
        assert session.look()["agent"] == "taken"
    until(lambda: session.look()["agent"] == "free")


def test_a_look_says_what_start_said(session: Session) -> None:
    started = session.start()
    seen = session.look()
    # How many JVMs this machine has is not this test's to say.
    vary = dict.fromkeys(("java-age", "container-age", "jvms"))
    assert {**seen, **vary} == {**started, **vary}
    assert int(seen["jvms"]) >= 1


def test_each_word_is_written_and_answered(session: Session) -> None:
    _, port = forwarder(session.start(state="free"))
    assert session.say("free").startswith("ok")
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        for word in ("running", "suspended", "unknown"):
            assert session.say(word) == "ok"
            state, since, at = session.word()
            assert (state, since) == (word, "0")
            assert abs(int(at) - uptime()) <= 2
            assert session.alive() == (word != "running")
            old = "running" if word == "free" else word
            assert session.old_file.read_text().split()[6] == old
        assert session.say("running") == "ok"
        assert session.word()[1] != "0", "it may answer checkurl again, after a moment of grace"
    child = session.started[0]
    assert child.stdin is not None
    child.stdin.write("asleep 60\nrunning\nrunning x\n\n$(reboot) 60\n")  # none of them is answered
    assert session.say("running").startswith("ok")
    assert session.word()[0] == "running"


def test_words_say_who_has_the_slot_while_nobody_is_attached_through_the_gateway(session: Session, jvm: Jvm) -> None:
    session.start(state="free")
    assert session.say("free") == "ok free"
    with debugger_at(jvm.jdwp) as past_the_gateway:
        assert shakes_hands(past_the_gateway)
        assert session.say("free") == "ok taken"
    until(lambda: session.say("free") == "ok free")


def test_an_extension_comes_with_a_word(session: Session) -> None:
    session.start(seconds=60)
    end = int(session.report()[3])
    assert session.say("running", 600).startswith("ok")
    assert abs(int(session.report()[3]) - end - 540) <= 2


def test_words_end_with_the_socat_that_they_speak_for(session: Session) -> None:
    first = session.start()
    session.started[0].stdin.close()  # type: ignore[union-attr]  # as when the gateway is killed
    assert session.start()["forwarder"] == first["forwarder"]
    assert session.say("running").startswith("ok")
    os.kill(forwarder(first)[0], 9)
    until(lambda: session.say("running") == "")
    assert session.started[1].wait(timeout=30) == 0


def test_the_jvm_of_a_session_stays_the_jvm_of_the_session(session: Session, jvm: Jvm, tmp_path: Path) -> None:
    _, port = forwarder(session.start(state="free"))
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        with agent(tmp_path / "java", port=jvm.jdwp):
            said = session.look()
            assert (said["java"], said["agent"]) == (str(jvm.process), "taken")
            assert session.say("suspended") == "ok"
            assert session.report()[1:3] == str(jvm.process).split()
            assert session.alive()
    until(lambda: session.look()["agent"] == "free")


def test_a_jvm_that_is_not_the_one_behind_checkurl_is_said(session: Session, jvm: Jvm, tmp_path: Path) -> None:
    with agent(tmp_path / "java") as app, socket.create_server(("127.0.0.1", 0)) as web_server:
        for port, whose in ((app.port, "other"), (web_server.getsockname()[1], "unseen"), (free_port(), "unseen")):
            session.checkport = str(port)
            session.run("start", 60, "suspended", "none")
            assert session.report()[6] == whose, port
        session.checkport = str(jvm.jdwp)  # whichever of its ports
        session.run("word", 60, "unknown")
        assert session.report()[6] == "own"


def test_only_the_gateway_gets_through(session: Session) -> None:
    _, port = forwarder(session.start("tcp", "127.0.0.2", free_port()))
    with gateway_at(port) as somebody:
        assert not shakes_hands(somebody)
    with gateway_at(port, source="127.0.0.2") as gateway:
        assert shakes_hands(gateway)


def test_a_gateway_that_comes_from_another_address_gets_through(session: Session) -> None:
    """As each pod of a Deployment does."""
    _, port = forwarder(session.start("tcp", "127.0.0.2", free_port(), state="free"))
    first = session.processes()
    with gateway_at(port, source="127.0.0.2") as gateway:
        assert shakes_hands(gateway)
        # It may be the gateway that asks: only its way to the pod has changed.
        assert forwarder(session.start("tcp", "127.0.0.3", free_port(), state="suspended"))[1] == port
        assert set(first) < set(session.processes())
    until(lambda: session.look()["agent"] == "free")
    _, port = forwarder(session.start("tcp", "127.0.0.3", free_port(), state="free"))
    until(lambda: len(session.processes()) == 1)
    assert session.processes() != first
    with gateway_at(port, source="127.0.0.3") as gateway:
        assert shakes_hands(gateway)


def test_a_gateway_with_an_ipv6_address_gets_through(session: Session) -> None:
    _, port = forwarder(session.start("tcp", "::1", free_port()))
    with socket.create_connection(("::1", port), timeout=10) as gateway:
        gateway.sendall(f"{TOKEN}\n".encode())
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
    assert session.report()[:3] == ["2", *str(jvm.process).split()]
    assert session.processes() == []
    with debugger_at(jvm.jdwp) as debugger:
        assert shakes_hands(debugger)
        assert session.alive()
        assert session.run("word", 120, "running")[-1] == "done"
        assert session.word()[0] == "running"
        assert abs(int(session.report()[3]) - uptime() - 120) <= 2
        session.run("stop")
        assert not session.alive()


def test_what_a_writer_left_that_was_killed_goes_with_the_session(session: Session) -> None:
    session.start("none")
    (session.reports / f".noah-{session.id}.70b298da").write_text("running 1")  # not renamed yet
    session.run("stop")
    assert list(session.reports.iterdir()) == []


def test_a_word_where_no_session_is_writes_nothing(session: Session) -> None:
    session.run("word", 60, "suspended")
    assert list(session.reports.iterdir()) == []


def test_a_second_start_takes_over_what_the_first_one_left(session: Session) -> None:
    first = session.start(state="running")
    again = session.start(state="suspended", seconds=90)
    assert again["forwarder"] == first["forwarder"]
    assert session.word()[0] == "suspended"
    assert abs(int(session.report()[3]) - uptime() - 90) <= 2
    assert len(session.processes()) == 1


def test_an_extension_is_seen_by_the_watchdog(session: Session) -> None:
    session.start(seconds=2, state="suspended")
    first_end = int(session.report()[3])
    assert session.say("suspended", 60) == "ok"
    until(lambda: uptime() > first_end)  # when the watchdog wakes
    assert session.say("running", 60) == "ok"
    assert len(session.processes()) == 1


def test_it_ends_by_itself_when_nobody_extends_it(session: Session) -> None:
    _, port = forwarder(session.start(seconds=2, state="suspended"))
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        assert session.alive()
        assert len(session.processes()) == 2
        until(lambda: session.started[0].poll() == 0)
        assert session.left() == []
        assert debugger.recv(64) == b""
    assert list(session.reports.iterdir()) == []
    assert not session.alive()


def test_a_debugger_is_cut_when_no_word_comes_and_the_probe_goes_on_sparing(session: Session) -> None:
    session.word_life = 2
    _, port = forwarder(session.start(state="suspended"))
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        assert debugger.recv(64) == b""
    until(lambda: session.word()[0] == "free")
    assert session.alive(), "an app that ran on just now is given time to answer"
    assert abs(int(session.report()[3]) - uptime() - 60) <= 10
    until(lambda: session.look()["agent"] == "free")
    assert session.processes() == []
    _, port = forwarder(session.start(state="free"))  # the gateway is back
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        assert session.run("stop") == ["done"]
    until(lambda: session.left() == [])


def test_each_word_lets_a_debugger_stay(session: Session) -> None:
    session.word_life = 3
    _, port = forwarder(session.start(state="running"))
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        end = uptime() + 8
        while uptime() < end:
            assert session.say("running") == "ok"
            time.sleep(0.5)
        assert len(session.processes()) == 2


def test_a_stop_leaves_nothing_and_cuts_who_is_attached(session: Session) -> None:
    _, port = forwarder(session.start())
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        assert session.run("stop") == ["done"]
        assert session.processes() == []
        assert debugger.recv(64) == b""
    assert list(session.reports.iterdir()) == []
    assert session.started[0].wait(timeout=30) == 0
    assert session.left() == []
    until(lambda: session.look()["agent"] == "free")
    assert "forwarder" not in session.look()
    assert session.run("stop") == ["done"]


@pytest.mark.parametrize("session", ["dash", "bash"], indirect=True)  # busybox has commands of its own
@pytest.mark.parametrize(("command", "word"), [("ls", "free 60"), ("mv", "running 900")])
def test_a_stop_leaves_nothing_behind_that_a_word_has_begun(
    session: Session, tmp_path: Path, command: str, word: str
) -> None:
    # PID 1 would inherit a command, and a java that is PID 1 reaps nothing. A file would stay in the pod's memory.
    slow, begun = tmp_path / command, tmp_path / "begun"
    slow.write_text(f'#!/bin/sh\n: > {begun}; sleep 1; exec /bin/{command} "$@"\n')
    slow.chmod(0o755)
    session.path = f"{tmp_path}:{session.path}"
    session.start()
    begun.unlink()
    [child] = session.started
    assert child.stdin is not None
    child.stdin.write(f"{word}\n")
    child.stdin.flush()
    until(begun.exists)
    session.path = os.environ["PATH"]
    session.run("stop")
    child.wait(timeout=60)
    assert session.left() == []
    assert list(session.reports.iterdir()) == []


def test_a_killed_socat_can_be_started_again_beside_its_debugger(session: Session) -> None:
    pid, port = forwarder(session.start(state="suspended"))
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
        os.kill(pid, 9)
        until(lambda: session.started[0].poll() is not None)
        assert session.alive(), "a debugger is attached, whatever carries its bytes"
        assert "forwarder" in session.look(), "the report is there"
        assert forwarder(session.start(state="suspended"))[0] != pid
        assert session.alive()
    until(lambda: not session.alive())


def test_a_start_that_was_killed_is_no_reason_for_two_socats(session: Session) -> None:
    pid, port = forwarder(session.start())
    session.started[0].kill()
    session.started[0].wait()
    assert forwarder(session.start())[0] == pid
    with gateway_at(port) as debugger:
        assert shakes_hands(debugger)
    session.run("stop")
    assert [p for p in session.processes() if state(p) != "Z"] == []


def test_a_debugger_that_outlives_its_socat_is_ended_too(session: Session) -> None:
    pid, port = forwarder(session.start())
    with gateway_at(port) as debugger:
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


@pytest.mark.parametrize("session", ["dash", "bash"], indirect=True)  # busybox has commands of its own
def test_a_java_that_ends_while_it_is_looked_at_is_not_taken_for_one_that_may_not_be_read(
    session: Session, tmp_path: Path
) -> None:
    shutil.copy("/bin/sleep", tmp_path / "java")
    ending = subprocess.Popen([tmp_path / "java", "600"])
    until(lambda: Path(f"/proc/{ending.pid}/comm").read_text() == "java\n")
    ls = tmp_path / "ls"
    ls.write_text(
        f'#!/bin/sh\n[ "$2" != /proc/{ending.pid}/fd ] || {{ kill -9 {ending.pid}\n'
        f"until grep -q 'State:.Z' /proc/{ending.pid}/status; do sleep 0.02; done; }}\nexec /bin/ls \"$@\"\n"
    )
    ls.chmod(0o755)
    session.path = f"{tmp_path}:{session.path}"
    try:
        with socket.create_server(("127.0.0.1", 0)) as other:
            session.jvm = Jvm(session.jvm.process, other.getsockname()[1])
            assert session.look()["agent"] == "none"
    finally:
        ending.kill()
        assert ending.wait() == -signal.SIGKILL


@pytest.fixture
def no_socat(session: Session, tmp_path: Path) -> Session:
    tools = ("sh", "tr", "ls", "sleep", "rm", "mv", "cat", "grep")
    session.path = path_with(tmp_path / "bin", **{tool: tool for tool in tools})
    return session


@pytest.mark.parametrize("way", [("unix",), ("tcp", "127.0.0.1", "25005")])
def test_without_socat_the_report_is_held_and_the_bytes_go_another_way(no_socat: Session, way: tuple[str, ...]) -> None:
    said = no_socat.start(*way, state="free")
    assert (said["way"], said["forwarder"], said["agent"]) == ("report", "- - 0", "free")
    assert no_socat.processes() == []
    assert no_socat.say("free") == "ok free"
    assert no_socat.say("suspended") == "ok"
    assert no_socat.alive()
    looked = no_socat.look()
    assert (looked["way"], looked["forwarder"]) == ("report", "- - 0")
    assert no_socat.run("stop")[-1] == "done"
    no_socat.say("running")  # was on its way
    no_socat.started[0].wait(60)
    assert list(no_socat.reports.iterdir()) == []


def test_words_that_are_on_their_way_leave_nothing_behind(no_socat: Session) -> None:
    no_socat.start(state="free")
    stdin = no_socat.started[0].stdin
    assert stdin is not None
    stdin.write("running 60\nsuspended 60\n" * 25)
    stdin.close()
    assert no_socat.run("stop")[-1] == "done"
    assert list(no_socat.reports.iterdir()) == []


def test_a_report_whose_gateway_did_not_come_back_goes_with_the_next_session(no_socat: Session) -> None:
    no_socat.start(state="free", seconds=1)
    assert no_socat.started[0].stdin is not None
    no_socat.started[0].stdin.close()
    no_socat.started[0].wait(60)
    until(lambda: uptime() >= int(no_socat.report()[3]))
    left, no_socat.id = no_socat.id, "next"
    no_socat.start(state="free")
    assert not [file.name for file in no_socat.reports.iterdir() if left in file.name]


def test_from_beside_the_agents_socket_stands_for_the_jvm(session: Session) -> None:
    session.where, session.name = "beside", f"jvm:{session.jvm.jdwp}"
    said = session.start("unix", state="free")
    assert (said["agent"], said["java"], said["jvms"]) == ("free", "0 0", "1")
    assert abs(int(said["clock"]) - time.time()) < 60
    assert session.report()[1:3] == ["0", "0"]
    assert session.say("free") == "ok free"
    with debugger_at(session.jvm.jdwp) as past_the_gateway:
        assert shakes_hands(past_the_gateway)
        assert session.say("free") == "ok taken"
        session.say("suspended")
        assert session.alive()
    session.jvm = Jvm(session.jvm.process, free_port())
    said = session.look()
    assert (said["agent"], "java" in said) == ("none", False)


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
        session.run("word", 60, evil)
        session.run("stop")
    assert not trap.exists()


def test_a_connection_that_does_not_know_the_sessions_secret_sends_nothing_to_the_jvm(session: Session) -> None:
    _, port = forwarder(session.start())
    for token in ("", "c0ffe", "c0ffee0", "*", "$wanted", "c0ffee;id", "JDWP-Handshake"):
        with gateway_at(port, token=token) as stranger, contextlib.suppress(ConnectionError):
            assert not shakes_hands(stranger), token
    with gateway_at(port) as gateway:
        assert shakes_hands(gateway)


def test_a_gateway_that_starts_anew_has_a_secret_of_its_own(session: Session) -> None:
    pid, port = forwarder(session.start())
    with gateway_at(port) as gateway:
        assert shakes_hands(gateway)
    session.token = "decade"
    assert forwarder(session.start())[0] == pid
    until(lambda: session.look()["agent"] == "free")
    with gateway_at(port) as before, contextlib.suppress(ConnectionError):
        assert not shakes_hands(before)
    with gateway_at(port, token="decade") as gateway:
        assert shakes_hands(gateway)
    assert "decade" not in "".join(p.read_text() for p in Path("/proc").glob(f"{pid}/cmdline"))
