"""A gateway loads what its configuration needs."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("alembic", "asyncssh", "cryptography", "joserfc", "psycopg")  # 5 to 10 MiB each
SERVE = f"""
import asyncio, sys
from pathlib import Path
from noah.app import gateway
from noah.settings import read_settings

async def serve():
    async with gateway(read_settings(Path(sys.argv[1]))):
        await asyncio.sleep(0)  # so that all its tasks have begun
        print([one for one in {HEAVY} if one in sys.modules])

asyncio.run(serve())
"""


def test_a_gateway_alone_without_providers_portals_and_hosts_loads_nothing_for_them(tmp_path: Path) -> None:
    database, config = f"sqlite:///{tmp_path}/noah.db", tmp_path / "noah.toml"
    config.write_text(f'[gateway]\nlisten = "127.0.0.1:0"\ndatabase = "{database}"\n')
    upgrade = f"from noah.store import upgrade; upgrade({database!r})"
    for script in (upgrade, SERVE):
        argv = [sys.executable, "-c", script, str(config)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "[]\n"
