"""A gateway loads what its configuration needs."""

import subprocess
import sys

HEAVY = ("cryptography", "joserfc", "asyncssh", "alembic")  # 5 to 10 MiB each


def test_a_gateway_without_providers_portals_hosts_and_others_loads_nothing_for_them() -> None:
    script = f"import sys, noah.app; print([one for one in {HEAVY} if one in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert loaded.stdout.strip() == "[]"
