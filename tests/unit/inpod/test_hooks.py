"""preStart and preOnline with real processes and a real checkurl, in each shell, as a manifest carries them."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from noah.core.inject.probe import inlined, without_comments
from noah.inpod import script
from tests.ports import free_port
from tests.unit.inpod.checkurls import Checkurls
from tests.unit.inpod.containers import SHELLS, path_with

PRESTART = without_comments(script("hook") + script("prestart"))
PREONLINE = without_comments(script("hook") + script("preonline"))
TOOLS = ("sh", "sleep", "mkfifo", "rm", "mv", "cat", "setsid", "curl", "yes", "head", "env", "chmod", "dd", "sed")
TEN_MEGABYTES = 10_000_000


@dataclass(frozen=True)
class Pod:
    """A shell, a shared volume, and the code's hook."""

    shell: tuple[str, ...]
    shared: Path
    file: Path
    message: Path
    env: dict[str, str]

    def hook(self, text: str, mode: int = 0o755) -> None:
        self.file.write_text("#!/bin/sh\n" + text)
        self.file.chmod(mode)

    def prestart(self, *command: str, seconds: int = 20) -> list[str]:
        arguments = (str(self.file), str(seconds), str(self.shared), str(self.message))
        return [*self.shell, "-c", PRESTART, "noah-prestart", *arguments, *command]

    def start(self, *command: str, seconds: int = 20) -> subprocess.CompletedProcess[str]:
        argv = self.prestart(*command, seconds=seconds)
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=seconds + 60, check=False)

    @contextlib.asynccontextmanager
    async def preonline(self, url: str, *, seconds: int = 20, tries: int = 2) -> AsyncIterator["Sidecar"]:
        port = str(urlsplit(url).port)
        arguments = (inlined(), url, port, str(self.file), str(seconds), str(tries), str(self.shared))
        with (self.shared.parent / "sidecar.log").open("w") as log:
            process = await asyncio.create_subprocess_exec(
                *self.shell, "-c", PREONLINE, "noah-preonline", *arguments, env=self.env, stdout=log, stderr=log
            )
        try:
            yield Sidecar(process, self.shared, self.shared.parent / "sidecar.log")
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(process.wait(), 20) == 0


@dataclass(frozen=True)
class Sidecar:
    process: asyncio.subprocess.Process
    shared: Path
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    @property
    def sentence(self) -> str:
        """What its readiness probe says, which is written after it was printed."""
        file = self.shared / ".noah-preonline"
        return file.read_text() if file.exists() else ""

    @property
    def is_online(self) -> bool:
        return (self.shared / "healthcheck.html").exists()

    async def until(self, true: Callable[[], bool], within: float = 60) -> None:
        deadline = time.monotonic() + within
        while not true():
            assert time.monotonic() < deadline, self.said
            await asyncio.sleep(0.05)


@pytest.fixture(params=["dash", "busybox"])
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Pod:
    shell = SHELLS[request.param]
    # In a busybox image everything is busybox; elsewhere it is the distribution's.
    tools = {t: "/usr/bin/busybox" if request.param == "busybox" and t not in ("curl", "sh") else t for t in TOOLS}
    env = {"PATH": path_with(tmp_path / "bin", **tools), "NOAH_REPORTS": str(tmp_path / "shm"), "GREETING": "hello"}
    for name in ("shm", "noah"):
        (tmp_path / name).mkdir()
    return Pod(shell, tmp_path / "noah", tmp_path / "hook.sh", tmp_path / "message", env)


@pytest.fixture(scope="module")
def checkurls() -> Iterator[Checkurls]:
    with Checkurls.served() as served:
        yield served


# -- preStart


def test_without_a_hook_the_app_is_simply_there(pod: Pod) -> None:
    done = pod.start("sh", "-c", 'echo "$GREETING $0 $1"; exit 7', "a b", "$c")
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello a b $c\n", "")


def test_the_hook_runs_first_and_its_output_is_marked(pod: Pod) -> None:
    pod.hook('echo "$GREETING from $PWD"; echo trouble >&2; echo; printf unfinished')
    done = pod.start("sh", "-c", "echo app")
    marked = [f"[preStart] hello from {os.getcwd()}", "[preStart] trouble", "[preStart] ", "[preStart] unfinished"]
    assert done.stdout.splitlines() == [*marked, "app"]
    assert done.returncode == 0
    assert not pod.message.exists()


def test_a_hook_that_fails_ends_it_with_its_code_and_last_lines(pod: Pod) -> None:
    pod.hook("for i in 1 2 3 4 5 6 7; do echo line $i; done; exit 3")
    done = pod.start("echo", "never")
    assert done.returncode == 3
    assert "never" not in done.stdout
    said = pod.message.read_text().splitlines()
    assert said == [f"noah: preStart {pod.file} failed with exit code 3", *(f"line {i}" for i in range(3, 8))]


def test_a_hook_that_never_ends_is_ended_with_all_that_it_has_started(pod: Pod) -> None:
    pod.hook("sleep 333 & echo $!; sleep 334")
    done = pod.start("echo", "never", seconds=1)
    assert done.returncode == 124
    assert "did not end within 1 s" in pod.message.read_text()
    child = int(done.stdout.splitlines()[0].split()[-1])
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("first", ["#!/no/such/shell\n", "#!/bin/sh\r\n"])
def test_a_hook_whose_shell_is_missing_says_what_to_look_at(pod: Pod, first: str) -> None:
    pod.hook("")
    pod.file.write_text(first)
    assert pod.start("echo", "never").returncode == 127
    assert "its first line or a command in it names what the image does not have" in pod.message.read_text()


def test_a_hook_that_is_not_executable_says_so(pod: Pod) -> None:
    pod.hook("echo never", mode=0o644)
    done = pod.start("echo", "never")
    assert done.returncode == 126
    assert (
        done.stdout
        == f"noah: preStart: {pod.file} is not executable: set its x bit in the image; the app is not started\n"
    )
    assert "is not executable" in pod.message.read_text()


def test_ten_megabytes_of_output_are_passed_on_and_little_is_kept(pod: Pod) -> None:
    pod.hook(f"yes {'a' * 999} | head -n {TEN_MEGABYTES // 1000}; exit 1")
    done = pod.start("echo", "never", seconds=200)
    assert done.stdout.count("[preStart] aaa") == TEN_MEGABYTES // 1000
    assert len(pod.message.read_text()) < 2500


def test_nowhere_to_write_costs_the_mark_and_nothing_else(pod: Pod) -> None:
    shutil.rmtree(pod.env["NOAH_REPORTS"])
    shutil.rmtree(pod.shared)
    pod.hook("echo hook")
    assert pod.start("sh", "-c", "echo app").stdout == "hook\napp\n"


def test_signals_and_pid_are_the_apps_own(pod: Pod) -> None:
    pod.hook("true")
    app = subprocess.Popen(
        pod.prestart("sh", "-c", 'trap "echo bye; exit 5" TERM; echo $$; while :; do sleep 0.1; done'),
        env=pod.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert app.stdout is not None
    assert int(app.stdout.readline()) == app.pid
    app.send_signal(signal.SIGTERM)
    assert (app.stdout.read(), app.wait(60)) == ("bye\n", 5)
    app.stdout.close()


def test_sigterm_during_the_hook_ends_both(pod: Pod) -> None:
    pod.hook("echo begun; sleep 335")
    wrapper = subprocess.Popen(pod.prestart("echo", "never"), env=pod.env, stdout=subprocess.PIPE, text=True)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == "[preStart] begun\n"
    wrapper.send_signal(signal.SIGTERM)
    assert wrapper.wait(60) == 143
    assert wrapper.stdout.read() == ""  # once nobody is left who could write
    wrapper.stdout.close()


# -- preOnline


async def test_it_is_online_after_checkurl_and_then_the_hook(pod: Pod, checkurls: Checkurls) -> None:
    pod.hook(f'[ ! -e "{pod.shared}/healthcheck.html" ] && echo "$GREETING"')
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: sidecar.is_online)
        assert "[preOnline] hello\n" in sidecar.said
        # It is printed once it is true.
        await sidecar.until(lambda: sidecar.sentence == "online: healthcheck.html is there\n")
    assert not sidecar.is_online


async def test_without_a_hook_checkurl_is_enough(pod: Pod, checkurls: Checkurls) -> None:
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: sidecar.is_online)


async def test_a_checkurl_that_never_passes_keeps_it_offline_and_says_why(pod: Pod, checkurls: Checkurls) -> None:
    async with pod.preonline(checkurls.url("/503")) as sidecar:
        url = checkurls.url("/503")
        await sidecar.until(lambda: sidecar.sentence == f"waiting for checkurl: checkurl {url} answered 503\n")
        assert "answered 503" in sidecar.said
        assert not sidecar.is_online


async def test_a_hook_that_cannot_be_run_keeps_it_offline_and_says_why(pod: Pod, checkurls: Checkurls) -> None:
    pod.hook("echo never", mode=0o644)
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: "failed for good" in sidecar.sentence)
        assert f"{pod.file} is not executable" in sidecar.sentence
        assert not sidecar.is_online
    assert "never" not in sidecar.said


async def test_a_directory_is_no_hook(pod: Pod, checkurls: Checkurls) -> None:
    pod.file.mkdir()
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: f"{pod.file} is not a file; there will be no healthcheck.html" in sidecar.said)
        assert not sidecar.is_online


async def test_a_hook_that_fails_is_tried_again_and_then_no_more(pod: Pod, checkurls: Checkurls) -> None:
    pod.hook(f'echo run >> "{pod.shared}/runs"; echo no luck; exit 4')
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: "failed for good" in sidecar.sentence)
        await asyncio.sleep(2)  # two more rounds
        assert (pod.shared / "runs").read_text() == "run\n" * 2
        assert "exit code 4" in sidecar.sentence
        assert not sidecar.is_online


async def test_ten_megabytes_of_output_are_passed_on_and_do_not_fill_the_volume(pod: Pod, checkurls: Checkurls) -> None:
    pod.hook(f"yes {'a' * 999} | head -n {TEN_MEGABYTES // 1000}")
    async with pod.preonline(checkurls.url("/200"), seconds=200) as sidecar:
        await sidecar.until(lambda: sidecar.is_online, within=200)
        assert sidecar.log.stat().st_size > TEN_MEGABYTES
        assert sum(file.stat().st_size for file in pod.shared.iterdir()) < 1000
    sidecar.log.unlink()


async def test_a_hook_that_never_ends_has_a_deadline(pod: Pod, checkurls: Checkurls) -> None:
    pod.hook("sleep 336")
    async with pod.preonline(checkurls.url("/200"), seconds=1, tries=1) as sidecar:
        await sidecar.until(lambda: "did not end within 1 s" in sidecar.said)
        assert not sidecar.is_online


async def test_an_app_that_is_down_is_offline_at_once_and_its_hook_runs_anew(pod: Pod) -> None:
    pod.hook(f'echo run >> "{pod.shared}/runs"')
    url = f"http://127.0.0.1:{free_port()}/"
    async with pod.preonline(url) as sidecar:
        for times in (1, 2):
            async with answering(url):
                await sidecar.until(lambda: sidecar.is_online)
                assert (pod.shared / "runs").read_text() == "run\n" * times
            await sidecar.until(lambda: not sidecar.is_online)
        await sidecar.until(lambda: "the app is down" in sidecar.said)


async def test_a_new_process_of_the_app_is_offline_until_its_hook_has_run(pod: Pod, checkurls: Checkurls) -> None:
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: sidecar.is_online)
        done = pod.start("sh", "-c", f'[ -e "{pod.shared}/healthcheck.html" ] && echo still there')
        assert done.stdout == ""
        await sidecar.until(lambda: "the app starts" in sidecar.said and sidecar.is_online)


async def test_a_pod_that_ends_is_offline_first_of_all_and_stays_so(pod: Pod, checkurls: Checkurls) -> None:
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: sidecar.is_online)
        # What the container's preStop does.
        (pod.shared / "healthcheck.html").unlink()
        (pod.shared / ".noah-stopping").touch()
        await sidecar.until(lambda: "the pod ends" in sidecar.said)
        assert not sidecar.is_online


@pytest.fixture
def full(pod: Pod) -> Iterator[Path]:
    """A file that fills the shared volume."""
    if os.geteuid() != 0:
        pytest.skip("a small volume takes root to mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", pod.shared], check=True)
    file = pod.shared / "full"
    with contextlib.suppress(OSError):
        file.write_bytes(b"x" * 65536)
    yield file
    subprocess.run(["umount", pod.shared], check=True)


async def test_a_full_volume_keeps_it_offline_and_says_so(pod: Pod, full: Path, checkurls: Checkurls) -> None:
    async with pod.preonline(checkurls.url("/200")) as sidecar:
        await sidecar.until(lambda: "healthcheck.html cannot be written" in sidecar.said)
        assert not sidecar.is_online
        await asyncio.to_thread(full.unlink)
        await sidecar.until(lambda: sidecar.is_online)


@pytest.mark.usefixtures("full")
def test_a_full_volume_keeps_no_app_from_starting(pod: Pod) -> None:
    pod.hook("echo hook")
    done = pod.start("sh", "-c", "echo app")
    assert (done.stdout, done.stderr) == ("[preStart] hook\napp\n", "")


@contextlib.asynccontextmanager
async def answering(url: str) -> AsyncIterator[None]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", urlsplit(url).port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
