"""helm, as scripts/helm finds or builds it; the Makefile's test target has it built before the tests."""

import os
import shutil
from pathlib import Path

import pytest


def helm() -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noah/helm"
    found = shutil.which("helm") or (str(cache) if cache.exists() else None)
    if found is None:
        pytest.skip("helm is not there: scripts/helm builds it")
    return found
