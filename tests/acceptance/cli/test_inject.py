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


def test_an_app_without_a_shell_gets_the_sidecar_whose_image_is_given() -> None:
    manifest = (MANIFESTS / "01-least.yaml").read_bytes().replace(b"noah.test/java17:1", b"gcr.io/distroless/java17")
    assert b"distroless" in manifest
    injected = noah("inject", "-f", "-", "--tools-image", "tools:1", stdin=manifest)
    assert b"image: tools:1" in injected.stdout.replace(b'"', b"")
    assert noah("eject", "-f", "-", stdin=injected.stdout).stdout == manifest


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


def test_a_bad_document_is_named_and_only_strict_stops_for_it(tmp_path: Path) -> None:
    good, bad = (MANIFESTS / "12-pod.yaml").read_text(), "apiVersion: v1\nkind: Pod\nspec: {containers: [{\n"
    file = tmp_path / "all.yaml"
    file.write_text(f"{good}---\n{bad}---\n{good}")
    injected = noah("inject", "-f", str(file))
    assert injected.returncode == 0
    assert injected.stdout.count(b"-agentlib:jdwp") >= 2
    assert b"Document 2 (line " in injected.stderr
    strict = noah("inject", "-f", str(file), "--strict")
    assert (strict.returncode, strict.stdout) == (2, b"")
    assert b"Document 2 (line " in strict.stderr


def test_files_and_folders_become_one_stream_of_documents(tmp_path: Path) -> None:
    for name in ("06-compact.json", "08-no-newline-at-the-end.yaml", "12-pod.yaml"):
        (tmp_path / name).write_bytes((MANIFESTS / name).read_bytes())
    (tmp_path / "notes.txt").write_text("no manifest")
    folder = noah("inject", "-f", str(tmp_path))
    assert folder.returncode == 0
    files = [arg for name in sorted(tmp_path.glob("*.*")) if name.suffix != ".txt" for arg in ("-f", str(name))]
    assert noah("inject", *files).stdout == folder.stdout
    texts = [
        text
        for name in ("06-compact.json", "08-no-newline-at-the-end.yaml", "12-pod.yaml")
        for text in ("---\n", (MANIFESTS / name).read_text().removeprefix("---\n").rstrip("\n"), "\n")
    ]
    assert noah("eject", "-f", "-", stdin=folder.stdout).stdout.decode() == "".join(texts)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = noah("inject", "-f", str(empty))
    assert (refused.returncode, b"has no manifests" in refused.stderr) == (2, True)


def test_names_in_a_manifest_cannot_steer_the_terminal() -> None:
    pod = b'{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a\\u001b[2J\\u009b2J\\u202eb"}, '
    pod += b'"spec": {"containers": [{"name": "app", "image": "java", "livenessProbe": {"grpc": {"port": 1}}}]}}'
    said = noah("inject", "-f", "-", stdin=pod).stderr.decode()
    assert said
    assert all(line.isprintable() for line in said.splitlines())
