"""Scripts that run as root on a host, in folders of an app's user: an attacker there gets nothing of root's."""

import base64
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from noah.inpod import script
from tests.integration.hosts.machines import ordinary_user

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be attacked as root")

SECRET = b"root's own\n"
TURN = "deadbeef"


class Folder:
    """Of the app's user, beside a folder of root's."""

    def __init__(self, root: Path) -> None:
        import pwd

        found = pwd.getpwnam(ordinary_user())
        self.uid, self.gid = found.pw_uid, found.pw_gid
        root.chmod(0o755)
        self.app, self.root = root / "app", root / "root"
        self.app.mkdir()
        self.root.mkdir(mode=0o700)
        os.chown(self.app, self.uid, self.gid)
        self.secret = self.root / "secret.env"
        self.secret.write_bytes(SECRET)
        self.secret.chmod(0o600)
        self.options = self.app / "app.env"
        self.write(self.options, b'JAVA_OPTS="-Da"\n')

    def write(self, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        os.chown(file, self.uid, self.gid)

    def link(self, name: Path, to: Path) -> None:
        name.symlink_to(to)
        os.lchown(name, self.uid, self.gid)

    def run(self, *argv: str, set_first: str = "", shell: str = "sh") -> list[str]:
        stdin = set_first + script("options")
        ran = subprocess.run(
            [shell, "-s", "--", *argv], input=stdin.encode(), capture_output=True, timeout=60, check=False
        )
        assert b"\n" not in ran.stderr.strip(), ran.stderr
        return ran.stdout.decode().splitlines()

    def read(self, file: Path) -> list[str]:
        return self.run("read", str(file), TURN)

    def replace(self, file: Path, was: bytes, becomes: bytes) -> list[str]:
        values = {"content": base64.b64encode(becomes).decode(), "was": sha(was), "becomes": sha(becomes)}
        return self.run("replace", str(file), TURN, set_first="".join(f"{k}={v}\n" for k, v in values.items()))


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var/tmp") as root:
        yield Folder(Path(root))


def test_the_apps_own_file_is_edited_and_stays_its_own(folder: Folder) -> None:
    was, becomes = folder.options.read_bytes(), b'JAVA_OPTS="-Db"\n'
    assert folder.read(folder.options)[-1] == "done"
    assert folder.replace(folder.options, was, becomes) == ["done"]
    assert folder.options.read_bytes() == becomes
    assert folder.options.stat().st_uid == folder.uid
    assert os.listdir(folder.app) == ["app.env"]


def test_an_options_file_that_is_a_link_to_a_file_of_roots_is_neither_shown_nor_changed(folder: Folder) -> None:
    folder.options.unlink()
    folder.link(folder.options, folder.secret)
    assert folder.read(folder.options) == ["error swap"]
    assert folder.replace(folder.options, SECRET, b"theirs\n") == ["error swap"]
    assert folder.secret.read_bytes() == SECRET


def test_a_folder_on_the_way_that_is_a_link_to_one_of_roots_leads_nowhere(folder: Folder) -> None:
    folder.link(folder.app / "conf", folder.root)
    assert folder.read(folder.app / "conf" / "secret.env") == ["error swap"]
    assert folder.replace(folder.app / "conf" / "secret.env", SECRET, b"theirs\n") == ["error swap"]
    assert folder.secret.read_bytes() == SECRET


def test_a_second_name_of_a_file_of_roots_is_not_shown(folder: Folder) -> None:
    folder.options.unlink()
    os.link(folder.secret, folder.options)
    assert folder.read(folder.options) == ["error swap"]


def test_a_link_of_roots_own_to_the_apps_file_is_followed_and_stays(folder: Folder) -> None:
    link = folder.root / "link.env"
    link.symlink_to("../app/app.env")
    assert folder.read(link)[-1] == "done"
    assert folder.replace(link, folder.options.read_bytes(), b"A=1\n") == ["done"]
    assert link.is_symlink()
    assert folder.options.read_bytes() == b"A=1\n"


def test_links_at_the_names_that_were_guessable_lead_nowhere(folder: Folder) -> None:
    """The turn is in /proc/PID/cmdline for everybody to read."""
    folder.link(folder.app / f"app.env.noah-new-{TURN}", folder.secret)
    ours = f"/dev/shm/.noah-0-{sha(str(folder.options).encode())}"
    names = [Path(f"{ours}.turn"), Path(f"{ours}.restart")]
    try:
        for name in names:
            folder.link(name, folder.secret)
        folder.read(folder.options)
        folder.replace(folder.options, folder.options.read_bytes(), b"theirs\n")
        folder.run("run", str(folder.options), TURN, "true")
    finally:
        for name in names:
            name.unlink(missing_ok=True)
    assert folder.secret.read_bytes() == SECRET
    assert folder.options.read_bytes() == b"theirs\n"


def test_a_file_that_is_swapped_all_the_time_never_becomes_one_of_roots(folder: Folder) -> None:
    """The app's user renames a link, a folder and a file into place, as fast as it can."""
    other, over = folder.app / "other", threading.Event()

    def swap() -> None:
        while not over.is_set():
            folder.link(other, folder.secret)
            os.rename(other, folder.options)
            folder.write(other, b"A=0\n")
            os.rename(other, folder.options)
            for name in os.listdir(folder.app):
                if "noah" in name:  # the folder that root has made there
                    moved = folder.app / f"moved-{len(os.listdir(folder.app))}"
                    try:
                        os.rename(folder.app / name, moved)
                        folder.link(folder.app / name, folder.root)
                    except OSError:
                        pass

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(12):
            said = folder.read(folder.options)
            assert base64.b64encode(SECRET).decode() not in "".join(said)
            folder.replace(folder.options, SECRET, b"theirs\n")
            folder.replace(folder.options, b"A=0\n", b"theirs\n")
            assert os.listdir(folder.root) == ["secret.env"]
            assert folder.secret.read_bytes() == SECRET
    finally:
        over.set()
        thread.join()


def test_root_does_not_run_the_jcmd_of_a_jdk_that_another_user_owns(folder: Folder) -> None:
    ran = folder.app / "ran"
    binaries = folder.app / "bin"
    binaries.mkdir()
    subprocess.run(["cp", "/bin/sleep", binaries / "java"], check=True)
    (binaries / "jcmd").write_text(f"#!/bin/sh\ntouch {ran}\n")
    for file in (binaries, *binaries.iterdir()):
        os.chown(file, folder.uid, folder.gid)
        file.chmod(0o755)
    java = subprocess.Popen([binaries / "java", "60"], user=folder.uid, group=folder.gid)
    try:
        folder.run("jcmd", str(java.pid))
    finally:
        java.kill()
        java.wait()
    assert not ran.exists()


def test_a_jdks_release_file_without_an_end_or_a_writer_holds_nothing_up(folder: Folder) -> None:
    binaries = folder.app / "bin"
    binaries.mkdir()
    subprocess.run(["cp", "/bin/sleep", binaries / "java"], check=True)
    java = subprocess.Popen([binaries / "java", "60"], user=folder.uid, group=folder.gid)
    try:
        os.mkfifo(folder.app / "release")
        assert folder.run("jvms", "1")[-1] == "done"
        (folder.app / "release").unlink()
        with (folder.app / "release").open("wb") as file:
            file.truncate(1 << 40)
        assert folder.run("jvms", "1")[-1] == "done"
    finally:
        java.kill()
        java.wait()
