"""The probe's script with real processes and a real server: in each shell, with each tool, as a manifest carries it.

Each case is run with the script as it is and without its comments: what they do must not differ.
"""

import asyncio
import contextlib
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from noah import inpod
from noah.core.inject.probe import inlined
from tests.ports import free_port
from tests.processes import output_of
from tests.unit.inpod.checkurls import Checkurls
from tests.unit.inpod.containers import SHELLS, Agent, Process, agent, path_with, uptime, zombie

FORMS = {"whole": inpod.script("liveness"), "inlined": inlined()}
BASE = {"grep": "grep", "ls": "ls"}  # what nearly all images have
AS_USER = 61234  # who has no process: a limit on processes does not hold for root


@dataclass(frozen=True)
class Container:
    """Somewhere to run the probe: one shell, the tools of one PATH, one directory of reports."""

    shell: tuple[str, ...]
    script: str
    path: str
    reports: Path
    tools: str = "curl"

    def argv(self, url: str, *more: str) -> list[str]:
        return [*self.shell, "-c", self.script, "noah-liveness", url, *more]

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": self.path, "NOAH_REPORTS": str(self.reports)}

    def report(self, line: str, word: str | None = None, *, name: str = "jvm", session: str = "s1") -> None:
        """Write what the forwarder would; *word* None: its file is not there."""
        (self.reports / f"noah-{name}.{session}.jvm").write_text(line + "\n")
        file = self.reports / f"noah-{name}.{session}.word"
        if word is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(word and f"{word}\n")

    async def probe(self, url: str, *more: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Its exit code and what it said, without what a tool said of its failure; nothing goes to stderr."""
        child = await asyncio.create_subprocess_exec(
            *self.argv(url, *more), env=self.env | (env or {}), stdout=-1, stderr=-1
        )
        out, err = await output_of(child)
        assert err == b"", err
        assert out.count(b"\n") == 1
        assert child.returncode is not None
        return child.returncode, re.sub(r"\(within (\d+) s: .*\) and ", r"(within \1 s) and ", out.decode())


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tools that an image may have."""
    root = tmp_path_factory.mktemp("tools")
    old = root / "old-busybox-wget"
    old.write_text(
        '#!/bin/sh\ncase $2 in -S) echo "wget: invalid option -- \'S\'" >&2; exit 1 ;; esac\nexec busybox wget "$@"\n'
    )
    old.chmod(0o755)
    return {
        "no grep": path_with(root / "no-grep", curl="curl", ls="ls", cat="cat"),
        "curl": path_with(root / "curl", curl="curl", **BASE),
        "wget": path_with(root / "wget", wget="wget", sleep="sleep", **BASE),
        "busybox": path_with(root / "busybox", wget="busybox", sleep="busybox", **BASE),
        "old busybox": path_with(root / "old", wget=old, sleep="busybox", busybox="busybox", **BASE),
        "bash": path_with(root / "bash", bash="bash", sleep="sleep", **BASE),
        "wget alone": path_with(root / "alone", wget="wget", **BASE),
        "nothing": path_with(root / "nothing"),
    }


@pytest.fixture
def reports() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="a space, a * ", dir="/dev/shm") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture(params=[f"{shell}-{form}" for shell in SHELLS for form in FORMS])
def container(request: pytest.FixtureRequest, paths: dict[str, str], reports: Path) -> Container:
    shell, form = request.param.split("-")
    return Container(SHELLS[shell], FORMS[form], paths["curl"], reports)


@pytest.fixture
def with_each_tool(paths: dict[str, str], reports: Path) -> list[Container]:
    """Each shell with each tool. busybox's sh takes its own applets before what PATH has."""
    return [
        Container(argv, FORMS["inlined"], path, reports, tools)
        for shell, argv in SHELLS.items()
        for tools, path in paths.items()
        if tools not in {"nothing", "wget alone", "no grep"} and (shell != "busybox" or tools in {"curl", "busybox"})
    ]


@pytest.fixture(scope="module")
def checkurls() -> Iterator[Checkurls]:
    with Checkurls.served() as served:
        yield served


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """A checkurl that refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Under a name that would mislead who counts the fields of /proc/PID/stat from its start."""
    with agent(tmp_path_factory.mktemp("bin") / "ja) Z 1\n1 (x") as jvm:
        yield jvm


def line_of(java: Agent, *, seconds: int = 30, where: str = "pod", owns: str = "own") -> str:
    return f"2 {java.process} {uptime() + seconds} {java.hex} {where} {owns}"


def said_ago(state: str, seconds: int = 0, *, since: int = 0) -> str:
    return f"{state} {since} {uptime() - seconds}"


# About reports

LETS_CHECKURL_DECIDE = "gave no answer (within 1 s) and "
# The gateway's word, how old it is, and what a probe says: with a debugger attached here, and without.
VERDICTS = {
    "running, fresh": ("running", 0, "no debugger has suspended it", "no debugger has suspended it"),
    "running, stale": ("running", 5, "is attached to java", "no debugger is attached"),
    "suspended, fresh": ("suspended", 0, "a debugger has suspended java", "a debugger has suspended java"),
    "suspended, stale": ("suspended", 500, "a debugger has suspended java", "no debugger is attached"),
    "unknown": ("unknown", 0, "is attached to java", "no debugger is attached"),
    "free: who is attached came past the gateway": ("free", 0, "is attached to java", "no debugger is attached"),
    "from a time to come": ("running", -50, "is attached to java", "no debugger is attached"),
}


@pytest.mark.parametrize("story", VERDICTS)
async def test_what_is_true_in_the_pod_decides_and_the_word_says_which_state(
    container: Container, nobody: str, java: Agent, story: str
) -> None:
    state, ago, attached_says, free_says = VERDICTS[story]
    container.report(line_of(java), said_ago(state, ago))
    code, said = await container.probe(nobody)
    assert (code, free_says in said) == (int(story != "suspended, fresh"), True), said
    with java.attached():
        container.report(line_of(java), said_ago(state, ago))
        code, said = await container.probe(nobody)
        assert (code, attached_says in said) == (int(story == "running, fresh"), True), said
    container.report(line_of(java), said_ago(state, max(ago, 5)))
    assert (await container.probe(nobody))[0] == 1


UNREADABLE = (None, "", "running", "running 0", "running 0 1 2", "running x y", "\0\1", "x" * 999)


async def test_a_word_that_cannot_be_read_spares_while_a_debugger_is_attached(
    container: Container, nobody: str, java: Agent
) -> None:
    for word in UNREADABLE:
        container.report(line_of(java), word)
        assert (await container.probe(nobody))[0] == 1, word
    with java.attached():
        for word in UNREADABLE:
            container.report(line_of(java), word)
            assert (await container.probe(nobody))[0] == 0, word


async def test_an_image_without_grep_is_not_different(
    paths: dict[str, str], reports: Path, nobody: str, java: Agent
) -> None:
    for shell in ("dash", "bash"):
        container = Container(SHELLS[shell], FORMS["inlined"], paths["no grep"], reports)
        container.report(line_of(java), said_ago("unknown"))
        assert (await container.probe(nobody))[0] == 1
        with java.attached():
            container.report(line_of(java), said_ago("unknown"))
            assert (await container.probe(nobody))[0] == 0


async def test_a_moment_of_grace_follows_a_long_stop(container: Container, nobody: str, java: Agent) -> None:
    for state in ("running", "free"):
        container.report(line_of(java), said_ago(state, since=uptime() - 2))
        assert "a debugger has let java" in (await container.probe(nobody))[1]
        container.report(line_of(java), said_ago(state, since=uptime() - 12))
        assert (await container.probe(nobody))[0] == 1


async def test_a_tool_that_takes_the_port_meanwhile_changes_nothing(
    container: Container, nobody: str, java: Agent, tmp_path: Path
) -> None:
    with java.attached(), agent(tmp_path / "java", port=java.port) as tool:
        for state, code in (("suspended", 0), ("running", 1)):
            container.report(line_of(java), said_ago(state))
            assert (await container.probe(nobody))[0] == code, state
        with tool.attached():
            container.report(line_of(java), said_ago("suspended"))
            assert (await container.probe(nobody))[0] == 0


async def test_a_debugger_that_is_attached_to_another_jvm_at_that_port_spares_nobody(
    container: Container, nobody: str, java: Agent, tmp_path: Path
) -> None:
    with agent(tmp_path / "java") as other:
        line = line_of(java).replace(java.hex, other.hex)
        with other.attached():
            container.report(line, said_ago("unknown"))
            assert (await container.probe(nobody))[0] == 1


async def test_a_jvm_that_checkurl_does_not_ask_spares_nobody(container: Container, nobody: str, java: Agent) -> None:
    with java.attached():
        for owns, code in (("other", 1), ("own", 0), ("unseen", 0)):
            container.report(line_of(java, owns=owns), said_ago("suspended"))
            assert (await container.probe(nobody))[0] == code, owns


def beside(port: int, *, seconds: int = 30) -> str:
    return f"2 0 0 {uptime() + seconds} :{port:04X} beside unseen"


async def test_from_beside_the_agents_sockets_decide(container: Container, nobody: str, java: Agent) -> None:
    name = f"jvm:{java.port}"

    async def verdict(word: str, *, port: int = java.port) -> int:
        container.report(beside(port), word, name=name)
        return (await container.probe(nobody, "1", name))[0]

    assert await verdict(said_ago("suspended")) == 0
    assert await verdict(said_ago("suspended", 500)) == 1
    with java.attached():
        assert await verdict(said_ago("suspended", 500)) == 0
        assert await verdict(said_ago("unknown")) == 0
        assert await verdict(said_ago("running")) == 1
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert await verdict(said_ago("suspended"), port=bound.getsockname()[1]) == 1, "its JVM has ended"


async def test_a_report_from_beside_counts_for_the_probe_of_its_own_port(
    container: Container, nobody: str, java: Agent
) -> None:
    container.report(beside(java.port), said_ago("suspended"), name=f"jvm:{java.port}")
    assert (await container.probe(nobody, "1", f"jvm:{java.port}"))[0] == 0
    assert (await container.probe(nobody, "1", "jvm:1"))[0] == 1
    assert (await container.probe(nobody))[0] == 1


@contextlib.contextmanager
def real_jvm(folder: Path, *, suspend: str, until: bytes) -> Iterator[int]:
    """A JVM that has printed *until*; its agent's port."""
    source = folder / "Sleeps.java"
    sleeps = 'System.out.println("runs"); Thread.sleep(Long.MAX_VALUE);'
    source.write_text(f"class Sleeps {{ public static void main(String[] a) throws Exception {{ {sleeps} }} }}")
    subprocess.run(["javac", "-d", folder, source], check=True)
    port = free_port()
    option = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend={suspend},address=127.0.0.1:{port}"
    with subprocess.Popen(["java", option, "-cp", folder, "Sleeps"], stdout=subprocess.PIPE) as jvm:
        try:
            assert jvm.stdout is not None
            while until not in (line := jvm.stdout.readline()):
                assert line, "the JVM has ended"
            yield port
        finally:
            jvm.kill()


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A JVM that waits for its first debugger."""
    with real_jvm(tmp_path_factory.mktemp("java"), suspend="y", until=b"Listening") as port:
        yield port


@pytest.fixture(scope="module")
def beyond_waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A JVM that runs, and has not opened checkurl's port."""
    with real_jvm(tmp_path_factory.mktemp("java"), suspend="n", until=b"runs") as port:
        yield port


@pytest.mark.jvm
async def test_a_jvm_that_waits_for_its_first_debugger_is_spared_until_it_runs(
    container: Container, nobody: str, checkurls: Checkurls, waiting: int, beyond_waiting: int
) -> None:
    code, said = await container.probe(nobody, env={"NOAH_SUSPENDS": str(waiting)})
    assert (code, "waits for its first debugger" in said) == (0, True), said
    assert (await container.probe("-", env={"NOAH_SUSPENDS": str(waiting)}))[0] == 0
    for said_to_wait in ("", "1", "x", str(beyond_waiting)):
        assert (await container.probe(nobody, env={"NOAH_SUSPENDS": said_to_wait}))[0] == 1, said_to_wait
    # An app that listens at checkurl's port runs, and is asked.
    assert (await container.probe(checkurls.url("/500"), env={"NOAH_SUSPENDS": str(waiting)}))[0] == 1


def no_reports(java: Agent, dead: Process) -> dict[str, str]:
    """Lines that speak for nobody."""
    now, it, port = uptime(), java.process, java.hex
    other = Process(it.pid, str(int(it.start) + 1))
    good = f"2 {it} {now + 30} {port} pod own"
    return {
        "expired": f"2 {it} {now} {port} pod own",
        "its java is a zombie": f"2 {dead} {now + 30} {port} pod own",
        "its java is another process": f"2 {other} {now + 30} {port} pod own",
        "no java": f"2 - - {now + 30} {port} pod own",
        "a pid that is a path": f"2 self/../{it} {now + 30} {port} pod own",
        "another version": f"3{good[1:]}",
        "one field more": f"{good} 1",
        "one field less": f"2 {it} {now + 30} {port} pod",
        "a carriage return": f"2 {it} {now + 30} {port}\r pod own",
        "negative": f"2 {it} -{now + 30} {port} pod own",
        "octal": f"2 {it} 09999999999 {port} pod own",
        "too big for 64 bits": f"2 {it} {10**30} {port} pod own",
        "a fraction": f"2 {it} {now + 30}.5 {port} pod own",
        "a port that is a pattern": f"2 {it} {now + 30} :.... pod own",
        "a port of five digits": f"2 {it} {now + 30} :12345 pod own",
        "a command": f"2 {it} $(touch evaluated) `touch evaluated` pod own",
        "empty": "",
        "blanks": "  \t ",
        "a line without end": "2 " + "x" * (1 << 17),
    }


async def test_any_other_report_leaves_it_to_checkurl(container: Container, nobody: str, java: Agent) -> None:
    with zombie("sleep", "600") as dead, java.attached():
        for story, line in no_reports(java, dead).items():
            container.report(line, said_ago("suspended"))
            wanted = f"noah: checkurl {nobody} gave no answer (within 1 s) and nobody is debugging\n"
            assert await container.probe(nobody) == (1, wanted), story


def spoil(reports: Path, good: str) -> None:
    """What a directory may have besides files with a line."""
    (reports / "noah-jvm.cut.jvm").write_text(good[:20])
    (reports / "noah-jvm.binary.jvm").write_bytes(bytes(range(256)))
    (reports / "noah-jvm.huge.jvm").write_bytes(b"x" * (1 << 17))
    (reports / "noah-jvm.directory.jvm").mkdir()
    os.mkfifo(reports / "noah-jvm.fifo.jvm")
    (reports / "noah-jvm.gone.jvm").symlink_to("nowhere")
    (reports / "noah-jvm.device.jvm").symlink_to("/dev/zero")
    (reports / "noah-jvm.name with\nspaces *.jvm").write_text("3\n")
    (reports / "noah-orders.s1.jvm").write_text(f"{good}\n")
    (reports / "noah-jvm.orders.s1.jvm").write_text(f"{good}\n")
    (reports / "noah-jvm.s2").write_text(f"{good}\n")
    (reports / ".noah-s1.new").write_text(f"{good}\n")


async def test_what_is_no_report_neither_blocks_nor_speaks_nor_hides_a_good_one(
    container: Container, nobody: str, java: Agent
) -> None:
    with java.attached():
        spoil(container.reports, line_of(java))
        assert (await container.probe(nobody))[0] == 1

        os.mkfifo(container.reports / "noah-jvm.aaa.word")
        (container.reports / "noah-jvm.aaa.jvm").write_text(f"{line_of(java)}\n")  # no word can be read: unknown
        assert (await container.probe(nobody))[0] == 0
        (container.reports / "noah-jvm.aaa.jvm").unlink()
        container.report(line_of(java), said_ago("suspended"), session="zzz")
        assert (await container.probe(nobody))[0] == 0


async def test_only_reports_of_its_own_name_are_believed(container: Container, nobody: str, java: Agent) -> None:
    with java.attached():
        container.report(line_of(java, where="host"), said_ago("suspended"), name="orders")
        assert (await container.probe(nobody, "1", "orders"))[0] == 0
        for other in ("jvm", "order", "orders.s1", "*"):
            assert (await container.probe(nobody, "1", other))[0] == 1, other


async def test_a_zombie_whose_name_says_that_it_runs_is_dead(
    container: Container, nobody: str, java: Agent, tmp_path: Path
) -> None:
    command = tmp_path / "java) S 1 ("
    shutil.copy("/usr/bin/sleep", command)
    with zombie(command, "600") as dead, java.attached():
        container.report(line_of(java).replace(str(java.process), str(dead)), said_ago("suspended"))
        assert (await container.probe(nobody))[0] == 1


async def test_without_a_place_for_reports_checkurl_decides(container: Container, checkurls: Checkurls) -> None:
    nowhere = replace(container, reports=Path("/nowhere/at all"))
    assert (await nowhere.probe(checkurls.url("/200")))[0] == 0
    assert (await nowhere.probe(checkurls.url("/503")))[0] == 1


def limited(argv: list[str], env: dict[str, str], *, processes: int) -> subprocess.CompletedProcess[bytes] | None:
    """None when it still tries after a second: bash does not give up a fork that easily."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))

    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(
            argv,
            env=env,
            capture_output=True,
            timeout=1,
            check=False,
            user=AS_USER if os.getuid() == 0 else None,
            preexec_fn=limit,
        )
    return None


def hand_over(reports: Path) -> None:
    """To the user that the probe is run as: the forwarder of a pod is that very user."""
    if os.getuid() == 0:
        for file in reports.iterdir():
            os.chown(file, AS_USER, AS_USER)


def test_a_suspended_java_costs_no_fork(container: Container, checkurls: Checkurls, java: Agent) -> None:
    with java.attached():
        container.report(line_of(java), said_ago("suspended"))
        hand_over(container.reports)
        suspended = limited(container.argv(checkurls.url("/200"), "1", "jvm"), container.env, processes=1)
        assert suspended is not None
        assert (suspended.returncode, suspended.stderr) == (0, b"")
        assert b"suspended" in suspended.stdout

        container.report(line_of(java), said_ago("running"))
        hand_over(container.reports)
        running_on = limited(container.argv(checkurls.url("/200"), "1", "jvm"), container.env, processes=1)
        assert running_on is None or running_on.returncode != 0, "the limit does not limit: this test could not fail"


def test_a_jvm_whose_sockets_may_not_be_looked_at_is_spared(container: Container, nobody: str, java: Agent) -> None:
    if os.getuid() != 0:
        pytest.skip("running as another user takes root")

    env = container.env | {"PATH": os.environ["PATH"]}  # the tools of a test are its user's alone

    def probe_as_user() -> int:
        return subprocess.run(
            container.argv(nobody, "1", "orders"), env=env, capture_output=True, check=False, user=AS_USER
        ).returncode

    container.report(line_of(java), said_ago("running", 5), name="orders")
    assert probe_as_user() == 1
    with java.attached():
        container.report(line_of(java), said_ago("running", 5), name="orders")
        assert probe_as_user() == 0


async def test_a_file_of_another_user_of_the_pod_is_not_a_report(
    container: Container, nobody: str, java: Agent
) -> None:
    if os.getuid() != 0:
        pytest.skip("giving a file away takes root")
    with java.attached():
        container.report(line_of(java), said_ago("suspended"))
        assert (await container.probe(nobody))[0] == 0
        os.chown(container.reports / "noah-jvm.s1.jvm", AS_USER, AS_USER)
        assert (await container.probe(nobody))[0] == 1


# About checkurl


async def outcomes(containers: list[Container], url: str, *more: str) -> list[tuple[Container, int, str]]:
    """Side by side, for most of these wait for a deadline."""
    answers = await asyncio.gather(*(container.probe(url, *more) for container in containers))
    return [(container, *answer) for container, answer in zip(containers, answers, strict=True)]


async def test_a_checkurl_that_says_200_is_alive(with_each_tool: list[Container], checkurls: Checkurls) -> None:
    url = checkurls.url("/200")
    for container, code, said in await outcomes(with_each_tool, url):
        assert (code, said) == (0, f"noah: checkurl {url} answered 200\n"), container


@pytest.mark.parametrize("status", [503, 404, 204, 302, 401])
async def test_any_other_status_is_not(with_each_tool: list[Container], checkurls: Checkurls, status: int) -> None:
    url = checkurls.url(f"/{status}")
    for container, code, said in await outcomes(with_each_tool, url):
        if container.tools == "old busybox" and status in {204, 302}:
            continue  # it does not tell
        wanted = f"noah: checkurl {url} answered {status} and nobody is debugging\n"
        if container.tools == "old busybox" and "no answer" in said:
            wanted = wanted.replace(f"answered {status}", "gave no answer (within 1 s)")
        assert (code, said) == (1, wanted), container


@pytest.mark.parametrize("path", ["/hang", "/trickle", "/headers", "/reset", "/nonsense"])
async def test_no_answer_within_the_deadline_is_not(
    with_each_tool: list[Container], checkurls: Checkurls, path: str
) -> None:
    url = checkurls.url(path)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for container, code, said in await outcomes(with_each_tool, url, "1"):
        assert (code, said.endswith("and nobody is debugging\n")) == (1, True), container
    assert loop.time() - began < 30  # /trickle goes on for a minute, and never lets a read time out


async def test_a_body_that_does_not_end_is_no_200(with_each_tool: list[Container], checkurls: Checkurls) -> None:
    url = checkurls.url("/body")
    # bash asks for the status only: it would have to wait for the end of a connection that a server may keep.
    readers = [container for container in with_each_tool if container.tools != "bash"]
    for container, code, said in await outcomes(readers, url, "1"):
        assert code == 1, container
        if container.tools != "old busybox":
            assert "answered 200 but did not come to an end within 1 s" in said, container


async def test_certificates_are_not_verified(with_each_tool: list[Container], checkurls: Checkurls) -> None:
    containers = [container for container in with_each_tool if container.tools in {"curl", "wget"}]
    for container, code, said in await outcomes(containers, checkurls.tls_url("/200"), "3"):
        assert code == 0, (container, said)


async def test_proxies_are_not_asked(with_each_tool: list[Container], checkurls: Checkurls, nobody: str) -> None:
    env = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), nobody)
    for container in with_each_tool:
        assert (await container.probe(checkurls.url("/200"), env=env))[0] == 0, container


async def test_the_url_is_an_argument_and_nothing_else(
    with_each_tool: list[Container], checkurls: Checkurls, tmp_path: Path
) -> None:
    trap = tmp_path / "evaluated"
    commands = (f"$(touch${{IFS}}{trap})", f"';touch {trap};'", f'";touch {trap};"', f"`touch {trap}`")
    for evil in (*commands, "{a,b}[1-9]", "a\\nb"):
        for container in with_each_tool:
            await container.probe(checkurls.url("/404/") + evil)
    assert not trap.exists()
    for container in with_each_tool:
        assert (await container.probe("--help"))[0] == 1, container
        assert (await container.probe(checkurls.url("/200/{[a")))[0] == 0, container


async def test_a_breakpoint_that_was_hit_while_checkurl_hung_spares_the_app(
    with_each_tool: list[Container], checkurls: Checkurls, java: Agent
) -> None:
    for container in (c for c in with_each_tool if c.shell == SHELLS["dash"]):
        with java.attached():
            write = partial(container.report, line_of(java), said_ago("suspended"))
            with checkurls.when_asked(write):
                assert await container.probe(checkurls.url("/hang"), "1") == (
                    0,
                    f"noah: a debugger has suspended java ({java.process.pid}), which is alive\n",
                ), container
        (container.reports / "noah-jvm.s1.jvm").unlink()


async def test_an_answer_ends_the_wait_each_time(paths: dict[str, str], reports: Path, checkurls: Checkurls) -> None:
    # A signal that comes between a shell's fork and the child's exec can be lost: one of twenty waits then lasted.
    for shell, tools in (("dash", "wget"), ("busybox", "busybox"), ("bash", "wget")):
        container = Container(SHELLS[shell], FORMS["inlined"], paths[tools], reports)
        for _ in range(10):
            # Longer than a probe is waited for here.
            await asyncio.gather(*(container.probe(checkurls.url("/200"), "60") for _ in range(8)))


async def test_without_a_sleep_an_answer_still_counts(
    paths: dict[str, str], reports: Path, checkurls: Checkurls
) -> None:
    for shell in ("dash", "bash"):
        container = Container(SHELLS[shell], FORMS["inlined"], paths["wget alone"], reports)
        assert (await container.probe(checkurls.url("/200")))[0] == 0, shell
        assert (await container.probe(checkurls.url("/503")))[0] == 1, shell


async def test_without_a_tool_it_fails_with_a_sentence(paths: dict[str, str], reports: Path, nobody: str) -> None:
    for path, url in (("nothing", nobody), ("nothing", "https://[::1]/"), ("bash", "https://[::1]/")):
        for shell in ("dash", "bash"):
            container = Container(SHELLS[shell], FORMS["inlined"], paths[path], reports)
            code, said = await container.probe(url)
            assert code == 1
            assert said.startswith(f"noah: nothing in this container can ask checkurl {url}: it takes curl or wget")


@pytest.mark.parametrize("path", ["/200", "/hang"])
async def test_no_process_is_left_to_a_pid_1_that_does_not_reap(
    with_each_tool: list[Container], checkurls: Checkurls, path: str
) -> None:
    # A subreaper gets what PID 1 of a container would get.
    program = (
        "import ctypes, os, subprocess, sys\n"
        "ctypes.CDLL(None).prctl(36, 1)\n"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "try: os.waitpid(-1, os.WNOHANG); sys.exit('something is left')\n"
        "except ChildProcessError: pass\n"
    )

    async def left_by(container: Container) -> bytes:
        argv = [sys.executable, "-c", program, *container.argv(checkurls.url(path), "1")]
        child = await asyncio.create_subprocess_exec(*argv, env=container.env, stderr=subprocess.PIPE)
        return (await output_of(child))[1]

    left = await asyncio.gather(*map(left_by, with_each_tool))
    assert left == [b""] * len(with_each_tool)
