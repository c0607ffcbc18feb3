"""Files that another user, another container or the pod itself puts where the probe and the forwarder look."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noah.inpod import script
from tests.unit.inpod.containers import SHELLS, Agent, agent, uptime

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="files of other users take root")

STRANGER = 61234  # a uid without a process
SECRET = b"root's own\n"


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with agent(tmp_path_factory.mktemp("java") / "java") as java:
        yield java


class Reports:
    """A folder like /dev/shm: everybody may write to it, and has what is theirs."""

    def __init__(self, folder: Path, shell: tuple[str, ...], java: Agent) -> None:
        self.folder, self.shell, self.java = folder, shell, java
        folder.chmod(0o1777)

    def file(self, kind: str, name: str = "jvm") -> Path:
        return self.folder / f"noah-{name}.s1.{kind}"

    def write(self, name: str = "jvm", *, until: int | None = None, owner: int | None = None) -> None:
        lasts = uptime() + 3600 if until is None else until
        line = f"2 {self.java.process} {lasts} :{self.java.port:04X} host own\n"
        self.file("jvm", name).write_text(line)
        self.file("word", name).write_text(f"suspended 0 {uptime()}\n")
        for kind in ("jvm", "word"):
            os.chown(self.file(kind, name), 0 if owner is None else owner, 0)

    def is_spared(self, name: str = "jvm") -> bool:
        """True if the probe says that the JVM is being debugged; fails if it takes long."""
        argv = [*self.shell, "-c", script("liveness"), "noah-liveness", "-", "1", name]
        began = time.monotonic()
        ran = subprocess.run(argv, env=self.env, capture_output=True, timeout=60, check=False)
        assert time.monotonic() - began < 30
        assert ran.stderr == b""
        return ran.returncode == 0

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "NOAH_REPORTS": str(self.folder)}

    def forwarder(self, verb: str, *more: str) -> list[str]:
        about = [verb, "s1", "orders", str(self.java.port), "host", "-", *more]
        argv = [*self.shell, "-c", script("forwarder"), "noah", *about]
        ran = subprocess.run(argv, env=self.env, capture_output=True, timeout=60, check=False)
        return ran.stdout.decode().splitlines()


@pytest.fixture(params=list(SHELLS))
def reports(request: pytest.FixtureRequest, tmp_path: Path, java: Agent) -> Reports:
    folder = tmp_path / "shm"
    folder.mkdir()
    return Reports(folder, SHELLS[request.param], java)


def test_a_report_of_the_pods_own_user_is_believed(reports: Reports) -> None:
    reports.write()
    assert reports.is_spared()


def test_a_report_of_another_user_is_not_believed(reports: Reports) -> None:
    reports.write(owner=STRANGER)
    assert not reports.is_spared()
    reports.write("orders", owner=STRANGER)
    assert not reports.is_spared("orders")


def test_a_word_of_another_user_is_not_believed(reports: Reports) -> None:
    """A strange `running` would have a JVM killed at a breakpoint, a strange `suspended` hide a dead one."""
    with reports.java.attached():
        reports.write()
        reports.file("word").write_text(f"running 0 {uptime()}\n")
        assert not reports.is_spared()
        os.chown(reports.file("word"), STRANGER, 0)
        assert reports.is_spared()


def test_a_report_that_lasts_for_thousands_of_years_is_not_believed(reports: Reports) -> None:
    reports.write(until=10**12)
    assert not reports.is_spared()


def sparse(file: Path) -> None:
    file.unlink(missing_ok=True)
    with file.open("wb") as made:
        made.truncate(1 << 40)
    os.chown(file, STRANGER, STRANGER)


def fifo(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    os.chown(file, STRANGER, STRANGER)


def link_to_a_fifo(file: Path) -> None:
    other = file.with_suffix(".other")
    fifo(other)
    file.unlink(missing_ok=True)
    file.symlink_to(other)


def link_to_a_device(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize("put", [sparse, fifo, link_to_a_fifo, link_to_a_device])
@pytest.mark.parametrize("name", ["jvm", "orders"])
def test_nothing_that_a_stranger_puts_there_blocks_the_probe(
    reports: Reports, put: Callable[[Path], None], name: str
) -> None:
    reports.write(name)
    put(reports.file("jvm", name))
    assert not reports.is_spared(name)
    reports.file("jvm", name).unlink()
    with reports.java.attached():
        reports.write(name)
        put(reports.file("word", name))
        assert reports.is_spared(name)  # the word is unknown, and the debugger is attached


def test_a_forwarder_that_runs_as_root_follows_no_link_of_another_user(reports: Reports, tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "root"
    folder.mkdir(mode=0o700)
    names = (".noah-s1.new", "noah-orders.s1.jvm", "noah-orders.s1.word", "noah-orders.s1", ".noah-s1.sock")
    for to in (secret, folder):
        for name in names:
            link = reports.folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(to)
            os.lchown(link, STRANGER, STRANGER)
        secret.write_bytes(SECRET)
        assert reports.forwarder("start", "60", "suspended", "none")[-1] == "done"
        assert reports.forwarder("word", "60", "running") == ["done"]
        assert secret.read_bytes() == SECRET
        assert not list(folder.iterdir())
        assert not reports.file("jvm", "orders").is_symlink()
        assert reports.file("word", "orders").read_text().startswith("running ")
        assert reports.forwarder("stop") == ["done"]


def test_a_forwarder_that_runs_as_root_believes_no_report_of_another_user(reports: Reports) -> None:
    """One that names another process would have its debugger sent there."""
    reports.write("orders", owner=STRANGER)
    reports.forwarder("word", "60", "running")
    assert reports.file("word", "orders").read_text().startswith("suspended")
