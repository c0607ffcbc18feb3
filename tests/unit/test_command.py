"""Commands of the gateway's machine, which may hang, say too much, or leave something behind."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from noah import command


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


async def test_what_it_prints_and_the_end_of_what_it_laments_come_back() -> None:
    program = "import sys; print('out'); sys.stderr.write('x' * 200000 + 'end'); sys.exit(3)"
    code, out, err = await command.run(python(program), timeout=60, reads_stderr=True)
    assert (code, out, err[-3:], len(err)) == (3, b"out\n", b"end", command.LONGEST_LAMENT)


async def test_one_that_prints_without_end_is_ended() -> None:
    with pytest.raises(OSError, match="more than 16 MiB"):
        await command.run(python("while True: print('x' * 65536)"), timeout=60)


async def test_one_that_asks_on_stdin_gets_no_answer_and_does_not_wait() -> None:
    assert (await command.run(["cat"], timeout=60))[:2] == (0, b"")


async def test_one_that_does_not_end_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    with pytest.raises(TimeoutError):
        await command.run(["sh", "-c", f"sleep 600 & echo $! > {started}; wait"], timeout=2)
    pid = int(started.read_text())
    async with asyncio.timeout(60):
        while _lives(pid):
            await asyncio.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
