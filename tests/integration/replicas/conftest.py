"""Three gateways on one PostgreSQL, and a JVM that they debug."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.java import SAMPLE, compiled
from tests.postgres import Postgres
from tests.replicas import Replicas, replicas
from tests.sample_process import App, running_app


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    return compiled(SAMPLE, folder)


@pytest.fixture
async def app(classes: Path) -> AsyncIterator[App]:
    async with running_app(classes) as app:
        yield app


@pytest.fixture
async def three(tmp_path: Path, postgres: Postgres, postgres_url: str, app: App) -> AsyncIterator[Replicas]:
    """A test that ends one of them starts it again."""
    async with replicas(postgres, postgres_url, tmp_path, config=app.config) as three:
        yield three
