from collections.abc import AsyncIterator

import pytest

from noah.kube.client import Client
from tests.unit.kube.fake_api import FakeApi, fake_api


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fake_api() as api:
        yield api


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[Client]:
    async with Client(api.settings) as client:
        yield client
