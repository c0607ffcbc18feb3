"""Every test here that asks for `url` or `store` runs against both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noah.store import Store, upgrade


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/noah.db"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    await asyncio.to_thread(upgrade, url)
    store = Store.open(url)
    yield store
    await store.close()
