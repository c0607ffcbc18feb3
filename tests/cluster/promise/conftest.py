"""Issue 10's promise, judged from outside: the kubelet counts restarts, the API server's audit log counts execs.

What takes minutes to watch is watched side by side, in one fixture of a file, and judged by a test per story.
"""

import os
from pathlib import Path

import pytest

from tests.cluster.promise.execs import AuditLog


@pytest.fixture(scope="module")
def audit_log(kubeconfig: Path) -> AuditLog:
    """NOAH_TEST_AUDIT_LOG names it; without that it is where the test cluster's script puts it."""
    file = Path(os.environ.get("NOAH_TEST_AUDIT_LOG") or kubeconfig.parent / "log" / "audit.log")
    if not file.exists():
        pytest.skip(f"there is no audit log of the API server at {file}: NOAH_TEST_AUDIT_LOG names it")
    return AuditLog(file)
