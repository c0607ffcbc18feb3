"""A hook's output with its mark: line by line whatever it is cut into, and with little memory however much it is."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from noah.core.inject.probe import without_comments
from noah.inpod import script
from tests.unit.inpod.containers import SHELLS, path_with

BLOCK = 65536  # bytes that are read at once
MARKED = without_comments(script("hook")) + 'marked m "$1"\n'


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return SHELLS[request.param]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return path_with(tmp_path / "bin", dd="dd", sed="sed")


def marked(shell: tuple[str, ...], path: str, output: bytes, *, code: int = 0) -> tuple[bytes, bytes]:
    """What is shown of a hook's output, and which of its lines are kept. It is read in blocks of their full length."""
    folder = Path(path).parent
    (folder / "output").write_bytes(output + b"\nnoah-hook-end %d\n" % code)
    (folder / "last").write_bytes(b"")
    with (folder / "output").open("rb") as stdin:
        argv = [*shell, "-c", MARKED, "sh", str(folder / "last")]
        done = subprocess.run(argv, env={"PATH": path}, stdin=stdin, capture_output=True, timeout=90, check=True)
    return done.stdout, (folder / "last").read_bytes()


def expected(output: bytes) -> bytes:
    return b"".join(b"[m] %s\n" % line for line in output.removesuffix(b"\n").split(b"\n") if output)


def around_a_block() -> Iterator[bytes]:
    for size in range(BLOCK - 20, BLOCK + 3):
        for end in (b"", b"\n", b"\n\n", b"\nnoah"):
            yield b"x" * (size - len(end)) + end


def test_where_a_block_ends_is_not_seen(shell: tuple[str, ...], path: str) -> None:
    for output in around_a_block():
        assert marked(shell, path, output)[0] == expected(output), output[-30:]


@pytest.mark.parametrize(
    "output",
    [b"", b"\n", b"\n\n\n", b"a", b"\na\n\n\nb\n", b"-n\n%s\\n\n", b" a \t\n* [ab]\n", "häß\n".encode(), b"\xff\xfe\n"],
)
@pytest.mark.parametrize("tools", [("dd", "sed"), ("dd",)], ids=["in blocks", "line by line"])
def test_each_line_has_the_mark_and_is_as_it_was(
    shell: tuple[str, ...], tmp_path: Path, tools: tuple[str, ...], output: bytes
) -> None:
    path = path_with(tmp_path / "bin", **{tool: tool for tool in tools})
    assert marked(shell, path, output)[0] == expected(output)


@pytest.mark.parametrize("tools", [("dd", "sed"), ("dd",)], ids=["in blocks", "line by line"])
def test_of_one_that_failed_the_last_lines_are_kept(
    shell: tuple[str, ...], tmp_path: Path, tools: tuple[str, ...]
) -> None:
    path = path_with(tmp_path / "bin", **{tool: tool for tool in tools})
    output = b"".join(b"line %d\n\n" % i for i in range(3000))
    assert marked(shell, path, output)[1] == b""
    assert marked(shell, path, output, code=3)[1] == b"".join(b"line %d\n" % i for i in range(2995, 3000))
    assert marked(shell, path, b"y" * 1000, code=3)[1] == b"y" * 400 + b"\n"


def test_a_line_that_never_ends_takes_little_memory(shell: tuple[str, ...], path: str) -> None:
    limited = (*shell, "-c", 'ulimit -v 16384; exec "$@"', "sh", *shell)  # KiB
    endless = b"z" * (10 << 20)
    assert marked(limited, path, endless)[0] == b"[m] " + endless + b"\n"


def test_what_is_printed_is_seen_before_the_next_is(shell: tuple[str, ...], path: str) -> None:
    argv = [*shell, "-c", MARKED, "sh", "/dev/null"]
    process = subprocess.Popen(argv, env={"PATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(3):
        process.stdin.write(b"line %d\n" % number)
        process.stdin.flush()
        assert process.stdout.readline() == b"[m] line %d\n" % number
    process.stdin.write(b"\nnoah-hook-end 0\n")
    process.stdin.close()
    assert (process.stdout.read(), process.wait(60)) == (b"", 0)
    process.stdout.close()


def test_nobody_waits_for_a_marker_that_was_killed(shell: tuple[str, ...], path: str, tmp_path: Path) -> None:
    hook = tmp_path / "hook.sh"
    hook.write_text("#!/bin/sh\necho begun\nwhile :; do echo more; done\n")
    hook.chmod(0o755)
    tools = path_with(tmp_path / "more", **{t: t for t in ("dd", "sed", "mkfifo", "rm", "sleep", "sh")})
    argv = [*shell, "-c", script("hook") + script("prestart"), "noah-prestart", str(hook), "60", "/none", "/dev/null"]
    wrapper = subprocess.Popen(
        [*argv, "true"], env={"PATH": tools, "NOAH_REPORTS": str(tmp_path)}, stdout=subprocess.PIPE
    )
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == b"[preStart] begun\n"
    first = Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text().split()[0]
    begun = time.monotonic()
    subprocess.run(["kill", "-9", first], check=True)
    assert b"the app is not started" in wrapper.stdout.read()
    assert wrapper.wait(30) == 128 + 13  # SIGPIPE
    assert time.monotonic() - begun < 30  # not the 60 s that the hook has
    wrapper.stdout.close()
