"""`noah inject` and `noah eject` as they stand in a pipe."""

import subprocess
import sys
from pathlib import Path

MANIFESTS = Path(__file__).parents[2] / "manifests"


def noah(*argv: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "noah", *argv], input=stdin, capture_output=True, timeout=60, check=False
    )


def test_a_pipe_gives_manifests_on_stdout_and_notes_on_stderr() -> None:
    file = MANIFESTS / "07-crlf.yaml"
    injected = noah("inject", "-f", str(file))
    assert injected.returncode == 0
    assert b"has no command, and what its image's ENTRYPOINT is" in injected.stderr
    assert b"noah-preonline" in injected.stdout
    assert noah("eject", "-f", "-", stdin=injected.stdout).stdout == file.read_bytes()


def test_diff_shows_what_it_changes() -> None:
    shown = noah("inject", "-f", str(MANIFESTS / "01-least.yaml"), "--diff").stdout.decode().splitlines()
    assert "+          - name: JAVA_TOOL_OPTIONS" in shown
    assert not [line for line in shown if line.startswith("-") and not line.startswith("---")]


def test_what_cannot_be_read_is_one_sentence() -> None:
    for argv, stdin, says in (
        (("-f", "/nowhere.yaml"), b"", "/nowhere.yaml cannot be read"),
        (("-f", "-"), b"image: {{ .Values.image }}", "Helm template"),
        (("-f", "-"), b"\xff\xfe", "not text in UTF-8"),
    ):
        refused = noah("inject", *argv, stdin=stdin)
        assert (refused.returncode, refused.stdout) == (2, b"")
        assert says in refused.stderr.decode()
        assert "Traceback" not in refused.stderr.decode()
