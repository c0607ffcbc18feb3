"""The probe's script with real processes and a real server: in each shell, with each tool, as a manifest carries it.

Each case is run with the script as it is and without its comments: what they do must not differ.
"""

import asyncio
import contextlib
import os
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
from tests.unit.inpod.checkurls import Checkurls
from tests.unit.inpod.containers import SHELLS, Process, path_with, running, uptime, zombie

FORMS = {"whole": inpod.script("liveness"), "inlined": inlined()}
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

    def report(self, line: str, name: str = "noah-jvm.s1") -> None:
        (self.reports / name).write_text(line + "\n")

    async def probe(self, url: str, *more: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Its exit code and what it said; it never has anything to say on stderr."""
        child = await asyncio.create_subprocess_exec(
            *self.argv(url, *more), env=self.env | (env or {}), stdout=-1, stderr=-1
        )
        try:
            async with asyncio.timeout(20):
                out, err = await child.communicate()
        except TimeoutError:
            child.kill()
            raise
        assert err == b"", err
        assert out.count(b"\n") == 1
        assert child.returncode is not None
        return child.returncode, out.decode()


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
        "curl": path_with(root / "curl", curl="curl"),
        "wget": path_with(root / "wget", wget="wget", sleep="sleep"),
        "busybox": path_with(root / "busybox", wget="busybox", sleep="busybox"),
        "old busybox": path_with(root / "old", wget=old, sleep="busybox", busybox="busybox"),
        "bash": path_with(root / "bash", bash="bash", sleep="sleep"),
        "wget alone": path_with(root / "alone", wget="wget"),
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
        if tools not in {"nothing", "wget alone"} and (shell != "busybox" or tools in {"curl", "busybox"})
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
def socat() -> Iterator[Process]:
    with running("sleep", "600") as forwarder:
        yield forwarder


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Under a name that would mislead who counts the fields of /proc/PID/stat from its start."""
    command = tmp_path_factory.mktemp("bin") / "ja) Z 1\n1 (x"
    shutil.copy("/usr/bin/sleep", command)
    with running(command, "600") as jvm:
        yield jvm


# About reports


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 {socat} {java} {soon} suspended {then}", "a debugger has suspended java"),
        ("1 {socat} {java} {soon} unknown {then}", "a debugger may have suspended java"),
        ("1 - - {java} {soon} suspended {then}", "a debugger has suspended java"),
        ("1 {socat} {java} {soon} running {just_now}", "a debugger has let java"),
    ],
)
async def test_a_report_in_force_speaks_for_a_java_that_is_alive(
    container: Container, nobody: str, socat: Process, java: Process, line: str, says: str
) -> None:
    now = uptime()
    container.report(line.format(socat=socat, java=java, soon=now + 30, then=max(now - 300, 0), just_now=now - 2))
    code, said = await container.probe(nobody)
    assert (code, said.startswith(f"noah: {says} ")) == (0, True), said


def no_reports(socat: Process, java: Process, dead: Process) -> dict[str, str]:
    """Lines that speak for nobody."""
    now = uptime()
    other = Process(java.pid, str(int(java.start) + 1))
    good = f"1 {socat} {java} {now + 30} suspended {now}"
    return {
        "expired": f"1 {socat} {java} {now} suspended {now}",
        "running for long": f"1 {socat} {java} {now + 30} running {now - 12}",
        "running from later on": f"1 {socat} {java} {now + 30} running {now + 20}",
        "its socat is a zombie": f"1 {dead} {java} {now + 30} suspended {now}",
        "its socat is another process": f"1 {other} {java} {now + 30} suspended {now}",
        "its socat is gone": f"1 999999999 5 {java} {now + 30} suspended {now}",
        "its java is a zombie": f"1 {socat} {dead} {now + 30} suspended {now}",
        "its java is a zombie, no socat": f"1 - - {dead} {now + 30} suspended {now}",
        "its java is another process": f"1 {socat} {other} {now + 30} suspended {now}",
        "no java": f"1 {socat} - - {now + 30} suspended {now}",
        "half a socat": f"1 - {socat.start} {java} {now + 30} suspended {now}",
        "a pid that is a path": f"1 self/../{socat} {java} {now + 30} suspended {now}",
        "another version": f"2{good[1:]}",
        "another state": good.replace("suspended", "asleep"),
        "one field more": f"{good} 1",
        "one field less": f"1 {socat} {java} {now + 30} suspended",
        "a carriage return": f"{good}\r",
        "negative": f"1 {socat} {java} -{now + 30} suspended {now}",
        "octal": f"1 {socat} {java} 09999999999 running {now}",
        "octal since": f"1 {socat} {java} {now + 30} running 08",
        "too big for 64 bits": f"1 {socat} {java} {10**30} suspended {now}",
        "since too big": f"1 {socat} {java} {now + 30} running {10**30}",
        "a fraction": f"1 {socat} {java} {now + 30}.5 suspended {now}",
        "a command": f"1 {socat} {java} $(touch evaluated) suspended `touch evaluated`",
        "a pattern": f"1 {socat} {java} * suspended *",
        "empty": "",
        "blanks": "  \t ",
        "a megabyte": "1 " + "x" * (1 << 20),
    }


async def test_any_other_report_leaves_it_to_checkurl(
    container: Container, nobody: str, socat: Process, java: Process
) -> None:
    with zombie("sleep", "600") as dead:
        for story, line in no_reports(socat, java, dead).items():
            container.report(line)
            code, said = await container.probe(nobody)
            # Both of these are sessions, and in force.
            in_force = story in {"running for long", "running from later on"}
            who = "no debugger has suspended it" if in_force else "nobody is debugging"
            wanted = f"noah: checkurl {nobody} gave no answer (within 1 s) and {who}\n"
            assert (code, said) == (1, wanted), story


def spoil(reports: Path, good: str) -> None:
    """What a directory may have besides files with a line."""
    (reports / "noah-jvm.cut").write_text(good)
    (reports / "noah-jvm.binary").write_bytes(bytes(range(256)))
    (reports / "noah-jvm.huge").write_bytes(b"x" * (1 << 20))
    (reports / "noah-jvm.directory").mkdir()
    os.mkfifo(reports / "noah-jvm.fifo")
    (reports / "noah-jvm.gone").symlink_to("nowhere")
    (reports / "noah-jvm.device").symlink_to("/dev/zero")
    (reports / "noah-jvm.name with\nspaces *").write_text("2\n")
    (reports / "noah-orders.s1").write_text(f"{good}\n")
    (reports / "noah-jvm.orders.s1").write_text(f"{good}\n")
    (reports / ".noah-s1.new").write_text(f"{good}\n")


async def test_what_is_no_report_neither_blocks_nor_speaks_nor_hides_a_good_one(
    container: Container, nobody: str, socat: Process, java: Process
) -> None:
    good = f"1 {socat} {java} {uptime() + 30} suspended 0"
    spoil(container.reports, good)
    assert (await container.probe(nobody))[0] == 1

    container.report(good, name="noah-jvm.zzz")
    assert (await container.probe(nobody))[0] == 0


async def test_only_reports_of_its_own_name_are_believed(
    container: Container, nobody: str, socat: Process, java: Process
) -> None:
    container.report(f"1 - - {java} {uptime() + 30} suspended 0", name="noah-orders.s1")
    assert (await container.probe(nobody, "1", "orders"))[0] == 0
    for other in ("jvm", "order", "orders.s1", "*"):
        assert (await container.probe(nobody, "1", other))[0] == 1, other


async def test_a_zombie_whose_name_says_that_it_runs_is_dead(container: Container, nobody: str, tmp_path: Path) -> None:
    command = tmp_path / "java) S 1 ("
    shutil.copy("/usr/bin/sleep", command)
    with zombie(command, "600") as dead:
        container.report(f"1 - - {dead} {uptime() + 30} suspended 0")
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


def test_a_suspended_java_costs_no_fork(
    container: Container, checkurls: Checkurls, socat: Process, java: Process
) -> None:
    container.report(f"1 {socat} {java} {uptime() + 30} suspended 0")
    suspended = limited(container.argv(checkurls.url("/200")), container.env, processes=1)
    assert suspended is not None
    assert (suspended.returncode, suspended.stderr) == (0, b"")
    assert b"suspended" in suspended.stdout

    container.report(f"1 {socat} {java} {uptime() + 30} running 0")
    running_on = limited(container.argv(checkurls.url("/200")), container.env, processes=1)
    assert running_on is None or running_on.returncode != 0, "the limit does not limit: this test could not fail"


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
    assert loop.time() - began < 10  # /trickle goes on for a minute, and never lets a read time out


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
    with_each_tool: list[Container], checkurls: Checkurls, socat: Process, java: Process
) -> None:
    line = f"1 {socat} {java} {uptime() + 30} suspended 0"
    for container in (c for c in with_each_tool if c.shell == SHELLS["dash"]):
        with checkurls.when_asked(partial(container.report, line)):
            assert await container.probe(checkurls.url("/hang"), "1") == (
                0,
                f"noah: a debugger has suspended java ({java.pid}), which is alive\n",
            ), container
        (container.reports / "noah-jvm.s1").unlink()


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
    # Whoever is a subreaper gets what PID 1 of a container would get.
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
        return (await child.communicate())[1]

    left = await asyncio.gather(*map(left_by, with_each_tool))
    assert left == [b""] * len(with_each_tool)
