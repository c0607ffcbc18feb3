"""For all tests: the order of their files, and what was skipped.

That is said at the end, and is a failure where NOAH_TEST_NO_SKIPS is set (where all is there). The history of a
checkout is not a part of the machine: what needs an earlier version may be skipped everywhere.
"""

import os
import sys
from collections import Counter
from itertools import chain
from operator import itemgetter
from pathlib import Path

import pytest

pytest_plugins = ["tests.postgres"]
NEEDS_HISTORY = "history: "  # how the reason of such a skip begins

# What is compiled is kept, also where the environment says otherwise: each gateway that a test starts would compile the
# product (0.4 s of CPU), and each process that collects would compile all tests (7 s).
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files of each folder evenly over the run.

    They need the same: processors, or pods that all come up, or nothing but time. One after the other they would keep
    a machine idle, and later ask too much of it. First come those that may take longest, then the largest: none of them
    begins at the end.
    """
    folders: dict[Path, dict[Path, list[pytest.Item]]] = {}
    for item in items:
        folders.setdefault(item.path.parent, {}).setdefault(item.path, []).append(item)
    placed: list[tuple[float, list[pytest.Item]]] = []
    for files in folders.values():
        longest_first = sorted(files, key=lambda file: (_limit_s(files[file]), file.stat().st_size), reverse=True)
        placed += [(number / len(files), files[file]) for number, file in enumerate(longest_first)]
    items[:] = chain.from_iterable(tests for _, tests in sorted(placed, key=itemgetter(0)))


def _limit_s(tests: list[pytest.Item]) -> float:
    """Return the most time that one of the tests may take; 0 where none has a limit of its own."""
    limits = [limit.args[0] for test in tests if (limit := test.get_closest_marker("timeout"))]
    return max(limits, default=0.0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section("skipped, and why")
    for reason, count in sorted(Counter(map(_reason, skipped)).items()):
        terminalreporter.line(f"{count:4}  {reason}")


def _reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("NOAH_TEST_NO_SKIPS") or reporter is None:
        return
    if not all(_reason(report).startswith(NEEDS_HISTORY) for report in reporter.stats.get("skipped", [])):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
