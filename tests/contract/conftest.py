"""Every test here that asks for `url` or `store` runs against both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noah.store import Store, upgrade
from tests.databases import make_database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/noah.db"


async def make_tables(url: str) -> None:
    if url.startswith("sqlite:///"):
        make_database(Path(url.removeprefix("sqlite:///")))
    else:
        await asyncio.to_thread(upgrade, url)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    await make_tables(url)
    store = Store.open(url)
    yield store
    await store.close()
