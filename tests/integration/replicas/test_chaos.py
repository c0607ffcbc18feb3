"""Gateways that are killed, frozen and cut off under load lose nothing, and never act two at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import run
from tests.postgres import Postgres
from tests.replicas import as_config, jvms, replicas

pytestmark = pytest.mark.postgres
NAMES = ["Chaos0", "Chaos1", "Chaos2", "Chaos3"]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with jvms(tmp_path_factory.mktemp("classes"), *NAMES) as ports:
        yield ports


@pytest.mark.timeout(900)
async def test_a_short_time_of_chaos(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path
) -> None:
    async with replicas(postgres, postgres_url, tmp_path, config=as_config(targets), start=False) as three:
        print(await run(three, NAMES, seconds=60, longest_s=15))


@pytest.mark.soak
@pytest.mark.timeout(2700)
async def test_half_an_hour_of_chaos(
    postgres: Postgres, postgres_url: str, targets: dict[str, int], tmp_path: Path
) -> None:
    async with replicas(postgres, postgres_url, tmp_path, config=as_config(targets), start=False) as three:
        print(await run(three, NAMES, seconds=1800, longest_s=60))
